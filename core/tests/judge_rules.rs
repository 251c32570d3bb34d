//! What the judge promises, shown by exact enumeration, by numbers worked out by hand, and by rules that must hold
//! for every stream of rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::buckets::Buckets;
use hueshift_core::judge::certificate::Tolerance;
use hueshift_core::judge::latency::weights::Weights;
use hueshift_core::judge::math::lse;
use hueshift_core::judge::one_sample::OneSample;
use hueshift_core::judge::ratio::{self, Errors, Ratio};
use hueshift_core::judge::restarts::{Restarts, Schedule, Scheme};
use hueshift_core::judge::slots::drawn;
use hueshift_core::judge::{Analysis, Judge, Line, Metric, Mode, Requirement, Row, Side, Verdict};
use proptest::prelude::*;

// === by hand ===

/// log E after each block (n_g, n_b, e_g, e_b), equal prior, no restarts.
fn log_e_of(rho0: f64, blocks: &[(u64, u64, u64, u64)]) -> Vec<f64> {
    let test = Ratio::worse_than(rho0);
    let mut sums = [0.0; ratio::ALTERNATIVES];
    let mut log_e = Vec::new();
    for &(n_g, n_b, e_g, e_b) in blocks {
        test.add(Errors::realised(n_g, n_b, e_g, e_b), &mut sums);
        log_e.push(lse(sums.iter().copied()) - 6f64.ln());
    }
    log_e
}

fn assert_near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "got {got}, want {want}");
    }
}

#[test]
fn the_numbers_worked_out_by_hand_are_reproduced() {
    let five = [(5, 95, 0, 0), (5, 95, 1, 0), (5, 95, 0, 1), (5, 95, 2, 1), (10, 90, 3, 0)];
    assert_near(&log_e_of(1.0, &five), &[0.0, 1.818024, 1.304408, 4.868055, 10.603173]);
    assert_near(&log_e_of(1.25, &[(5, 95, 1, 0), (10, 90, 3, 1)]), &[1.729665, 5.641768]);
    let six = [(1, 9, 1, 0); 6];
    assert_near(&log_e_of(1.0, &six), &[1.500290, 3.225868, 5.072784, 6.984568, 8.934269, 10.908390]);
    assert_near(&log_e_of(1.0, &[(100, 100, 4, 0)]), &[2.162670]);
}

#[test]
fn the_third_error_of_one_in_ten_passes_one_in_a_hundred() {
    let log_e = log_e_of(1.0, &[(1, 9, 1, 0); 6]);
    assert!(log_e[1] < 100f64.ln() && log_e[2] > 100f64.ln());
}

// === exact enumeration ===

fn choose(n: u64, k: u64) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

