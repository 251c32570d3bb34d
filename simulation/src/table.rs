//! The table of ours against the rules of others, on the same simulated traffic; `cargo measure judge` writes it into
//! the README.

use super::{Count, FaultKind, Ours, Setting, run_many, settings};
use hueshift::rivals::{Rival, Rules};

/// Where it stands in the README.
pub const MARKERS: (&str, &str) =
    ("<!-- begin: cargo measure judge -->\n", "<!-- end: cargo measure judge -->\n");

const SEED: u64 = 7_000_000;

/// A rule with its tolerance.
struct Judged {
    name: &'static str,
    rules: Option<(Rules, u32)>,
}

const JUDGES: [Judged; 6] = [
    Judged { name: "**Hueshift**", rules: None },
    Judged { name: "Flagger, threshold 5", rules: Some((Rules::Flagger, 5)) },
    Judged { name: "Flagger, threshold 1", rules: Some((Rules::Flagger, 1)) },
    Judged { name: "Argo, failureLimit 3", rules: Some((Rules::Argo, 4)) },
    Judged { name: "Argo, failureLimit 0", rules: Some((Rules::Argo, 1)) },
    Judged { name: "Kayenta, one point a minute", rules: Some((Rules::Kayenta, 1)) },
];

fn healthy() -> Setting {
    Setting::plain("healthy", settings::compared()).referred()
}

fn faults() -> Vec<Setting> {
    vec![
        Setting { name: "errors .5 → 5 %", ..healthy() }.with(FaultKind::Errors(0.05)),
        Setting { name: "errors .1 → 1 %", errors: 0.001, ..healthy() }.with(FaultKind::Errors(0.01)),
        Setting { name: "all 5xx", ..healthy() }.with(FaultKind::Errors(1.0)),
        Setting { name: "latency × 1.5", ..healthy() }.with(FaultKind::Slower(1.5)),
        Setting { name: "30 % hang", ..healthy() }.with(FaultKind::Hang(0.3)),
    ]
}

/// Simulates everything, `runs` releases per cell, and gives the table in Markdown with its sentence.
pub fn measure(runs: u64, mut progress: impl FnMut(&str)) -> String {
    let (healthy, faults) = (healthy(), faults());
    let mut rows = Vec::new();
    for judged in &JUDGES {
        progress(judged.name);
        let many = |setting: &Setting| match judged.rules {
            None => run_many(setting, SEED, runs, || Ours::new(setting.analysis.clone())),
            Some((rules, failures)) => {
                run_many(setting, SEED, runs, || Rival::new(rules, Some(failures), &setting.analysis))
            }
        };
        let fine = many(&healthy);
        let mut cells = vec![judged.name.to_owned(), percent(&fine), promoted(&fine)];
        cells.extend(faults.iter().map(|fault| found(&many(fault))));
        rows.push(cells);
    }
    render(runs, &rows)
}

/// The table without figures.
pub fn form() -> String {
    let rows = |judged: &Judged| {
        [judged.name.to_owned()].into_iter().chain((0..faults().len() + 2).map(|_| "-".to_owned())).collect()
    };
    render(0, &JUDGES.iter().map(rows).collect::<Vec<_>>())
}

/// The table around measured rows.
fn render(runs: u64, rows: &[Vec<String>]) -> String {
    let mut heads =
        vec!["rule".to_owned(), "healthy, rolled back".to_owned(), "healthy, goes on after".to_owned()];
    heads.extend(faults().iter().map(|fault| fault.name.to_owned()));
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&heads) + &line(&vec!["---".to_owned(); heads.len()]);
    rows.iter().for_each(|row| text += &line(row));
    text + &format!(
        "\n{runs} simulated releases of ten minutes per cell, 20 candidate and 180 stable requests/s, seeds from {SEED} for all rules. \
         Faults: mean time to rollback, bad answers served until then, and in brackets the part that was found where that is not all. \
         The others' rules are replicas of what they publish, without their scrape delays.\n"
    )
}

/// `readme` with the table in its place; `None` if it has no place.
pub fn placed(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(MARKERS.0)?;
    let (_, after) = rest.split_once(MARKERS.1)?;
    Some(format!("{before}{}{table}{}{after}", MARKERS.0, MARKERS.1))
}

/// The table in `readme`.
pub fn found_in(readme: &str) -> Option<&str> {
    Some(readme.split_once(MARKERS.0)?.1.split_once(MARKERS.1)?.0)
}

fn percent(count: &Count) -> String {
    format!("{:.1} %", 100.0 * count.rollbacks() as f64 / count.runs() as f64)
}

fn promoted(count: &Count) -> String {
    let part = count.promoted() as f64 / count.runs() as f64;
    format!("{}{}", seconds(count.promotions().mean_s()), of(part))
}

fn found(count: &Count) -> String {
    let part = count.rollbacks() as f64 / count.runs() as f64;
    if part == 0.0 {
        return format!("never, {:.0} bad", count.mean_bad());
    }
    format!("{}, {:.0} bad{}", seconds(count.delays().mean_s()), count.mean_bad(), of(part))
}

fn seconds(s: f64) -> String {
    if s < 10.0 { format!("{s:.1} s") } else { format!("{s:.0} s") }
}

fn of(part: f64) -> String {
    if part < 1.0 { format!(" ({:.0} %)", 100.0 * part) } else { String::new() }
}
