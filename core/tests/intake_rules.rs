//! What the intake promises whatever the network does to reports, and whatever a hostile proxy puts into them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{Control, LotteryReport, PlanReport, Report, ServiceId, TIME_BUCKETS, Tally};
use hueshift_core::intake::{Intake, IntakeCheckpoint, Malformed, Outcome};
use hueshift_core::judge::{Analysis, Judge, Line, Row};
use hueshift_core::problem::Problem;
use hueshift_core::share::Bps;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ID: ServiceId = ServiceId::from_bytes(*b"hueshift");

fn bps(n: u16) -> Bps {
    Bps::new(n).unwrap()
}

fn tally(started: u64, completed: u64, errors: u64) -> Tally {
    Tally { started, completed, errors, ..Tally::default() }
}

fn lottery(epoch: u64, limit: u16, blue: Tally, green: Tally) -> LotteryReport {
    LotteryReport { epoch, limit: bps(limit), tallies: PerColor { blue, green }, ..LotteryReport::default() }
}

fn plan(epoch: u64, lotteries: Vec<LotteryReport>) -> PlanReport {
    PlanReport { id: ID, release: 1, epoch, tripped: 0, lotteries }
}

fn report(vm: u64, seq: u64, plans: Vec<PlanReport>) -> Report {
    Report { proxy: "gw-0".into(), vm, incarnation: 1, seq, plans, ..Report::default() }
}

fn one(vm: u64, seq: u64, blue: Tally, green: Tally) -> Report {
    report(vm, seq, vec![plan(1, vec![lottery(1, 500, blue, green)])])
}

/// (epoch, blue's requests, green's requests, green's errors) of the rows.
fn sums(rows: &[Row]) -> Vec<(u64, i64, i64, i64)> {
    let number = |row: &Row| {
        let (blue, green) = (row.blue.as_ref().unwrap(), row.green.as_ref().unwrap());
        (row.epoch, blue.requests.unwrap(), green.requests.unwrap(), green.errors.unwrap())
    };
    rows.iter().map(number).collect()
}

fn rows(intake: &mut Intake) -> Vec<Row> {
    intake.rows(ID, 1, Color::Blue)
}

#[test]
fn the_workers_of_an_envoy_are_summed() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(10, 9, 0), tally(2, 2, 1)), 0);
    intake.take(&one(2, 1, tally(20, 20, 0), tally(3, 3, 0)), 0);
    assert_eq!(sums(&rows(&mut intake)), [(1, 29, 5, 1)]);
    assert_eq!(rows(&mut intake), [], "no news, no row");
    intake.take(&one(2, 2, tally(20, 20, 0), tally(4, 3, 0)), 0);
    let rows = rows(&mut intake);
    assert_eq!((rows[0].seq, rows[0].green.as_ref().unwrap().started), (2, Some(6)), "a start is news");
}

#[test]
fn a_rebuilt_worker_starts_at_zero_and_the_sum_never_shrinks() {
    let mut intake = Intake::default();
    intake.take(&one(1, 7, tally(10, 10, 0), tally(2, 2, 0)), 0);
    intake.take(&one(2, 1, tally(1, 1, 0), tally(0, 0, 0)), 0);
    assert_eq!(sums(&rows(&mut intake)), [(1, 11, 2, 0)]);
}

#[test]
fn a_restarted_envoy_starts_at_zero_and_its_last_news_is_not_lost() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(10, 10, 0), tally(2, 2, 1)), 0);
    let again = Report { incarnation: 2, ..one(1, 1, tally(1, 1, 0), tally(0, 0, 0)) };
    assert_eq!(intake.take(&again, 0).outcome, Outcome::Accepted);
    let rows = rows(&mut intake);
    assert_eq!(sums(&rows), [(1, 10, 2, 1), (1, 1, 0, 0)]);
    assert_eq!((rows[0].incarnation, rows[1].incarnation), (1, 2));
    let old = intake.take(&one(1, 99, tally(99, 99, 0), tally(0, 0, 0)), 0);
    assert_eq!((old.outcome, old.ack), (Outcome::Ignored, 0));
    assert_eq!(intake.facts(ID, 1, 0).totals.blue.completed, 11);
}

