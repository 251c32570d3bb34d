//! Predictions as the product judges them: sessions by what they are first answered, in each lottery anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::analysis::PredictionMode;
use hueshift_core::judge::{Analysis, Judge, Metric, Row, Side, Verdict};

/// A lottery of half of the slots.
const SPLIT: f64 = 0.5;
const LIMIT: u16 = 5_000;

fn analysis(prediction_mode: PredictionMode) -> Analysis {
    let mut analysis = Analysis { prediction_mode, ..Analysis::live() };
    analysis.metrics.push(Metric::Predictions);
    analysis
}

/// One Envoy's row of a lottery: `sessions` of each color, and the bin that each color's model answers a session with.
fn row(
    proxy: &str,
    seq: u64,
    epoch: u64,
    sessions: std::ops::Range<u16>,
    green: impl Fn(u16) -> i32,
    blue: impl Fn(u16) -> i32,
) -> Row {
    let n = i64::try_from(seq).unwrap() * 100;
    let side = || Some(Side { requests: Some(n), errors: Some(0), started: Some(n), ..Side::default() });
    let candidate = sessions.clone().map(|slot| (slot, green(slot)));
    let stable = sessions.map(|slot| (slot + LIMIT, blue(slot)));
    Row {
        proxy: proxy.into(),
        incarnation: 1,
        seq,
        epoch,
        split: SPLIT,
        green: side(),
        blue: side(),
        done_slots: Some(Vec::new()),
        first_predictions: candidate.chain(stable).collect(),
        ..Row::default()
    }
}

fn spread(slot: u16) -> i32 {
    i32::from(slot % 20)
}

/// Half of the answers are those of the lowest bin instead.
fn shifted(slot: u16) -> i32 {
    if slot % 40 < 20 { 0 } else { spread(slot) }
}

#[test]
fn a_large_shift_condemns_and_says_how_large_it_is() {
    for (green, verdict) in [(shifted as fn(u16) -> i32, Verdict::Rollback), (spread, Verdict::Continue)] {
        let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
        for seq in 1..=20u16 {
            let sessions = (seq - 1) * 100..seq * 100;
            let row = row("gw", seq.into(), 1, sessions, green, spread);
            // A record is made at the decision.
            if judge.tick(u64::from(seq) * 1_000, &[row]).verdict == Verdict::Rollback {
                break;
            }
        }
        assert_eq!(judge.verdict(), verdict);
        let evidence = judge.evidence();
        let predictions = evidence.predictions.unwrap();
        assert_eq!((predictions.too_far, predictions.allowed), (verdict == Verdict::Rollback, 0.15));
        assert!(evidence.log_e < evidence.hold_at, "it spends its own part and is not in the sum");
        let again = Judge::recompute(judge.record()).unwrap();
        assert_eq!((again.verdict, again.predictions), (verdict, evidence.predictions));
    }
}

#[test]
fn a_session_counts_once_per_lottery_and_again_in_the_next() {
    let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
    // Sixty sessions are too few to be sure, however often they are told.
    for seq in 1..=10 {
        judge.tick(seq * 1_000, &[row("gw", seq, 1, 0..60, shifted, spread)]);
    }
    let first = judge.evidence().predictions.unwrap().distance;
    judge.tick(11_000, &[row("gw", 11, 1, 0..60, shifted, spread)]);
    assert_eq!(judge.evidence().predictions.unwrap().distance, first);
    // In the next lottery these sixty and more speak; what they said before does not count there.
    judge.tick(12_000, &[row("gw", 12, 2, 0..600, spread, spread)]);
    let second = judge.evidence().predictions.unwrap().distance;
    assert!(second.observed < 1e-9 && second.upper < first.upper, "{second:?}");
    // A word of the old lottery that comes late changes only the old one.
    judge.tick(14_000, &[row("gw-late", 1, 1, 0..60, shifted, spread)]);
    assert_eq!(judge.evidence().predictions.unwrap().distance, second);
}

#[test]
fn a_late_shift_is_found_among_sessions_that_all_spoke_before() {
    let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
    // The filter tells of each of a thousand sessions again every five seconds, for ten minutes and longer.
    let mut found = None;
    for second in 1..=660u64 {
        let green = if second > 600 { shifted } else { spread };
        let first = u16::try_from(second % 5).unwrap() * 100;
        let row = row("gw", second, 1, first..first + 100, green, spread);
        if judge.tick(second * 1_000, &[row]).verdict == Verdict::Rollback {
            found = Some(second);
            break;
        }
    }
    assert!(found.is_some_and(|second| (601..=620).contains(&second)), "{found:?}");
    assert!(judge.evidence().predictions.unwrap().distance.lower > 0.15);
}

