//! `report`: one ended release on a page, and the proof that its verdict follows from its record.
//!
//! The record holds the judge at its decision: parameters, counts by proxy and lottery, the state of every test. The
//! evidence is computed again from that, by this version's formulas, and compared with what was said then. Where the
//! two differ the exit code is 1.

use super::figures::{count, plural, span};
use super::screen::{Ink, Screen, columns};
use super::{At, Done, Failure, Output, show};
use crate::text::visible;
use crate::view::{
    End, JudgeRecord, ReleaseRecord, chance, ended, errors_came, odds, percent, predictions_moved,
};
use clap::Args;
use hueshift_core::color::Color;
use hueshift_core::judge::dispersion::{self, Dispersion};
use hueshift_core::judge::evidence::Interval;
use hueshift_core::judge::{Evidence, Judge, Metric, Mode};
use serde::Serialize;
use serde_json::Value;
use std::process::ExitCode;

/// Labels are filled up to this.
const LABEL: usize = 12;
/// Numbers agree within this part of themselves: another libm may differ in the last digits.
const TOLERANCE: f64 = 1e-9;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The release's number.
    release: u32,
    /// Its service; may be left out when only one has such a release.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// For people or for programs.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    at: At,
}

/// A record and what came of computing it again.
#[derive(Debug, Serialize)]
struct Report<'a> {
    record: &'a ReleaseRecord,
    /// Absent: the record does not hold its judge.
    recomputed: Option<Evidence>,
    agrees: Option<bool>,
    /// What differs, as `path: then, now`.
    differences: Vec<String>,
}

pub(super) async fn run(args: ReportArgs) -> Done {
    let record = find(&args).await?;
    let report = Report::of(&record);
    show(args.output, &report, |screen| render(&report, screen))?;
    Ok(if report.agrees == Some(false) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

async fn find(args: &ReportArgs) -> Result<ReleaseRecord, Failure> {
    let records = super::history::records(&args.at, args.service.as_deref()).await?;
    let mut found = records.into_iter().filter(|record| record.release == args.release);
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "several services have a release {}; name one with --service",
            args.release
        ))),
        (None, _) => Err(Failure::usage(format!(
            "no ended release {} is kept; `hueshift history` lists them",
            args.release
        ))),
    }
}

// === impl Report ===

impl<'a> Report<'a> {
    fn of(record: &'a ReleaseRecord) -> Self {
        let Some(judge) = &record.judge else {
            return Report { record, recomputed: None, agrees: None, differences: Vec::new() };
        };
        match Judge::recompute(judge.state.clone()) {
            Ok(again) => {
                let value = |evidence: &Evidence| serde_json::to_value(evidence).unwrap_or_default();
                let mut differences = Vec::new();
                compare("", &value(&judge.evidence), &value(&again), &mut differences);
                let agrees = Some(differences.is_empty());
                Report { record, recomputed: Some(again), agrees, differences }
            }
            Err(why) => Report { record, recomputed: None, agrees: None, differences: vec![why.to_string()] },
        }
    }
}

/// Lists what differs between two values.
fn compare(path: &str, then: &Value, now: &Value, differences: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, value) in then {
                compare(&format!("{path}.{name}"), value, now.get(name).unwrap_or(&Value::Null), differences);
            }
        }
        (Value::Number(a), Value::Number(b)) if near(a.as_f64(), b.as_f64()) => {}
        (then, now) if then == now => {}
        (then, now) => differences.push(format!("{}: {then}, {now}", path.trim_start_matches('.'))),
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * (1.0 + a.abs()),
        _ => false,
    }
}