#[test]
fn the_stable_color_becomes_blue() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(1, 1, 0), tally(9, 9, 0)), 0);
    assert_eq!(sums(&intake.rows(ID, 1, Color::Green)), [(1, 9, 1, 0)]);
}

#[test]
fn lotteries_are_numbered_in_order_of_first_sight() {
    let mut intake = Intake::default();
    let lotteries = vec![
        lottery(4, 500, tally(5, 5, 0), tally(0, 0, 0)),
        lottery(9, 2_500, tally(1, 1, 0), tally(0, 0, 0)),
    ];
    intake.take(&report(1, 1, vec![plan(9, lotteries)]), 0);
    // A cap makes another lottery of the same epoch.
    intake.take(&report(2, 1, vec![plan(9, vec![lottery(9, 0, tally(2, 2, 0), tally(0, 0, 0))])]), 0);
    let rows = rows(&mut intake);
    assert_eq!(
        rows.iter().map(|row| (row.epoch, row.split)).collect::<Vec<_>>(),
        [(1, 0.05), (2, 0.25), (3, 0.0)]
    );
}

#[test]
fn slots_are_told_once_and_only_the_candidates_are_done() {
    let mut intake = Intake::default();
    let mut first = lottery(1, 500, tally(5, 5, 1), tally(1, 1, 1));
    (first.error_slots, first.done_slots) = (vec![3, 7_000], vec![3, 4, 600]);
    intake.take(&report(1, 1, vec![plan(1, vec![first.clone()])]), 0);
    let told = rows(&mut intake);
    assert_eq!(
        (told[0].error_slots.as_slice(), told[0].done_slots.as_deref()),
        (&[3, 7_000][..], Some(&[3, 4][..]))
    );
    // Not yet acknowledged: the filter says them again, with one that is new.
    first.done_slots.push(5);
    intake.take(&report(1, 2, vec![plan(1, vec![first])]), 0);
    let told = rows(&mut intake);
    assert_eq!((told[0].error_slots.as_slice(), told[0].done_slots.as_deref()), (&[][..], Some(&[5][..])));
}

#[test]
fn a_sessions_first_prediction_is_told_once_until_it_predicts_again() {
    let mut intake = Intake::default();
    let mut first = lottery(1, 500, tally(5, 5, 0), tally(1, 1, 0));
    first.first_predictions = vec![3 * 64 + 19, 9_999 * 64];
    intake.take(&report(1, 1, vec![plan(1, vec![first.clone()])]), 0);
    assert_eq!(rows(&mut intake)[0].first_predictions, [(3, 19), (9_999, 0)]);
    // Not yet acknowledged: the filter says them again, with one that is new.
    first.first_predictions.push(4 * 64 + 2);
    intake.take(&report(1, 2, vec![plan(1, vec![first.clone()])]), 0);
    assert_eq!(rows(&mut intake)[0].first_predictions, [(4, 2)]);
    first.first_predictions = vec![10_000 * 64];
    let taken = intake.take(&report(1, 3, vec![plan(1, vec![first])]), 0);
    assert_eq!(taken.outcome, Outcome::Malformed(Malformed::Slot));
    // A filter from before predictions were counted says nothing of them.
    let old =
        r#"{"epoch":1,"limit":500,"blue":{"started":9,"completed":9},"green":{"started":2,"completed":2}}"#;
    let old: LotteryReport = serde_json::from_str(old).unwrap();
    assert_eq!(intake.take(&report(1, 3, vec![plan(1, vec![old])]), 0).outcome, Outcome::Accepted);
}

