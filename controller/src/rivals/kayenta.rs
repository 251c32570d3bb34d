//! Kayenta's rule: is the candidate's distribution of minute points shifted up, by a Mann-Whitney interval?
//!
//! One look per minute at all points so far, each look on its own: there is no correction for repeated looks, as
//! there is none in the product.

use super::window::{Seen, Tick};
use hueshift_core::judge::Verdict;

/// Time of one point.
const POINT_MS: u64 = 60_000;
/// Ten points end the analysis.
const POINTS: usize = 10;
/// Normal quantile of 99 %: the interval has a confidence of 98 %.
const Z: f64 = 2.326;
/// Part of the shift that its lower limit must exceed.
const TOLERANCE: f64 = 0.25;

#[derive(Debug, Clone)]
pub(super) struct Kayenta {
    judges_latency: bool,
    next_ms: u64,
    candidate: Seen,
    stable: Seen,
    errors: Points,
    latency: Points,
    minutes: usize,
}

/// One metric: a point per minute and arm; a minute without data has none.
#[derive(Debug, Clone, Default)]
struct Points {
    candidate: Vec<f64>,
    stable: Vec<f64>,
}

/// The shift of one sample against another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Hodges-Lehmann estimate: the median of all differences.
    pub estimate: f64,
    /// Lower end of its 98 % interval; `None`: too few points for one.
    pub lower: Option<f64>,
}

// === impl Kayenta ===

impl Kayenta {
    pub fn new(judges_latency: bool) -> Self {
        Kayenta {
            judges_latency,
            next_ms: POINT_MS,
            candidate: Seen::default(),
            stable: Seen::default(),
            errors: Points::default(),
            latency: Points::default(),
            minutes: 0,
        }
    }

    pub fn tick(&mut self, t_ms: u64, tick: Tick) -> Verdict {
        self.candidate.extend(&tick.candidate);
        self.stable.extend(&tick.stable);
        if t_ms < self.next_ms {
            return Verdict::Continue;
        }
        self.next_ms += POINT_MS;
        self.minutes += 1;
        let (candidate, stable) = (std::mem::take(&mut self.candidate), std::mem::take(&mut self.stable));
        self.errors.add(error_rate(&candidate), error_rate(&stable));
        let mut high = self.errors.are_high();
        if self.judges_latency {
            self.latency.add(p99_ms(&candidate), p99_ms(&stable));
            high |= self.latency.are_high();
        }
        if high {
            Verdict::Rollback
        } else if self.minutes >= POINTS {
            Verdict::Certified
        } else {
            Verdict::Continue
        }
    }
}

// === impl Points ===

impl Points {
    fn add(&mut self, candidate: Option<f64>, stable: Option<f64>) {
        self.candidate.extend(candidate);
        self.stable.extend(stable);
    }

    fn are_high(&self) -> bool {
        is_high(&self.candidate, &self.stable)
    }
}

// === impl Shift ===

impl Shift {
    /// `None` without a point on both sides.
    pub fn of(candidate: &[f64], stable: &[f64]) -> Option<Shift> {
        let mut differences: Vec<f64> =
            candidate.iter().flat_map(|x| stable.iter().map(move |y| x - y)).collect();
        differences.sort_by(f64::total_cmp);
        let (m, n) = (candidate.len() as f64, stable.len() as f64);
        let place = (m * n / 2.0 - Z * (m * n * (m + n + 1.0) / 12.0).sqrt()).floor();
        // The cast is of a number between 1 and the count of differences.
        let lower = (place >= 1.0).then(|| differences.get(place as usize - 1).copied()).flatten();
        Some(Shift { estimate: median(&differences)?, lower })
    }
}

/// Whether the candidate's points count as higher.
pub fn is_high(candidate: &[f64], stable: &[f64]) -> bool {
    let Some(Shift { estimate, lower: Some(lower) }) = Shift::of(candidate, stable) else { return false };
    let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
    // The effect: with a control of zero any effect is infinite.
    lower > TOLERANCE * estimate.abs() && mean(candidate) >= mean(stable)
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => sorted.get(middle.checked_sub(1)?).map(|lower| (lower + upper) / 2.0),
    }
}

fn error_rate(seen: &Seen) -> Option<f64> {
    (seen.requests > 0).then(|| seen.errors as f64 / seen.requests as f64)
}

fn p99_ms(seen: &Seen) -> Option<f64> {
    seen.p99().map(|bucket| (f64::from(bucket) / 16.0).exp2() / 1_000.0)
}
