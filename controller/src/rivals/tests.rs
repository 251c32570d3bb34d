use super::*;
use hueshift_core::judge::{Judge, Side};
use std::collections::BTreeMap;

/// Judges one row per second, given as cumulative (candidate requests, errors) by the second; stable has none.
fn rolls_back_at(rules: Rules, failures: Option<u32>, seconds: u64, at: impl Fn(u64) -> (i64, i64)) -> Line {
    let mut rival = Rival::new(rules, failures, &Analysis::default());
    let mut last = None;
    for second in 1..=seconds {
        let (requests, errors) = at(second);
        let side = |requests, errors| {
            Some(Side { requests: Some(requests), errors: Some(errors), ..Side::default() })
        };
        let row = Row {
            proxy: "gw".into(),
            incarnation: 1,
            seq: second,
            epoch: 1,
            split: 0.1,
            green: side(requests, errors),
            blue: side(9 * requests, 0),
            ..Row::default()
        };
        let line = rival.tick(second * 1_000, &[row]);
        let over = line.verdict != Verdict::Continue;
        last = Some(line);
        if over {
            break;
        }
    }
    last.unwrap()
}

fn ended(line: &Line) -> (u64, Verdict) {
    (line.t_ms / 1_000, line.verdict)
}

#[test]
fn flagger_rolls_back_at_the_check_that_reaches_its_threshold() {
    let all_fail = |second: u64| (20 * second as i64, 20 * second as i64);
    assert_eq!(ended(&rolls_back_at(Rules::Flagger, None, 600, all_fail)), (150, Verdict::Rollback));
    assert_eq!(ended(&rolls_back_at(Rules::Flagger, Some(1), 600, all_fail)), (30, Verdict::Rollback));
    assert_eq!(
        ended(&rolls_back_at(Rules::Flagger, None, 600, |s| (s as i64, 0))),
        (600, Verdict::Certified)
    );
}

#[test]
fn flaggers_failed_checks_add_up_and_no_data_is_one() {
    // One bad second in every 90: it fails two checks, at 90, 120, 180, 210 and 270 s; no good one takes one back.
    let bursts = |second: u64| (20 * second as i64, 20 * (second / 90) as i64);
    let line = rolls_back_at(Rules::Flagger, None, 600, bursts);
    assert_eq!(ended(&line), (270, Verdict::Rollback));
    assert_eq!(ended(&rolls_back_at(Rules::Flagger, None, 600, |_| (0, 0))), (150, Verdict::Rollback));
}

#[test]
fn argo_counts_ten_measurements_and_gives_up_after_five_without_data() {
    let all_fail = |second: u64| (20 * second as i64, 20 * second as i64);
    assert_eq!(ended(&rolls_back_at(Rules::Argo, None, 900, all_fail)), (60, Verdict::Rollback));
    assert_eq!(ended(&rolls_back_at(Rules::Argo, Some(4), 900, all_fail)), (240, Verdict::Rollback));
    assert_eq!(ended(&rolls_back_at(Rules::Argo, None, 900, |s| (s as i64, 0))), (600, Verdict::Certified));
    assert_eq!(ended(&rolls_back_at(Rules::Argo, None, 900, |_| (0, 0))), (300, Verdict::Rollback));
    let quiet_at_first = |second: u64| (second.saturating_sub(130) as i64, 0);
    assert_eq!(ended(&rolls_back_at(Rules::Argo, None, 900, quiet_at_first)), (720, Verdict::Certified));
}

#[test]
fn kayenta_needs_five_minutes_to_see_what_is_plain_at_once() {
    let all_fail = |second: u64| (20 * second as i64, 20 * second as i64);
    assert_eq!(ended(&rolls_back_at(Rules::Kayenta, None, 900, all_fail)), (300, Verdict::Rollback));
    assert_eq!(
        ended(&rolls_back_at(Rules::Kayenta, None, 900, |s| (s as i64, 0))),
        (600, Verdict::Certified)
    );
}