fn binomial(n: u64, k: u64, p: f64) -> f64 {
    choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

/// The expected factor of each alternative over all outcomes of a block with these error rates.
fn expected_factors(test: &Ratio, n_g: u64, n_b: u64, p_g: f64, p_b: f64) -> Vec<f64> {
    let mut expected = vec![0.0; test.len()];
    for e_g in 0..=n_g {
        for e_b in 0..=n_b {
            let mut sums = vec![0.0; test.len()];
            test.add(Errors::realised(n_g, n_b, e_g, e_b), &mut sums);
            let probability = binomial(n_g, e_g, p_g) * binomial(n_b, e_b, p_b);
            for (sum, increment) in expected.iter_mut().zip(sums) {
                *sum += probability * increment.exp();
            }
        }
    }
    expected
}

#[test]
fn no_healthy_block_raises_the_score_in_expectation() {
    for rho0 in (1..=10).map(f64::from).chain([1.25]) {
        let test = Ratio::worse_than(rho0);
        for (n_g, n_b) in [(1, 1), (1, 9), (2, 5), (5, 5), (6, 2)] {
            for p_b in [0.001, 0.02, 0.1, 0.5, 0.9] {
                // At the margin, and clearly better than it.
                for p_g in [rho0 * p_b, p_b, 0.3 * p_b, 0.0] {
                    let p_g = f64::min(p_g, 1.0);
                    for factor in expected_factors(&test, n_g, n_b, p_g, p_b) {
                        assert!(
                            factor <= 1.0 + 1e-12,
                            "rho0 {rho0} n {n_g}:{n_b} p {p_g}:{p_b} factor {factor}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_bad_candidate_raises_a_certificate_in_expectation() {
    for bound in Tolerance::ALL.map(Tolerance::ratio) {
        let below: Vec<f64> = [0.5, 0.8, 1.0, 1.2].into_iter().filter(|rho| *rho < bound).collect();
        let test = Ratio::new(bound, below);
        for (n_g, n_b) in [(1, 1), (1, 9), (2, 5), (5, 5), (6, 2)] {
            for p_b in [0.001, 0.01, 0.05, 0.1] {
                for p_g in [bound * p_b, f64::min(2.0 * bound * p_b, 1.0), 1.0] {
                    if p_g > 1.0 {
                        continue;
                    }
                    for factor in expected_factors(&test, n_g, n_b, p_g, p_b) {
                        assert!(
                            factor <= 1.0 + 1e-12,
                            "bound {bound} n {n_g}:{n_b} p {p_g}:{p_b} factor {factor}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_rate_within_its_bound_raises_a_one_sample_test_in_expectation() {
    let expected = |test: &OneSample, n: u64, p: f64| {
        let mut expected = vec![0.0; test.len()];
        for errors in 0..=n {
            let mut sums = vec![0.0; test.len()];
            test.add(n, errors, &mut sums);
            expected.iter_mut().zip(sums).for_each(|(e, s)| *e += binomial(n, errors, p) * s.exp());
        }
        expected
    };
    for p0 in [0.001, 0.01, 0.05, 0.5] {
        for n in [1, 2, 7, 20] {
            for factor in expected(&OneSample::above(p0), n, p0).into_iter().chain(expected(
                &OneSample::above(p0),
                n,
                p0 / 3.0,
            )) {
                assert!(factor <= 1.0 + 1e-12, "above {p0}, n {n}: {factor}");
            }
            for factor in expected(&OneSample::below(p0), n, p0).into_iter().chain(expected(
                &OneSample::below(p0),
                n,
                p0 * 1.5,
            )) {
                assert!(factor <= 1.0 + 1e-12, "below {p0}, n {n}: {factor}");
            }
        }
    }
}

/// All ways to place `failing` of `slots` slots, as the counts below each limit.
fn placements(slots: u16, failing: u32, limits: [u16; 2]) -> Vec<[u64; 2]> {
    let below = |set: u32, limit: u16| u64::from((set & ((1 << limit) - 1)).count_ones());
    let sets = (0u32..1 << slots).filter(|set| set.count_ones() == failing);
    sets.map(|set| limits.map(|limit| below(set, limit))).collect()
}

/// Factors of a batch of new slots, when only so many slots are left in all and below the limit.
fn slot_factors(test: &Ratio, left: u16, left_below: u16, candidate: u64, stable: u64) -> Vec<f64> {
    let mut sums = vec![0.0; test.len()];
    test.add(drawn(left_below, u32::from(10_000 - left), 0, candidate, stable), &mut sums);
    sums.iter().map(|sum| sum.exp()).collect()
}

#[test]
fn sessions_drawn_without_replacement_raise_no_score_in_expectation() {
    for rho0 in [1.0, 1.25, 3.0] {
        let test = Ratio::worse_than(rho0);
        for (left, limit) in [(2, 1), (8, 1), (10, 3), (12, 6)] {
            for failing in 1..=u32::from(left) {
                let all = placements(left, failing, [limit, limit]);
                let mut expected = vec![0.0; test.len()];
                for [candidate, _] in &all {
                    let factors =
                        slot_factors(&test, left, limit, *candidate, u64::from(failing) - candidate);
                    expected.iter_mut().zip(factors).for_each(|(e, f)| *e += f / all.len() as f64);
                }
                assert!(expected.iter().all(|e| *e <= 1.0 + 1e-12), "{left} {limit} {failing}: {expected:?}");
            }
        }
    }
}

/// The same clients fail in every window, and the ramp goes on only while few of them are the candidate's.
#[test]
fn what_a_window_showed_raises_a_later_one_at_most_once_per_share() {
    let test = Ratio::worse_than(1.0);
    for (slots, limits) in [(8, [1, 3]), (10, [2, 5]), (12, [1, 6])] {
        for failing in 1..=5 {
            let all = placements(slots, failing, limits);
            for most in 0..=2 {
                let rises = |counts: &[u64; 2]| counts[0] <= most;
                let chance = all.iter().filter(|counts| rises(counts)).count() as f64 / all.len() as f64;
                let (mut above, mut below) = (vec![0.0; test.len()], vec![0.0; test.len()]);
                for counts in &all {
                    let (sums, at) = if rises(counts) { (&mut above, 1) } else { (&mut below, 0) };
                    let stable = u64::from(failing) - counts[at];
                    let factors = slot_factors(&test, slots, limits[at], counts[at], stable);
                    sums.iter_mut().zip(factors).for_each(|(e, f)| *e += f / all.len() as f64);
                }
                for (above, below) in above.iter().zip(&below) {
                    assert!(*above <= chance + 1e-12, "who rises fails less: {above} of {chance}");
                    assert!(*below <= 1.0 + 1e-12, "who stays was counted once: {below}");
                }
            }
        }
    }
}

// === latency ===

proptest! {
    #[test]
    fn weights_of_latency_never_fall_from_bucket_to_bucket(
        reference in prop::collection::btree_map(160u16..=415, 1u64..5_000, 1..40),
    ) {
        if let Some(weights) = Weights::of(&reference) {
            let tables: Vec<Vec<f64>> = (160..=415).map(|bucket| weights.at(bucket).collect()).collect();
            for (low, high) in tables.iter().zip(tables.iter().skip(1)) {
                for (low, high) in low.iter().zip(high) {
                    prop_assert!(*low > 0.0 && low <= high, "{low} then {high}");
                }
            }
        }
    }
}

/// All blocks of two candidate and three stable observations in three buckets.
#[test]
fn no_equal_or_faster_candidate_raises_the_latency_score_in_expectation() {
    const AT: [u16; 3] = [200, 240, 300];
    for stable in [[0.5, 0.3, 0.2], [0.9, 0.09, 0.01], [0.02, 0.08, 0.9]] {
        let reference = AT.into_iter().zip([700, 200, 100]).collect();
        let weights = Weights::of(&reference).unwrap();
        for faster in [0.0, 0.5, 1.0] {
            // A part of what is slow is moved to the fastest bucket.
            let candidate = [1.0 - (stable[1] + stable[2]) * (1.0 - faster), stable[1] * (1.0 - faster), 0.0];
            let candidate = [candidate[0], candidate[1], 1.0 - candidate[0] - candidate[1]];
            let mut expected = vec![0.0; weights.len()];
            for outcome in 0..3usize.pow(5) {
                let (mut block, mut probability, mut rest) = (Buckets::default(), 1.0, outcome);
                for n in 0..5 {
                    let bucket = rest % 3;
                    rest /= 3;
                    let (side, p) = if n < 2 {
                        (&mut block.green, candidate[bucket])
                    } else {
                        (&mut block.blue, stable[bucket])
                    };
                    *side.entry(AT[bucket]).or_default() += 1;
                    probability *= p;
                }
                let mut sums = vec![0.0; weights.len()];
                weights.add(&block, &mut sums);
                expected.iter_mut().zip(sums).for_each(|(e, sum)| *e += probability * sum.exp());
            }
            assert!(expected.iter().all(|e| *e <= 1.0 + 1e-12), "{stable:?} {faster}: {expected:?}");
        }
    }
}

// === symmetries ===

proptest! {
    #[test]
    fn swapping_the_colors_with_all_that_belongs_to_them_changes_nothing(
        share in 0.001..0.999f64, rho0 in 0.1..10.0f64, rho in 0.01..100.0f64, e_g in 0u64..50, e_b in 0u64..50,
    ) {
        let (mut one, mut other) = ([0.0], [0.0]);
        Ratio::new(rho0, vec![rho]).add(Errors { share, candidate: e_g, stable: e_b }, &mut one);
        let swapped = Errors { share: 1.0 - share, candidate: e_b, stable: e_g };
        Ratio::new(1.0 / rho0, vec![1.0 / rho]).add(swapped, &mut other);
        prop_assert!((one[0] - other[0]).abs() <= 1e-9 * (1.0 + one[0].abs()), "{} and {}", one[0], other[0]);
    }

    #[test]
    fn the_recursion_equals_explicit_rows(
        count in 0u32..8, every_ms in prop::sample::select(vec![250u64, 1_000, 3_000]), v0 in 0.1..0.9f64,
        inverse in any::<bool>(),
        ticks in prop::collection::vec((1u64..9, prop::array::uniform3(-2.0..2.0f64)), 1..60),
    ) {
        let scheme = if inverse { Scheme::InverseSquare } else { Scheme::Uniform };
        let mut mixture = Restarts::equal(Schedule { count, every_ms, v0, scheme }, 3);
        let weight = |i: u32| match (i, inverse) {
            (0, _) => if count == 0 { 1.0 } else { v0 },
            (_, false) => (1.0 - v0) / f64::from(count),
            (_, true) => (1.0 - v0) * 6.0 / (std::f64::consts::PI * f64::from(i)).powi(2),
        };
        let never = if inverse && count > 0 { 1.0 - (0..=count).map(weight).sum::<f64>() } else { 0.0 };
        let mut rows = vec![[0.0f64; 3]; count as usize + 1];
        let mut t_ms = 0;
        for (steps, increments) in ticks {
            t_ms += 250 * steps;
            mixture.add(t_ms, &increments);
            for (i, row) in rows.iter_mut().enumerate() {
                if i == 0 || t_ms > i as u64 * every_ms {
                    row.iter_mut().zip(increments).for_each(|(l, inc)| *l += inc);
                }
            }
            let e: f64 = rows.iter().enumerate()
                .map(|(i, row)| weight(i as u32) * row.iter().map(|l| l.exp() / 3.0).sum::<f64>()).sum();
            let want = (e + never).ln();
            prop_assert!((mixture.log_e() - want).abs() <= 1e-9 * (1.0 + want.abs()), "{} and {want}", mixture.log_e());
        }
    }
}

// === rules about rows ===

/// One tick's news of one proxy, as differences.
#[derive(Debug, Clone)]
struct News {
    proxy: usize,
    blue: (i64, i64),
    green: (i64, i64),
    slots: Vec<u16>,
}

fn news() -> impl Strategy<Value = News> {
    let side = |most: i64| (0..=most, 0.0..1.0f64).prop_map(|(n, bad)| (n, (n as f64 * bad * bad) as i64));
    (0usize..3, side(40), side(5), prop::collection::vec(0u16..10_000, 0..4))
        .prop_map(|(proxy, blue, green, slots)| News { proxy, blue, green, slots })
}

/// The rows that carry the news, tick by tick.
fn rows_of(stream: &[Vec<News>]) -> Vec<Vec<Row>> {
    let mut totals = [((0, 0), (0, 0)); 3];
    let mut seq = 0;
    let mut ticks = Vec::new();
    for tick in stream {
        let mut rows = Vec::new();
        for news in tick {
            let (blue, green) = &mut totals[news.proxy];
            *blue = (blue.0 + news.blue.0, blue.1 + news.blue.1);
            *green = (green.0 + news.green.0, green.1 + news.green.1);
            seq += 1;
            let side = |(n, e)| Some(Side { requests: Some(n), errors: Some(e), ..Side::default() });
            rows.push(Row {
                proxy: format!("gw-{}", news.proxy),
                incarnation: 1,
                seq,
                epoch: 1,
                split: [0.05, 0.1, 0.5][news.proxy],
                blue: side(*blue),
                green: side(*green),
                error_slots: news.slots.clone(),
                ..Row::default()
            });
        }
        ticks.push(rows);
    }
    ticks
}

fn analysis(mode: Mode) -> Analysis {
    Analysis { metrics: vec![Metric::Errors], mode, ..Analysis::default() }
}

fn judged(mode: Mode, ticks: &[Vec<Row>]) -> Vec<Line> {
    let mut judge = Judge::new(analysis(mode)).unwrap();
    ticks.iter().enumerate().map(|(i, rows)| judge.tick(250 * (i as u64 + 1), rows)).collect()
}

/// What must not depend on how the rows came.
fn substance(line: &Line) -> (Verdict, f64, f64, Vec<Tolerance>) {
    (line.verdict, line.log_e, line.log_srm, line.certified.clone())
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::PerError, Mode::Sessions, Mode::Robust])
}

fn stream() -> impl Strategy<Value = Vec<Vec<News>>> {
    prop::collection::vec(prop::collection::vec(news(), 0..4), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn repeated_rows_change_nothing(stream in stream(), mode in mode(), again in any::<u64>()) {
        let ticks = rows_of(&stream);
        let mut repeated = ticks.clone();
        for i in 1..repeated.len() {
            let from = (again as usize).wrapping_mul(i) % i;
            let old = repeated[from].clone();
            repeated[i].extend(old);
        }
        // A refused row is refused whole: its slots do not count either, and they were counted before.
        for (once, twice) in judged(mode, &ticks).iter().zip(judged(mode, &repeated)) {
            prop_assert_eq!(substance(once), substance(&twice));
            prop_assert_eq!(once.counted, twice.counted);
        }
    }

    #[test]
    fn the_order_of_proxies_within_a_tick_changes_nothing(stream in stream(), mode in mode()) {
        let mut stream = stream;
        for tick in &mut stream {
            tick.sort_by_key(|news| news.proxy);
            tick.dedup_by_key(|news| news.proxy);
        }
        let ticks = rows_of(&stream);
        let reversed: Vec<Vec<Row>> = ticks.iter().map(|rows| rows.iter().rev().cloned().collect()).collect();
        prop_assert_eq!(judged(mode, &ticks), judged(mode, &reversed));
    }

    #[test]
    fn a_checkpoint_changes_nothing(stream in stream(), mode in mode(), at in 0usize..40) {
        let ticks = rows_of(&stream);
        let whole = judged(mode, &ticks);
        let mut judge = Judge::new(analysis(mode)).unwrap();
        for (i, (rows, want)) in ticks.iter().zip(whole).enumerate() {
            if i == at {
                let text = serde_json::to_string(&judge.checkpoint()).unwrap();
                judge = Judge::restore(serde_json::from_str(&text).unwrap()).unwrap();
            }
            prop_assert_eq!(judge.tick(250 * (i as u64 + 1), rows), want);
        }
    }

    #[test]
    fn any_row_whatever_is_survived(
        rows in prop::collection::vec(
            (0u64..3, 0u64..3, 0u64..3, prop_oneof![Just(0.05), Just(f64::NAN), Just(-1.0), 0.0..1.0f64],
             any::<[i64; 6]>(), prop::collection::vec(any::<u16>(), 0..5), any::<bool>()), 0..30),
        mode in mode(),
    ) {
        let mut judge = Judge::new(analysis(mode)).unwrap();
        for (i, (incarnation, seq, epoch, split, numbers, slots, done)) in rows.into_iter().enumerate() {
            let side = |n: usize| Some(Side {
                requests: Some(numbers[n]), errors: Some(numbers[n + 1]), ..Side::default()
            });
            let row = Row {
                proxy: "gw".into(), incarnation, seq, epoch, split, blue: side(0), green: side(2), control: side(4),
                error_slots: slots.clone(), done_slots: done.then_some(slots), ..Row::default()
            };
            let line = judge.tick(10 * (i as u64 + 1), &[row]);
            prop_assert!(!line.log_e.is_nan() && !line.log_srm.is_nan());
            let _ = judge.evidence();
        }
    }
}

// === the split ===

#[test]
fn a_broken_split_holds_and_a_slow_candidate_is_none() {
    let judged = |started: i64, completed: i64| {
        let mut judge =
            Judge::new(Analysis { metrics: vec![Metric::Errors], ..Analysis::live_per_request() }).unwrap();
        for tick in 1..=40i64 {
            let side = |started: i64, completed: i64| {
                let (started, requests) = (Some(started * tick), Some(completed * tick));
                Some(Side { started, requests, errors: Some(0), ..Side::default() })
            };
            let row = Row {
                proxy: "gw".into(),
                incarnation: 1,
                seq: tick as u64,
                epoch: 1,
                split: 0.05,
                blue: side(95, 95),
                green: side(started, completed),
                ..Row::default()
            };
            judge.tick(250 * tick as u64, &[row]);
        }
        judge.verdict()
    };
    assert_ne!(judged(5, 5), Verdict::Hold);
    assert_ne!(judged(5, 1), Verdict::Hold, "drawn as configured, however few are done");
    assert_eq!(judged(9, 9), Verdict::Hold, "9 % of the requests where 5 % are configured");
}

// === certificates of a live step ===

/// A tick of a sticky-session row: `done` and `bad` are new slots.
fn session_row(seq: u64, epoch: u64, split: f64, requests: i64, done: Vec<u16>, bad: Vec<u16>) -> Row {
    let side =
        |n: i64| Some(Side { requests: Some(n), errors: Some(0), started: Some(n), ..Side::default() });
    Row {
        proxy: "gw-0".into(),
        incarnation: 1,
        seq,
        epoch,
        split,
        blue: side(requests * 19),
        green: side(requests),
        done_slots: Some(done),
        error_slots: bad,
        ..Row::default()
    }
}

#[test]
fn a_service_without_errors_is_certified_by_sessions_not_by_requests() {
    let mut judge = Judge::new(Analysis { p_ceiling: Some(0.05), ..Analysis::live() }).unwrap();
    // One busy session: any number of its requests is one unit.
    for i in 1..=100 {
        judge.tick(250 * i, &[session_row(i, 1, 0.05, i as i64 * 1_000, vec![7], vec![])]);
    }
    assert_eq!(judge.verdict(), Verdict::Continue);
    assert_eq!(judge.evidence().candidate_slots.done, 1);
    for i in 101..=220 {
        judge.tick(250 * i, &[session_row(i, 1, 0.05, i as i64 * 1_000, vec![i as u16], vec![])]);
    }
    assert_eq!(judge.verdict(), Verdict::Certified);
    assert_eq!(judge.evidence().candidate_slots.done, 121);
    assert!(judge.evidence().ceiling.unwrap().holds() && !judge.evidence().ratio.holds());
}

#[test]
fn a_new_step_asks_anew() {
    let mut judge = Judge::new(Analysis { p_ceiling: Some(0.05), ..Analysis::live() }).unwrap();
    let slots = |n: u16| (0..n).collect::<Vec<_>>();
    judge.tick(250, &[session_row(1, 1, 0.05, 200, slots(130), vec![])]);
    assert_eq!(judge.verdict(), Verdict::Certified);
    judge.require(Requirement { rho_max: Tolerance::Three, p_ceiling: Some(0.02) });
    assert_eq!(judge.verdict(), Verdict::Continue, "130 sessions do not certify 2 %");
    judge.tick(500, &[session_row(1, 2, 0.25, 400, slots(400), vec![])]);
    assert_eq!(
        judge.verdict(),
        Verdict::Certified,
        "sessions that moved over are units, old ones count once"
    );
    assert_eq!(judge.evidence().candidate_slots.done, 400);
    judge.require(Requirement { rho_max: Tolerance::Two, p_ceiling: Some(0.007) });
    assert_eq!(judge.verdict(), Verdict::Continue, "a ceiling of the user's own starts from the same units");
}

#[test]
fn a_session_that_erred_on_stable_is_no_unit_of_the_candidate() {
    let mut judge = Judge::new(Analysis::live()).unwrap();
    judge.tick(250, &[session_row(1, 1, 0.05, 100, vec![1, 2], vec![2, 2_000])]);
    judge.tick(500, &[session_row(1, 2, 0.25, 100, vec![2_000, 2_001, 9_000], vec![2_000])]);
    let slots = judge.evidence().candidate_slots;
    assert_eq!((slots.done, slots.errors), (3, 1), "1, 2 and 2001; only 2 erred on the candidate");
}

/// Candidate sessions `bad` fail, stable sessions `stable_bad` fail, on top of `seq` * 1000 requests.
fn failing_row(seq: u64, bad: std::ops::Range<u16>, stable_bad: std::ops::Range<u16>) -> Row {
    let (requests, errors) = (1_000 * seq as i64, bad.len() as i64);
    Row {
        green: Some(Side {
            requests: Some(requests),
            errors: Some(errors),
            started: Some(requests),
            ..Side::default()
        }),
        error_slots: bad.chain(stable_bad).collect(),
        ..session_row(seq, 1, 0.05, requests, vec![], vec![])
    }
}

#[test]
fn a_rollback_is_latched_whatever_comes_after_it() {
    let mut judge = Judge::new(Analysis::live()).unwrap();
    assert_eq!(judge.tick(250, &[failing_row(1, 0..40, 0..0)]).verdict, Verdict::Rollback);
    let acquitted = judge.tick(500, &[failing_row(2, 0..40, 1_000..4_000)]);
    assert!(acquitted.log_e < 0.0, "by now stable fails as often: {}", acquitted.log_e);
    assert_eq!(acquitted.verdict, Verdict::Rollback);
    assert_eq!(judge.verdict(), Verdict::Rollback);
}

/// The live judge of errors alone, in the whole release alone.
fn errors_of_sessions() -> Analysis {
    Analysis { metrics: vec![Metric::Errors], scales: vec![], ..Analysis::live() }
}

#[test]
fn suspicion_outranks_a_certificate_and_condemnation_both() {
    let mut judge =
        Judge::new(Analysis { p_ceiling: Some(0.02), hold_at: 2.0, ..errors_of_sessions() }).unwrap();
    judge.tick(250, &[session_row(1, 1, 0.05, 1_000, (0..400).collect(), vec![])]);
    assert_eq!(judge.verdict(), Verdict::Certified);
    let suspicious = judge.tick(500, &[failing_row(2, 0..7, 0..0)]);
    assert!((2f64.ln()..100f64.ln()).contains(&suspicious.log_e), "{}", suspicious.log_e);
    let ceiling = judge.evidence().ceiling.unwrap();
    assert!(
        ceiling.log_e < ceiling.certified_at && ceiling.holds(),
        "a certificate is for good: {ceiling:?}"
    );
    assert_eq!(judge.verdict(), Verdict::Hold);
    judge.tick(750, &[failing_row(3, 407..447, 0..0)]);
    assert_eq!(judge.verdict(), Verdict::Rollback);
}

#[test]
fn two_certificates_share_the_chance_of_a_false_one() {
    let alone = Requirement { rho_max: Tolerance::Five, p_ceiling: None };
    let both = Requirement { rho_max: Tolerance::Five, p_ceiling: Some(0.05) };
    assert_near(&[alone.threshold(0.05), both.threshold(0.05)], &[20f64.ln(), 40f64.ln()]);
    let mut judge = Judge::new(Analysis { p_ceiling: Some(0.05), ..Analysis::live() }).unwrap();
    let enough = (1u16..).find(|n| {
        judge.tick(250 * u64::from(*n), &[session_row(u64::from(*n), 1, 0.05, 1_000, vec![*n], vec![])]);
        judge.verdict() == Verdict::Certified
    });
    let ceiling = judge.evidence().ceiling.unwrap();
    assert!(
        ceiling.highest >= 40f64.ln() && ceiling.highest < 40f64.ln() + 0.1,
        "{ceiling:?} after {enough:?}"
    );
}

#[test]
fn a_certified_ratio_stays_certified() {
    let mut judge = Judge::new(Analysis::live()).unwrap();
    let line = judge.tick(250, &[failing_row(1, 0..0, 1_000..1_400)]);
    assert_eq!(line.certified, Tolerance::ALL);
    let line = judge.tick(500, &[failing_row(2, 0..300, 0..0)]);
    let ratio = judge.evidence().ratio;
    assert!(ratio.log_e < ratio.certified_at, "{ratio:?}");
    assert_eq!(line.certified, Tolerance::ALL);
}

// === warm-up, ceiling, record ===

/// Latencies that are twice stable's for four seconds after each of two raises, then like stable's.
fn cold_after_each_raise(raise_warmup_ms: u64) -> Verdict {
    let analysis = Analysis {
        metrics: vec![Metric::Errors, Metric::Latency],
        latency_reference: Some([(250, 10_000)].into_iter().collect()),
        raise_warmup_ms,
        ..Analysis::default()
    };
    let mut judge = Judge::new(analysis).unwrap();
    for tick in 1..=200i64 {
        let (epoch, split, since) = if tick <= 100 { (1, 0.1, 0) } else { (2, 0.2, 100) };
        let side = |requests: i64, slow: i64| {
            let latency = [(266, slow), (250, requests - slow)].into_iter().collect();
            Some(Side { requests: Some(requests), errors: Some(0), latency, ..Side::default() })
        };
        let candidate = 5 * (tick - since);
        let stable = ((1.0 - split) / split * candidate as f64).round() as i64;
        let row = Row {
            proxy: "gw".to_owned(),
            incarnation: 1,
            seq: tick as u64,
            epoch,
            split,
            green: side(candidate, candidate.min(100)),
            blue: side(stable, 0),
            ..Row::default()
        };
        judge.tick(tick as u64 * 200, &[row]);
    }
    judge.verdict()
}

#[test]
fn latency_of_cold_caches_after_each_raise_is_left_out_where_a_warm_up_is_asked_for() {
    assert_eq!(cold_after_each_raise(0), Verdict::Rollback, "it is seen where nobody asked");
    assert_eq!(cold_after_each_raise(5_000), Verdict::Continue);
    assert_eq!(cold_after_each_raise(1_000), Verdict::Rollback, "what is slow after it counts");
}

/// First bytes of both colors alike, the candidate's whole answers `longer` buckets longer; by sessions or by requests.
/// The reference is stable's of this release.
fn judged_by_whole_answers(by_session: bool, longer: i32) -> Verdict {
    let analysis = Analysis {
        metrics: vec![Metric::Latency],
        latency_min_reference: 200,
        mode: if by_session { Mode::Sessions } else { Mode::PerError },
        firsts: by_session,
        srm: false,
        ..Analysis::default()
    };
    let mut judge = Judge::new(analysis).unwrap();
    let spread = |n: i64, middle: i32| (0..5).map(|i| (middle + i, n)).collect();
    for tick in 1..=100u16 {
        let n = i64::from(tick);
        let side = |n: i64, longer: i32| {
            let (latency, total) = (spread(n, 240), spread(n, 280 + longer));
            Some(Side { requests: Some(5 * n), errors: Some(0), latency, total, ..Side::default() })
        };
        let mut row = Row {
            proxy: "gw".to_owned(),
            incarnation: 1,
            seq: tick.into(),
            epoch: 1,
            split: 0.1,
            green: side(n, longer),
            blue: side(9 * n, 0),
            ..Row::default()
        };
        if by_session {
            // Five of the candidate's thousand slots, forty-five of stable's nine thousand.
            let candidates = (0..5).map(|i| 5 * (tick - 1) + i);
            let stables = (0..45).map(|i| 1_000 + 45 * (tick - 1) + i);
            for slot in candidates.chain(stables) {
                let (place, more) = (i32::from(slot % 5), if slot < 1_000 { longer } else { 0 });
                row.first_latency.push((slot, 240 + place));
                row.first_total.push((slot, 280 + place + more));
            }
        }
        judge.tick(u64::from(tick) * 250, &[row]);
    }
    judge.verdict()
}

#[test]
fn a_candidate_whose_whole_answers_are_late_is_found_though_their_first_bytes_are_in_time() {
    for by_session in [true, false] {
        assert_eq!(judged_by_whole_answers(by_session, 0), Verdict::Continue, "{by_session}");
        assert_eq!(
            judged_by_whole_answers(by_session, 2),
            Verdict::Continue,
            "within the margin, {by_session}"
        );
        assert_eq!(judged_by_whole_answers(by_session, 16), Verdict::Rollback, "twice as long, {by_session}");
    }
}

#[test]
fn errors_count_from_the_first_request_of_a_warm_up() {
    let mut judge = Judge::new(Analysis { raise_warmup_ms: 600_000, ..errors_of_sessions() }).unwrap();
    judge.tick(250, &[failing_row(1, 0..40, 900..900)]);
    assert_eq!(judge.verdict(), Verdict::Rollback);
}

#[test]
fn a_session_that_fails_often_is_one_failure_against_the_ceiling() {
    let slo = |firsts: bool| {
        let analysis = Analysis {
            metrics: vec![Metric::Errors, Metric::Slo],
            slo_error_rate: Some(0.05),
            firsts,
            ..errors_of_sessions()
        };
        let mut judge = Judge::new(analysis).unwrap();
        for seq in 1..=40i64 {
            // One session fails all of its requests, a third of the candidate's.
            let side = |requests, errors| {
                Some(Side { requests: Some(requests), errors: Some(errors), ..Side::default() })
            };
            let row = Row {
                proxy: "gw".to_owned(),
                incarnation: 1,
                seq: seq as u64,
                epoch: 1,
                split: 0.1,
                green: side(30 * seq, 10 * seq),
                blue: side(270 * seq, 0),
                error_slots: vec![7],
                ..Row::default()
            };
            judge.tick(seq as u64 * 250, &[row]);
        }
        judge.verdict()
    };
    assert_eq!(slo(true), Verdict::Continue);
    assert_eq!(slo(false), Verdict::Rollback, "by requests, as world files have it");
}

#[test]
fn a_record_whose_counts_were_altered_does_not_add_up() {
    let mut judge = Judge::new(errors_of_sessions()).unwrap();
    judge.tick(250, &[failing_row(1, 0..40, 900..905)]);
    let mut restarted = failing_row(1, 40..45, 900..900);
    restarted.incarnation = 2;
    judge.tick(500, &[restarted]);
    let said = judge.evidence();
    let record = serde_json::to_string(&judge.record()).unwrap();
    assert_eq!(
        Judge::recompute(serde_json::from_str(&record).unwrap()).unwrap(),
        said,
        "also over a restart"
    );
    let altered = record.replacen("\"green_errors\":40", "\"green_errors\":4", 1);
    assert_ne!(altered, record);
    let again = Judge::recompute(serde_json::from_str(&altered).unwrap()).unwrap();
    assert_ne!(again.counted, said.counted);
}