#[test]
fn a_sessions_first_answer_has_two_times_and_both_must_be_buckets() {
    let times = |slot: u32, first_byte: u32, total: u32| {
        let mut row = lottery(1, 500, tally(5, 5, 0), tally(1, 1, 0));
        row.first_times = vec![(slot * TIME_BUCKETS + first_byte) * TIME_BUCKETS + total];
        vec![plan(1, vec![row])]
    };
    let mut intake = Intake::default();
    intake.take(&report(1, 1, times(9_999, 160, 415)), 0);
    let row = rows(&mut intake).remove(0);
    assert_eq!((row.first_latency, row.first_total), (vec![(9_999, 160)], vec![(9_999, 415)]));
    intake.take(&report(1, 2, times(9_999, 160, 415)), 0);
    assert_eq!(rows(&mut intake).len(), 0, "not yet acknowledged: said again");
    for wrong in [times(10_000, 160, 160), times(3, 159, 200), times(3, 200, 159), times(3, 200, 416)] {
        let taken = intake.take(&report(1, 3, wrong), 0);
        assert_eq!(taken.outcome, Outcome::Malformed(Malformed::Slot));
    }
}

#[test]
fn a_sessions_event_is_told_once_until_it_has_another_and_impossible_ones_are_refused() {
    let events = |n: u64, events: u64, slots: &[u16]| {
        let mut row = lottery(1, 500, tally(5, 5, 0), Tally { events, ..tally(n, n, 0) });
        row.event_slots = slots.to_vec();
        vec![plan(1, vec![row])]
    };
    let mut intake = Intake::default();
    let impossible = intake.take(&report(1, 1, events(5, 6, &[])), 0);
    assert_eq!(impossible.outcome, Outcome::Malformed(Malformed::Errors));
    intake.take(&report(1, 1, events(5, 2, &[3, 9_999])), 0);
    let row = rows(&mut intake).remove(0);
    assert_eq!((row.event_slots, row.green.unwrap().events), (vec![3, 9_999], Some(2)));
    // Not yet acknowledged: the filter says them again, with one that is new.
    intake.take(&report(1, 2, events(6, 3, &[3, 4, 9_999])), 0);
    assert_eq!(rows(&mut intake)[0].event_slots, [4]);
    for (wrong, why) in [
        (events(7, 8, &[]), Malformed::Errors),
        (events(7, 5, &[]), Malformed::Errors),
        (events(7, 2, &[]), Malformed::Shrunk),
        (events(7, 3, &[10_000]), Malformed::Slot),
    ] {
        assert_eq!(intake.take(&report(1, 3, wrong), 0).outcome, Outcome::Malformed(why));
    }
    // After a restart only what is new makes a row, and what was counted stays.
    let mut restarted = Intake::default();
    restarted.restore(ID, 1, intake.checkpoint(ID, 1), 0);
    restarted.take(&report(1, 3, events(8, 5, &[7])), 0);
    let row = rows(&mut restarted).remove(0);
    assert_eq!((row.event_slots, row.green.unwrap().events), (vec![7], Some(5)));
}

#[test]
fn where_requests_are_the_unit_rows_have_what_all_workers_saw_since_a_restart_too() {
    let seen = |n: u64| Tally {
        first_byte: BTreeMap::from([(200, n)]),
        total: BTreeMap::from([(230, n)]),
        predictions: BTreeMap::from([(7, n)]),
        ..tally(n, n, 0)
    };
    let last = |intake: &mut Intake| {
        let rows = intake.rows_by_request(ID, 1, Color::Blue);
        let blue = rows.last().unwrap().blue.clone().unwrap();
        (blue.latency, blue.total, blue.predictions)
    };
    let of = |n: i64| [(200, n), (230, n), (7, n)].map(|count| BTreeMap::from([count])).into();
    let mut intake = Intake::default();
    intake.take(&one(1, 1, seen(10), tally(2, 2, 0)), 0);
    intake.take(&one(2, 1, seen(20), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut intake), of(30));
    let mut restarted = Intake::default();
    restarted.restore(ID, 1, intake.checkpoint(ID, 1), 0);
    // What a worker had counted before is only where it begins, whenever it speaks.
    restarted.take(&one(1, 2, seen(13), tally(2, 2, 0)), 0);
    let (latency, total, predictions) = last(&mut restarted);
    let all = latency.values().chain(total.values()).chain(predictions.values());
    assert!(all.into_iter().all(|n| *n == 0), "a baseline for the judge");
    assert_eq!((latency.len(), total.len(), predictions.len()), (256, 256, 64));
    restarted.take(&one(1, 3, seen(15), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut restarted), of(2));
    restarted.take(&one(2, 2, seen(25), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut restarted), of(2));
    restarted.take(&one(3, 1, seen(4), tally(0, 0, 0)), 0);
    assert_eq!(last(&mut restarted), of(6), "a new worker begins at zero");
    let hostile = Tally { predictions: BTreeMap::from([(64, 1)]), ..seen(30) };
    let refused = restarted.take(&one(2, 3, hostile, tally(2, 2, 0)), 0);
    assert_eq!(refused.outcome, Outcome::Malformed(Malformed::Slot));
}

