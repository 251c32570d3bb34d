//! The metric `custom`: events that are no failures, judged as failures are.
//!
//! That alpha holds and that they are found as soon as stated is counted over simulated releases
//! (`tests/tests/judging.rs`); here are the cases that can be worked out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::analysis::Witness;
use hueshift_core::judge::{Analysis, Judge, Metric, Mode, Row, Side, Verdict};

/// Per tick and proxy: events of (candidate, stable), of 10 and 90 requests.
type Events = (i64, i64);

fn analysis(mode: Mode) -> Analysis {
    Analysis { metrics: vec![Metric::Errors, Metric::Custom], mode, srm: false, ..Analysis::default() }
}

fn row(proxy: usize, tick: u64, (candidate, stable): Events, mode: Mode) -> Row {
    let at = |n: i64| Some(n * i64::try_from(tick).unwrap());
    let side =
        |n, events| Some(Side { requests: at(n), errors: at(0), events: at(events), ..Side::default() });
    // Sessions in their order, the same through every proxy; one that comes again says nothing new.
    let first = |base: u64, most: u64, n: i64| {
        let n = u64::try_from(n).unwrap();
        (0..n).map(move |i| (base + ((tick - 1) * n + i) % most) as u16)
    };
    let slots = if mode == Mode::Sessions {
        first(0, 1_000, candidate).chain(first(1_000, 9_000, stable)).collect()
    } else {
        Vec::new()
    };
    Row {
        proxy: format!("gw-{proxy}"),
        incarnation: 1,
        seq: tick,
        epoch: 1,
        split: 0.1,
        green: side(10, candidate),
        blue: side(90, stable),
        event_slots: slots,
        ..Row::default()
    }
}

/// A minute of it.
fn judged(analysis: Analysis, proxies: &[Events]) -> Judge {
    let mode = analysis.mode;
    let mut judge = Judge::new(analysis).unwrap();
    for tick in 1..=240 {
        let rows: Vec<Row> =
            proxies.iter().enumerate().map(|(at, events)| row(at, tick, *events, mode)).collect();
        judge.tick(tick * 250, &rows);
    }
    judge
}

#[test]
fn more_events_than_stable_condemn_in_the_unit_of_the_routing() {
    for mode in [Mode::PerError, Mode::Sessions] {
        assert_eq!(judged(analysis(mode), &[(2, 1)]).verdict(), Verdict::Rollback, "{mode:?}");
        assert_ne!(judged(analysis(mode), &[(0, 2)]).verdict(), Verdict::Rollback, "{mode:?}");
    }
    let evidence = judged(analysis(Mode::PerError), &[(2, 1)]).evidence();
    let events = evidence.events.unwrap();
    assert_eq!((events.candidate, events.stable), (480, 240));
    assert!(evidence.metrics.errors.unwrap() < 1.0, "no request failed");
}

#[test]
fn events_are_no_failures_and_prove_nothing() {
    for mode in [Mode::PerError, Mode::Sessions] {
        let without = Analysis { metrics: vec![Metric::Errors], ..analysis(mode) };
        let (one, other) = (judged(analysis(mode), &[(1, 9)]), judged(without, &[(0, 0)]));
        let (one, other) = (one.evidence(), other.evidence());
        assert_eq!(
            (one.ratio, one.ceiling, one.metrics.errors),
            (other.ratio, other.ceiling, other.metrics.errors)
        );
    }
}

/// A hundred events in one second, all on the candidate, are one draw and no evidence.
#[test]
fn where_requests_draw_a_second_is_one_draw_of_events() {
    for mode in [Mode::PerError, Mode::Robust] {
        assert_eq!(judged(analysis(mode), &[(10, 1)]).verdict(), Verdict::Rollback, "{mode:?}");
        let mut judge = Judge::new(analysis(mode)).unwrap();
        for tick in 1..=80 {
            let mut row = row(0, tick, (0, 0), mode);
            row.green.as_mut().unwrap().events = Some(if tick >= 41 { 100 } else { 0 });
            judge.tick(tick * 250, &[row]);
        }
        assert_ne!(judge.verdict(), Verdict::Rollback, "{mode:?}");
    }
}

/// A tenth of all answers are events here, so the floor alone holds nothing back.
#[test]
fn one_proxy_of_four_can_neither_invent_events_nor_hide_them() {
    const FINE: Events = (1, 9);
    let forged = [(10, 0), FINE, FINE, FINE];
    let hidden = [(0, 60), (4, 9), (4, 9), (4, 9)];
    for mode in [Mode::PerError, Mode::Sessions] {
        let both = |proxies: &[Events]| {
            judged(Analysis { witness: Some(Witness::LeaveOneOut), ..analysis(mode) }, proxies).verdict()
        };
        let plain = |proxies: &[Events]| judged(analysis(mode), proxies).verdict();
        assert_eq!(plain(&forged), Verdict::Rollback, "{mode:?}: a plain sum believes it");
        assert_ne!(both(&forged), Verdict::Rollback, "{mode:?}");
        assert_ne!(plain(&hidden), Verdict::Rollback, "{mode:?}: from a plain sum it hides");
        assert_eq!(both(&hidden), Verdict::Rollback, "{mode:?}");
    }
}

#[test]
fn a_row_of_impossible_events_is_refused_and_a_repeated_one_adds_nothing() {
    let first = || row(0, 1, (2, 1), Mode::PerError);
    let mut judge = Judge::new(analysis(Mode::PerError)).unwrap();
    let mut other = judge.clone();
    judge.tick(250, &[first()]);
    other.tick(250, &[first()]);
    let mut wrong = row(0, 2, (2, 1), Mode::PerError);
    wrong.green.as_mut().unwrap().events = Some(21);
    assert_eq!(judge.tick(500, &[wrong.clone()]).rows.malformed, 1, "more events than requests");
    wrong.green.as_mut().unwrap().events = Some(1);
    assert_eq!(judge.tick(750, &[wrong]).rows.malformed, 2, "fewer than before");
    judge.tick(1_000, &[first()]);
    other.tick(1_000, &[]);
    assert_eq!(judge.evidence(), other.evidence());
}