fn render(report: &Report<'_>, screen: &Screen) -> String {
    let record = report.record;
    let headline = format!(
        "{}: release {} tried {} ({}) against {}",
        visible(&record.service),
        record.release,
        visible(&record.revision),
        record.candidate,
        visible(&record.stable_revision)
    );
    let mut out = format!("{}\n\n", screen.ink(Ink::Bold, headline));
    let mut line =
        |label: &str, text: &str| out.push_str(&screen.paragraph(&format!("{label:LABEL$}"), text));
    line("result", &ended(record));
    let took = span(record.ended_ms.saturating_sub(record.started_ms));
    line("when", &format!("{}, for {took}", screen.date(record.started_ms)));
    if !record.steps.is_empty() {
        let shares: Vec<String> = record.steps.iter().map(|step| step.share.to_string()).collect();
        line("shares", &shares.join(", "));
    }
    if let Some(judge) = &record.judge {
        if let Some(text) = concentration(&judge.evidence) {
            line("failures", &text);
        }
        for text in chances(judge) {
            line("evidence", &text);
        }
    }
    if let Some(unit) = record.evidence.as_ref().and_then(|evidence| evidence.chance) {
        line("one draw", &format!("is {}", chance(&unit)));
        if unit.noisy {
            line("noise", &noise(record.candidate.other()));
        }
    }
    if let Some(dispersion) = &record.dispersion {
        line("dispersion", &foretold(record, dispersion));
    }
    line("proof", &proof(report));
    out.push('\n');
    out + &counts(record, screen)
}

/// How far the failures spread over sessions.
fn concentration(evidence: &Evidence) -> Option<String> {
    let (errors, slots) = (evidence.counted.green_errors, evidence.candidate_slots);
    (errors > 0 && slots.errors > 0).then(|| {
        format!(
            "{} of the candidate came from {} of {}",
            plural(errors, "failure"),
            count(slots.errors.into()),
            plural(slots.done.into(), "session")
        )
    })
}

/// What chance explains, in all and by metric.
fn chances(judge: &JudgeRecord) -> Vec<String> {
    let Evidence { log_e, rollback_at, metrics, .. } = &judge.evidence;
    let all = format!(
        "chance alone looks this bad at {} at most; rolled back from {} on",
        odds(*log_e),
        odds(*rollback_at)
    );
    let moved = judge.evidence.predictions.as_ref().map(predictions_moved);
    let metric = |metric: Metric| Some(format!("{}: {}", metric.as_str(), odds(metrics.get(metric)?)));
    [all].into_iter().chain(Metric::ALL.into_iter().filter_map(metric)).chain(moved).collect()
}

/// What was seen of the environment itself.
fn noise(stable: Color) -> String {
    format!(
        "two parts of {stable} that should be alike failed so differently that chance explains it in 1 of 10 releases at \
         most: requests were no single draws, so they were judged by the second, and the ramp held"
    )
}

/// How the errors came of the color that serves since, and what the next release makes of it.
fn foretold(record: &ReleaseRecord, dispersion: &Dispersion) -> String {
    let serves = if record.end == End::Promoted { record.candidate } else { record.candidate.other() };
    let unit = match dispersion::choose(Some(dispersion)) {
        Mode::Robust => "second",
        _ => "request",
    };
    format!(
        "on {serves} {}: without session keys the next release counts by the {unit}; a failure belongs to the second \
         in which it was reported",
        errors_came(dispersion)
    )
}

fn proof(report: &Report<'_>) -> String {
    match (&report.record.judge, report.agrees) {
        (Some(judge), Some(true)) => format!(
            "computed again from the record (written by {}) by {}: it agrees",
            visible(&judge.version),
            env!("CARGO_PKG_VERSION")
        ),
        (Some(_), Some(false)) => {
            format!("computed again from the record: it DIFFERS: {}", report.differences.join("; "))
        }
        (Some(_), None) => format!("cannot be computed again: {}", report.differences.join("; ")),
        (None, _) => "cannot be computed again: the record does not hold its judge".to_owned(),
    }
}

