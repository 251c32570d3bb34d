//! No single witness decides: rules about what one proxy of several can and cannot do to a verdict.
//!
//! That alpha holds and that faults are found as soon as stated is counted elsewhere, over thousands of simulated
//! releases (`tests/tests/judging.rs`); here are the cases that can be worked out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::analysis::Witness;
use hueshift_core::judge::witness::Protection;
use hueshift_core::judge::{Analysis, Conditions, Judge, Metric, Mode, Row, Side, Verdict};

/// What a proxy counts per tick: (candidate requests, errors), (stable requests, errors).
type PerTick = ((i64, i64), (i64, i64));

const FINE: PerTick = ((10, 0), (90, 0));
/// One candidate error per tick that never was.
const FORGES: PerTick = ((10, 1), (90, 0));
/// Two stable errors per tick that never were.
const HIDES: PerTick = ((10, 0), (90, 2));
/// Ten percent of the candidate's requests really fail.
const SEES_FAULT: PerTick = ((10, 1), (90, 0));

fn analysis() -> Analysis {
    Analysis { metrics: vec![Metric::Errors], witness: Some(Witness::LeaveOneOut), ..Analysis::default() }
}

fn rows(tick: u64, proxies: &[PerTick]) -> Vec<Row> {
    let side = |(n, e): (i64, i64)| {
        let at = |x: i64| Some(x * i64::try_from(tick).unwrap());
        Some(Side { requests: at(n), errors: at(e), ..Side::default() })
    };
    let row = |(at, (green, blue)): (usize, &PerTick)| Row {
        proxy: format!("gw-{at}"),
        incarnation: 1,
        seq: tick,
        epoch: 1,
        split: 0.1,
        green: side(*green),
        blue: side(*blue),
        ..Row::default()
    };
    proxies.iter().enumerate().map(row).collect()
}

/// Judges a minute of it.
fn judged(analysis: Analysis, proxies: &[PerTick]) -> Judge {
    let mut judge = Judge::new(analysis).unwrap();
    (1..=240).for_each(|tick| _ = judge.tick(tick * 250, &rows(tick, proxies)));
    judge
}

#[test]
fn one_of_three_can_neither_condemn_nor_acquit() {
    let plain = Analysis { witness: None, ..analysis() };
    assert_eq!(
        judged(plain.clone(), &[FORGES, FINE, FINE]).verdict(),
        Verdict::Rollback,
        "a plain sum believes it"
    );
    assert_ne!(judged(analysis(), &[FORGES, FINE, FINE]).verdict(), Verdict::Rollback);
    let hidden = [HIDES, SEES_FAULT, SEES_FAULT, SEES_FAULT];
    assert_eq!(judged(analysis(), &hidden).verdict(), Verdict::Rollback);
}

#[test]
fn a_verdict_that_would_rest_on_one_proxy_names_it() {
    let judge = judged(analysis(), &[FINE, FORGES, FINE]);
    assert_eq!((judge.sole_witness(), judge.protection()), (Some("gw-1"), Some(Protection::Full)));
    assert_eq!(judged(analysis(), &[SEES_FAULT; 3]).sole_witness(), None, "all of them say so");
    assert_eq!(judged(analysis(), &[FINE; 3]).sole_witness(), None, "nobody condemns");
}

#[test]
fn a_trusted_proxy_is_always_heard() {
    let trusting = Analysis { trusted: vec!["gw-0".into()], ..analysis() };
    assert_eq!(judged(trusting.clone(), &[SEES_FAULT, FINE, FINE]).verdict(), Verdict::Rollback);
    assert_ne!(judged(trusting, &[FINE, FORGES, FINE]).verdict(), Verdict::Rollback);
}

/// Whom the mesh proves to be trusted is told with its first row; whoever spoke before among others stays one.
#[test]
fn a_proxy_that_is_trusted_before_its_first_word_is_always_heard() {
    let told_at = |first: u64| {
        let mut judge = Judge::new(analysis()).unwrap();
        for tick in 1..=240 {
            let trusted = if tick == first { vec!["gw-0".to_owned()] } else { Vec::new() };
            let conditions = Conditions { trusted, ..Conditions::default() };
            judge.tick_under(tick * 250, &rows(tick, &[SEES_FAULT, FINE, FINE]), &conditions);
        }
        judge
    };
    let trusting = Analysis { trusted: vec!["gw-0".into()], ..analysis() };
    let from_the_start = judged(trusting, &[SEES_FAULT, FINE, FINE]);
    assert_eq!(told_at(1).evidence().log_e, from_the_start.evidence().log_e);
    assert_eq!(told_at(1).verdict(), Verdict::Rollback);
    assert_ne!(told_at(2).verdict(), Verdict::Rollback);
}