#[test]
fn the_control_is_summed_where_requests_are_the_unit_and_goes_on_after_a_restart() {
    let with = |n: u64, control: (u64, u64, u64)| {
        let (started, completed, errors) = control;
        Tally { control: Control { started, completed, errors }, ..tally(n, n, n / 2) }
    };
    let last = |intake: &mut Intake| {
        let control = intake.rows_by_request(ID, 1, Color::Blue).pop().unwrap().control;
        control.map(|side| (side.started.unwrap(), side.requests.unwrap(), side.errors.unwrap()))
    };
    let mut intake = Intake::default();
    intake.take(&one(1, 1, with(10, (2, 1, 1)), tally(2, 2, 0)), 0);
    intake.take(&one(2, 1, with(20, (0, 0, 0)), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut intake), Some((2, 1, 1)));
    intake.take(&one(2, 2, with(24, (4, 4, 0)), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut intake), Some((6, 5, 1)));
    let mut restarted = Intake::default();
    let kept = serde_json::to_string(&intake.checkpoint(ID, 1)).unwrap();
    restarted.restore(ID, 1, serde_json::from_str(&kept).unwrap(), 0);
    // What a worker had counted before is only where it begins.
    restarted.take(&one(1, 2, with(12, (4, 3, 2)), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut restarted), Some((6, 5, 1)));
    restarted.take(&one(1, 3, with(14, (5, 4, 3)), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut restarted), Some((7, 6, 2)));
    // Sessions that stick are no draws, and a checkpoint from before it was counted says nothing of it.
    restarted.take(&one(1, 4, with(16, (6, 5, 4)), tally(2, 2, 0)), 0);
    assert_eq!(rows(&mut restarted)[0].control, None);
    restarted.take(&one(1, 5, with(18, (7, 6, 5)), tally(2, 2, 0)), 0);
    assert_eq!(restarted.rows_by_second(ID, 1, Color::Blue)[0].control, None);
    let old = kept.replace(r#""control""#, r#""unknown""#);
    let mut upgraded = Intake::default();
    upgraded.restore(ID, 1, serde_json::from_str(&old).unwrap(), 0);
    upgraded.take(&one(1, 2, with(12, (4, 3, 2)), tally(2, 2, 0)), 0);
    assert_eq!(last(&mut upgraded), None);
}

#[test]
fn a_control_that_cannot_be_makes_no_row_that_the_judge_refuses() {
    let mut intake = Intake::default();
    let mut judge = Judge::new(Analysis::live_per_request()).unwrap();
    for (seq, control) in [(1, (1, 0, 9)), (2, (99, 99, 99)), (3, (0, 0, 0)), (4, (u64::MAX, 7, u64::MAX))] {
        let (started, completed, errors) = control;
        let control = Control { started, completed, errors };
        intake.take(&one(1, seq, Tally { control, ..tally(10 * seq, 10 * seq, seq) }, tally(seq, seq, 0)), 0);
        let line = judge.tick(seq * 250, &intake.rows_by_request(ID, 1, Color::Blue));
        assert_eq!((line.rows.accepted, line.rows.malformed), (seq, 0));
    }
}

#[test]
fn what_cannot_be_is_refused_whole_and_not_acknowledged() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(10, 10, 3), tally(2, 2, 0)), 0);
    let mut refuse = |report: &Report, why: Malformed| {
        let taken = intake.take(report, 0);
        assert_eq!((taken.outcome, taken.ack), (Outcome::Malformed(why), u64::from(report.proxy == "gw-0")));
    };
    refuse(&one(1, 2, tally(9, 9, 3), tally(5, 5, 0)), Malformed::Shrunk);
    refuse(&one(1, 2, tally(10, 10, 2), tally(5, 5, 0)), Malformed::Shrunk);
    refuse(&one(1, 2, tally(11, 11, 5), tally(5, 5, 0)), Malformed::Errors);
    refuse(&one(1, 2, tally(11, 2, 3), tally(5, 5, 0)), Malformed::Errors);
    refuse(&one(1, 2, tally(u64::MAX, 10, 3), tally(5, 5, 0)), Malformed::TooLarge);
    refuse(&Report { proxy: String::new(), ..one(1, 2, tally(10, 10, 3), tally(5, 5, 0)) }, Malformed::Proxy);
    let twice = lottery(1, 500, tally(10, 10, 3), tally(5, 5, 0));
    refuse(&report(1, 2, vec![plan(1, vec![twice.clone(), twice.clone()])]), Malformed::Repeated);
    refuse(&report(1, 2, vec![plan(1, vec![]), plan(1, vec![])]), Malformed::Repeated);
    let slot = LotteryReport { error_slots: vec![10_000], ..twice };
    refuse(&report(1, 2, vec![plan(1, vec![slot])]), Malformed::Slot);
    assert_eq!(sums(&rows(&mut intake)), [(1, 10, 2, 0)]);
    assert_eq!(intake.problems().malformed, 9);
}