#[test]
fn the_same_model_may_not_differ_at_all() {
    let mut judge = Judge::new(analysis(PredictionMode::Equality)).unwrap();
    // A tenth of the answers is one bin off: far within what a new model may do.
    let nudged = |slot| if slot % 10 == 0 { spread(slot) + 1 } else { spread(slot) };
    for seq in 1..=40u16 {
        let sessions = (seq - 1) * 120..seq * 120;
        judge.tick(u64::from(seq) * 1_000, &[row("gw", seq.into(), 1, sessions, nudged, spread)]);
    }
    let evidence = judge.evidence();
    assert_eq!((judge.verdict(), evidence.predictions), (Verdict::Rollback, None));
    assert!(evidence.metrics.predictions.unwrap() > evidence.metrics.errors.unwrap());
}

#[test]
fn one_proxy_of_three_cannot_condemn_by_predictions_alone() {
    for (liars, verdict) in [(1, Verdict::Continue), (3, Verdict::Rollback)] {
        let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
        for seq in 1..=10u16 {
            let rows: Vec<Row> = (0..3u16)
                .map(|proxy| {
                    let first = proxy * 1_600 + (seq - 1) * 100;
                    let green = if proxy < liars { |_| 0 } else { spread };
                    row(&format!("gw-{proxy}"), seq.into(), 1, first..first + 100, green, spread)
                })
                .collect();
            judge.tick(u64::from(seq) * 1_000, &rows);
        }
        assert_eq!(judge.verdict(), verdict, "{liars} liars");
        assert_eq!(Judge::recompute(judge.record()).unwrap().verdict, verdict);
    }
}

#[test]
fn a_restart_forgets_no_prediction_and_counts_none_twice() {
    let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
    judge.tick(1_000, &[row("gw", 1, 1, 0..300, spread, spread)]);
    judge.tick(3_000, &[]);
    let text = serde_json::to_string(&judge.checkpoint()).unwrap();
    let mut restored = Judge::restore(serde_json::from_str(&text).unwrap()).unwrap();
    let next = [row("gw", 2, 1, 0..400, spread, spread)];
    for judge in [&mut judge, &mut restored] {
        judge.tick(4_000, &next);
    }
    assert_eq!(restored.evidence().predictions, judge.evidence().predictions);
    assert!(judge.evidence().predictions.is_some());
}

/// The product's judge on sessions that always answer alike, in a ramp of four lotteries, then at rest: a model that
/// differs by 0.1, which is allowed, is rolled back by chance in far less than one of a hundred releases.
#[test]
fn what_is_allowed_is_not_rolled_back_by_chance() {
    const RUNS: u64 = 200;
    let mut rolled_back = 0;
    for seed in 0..RUNS {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut chance = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        // Slot and score of each session; few sessions, so that chance has its say.
        let sessions: Vec<(u16, f64)> = (0..400).map(|_| ((chance() * 1e4) as u16, chance())).collect();
        let mut judge = Judge::new(analysis(PredictionMode::Effect)).unwrap();
        for second in 1..=300u64 {
            let epoch = (second / 30).min(3) + 1;
            let split = [0.05, 0.25, 0.5, 0.95][epoch as usize - 1];
            let limit = (split * 1e4) as u16;
            let bin = |slot: u16, score: f64| {
                let score = if slot < limit { (score + 0.1).min(1.0) } else { score };
                ((score * 20.0) as i32).min(19)
            };
            let told = sessions.iter().skip(second as usize % 5).step_by(5);
            let mut told: Vec<(u16, i32)> = told.map(|(slot, score)| (*slot, bin(*slot, *score))).collect();
            told.sort_unstable();
            let row =
                Row { split, first_predictions: told, ..row("gw", second, epoch, 0..0, spread, spread) };
            if judge.tick(second * 1_000, &[row]).verdict == Verdict::Rollback {
                rolled_back += 1;
                break;
            }
        }
    }
    assert!(rolled_back <= 2, "{rolled_back} of {RUNS}");
}