/// All stable errors of a proxy in its control: two parts of its traffic that should be alike differ.
#[test]
fn one_of_four_cannot_make_the_environment_noisy_and_all_can() {
    let noisy = |proxies: &[usize], witness| {
        let mut judge = Judge::new(Analysis { witness, ..analysis() }).unwrap();
        for tick in 1..=240u64 {
            let mut rows = rows(tick, &[FINE; 4]);
            for at in proxies {
                let n = i64::try_from(tick).unwrap();
                rows[*at].blue.as_mut().unwrap().errors = Some(2 * n);
                rows[*at].control =
                    Some(Side { requests: Some(10 * n), errors: Some(2 * n), ..Side::default() });
            }
            judge.tick(tick * 250, &rows);
        }
        judge.evidence().noisy
    };
    assert!(noisy(&[0], None), "a plain sum believes it");
    assert!(!noisy(&[0], Some(Witness::LeaveOneOut)));
    assert!(noisy(&[0, 1, 2, 3], Some(Witness::LeaveOneOut)));
}

#[test]
fn with_one_witness_its_word_is_all_there_is() {
    let judge = judged(analysis(), &[SEES_FAULT]);
    let plain = judged(Analysis { witness: None, ..analysis() }, &[SEES_FAULT]);
    assert_eq!(judge.evidence().log_e, plain.evidence().log_e);
    assert_eq!(judge.protection(), Some(Protection::None));
}

#[test]
fn with_two_witnesses_nothing_is_hidden_and_little_is_lost() {
    let both = judged(analysis(), &[SEES_FAULT, SEES_FAULT]);
    let plain = judged(Analysis { witness: None, ..analysis() }, &[SEES_FAULT, SEES_FAULT]);
    assert_eq!(both.protection(), Some(Protection::Partial));
    assert!(plain.evidence().log_e - both.evidence().log_e <= 2f64.ln() + 1e-9);
    assert_eq!(judged(analysis(), &[HIDES, SEES_FAULT]).verdict(), Verdict::Rollback);
}

#[test]
fn one_that_has_most_of_the_traffic_is_not_left_out_for_nothing() {
    let most: PerTick = ((100, 10), (900, 0));
    let judge = judged(analysis(), &[most, FINE, FINE]);
    assert_eq!((judge.protection(), judge.verdict()), (Some(Protection::Partial), Verdict::Rollback));
}

/// A liar claims an error of every slot before anything happened.
#[test]
fn a_liar_cannot_use_up_the_slots_of_the_others() {
    let judge = |witness| {
        let analysis = Analysis { mode: Mode::Sessions, srm: false, witness, ..analysis() };
        let mut judge = Judge::new(analysis).unwrap();
        for tick in 1..=60u64 {
            let mut rows = rows(tick, &[FINE, SEES_FAULT, SEES_FAULT, SEES_FAULT]);
            if tick == 1 {
                rows[0].error_slots = (0..10_000).collect();
            }
            for (at, row) in rows.iter_mut().enumerate().skip(1) {
                // Candidate slots in error, new ones with each tick.
                row.error_slots = vec![(tick as u16) * 4 + at as u16];
            }
            judge.tick(tick * 250, &rows);
        }
        judge.verdict()
    };
    assert_ne!(judge(None), Verdict::Rollback, "to a plain sum nothing is new");
    assert_eq!(judge(Some(Witness::LeaveOneOut)), Verdict::Rollback);
}

#[test]
fn a_restarted_judge_has_less_evidence_than_before_and_finds_what_goes_on() {
    let mut judge = Judge::new(analysis()).unwrap();
    for tick in 1..=4 {
        judge.tick(tick * 250, &rows(tick, &[SEES_FAULT; 4]));
    }
    let before = judge.evidence().log_e;
    let text = serde_json::to_string(&judge.checkpoint()).unwrap();
    let mut judge = Judge::restore(serde_json::from_str(&text).unwrap()).unwrap();
    judge.tick(1_250, &rows(5, &[FINE; 4]));
    assert!(judge.evidence().log_e <= before, "{} <= {before}", judge.evidence().log_e);
    for tick in 6..=240 {
        judge.tick(tick * 250, &rows(tick, &[SEES_FAULT; 4]));
    }
    assert_eq!(judge.verdict(), Verdict::Rollback);
}

#[test]
fn witnesses_beyond_the_seats_share_one() {
    let mut many = [FINE; 70];
    many[69] = FORGES;
    let judge = judged(analysis(), &many);
    assert_ne!(judge.verdict(), Verdict::Rollback);
    assert_eq!(judge.sole_witness(), None, "two sit there; neither is named alone");
}

#[test]
fn a_record_gives_the_same_evidence_again() {
    for proxies in [vec![SEES_FAULT], vec![SEES_FAULT, FINE], vec![SEES_FAULT, FINE, HIDES, SEES_FAULT]] {
        let judge = judged(analysis(), &proxies);
        let text = serde_json::to_string(&judge.record()).unwrap();
        let again = Judge::recompute(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(again, judge.evidence(), "{} witnesses", proxies.len());
    }
}