#[test]
fn a_flood_of_names_is_refused_and_the_known_ones_go_on() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(1, 1, 0), tally(0, 0, 0)), 0);
    for i in 0..5_000 {
        intake.take(&Report { proxy: format!("liar-{i}"), ..one(1, 1, tally(1, 1, 0), tally(0, 0, 0)) }, 0);
    }
    assert_eq!(intake.problems().overflow, 5_000 - 4_095);
    assert_eq!(intake.take(&one(1, 2, tally(2, 2, 0), tally(0, 0, 0)), 0).outcome, Outcome::Accepted);
    // Lotteries, too, are bounded per release.
    let overflow = intake.problems().overflow;
    for epoch in 2..400 {
        intake.take(
            &report(
                1,
                epoch + 1,
                vec![plan(epoch, vec![lottery(epoch, 500, tally(1, 1, 0), tally(0, 0, 0))])],
            ),
            0,
        );
    }
    assert_eq!(intake.problems().overflow - overflow, 398 - 255);
}

#[test]
fn a_silent_release_makes_room_and_a_busy_one_does_not() {
    let mut intake = Intake::default();
    for release in 1..=300 {
        let plan = PlanReport { release, ..plan(1, vec![]) };
        intake.take(&report(1, u64::from(release), vec![plan]), 1_000);
    }
    assert_eq!(intake.problems().overflow, 300 - 256);
    let plan = PlanReport { release: 400, ..plan(1, vec![]) };
    assert_eq!(intake.take(&report(1, 400, vec![plan]), 70_000).outcome, Outcome::Accepted);
    assert_eq!(intake.facts(ID, 1, 0).highest, Some((400, 1)));
}

#[test]
fn facts_say_who_enforces_what_and_who_fell_silent() {
    let mut intake = Intake::default();
    let with = |vm, seq, epoch, started| {
        report(
            vm,
            seq,
            vec![plan(epoch, vec![lottery(epoch, 500, tally(started, started, 0), tally(0, 0, 0))])],
        )
    };
    intake.take(&with(1, 1, 1, 5), 1_000);
    intake.take(&with(2, 1, 2, 5), 2_000);
    intake.take(&with(2, 2, 2, 5), 3_000);
    let facts = intake.facts(ID, 1, 3_000);
    let proxy = &facts.proxies[0];
    assert_eq!(proxy.enforces(500), Some(1));
    assert_eq!(proxy.enforces(1_500), Some(2), "worker 1 had no traffic since");
    assert_eq!(proxy.enforces(2_500), None, "a report without a request is no traffic");
    assert_eq!((proxy.recent, proxy.started.blue, facts.highest), (10, 10, Some((1, 2))));
    assert_eq!(intake.facts(ID, 1, 14_000).proxies[0].vms.len(), 1, "worker 1 is gone");
    // A worker whose plan is of the next release enforces nothing of this one.
    let next = PlanReport { release: 2, ..plan(3, vec![]) };
    intake.take(&report(2, 3, vec![next]), 4_000);
    assert_eq!(intake.facts(ID, 1, 4_000).proxies[0].vms.len(), 1);
    assert_eq!(intake.facts(ID, 2, 4_000).proxies[0].vms.len(), 1);
}