fn counts(record: &ReleaseRecord, screen: &Screen) -> String {
    let first = " ".repeat(LABEL - 2);
    let heads = [first.as_str(), "REQUESTS", "FAILED", "RATE", "TRUE RATE"];
    let mut rows = vec![heads.map(|head| screen.ink(Ink::Dim, head)).to_vec()];
    for color in Color::BOTH {
        let counted = record.requests.get(color);
        let interval = record.evidence.as_ref().and_then(|evidence| *evidence.rates.get(color));
        rows.push(vec![
            super::explain::named(color, screen),
            count(counted.n),
            count(counted.errors),
            counted.rate().map_or("-".to_owned(), percent),
            interval.map_or("-".to_owned(), range),
        ]);
    }
    columns(&rows)
}

/// `0.3 % to 1.2 %`.
pub(super) fn range(Interval { lower, upper, .. }: Interval) -> String {
    format!("{} to {}", percent(lower), percent(upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hueshift_core::judge::{Analysis, Row, Side};

    /// A tenth of the candidate's requests fails.
    fn judge() -> Box<JudgeRecord> {
        judged(1)
    }

    fn fine_judge() -> Box<JudgeRecord> {
        judged(0)
    }

    fn judged(bad: i64) -> Box<JudgeRecord> {
        let mut judge = Judge::new(Analysis::live()).unwrap();
        for tick in 1..=40u16 {
            let n = i64::from(tick);
            let side = |requests, errors| {
                Some(Side { requests: Some(requests), errors: Some(errors), ..Side::default() })
            };
            let row = Row {
                proxy: "gw".into(),
                incarnation: 1,
                seq: tick.into(),
                epoch: 1,
                split: 0.1,
                green: side(10 * n, bad * n),
                blue: side(90 * n, 0),
                error_slots: if bad > 0 { vec![tick] } else { Vec::new() },
                done_slots: Some((0..10).map(|i| tick * 10 + i).collect()),
                ..Row::default()
            };
            judge.tick(u64::from(tick) * 250, &[row]);
        }
        Box::new(JudgeRecord { version: "0.0.1".into(), evidence: judge.evidence(), state: judge.record() })
    }

    fn record() -> ReleaseRecord {
        let view: crate::view::View =
            serde_json::from_str(include_str!("../../tests/views/two-services.json")).unwrap();
        ReleaseRecord { judge: Some(judge()), ..view.services[1].history[1].clone() }
    }

    fn page(record: &ReleaseRecord) -> String {
        let screen = Screen { width: Some(100), height: 24, paint: false, zone: jiff::tz::TimeZone::UTC };
        render(&Report::of(record), &screen)
    }

    #[test]
    fn a_record_agrees_with_itself_also_after_writing_and_reading() {
        let text = serde_json::to_string(&record()).unwrap();
        let read: ReleaseRecord = serde_json::from_str(&text).unwrap();
        let report = Report::of(&read);
        assert_eq!((report.agrees, report.differences.len()), (Some(true), 0), "{:?}", report.differences);
        let page = page(&read);
        assert!(page.contains("written by 0.0.1") && page.contains("it agrees"), "{page}");
        assert!(page.contains("40 failures of the candidate came from 31 of"), "{page}");
    }

    #[test]
    fn a_record_that_was_changed_is_found_out() {
        let mut record = record();
        record.judge.as_mut().unwrap().evidence.log_e -= 0.001;
        let report = Report::of(&record);
        assert_eq!(report.agrees, Some(false));
        assert!(report.differences[0].starts_with("log_e: "), "{:?}", report.differences);
        assert!(page(&record).contains("it DIFFERS: log_e: "));
    }

    /// Whatever part of the record is changed, by hand, in its file.
    #[test]
    fn every_doctored_part_of_a_record_is_told_with_its_name() {
        let whole = serde_json::to_value(record()).unwrap();
        let state = "/judge/state/judge";
        let doctored = [
            ("/judge/evidence/verdict".to_owned(), serde_json::json!("continue"), "verdict"),
            ("/judge/evidence/metrics/errors".to_owned(), serde_json::json!(0.5), "metrics.errors"),
            ("/judge/evidence/counted/green_errors".to_owned(), serde_json::json!(0), "counted.green_errors"),
            (
                format!("{state}/tally/proxies/gw/epochs/1/last/green/requests"),
                serde_json::json!(4_000),
                "counted.green_requests",
            ),
            (format!("{state}/analysis/alpha"), serde_json::json!(0.5), "rollback_at"),
            (format!("{state}/sittings/0/case/errors/ratio/sums/0"), serde_json::json!(900.0), "log_e"),
            (format!("{state}/condemned"), serde_json::json!(false), ""),
            (format!("{state}/counted/green_requests"), serde_json::json!(4_000), ""),
        ];
        for (path, value, named) in doctored {
            let mut changed = whole.clone();
            let place = changed.pointer_mut(&path).unwrap_or_else(|| panic!("{path} is not there"));
            *place = value;
            let read: ReleaseRecord = serde_json::from_value(changed).unwrap();
            let report = Report::of(&read);
            if named.is_empty() {
                assert_eq!(report.agrees, Some(true), "{path} is no evidence: it is computed again");
                continue;
            }
            assert_eq!(report.agrees, Some(false), "{path}");
            let told = report.differences.iter().any(|difference| difference.starts_with(named));
            assert!(told, "{path}: {:?}", report.differences);
        }
    }

    #[test]
    fn a_condemnation_that_the_evidence_does_not_bear_out_differs() {
        let mut fine = serde_json::to_value(*fine_judge()).unwrap();
        *fine.pointer_mut("/state/judge/condemned").unwrap() = true.into();
        *fine.pointer_mut("/evidence/verdict").unwrap() = "rollback".into();
        let judge = Some(Box::new(serde_json::from_value(fine).unwrap()));
        let record = ReleaseRecord { judge, ..record() };
        let report = Report::of(&record);
        assert!(
            report.differences.iter().any(|text| text.starts_with("verdict: ")),
            "{:?}",
            report.differences
        );
    }

    #[tokio::test]
    async fn the_exit_code_says_whether_a_record_agrees() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("history/price");
        std::fs::create_dir_all(&folder).unwrap();
        let mut record = ReleaseRecord { service: "price".to_owned(), ..record() };
        for (log_e, code) in [(0.0, ExitCode::SUCCESS), (1.0, ExitCode::from(1))] {
            record.judge.as_mut().unwrap().evidence.log_e += log_e;
            let bytes = crate::home::Versioned::bytes(record.clone()).unwrap();
            std::fs::write(folder.join("1.json"), bytes).unwrap();
            let release = record.release.to_string();
            let state = state.path().to_str().unwrap();
            let line = ["hueshift", "report", &release, "--output", "json", "--state", state];
            let cli = <super::super::Cli as clap::Parser>::try_parse_from(line).unwrap();
            let super::super::Verb::Report(args) = cli.verb else { panic!("another verb") };
            let ended = run(args).await.unwrap_or_else(|_| panic!("it could not be read"));
            assert_eq!(ended, code);
        }
    }

    #[test]
    fn what_a_draw_was_and_what_the_next_release_makes_of_it_is_told() {
        let mut record = record();
        let chance = crate::view::Chance { mode: Mode::PerError, noisy: true, earlier: None };
        record.evidence.as_mut().unwrap().chance = Some(chance);
        for (phi, told) in [
            (
                Some(9.42),
                "on blue failures came in clumps (dispersion 9.4 over 300 s, more than 1.5): without",
            ),
            (None, "on blue nothing failed in 300 s: without session keys the next release counts by the"),
        ] {
            record.dispersion = Some(Dispersion { seconds: 300, phi });
            let page = page(&record);
            assert!(page.contains(told), "{page}");
            assert!(page.contains("one draw    is a second: the requests' own draws"), "{page}");
            assert!(page.contains("noise       two parts of blue that should be alike"), "{page}");
        }
    }

    #[test]
    fn an_old_record_says_that_it_proves_nothing() {
        let record = ReleaseRecord { judge: None, ..record() };
        assert!(page(&record).contains("the record does not hold its judge"));
        assert_eq!(Report::of(&record).agrees, None);
    }
}