#[test]
fn the_interval_is_that_of_the_published_example() {
    // kayenta#780: most of the canary's points are a hundred times the control's.
    let canary = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 1.0, 1.0, 1.0];
    let shift = Shift::of(&canary, &[1.0; 10]).unwrap();
    assert_eq!(shift, Shift { estimate: 99.0, lower: Some(0.0) });
    assert_eq!(Shift::of(&[1.0; 4], &[0.0; 4]).unwrap().lower, None, "four points a side are too few");
    assert_eq!(Shift::of(&[], &[1.0]), None);
}

/// kayenta#780: seven of ten minutes at a hundred times the control's errors pass there. Here they are found.
#[test]
fn a_public_miss_of_kayenta_is_rolled_back_here() {
    let canary = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 1.0, 1.0, 1.0];
    assert!(!is_high(&canary, &[1.0; 10]));
    assert_eq!(judged(&canary, &[1.0; 10], 1_000), Verdict::Rollback);
}

/// kayenta#426: four errors against none in six points, where a user asked for an alarm. Four are no evidence:
/// of two equal arms one has them all in one of eight cases.
#[test]
fn four_errors_against_none_condemn_neither_there_nor_here() {
    let canary = [0.0, 1.0, 2.0, 1.0, 0.0, 0.0];
    assert!(!is_high(&canary, &[0.0; 6]));
    assert_ne!(judged(&canary, &[0.0; 6], 1_000), Verdict::Rollback);
}

/// Our verdict on the same errors per minute, at `requests` per minute and arm.
fn judged(candidate: &[f64], stable: &[f64], requests: i64) -> Verdict {
    let analysis = Analysis { metrics: vec![Metric::Errors], ..Analysis::default() };
    let mut judge = Judge::new(analysis).unwrap();
    let (mut sums, mut verdict) = ([0i64; 2], Verdict::Continue);
    for (minute, errors) in (1u64..).zip(candidate.iter().zip(stable)) {
        sums[0] += *errors.0 as i64;
        sums[1] += *errors.1 as i64;
        let side = |errors| {
            Some(Side { requests: Some(requests * minute as i64), errors: Some(errors), ..Side::default() })
        };
        let row = Row {
            proxy: "gw".into(),
            incarnation: 1,
            seq: minute,
            epoch: 1,
            split: 0.5,
            green: side(sums[0]),
            blue: side(sums[1]),
            ..Row::default()
        };
        verdict = judge.tick(minute * 60_000, &[row]).verdict;
    }
    verdict
}

#[test]
fn a_slow_candidate_is_seen_only_with_a_limit_to_hold_it_to() {
    let slow = |second: u64| {
        let side = |bucket| {
            let latency = BTreeMap::from([(bucket, 20 * second as i64)]);
            Some(Side { requests: Some(20 * second as i64), latency, ..Side::default() })
        };
        Row {
            proxy: "gw".into(),
            incarnation: 1,
            seq: second,
            epoch: 1,
            split: 0.1,
            green: side(260),
            blue: side(250),
            ..Row::default()
        }
    };
    let judged = |analysis: &Analysis| {
        let mut rival = Rival::new(Rules::Flagger, None, analysis);
        (1..=300).map(|second| rival.tick(second * 1_000, &[slow(second)])).last().unwrap().verdict
    };
    let reference = Some(BTreeMap::from([(250, 2_000)]));
    assert_eq!(
        judged(&Analysis { latency_reference: reference.clone(), ..Analysis::default() }),
        Verdict::Rollback
    );
    assert_eq!(judged(&Analysis::default()), Verdict::Continue, "without a reference there is no limit");
    let errors_only =
        Analysis { metrics: vec![Metric::Errors], latency_reference: reference, ..Analysis::default() };
    assert_eq!(judged(&errors_only), Verdict::Continue);
}

#[test]
fn repeated_rows_are_counted_once() {
    let mut rival = Rival::new(Rules::Flagger, None, &Analysis::default());
    let side = Side { requests: Some(5), errors: Some(1), ..Side::default() };
    let row = Row {
        proxy: "gw".into(),
        incarnation: 1,
        seq: 1,
        epoch: 1,
        split: 0.1,
        green: Some(side),
        ..Row::default()
    };
    let line = rival.tick(1_000, &[row.clone(), row]);
    assert_eq!((line.counted.green_requests, line.counted.green_errors, line.rows.ignored), (5, 1, 1));
}