#[test]
fn the_last_books_of_a_release_settle_beside_the_next_one_in_any_order() {
    for next_first in [false, true] {
        let mut intake = Intake::default();
        let old = plan(1, vec![lottery(1, 500, tally(5, 5, 0), tally(1, 1, 1))]);
        let next =
            PlanReport { release: 2, ..plan(3, vec![lottery(3, 500, tally(7, 7, 0), tally(0, 0, 0))]) };
        let both = if next_first { vec![next, old] } else { vec![old, next] };
        assert_eq!(intake.take(&report(1, 1, both), 1_000).outcome, Outcome::Accepted);
        assert_eq!(sums(&rows(&mut intake)), [(1, 5, 1, 1)]);
        assert_eq!(sums(&intake.rows(ID, 2, Color::Blue)), [(1, 7, 0, 0)]);
        let enforcing = |release| intake.facts(ID, release, 1_000).proxies.first().map_or(0, |p| p.vms.len());
        assert_eq!((enforcing(1), enforcing(2)), (0, 1), "the worker enforces the newer release only");
    }
}

#[test]
fn a_trip_is_believed_while_any_living_worker_says_so() {
    let mut intake = Intake::default();
    let with = |vm, seq, tripped| report(vm, seq, vec![PlanReport { tripped, ..plan(1, vec![]) }]);
    intake.take(&with(1, 1, 1), 0);
    intake.take(&with(2, 1, 0), 10);
    assert_eq!(intake.facts(ID, 1, 10).proxies[0].tripped, 1);
    intake.take(&with(1, 2, 0), 20);
    assert_eq!(intake.facts(ID, 1, 20).proxies[0].tripped, 0);
}

#[test]
fn completions_are_told_once() {
    let mut intake = Intake::default();
    intake.take(&one(1, 1, tally(10, 9, 1), tally(3, 2, 2)), 0);
    let input = intake.completions(ID, 1, Color::Blue);
    assert_eq!((input.stable_completed, input.stable_errors), (9, 1));
    assert_eq!((input.candidate_completed, input.candidate_errors), (2, 2));
    assert_eq!(intake.completions(ID, 1, Color::Blue), Default::default());
    let mut restarted = Intake::default();
    restarted.restore(ID, 1, intake.checkpoint(ID, 1), 0);
    assert_eq!(restarted.completions(ID, 1, Color::Blue), Default::default(), "nor again after a restart");
}

// === whatever the network does ===

/// A worker's life: what it counts between two reports.
type Steps = Vec<(u64, u64, u64, Option<u16>)>;

/// The reports of a worker that never hears an ack: each carries all slots since the beginning.
fn life(proxy: &str, vm: u64, steps: &Steps) -> Vec<Report> {
    let (mut blue, mut green, mut slots) = (Tally::default(), Tally::default(), Vec::new());
    let mut reports = Vec::new();
    for (seq, (started, lost, bad, slot)) in (1..).zip(steps) {
        let completed = started - lost.min(started);
        let color = if seq % 3 == 0 { &mut green } else { &mut blue };
        color.started += started;
        color.completed += completed;
        color.errors += bad.min(&completed);
        slots.extend(slot);
        let mut lottery = lottery(1, 500, blue.clone(), green.clone());
        (lottery.error_slots, lottery.done_slots) = (slots.clone(), slots.clone());
        reports.push(Report { proxy: proxy.into(), ..report(vm, seq, vec![plan(1, vec![lottery])]) });
    }
    reports
}

