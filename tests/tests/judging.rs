//! The judge's promise, counted over thousands of simulated releases: healthy ones are not rolled back and are
//! promoted, bad ones are found as soon as stated.
//!
//! Seeds are fixed. `HUESHIFT_RUNS=2000` (or more) repeats each world that often, with the same limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift::cli::simulate;
use hueshift_core::judge::{Analysis, Line, Metric, Mode};
use hueshift_simulation::liars::Case;
use hueshift_simulation::{
    AlwaysFires, FaultKind, Foretells, NeverFires, Ours, Rule, SaysNothing, Setting, healthy, liars, most_in,
    promise, record, run, run_many, settings, table,
};
use serde_json::json;
use std::io::Write;

const SEED: u64 = 20_261_125;

fn runs(usual: u64) -> u64 {
    std::env::var("HUESHIFT_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Past the test harness, which would swallow it.
fn tell(line: std::fmt::Arguments<'_>) {
    std::io::stdout().write_all(format!("  {line}\n").as_bytes()).unwrap();
}

fn all_healthy<R: Rule>(runs: u64, rule: impl Fn(&Setting) -> R + Sync) -> Result<(), String> {
    for (setting, least) in healthy::listed() {
        let count = run_many(&setting, SEED, runs, || rule(&setting));
        tell(format_args!("{}", promise::told(&count)));
        promise::healthy(&count, least)?;
    }
    Ok(())
}

fn all_found<R: Rule>(runs: u64, rule: impl Fn(&Setting) -> R + Sync) -> Result<(), String> {
    for (setting, band) in settings::faults() {
        let count = run_many(&setting, SEED, runs, || rule(&setting));
        tell(format_args!("{}", promise::told_found(&count, &band)));
        promise::found(&count, &band)?;
    }
    Ok(())
}

fn ours(setting: &Setting) -> Ours {
    Ours::new(setting.analysis.clone())
}

#[test]
fn healthy_releases_are_rolled_back_at_most_once_in_a_hundred_in_every_world() {
    assert_eq!(most_in(200, 0.01), 8);
    assert!(healthy::listed().len() <= 20);
    all_healthy(runs(200), ours).unwrap();
}

#[test]
fn faults_are_found_as_soon_as_stated() {
    all_found(runs(200), ours).unwrap();
}

/// What the worlds are worth: without what it is there for, each is lost.
#[test]
fn without_its_guard_a_world_is_lost() {
    for (setting, lost) in healthy::unguarded() {
        let count = run_many(&setting, SEED, 40, || ours(&setting));
        tell(format_args!("{}, {lost}", promise::told(&count)));
        assert!(promise::healthy(&count, 0.0).is_err(), "{}, {lost}", setting.name);
    }
}

/// Something that both colors use falls ill after cutover: history condemns nearly every release, the holdback none.
#[test]
fn a_shared_incident_after_cutover_takes_no_healthy_release_back() {
    let setting = healthy::incident();
    let count = run_many(&setting, SEED, runs(200), || ours(&setting));
    tell(format_args!("{}", promise::told(&count)));
    assert!(count.fired(Metric::History) * 2 >= count.runs(), "the world is too easy");
    assert!(count.rollbacks() <= most_in(count.runs(), promise::ALPHA));
    // Whoever sets a ceiling wants both taken for too bad.
    let metrics = setting.analysis.metrics.iter().copied().chain([Metric::Slo]).collect();
    let ceiling = Analysis { metrics, slo_error_rate: Some(0.01), ..setting.analysis.clone() };
    let count = run_many(&setting, SEED, runs(200), || Ours::new(ceiling.clone()));
    tell(format_args!("{}, with a ceiling of 1 %", promise::told(&count)));
    assert!(count.rollbacks() * 10 >= count.runs() * 9, "both fail twice as often as is allowed");
}

/// Without session keys a request is a draw of its own only if failures come one by one. Where they do not, a healthy
/// candidate is often rolled back by chance; a release before tells, and then the second is the unit.
#[test]
fn without_session_keys_bursts_of_failures_are_known_from_the_release_before() {
    let bursts = healthy::keyless_bursts();
    // As much fails, but one by one.
    let even = Setting { name: "likewise, one by one", bursts: None, errors: 0.015, ..bursts.clone() };
    for (setting, clumped) in [(&bursts, true), (&even, false)] {
        let told = (0..20).map(|seed| {
            let mut before = Foretells::default();
            run(setting, SEED + 1_000 + seed, &mut before);
            before.dispersion().unwrap()
        });
        let told: Vec<_> = told.collect();
        let mean = told.iter().filter_map(|found| found.phi).sum::<f64>() / told.len() as f64;
        tell(format_args!("{:48} dispersion {mean:.2} over {} s", setting.name, told[0].seconds));
        assert!(told.iter().all(|found| found.is_clumped() == clumped), "{told:?}");
    }
    let judged = |what: &str, setting: &Setting, analysis: Analysis| {
        let count = run_many(setting, SEED, runs(200), || Ours::new(analysis.clone()));
        tell(format_args!("{}, {what}", promise::told(&count)));
        count
    };
    let live = bursts.analysis.clone();
    let unguarded = judged("unguarded", &bursts, Analysis { noisy_at: 1e300, ..live.clone() });
    let controlled = judged("with the control alone", &bursts, live.clone());
    let robust = judged("by the second", &bursts, Analysis { mode: Mode::Robust, ..live.clone() });
    assert!(unguarded.rollbacks() * 5 >= unguarded.runs(), "the world is too easy");
    assert!(controlled.rollbacks() < unguarded.rollbacks(), "the control sees it, where it is not too late");
    assert!(robust.rollbacks() <= most_in(robust.runs(), promise::ALPHA));
    // And it finds a fault.
    let bad = bursts.clone().with(FaultKind::Errors(0.2));
    let found = judged("by the second, 20 % fail", &bad, Analysis { mode: Mode::Robust, ..live });
    assert_eq!(found.rollbacks(), found.runs());
}

#[test]
fn judges_that_always_fire_never_fire_or_never_decide_fail_this_suite() {
    assert!(all_healthy(20, |_| AlwaysFires).unwrap_err().contains("20 of 20 healthy releases rolled back"));
    assert!(all_healthy(20, |_| SaysNothing).unwrap_err().contains("0 of 20 healthy releases promoted"));
    assert!(all_found(5, |_| NeverFires).unwrap_err().contains("0 of 5 found"));
}

/// Reliability of one proxy's word: it can condemn a healthy candidate no more often than chance, and hide a true fault
/// no longer than three times as long as it would take without it.
#[test]
fn one_lying_proxy_of_twelve_decides_nothing() {
    let judged = |case, (unit, analysis): &(&str, Analysis), runs| {
        let count = liars::judged(case, analysis, SEED, runs);
        tell(format_args!("{}", liars::told(unit, analysis, &count)));
        count
    };
    for plain in &liars::analyses(false) {
        let forged = judged(Case::Forged, plain, runs(20));
        assert_eq!(forged.rollbacks(), forged.runs(), "the liar is heard by a plain sum");
        let hidden = judged(Case::Hidden, plain, runs(10));
        assert!(hidden.rollbacks() < hidden.runs() / 2, "and it hides a fault from it");
    }
    for both in &liars::analyses(true) {
        let forged = judged(Case::Forged, both, runs(40));
        assert!(forged.rollbacks() <= most_in(forged.runs(), promise::ALPHA));
        let honest = judged(Case::Honest, both, runs(100));
        let hidden = judged(Case::Hidden, both, runs(100));
        assert_eq!((honest.rollbacks(), hidden.rollbacks()), (honest.runs(), hidden.runs()));
        assert!(hidden.delays().mean_s() <= 3.0 * honest.delays().mean_s());
        let dominated = judged(Case::Dominated, both, runs(20));
        assert_eq!(dominated.rollbacks(), dominated.runs());
    }
}

/// At 1,000 requests/s all 10,000 slots have failed once within two hours; a fault that starts then is new to the
/// windows that begin again, and to them only. (`HUESHIFT_RUNS` does not lengthen it; `cargo measure judge --full` has it
/// after six hours.)
#[test]
fn a_fault_that_starts_after_hours_is_found() {
    for setting in healthy::late(2) {
        let count = run_many(&setting, SEED, 4, || ours(&setting));
        tell(format_args!("{}", promise::told_found(&count, &promise::LATE_S)));
        promise::found(&count, &promise::LATE_S).unwrap();
    }
    let [_, staying, _] = healthy::late(2);
    let blind = Analysis { scales: Vec::new(), ..staying.analysis.clone() };
    let count = run_many(&staying, SEED, 2, || Ours::new(blind.clone()));
    assert_eq!(count.delays().len(), 0, "one count per release and slot sees nothing any more");
}

/// Through the file and the program, as anyone would try it.
#[test]
fn recorded_worlds_of_other_seeds_get_the_verdict_of_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    for (setting, by_ms) in settings::recorded() {
        let from_ms = setting.fault.map_or(0, |fault| fault.from_ms);
        let expect = match by_ms {
            Some(by_ms) => json!({ "verdict": "rollback", "not_before_ms": from_ms + 1, "by_ms": by_ms }),
            None => json!({ "verdict": "never" }),
        };
        let mut met = 0;
        for seed in SEED..SEED + 20 {
            let world = record::world(&setting, seed, &expect);
            std::fs::write(&path, world.to_string()).unwrap();
            let mut out = Vec::new();
            let summary = simulate::run(&path, &mut out).unwrap();
            let lines = String::from_utf8(out).unwrap();
            assert_eq!(lines.lines().count() as u64, setting.duration_ms / setting.tick_ms, "{summary}");
            for line in lines.lines() {
                serde_json::from_str::<Line>(line).unwrap();
            }
            met += u64::from(summary.contains("  as expected"));
        }
        tell(format_args!("{:48} {met} of 20 as expected", setting.name));
        // Chance may have one of them.
        assert!(met >= 20 - most_in(20, promise::ALPHA), "{}: {met} of 20", setting.name);
    }
}

#[test]
fn the_readmes_table_is_the_commands() {
    let readme = include_str!("../../README.md");
    let found = table::found_in(readme).expect("the README has the markers of `cargo measure judge`");
    // The figures are measured; form, rules and faults are not.
    let form = |text: &str| -> Vec<String> {
        let cells = |line: &str| match line.strip_prefix("| ") {
            Some(row) => format!("{} cells: {}", row.split(" | ").count(), row.split(" | ").next().unwrap()),
            None => line.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned(),
        };
        text.lines().map(cells).collect()
    };
    assert_eq!(form(found), form(&table::form()), "run `cargo measure judge`");
    assert_eq!(found.lines().next(), table::form().lines().next(), "run `cargo measure judge`");
    assert_eq!(table::placed(readme, found).as_deref(), Some(readme), "placing it again changes nothing");
}