fn lives() -> impl Strategy<Value = Vec<Vec<Report>>> {
    let step = (0u64..50, 0u64..4, 0u64..4, prop::option::of(0u16..10_000));
    prop::collection::vec(prop::collection::vec(step, 1..12), 1..5).prop_map(|lives| {
        lives
            .iter()
            .zip(1u64..)
            .map(|(steps, vm)| life(["gw-0", "gw-1"][vm as usize % 2], vm, steps))
            .collect()
    })
}

/// All that rows ever said: per (proxy, lottery) the last counters and the union of slots.
#[derive(Debug, Default, PartialEq)]
struct Said(BTreeMap<(String, u64), Told>);

/// Counters, error slots, done slots.
type Told = (String, Vec<u16>, Vec<u16>);

impl Said {
    fn hear(&mut self, rows: &[Row]) {
        for row in rows {
            let said = self.0.entry((row.proxy.clone(), row.epoch)).or_default();
            said.0 = format!("{:?} {:?}", row.blue, row.green);
            said.1.extend(&row.error_slots);
            said.2.extend(row.done_slots.iter().flatten());
            said.1.sort_unstable();
            said.2.sort_unstable();
        }
    }
}

/// Every slot once, whichever lottery told it.
fn all_slots(said: &Said) -> (Vec<u16>, Vec<u16>) {
    let collect = |of: fn(&Told) -> &Vec<u16>| {
        let mut slots: Vec<u16> = said.0.values().flat_map(of).copied().collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    };
    (collect(|s| &s.1), collect(|s| &s.2))
}

/// Reports of workers every 250 ms: worker 1 for ever, worker 2 until `until_ms`.
fn until(intake: &mut Intake, until_ms: u64, now_ms: u64) {
    for (n, t) in (1..).zip((0..=now_ms).step_by(250)) {
        for vm in [1, 2] {
            if vm == 1 || t <= until_ms {
                let tally = tally(n, n, 0);
                let report = Report { next_ms: 250, age_ms: t, ..one(vm, n, tally.clone(), tally) };
                intake.take(&report, t);
            }
        }
    }
}

#[test]
fn a_worker_that_breaks_its_word_is_silent_and_counts_no_longer_as_enforcing() {
    let mut intake = Intake::default();
    until(&mut intake, 5_000, 6_500);
    let facts = intake.facts(ID, 1, 6_500);
    let silent: Vec<u64> = facts.proxies[0].silent.iter().map(|silent| silent.vm).collect();
    let living: Vec<u64> = facts.proxies[0].vms.iter().map(|vm| vm.vm).collect();
    assert_eq!((silent, living), (vec![2], vec![1]));
    let spoke = Report { next_ms: 250, age_ms: 7_000, ..one(2, 99, tally(99, 99, 0), tally(99, 99, 0)) };
    intake.take(&spoke, 7_000);
    assert!(intake.facts(ID, 1, 7_000).proxies[0].silent.is_empty(), "it was slow only");
}

#[test]
fn a_worker_that_fell_silent_before_a_restart_of_the_controller_is_named_after_it() {
    let mut before = Intake::default();
    until(&mut before, 5_000, 6_500);
    let mut after = Intake::default();
    after.restore(ID, 1, before.checkpoint(ID, 1), 10_000);
    for (n, t) in (100..).zip((10_000..=12_500).step_by(250)) {
        let report = Report { next_ms: 250, age_ms: t, ..one(1, n, tally(n, n, 0), tally(n, n, 0)) };
        after.take(&report, t);
    }
    let silent = after.facts(ID, 1, 12_500).proxies[0].silent.clone();
    assert_eq!(silent.iter().map(|silent| silent.vm).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_problem_of_a_proxy_is_told_while_it_grows_and_forgotten_after() {
    let mut intake = Intake::default();
    let mut with = |seq, name: &str, count, now_ms| {
        let problems = BTreeMap::from([(name.to_owned(), count), ("later".to_owned(), 7)]);
        intake.take(&Report { problems, ..one(1, seq, tally(seq, seq, 0), tally(0, 0, 0)) }, now_ms);
        intake.facts(ID, 1, now_ms).proxies[0].problems.clone()
    };
    assert_eq!(with(1, "second_instance", 3, 0), [Problem::SecondInstance]);
    assert_eq!(with(2, "second_instance", 3, 20_000), [Problem::SecondInstance]);
    assert_eq!(with(3, "second_instance", 3, 30_000), [], "it did not grow for long");
    assert_eq!(with(4, "second_instance", 4, 31_000), [Problem::SecondInstance]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn lost_repeated_and_reordered_reports_leave_the_state_of_the_last_ones(
        lives in lives(), chaos in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
        read in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut calm = Intake::default();
        let mut expected = Said::default();
        lives.iter().for_each(|life| _ = calm.take(life.last().unwrap(), 0));
        expected.hear(&rows(&mut calm));

        let mut stormy = Intake::default();
        let mut said = Said::default();
        for ((life, which), read) in chaos.iter().zip(read) {
            let life: &Vec<Report> = life.get(&lives);
            stormy.take(which.get(life), 0);
            if read {
                said.hear(&rows(&mut stormy));
            }
        }
        lives.iter().for_each(|life| _ = stormy.take(life.last().unwrap(), 0));
        said.hear(&rows(&mut stormy));

        let counters = |said: &Said| said.0.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect::<Vec<_>>();
        prop_assert_eq!(counters(&said), counters(&expected));
        prop_assert_eq!(all_slots(&said), all_slots(&expected));
        prop_assert_eq!(stormy.facts(ID, 1, 0).totals, calm.facts(ID, 1, 0).totals);
    }

    #[test]
    fn a_row_is_never_malformed_and_a_restart_loses_nothing(
        lives in lives(), order in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..60),
        restart in 0usize..60,
    ) {
        let mut intake = Intake::default();
        let mut judge = Judge::new(Analysis::live()).unwrap();
        let mut last: Option<Line> = None;
        for (i, (life, which)) in order.iter().enumerate() {
            if i == restart {
                let checkpoint = serde_json::to_string(&(judge.checkpoint(), intake.checkpoint(ID, 1))).unwrap();
                let (kept, books): (_, IntakeCheckpoint) = serde_json::from_str(&checkpoint).unwrap();
                judge = Judge::restore(kept).unwrap();
                intake = Intake::default();
                intake.restore(ID, 1, books, 0);
            }
            let life: &Vec<Report> = life.get(&lives);
            intake.take(which.get(life), 0);
            last = Some(judge.tick(10 * (i as u64 + 1), &rows(&mut intake)));
        }
        let line = last.unwrap();
        prop_assert_eq!((line.rows.ignored, line.rows.malformed), (0, 0));
        let totals = intake.facts(ID, 1, 0).totals;
        prop_assert_eq!(line.counted.blue_requests, totals.blue.completed);
        prop_assert_eq!(line.counted.green_errors, totals.green.errors);
    }

    #[test]
    fn any_report_whatever_is_survived(
        reports in prop::collection::vec(
            (0u64..3, 0u64..3, 0u64..5, any::<[u64; 6]>(), prop::collection::vec(any::<u16>(), 0..4), 0u16..=10_000, any::<u64>()),
            0..30),
    ) {
        let mut intake = Intake::default();
        for (vm, incarnation, seq, n, slots, limit, now) in reports {
            let small = |x: u64| if x.is_multiple_of(2) { x % 100 } else { x };
            let mut lottery = lottery(
                n[0] % 3, limit, tally(small(n[0]), small(n[1]), small(n[2])), tally(small(n[3]), small(n[4]), small(n[5])));
            (lottery.error_slots, lottery.done_slots) = (slots.clone(), slots);
            intake.take(&Report { incarnation, ..report(vm, seq, vec![plan(n[1], vec![lottery])]) }, now);
            let _ = (rows(&mut intake), intake.completions(ID, 1, Color::Blue), intake.facts(ID, 1, now));
        }
    }
}
