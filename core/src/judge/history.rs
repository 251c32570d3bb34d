//! After cutover: stable's own past as the second opinion.
//!
//! Windows of stable's counts are frozen at cutover; the null is an upper limit of all of them, so it may itself be
//! wrong with a small chance, which comes off alpha. History alone condemns every release when something that both
//! colors use falls ill, so it only ever complements the concurrent control: once history speaks, the holdback is asked.

use super::latency::margin::Margin;
use super::latency::weights::{Weights, kept};
use super::math::lse;
use super::quantile::rate_upper_limit;
use super::ratio::{ALTERNATIVES, Errors, Ratio};
use crate::histogram::Sparse;
use alloc::vec;
use alloc::vec::Vec;
use libm::{log, sqrt};
use serde::{Deserialize, Serialize};

/// What is granted on top of the limit.
pub const MARGIN: f64 = 1.25;
/// What the limits cost of alpha at most, once for errors and once more for each window of latency.
pub const LIMIT_ALPHA: f64 = 0.001;

/// What the limits cost of this alpha: never more than a tenth, so that a strict one still leaves the tests theirs.
pub fn limit_alpha(alpha: f64) -> f64 {
    LIMIT_ALPHA.min(alpha / 10.0)
}

/// Stable's requests and failures in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Requests.
    pub n: u64,
    /// Failures.
    pub errors: u64,
}

/// The rate that the candidate must not exceed: the worst window's upper limit, each wrong with a chance of `wrong`, and
/// a margin. `None` without a window that has a request.
pub fn error_limit(windows: &[Window], wrong: f64) -> Option<f64> {
    let limits = windows.iter().filter(|w| w.n > 0).map(|w| rate_upper_limit(w.errors, w.n, 1.0 - wrong));
    limits.reduce(f64::max).map(|limit| (limit * MARGIN).min(0.5))
}

/// A distribution that is slower than every window's, within what chance can do to a window; parts of a whole per
/// bucket. `None` without a window that has an observation.
pub fn envelope(windows: &[Sparse], delta: f64) -> Option<Vec<f64>> {
    let mut lowest: Option<Vec<f64>> = None;
    for window in windows {
        let counts = kept(window);
        let n: u64 = counts.iter().fold(0, |sum, n| sum.saturating_add(*n));
        if n == 0 {
            continue;
        }
        let slack = sqrt(log(1.0 / delta) / (2.0 * n as f64));
        let mut below = 0u64;
        let reached = counts.iter().map(|count| {
            below = below.saturating_add(*count);
            below as f64 / n as f64 - slack
        });
        lowest = Some(match lowest {
            None => reached.collect(),
            Some(lowest) => lowest.into_iter().zip(reached).map(|(a, b)| a.min(b)).collect(),
        });
    }
    let mut lowest = lowest?;
    if let Some(last) = lowest.last_mut() {
        *last = 1.0;
    }
    let mut below = 0.0;
    let part = |reached: &f64| {
        let reached = reached.clamp(0.0, 1.0);
        let part = reached - below;
        below = reached;
        part
    };
    Some(lowest.iter().map(part).collect())
}

/// The candidate's latency against the envelope of history: tilts alone, no control.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyHistory {
    weights: Weights,
    margin: Margin,
}

// === impl LatencyHistory ===

impl LatencyHistory {
    /// With a margin of `shift` buckets.
    pub fn new(envelope: &[f64], shift: u32) -> Self {
        LatencyHistory { weights: Weights::tilted(envelope), margin: Margin::new(shift, 0) }
    }

    /// How many alternatives.
    pub fn alternatives(&self) -> usize {
        self.weights.len()
    }

    /// Adds the log-increment of each alternative for the candidate's observations, by their own buckets.
    pub fn add(&self, green: &Sparse, sums: &mut [f64]) {
        let mut booked = Sparse::new();
        for (bucket, n) in green {
            super::buckets::add(&mut booked, self.margin.booked(i32::from(*bucket)), *n);
        }
        self.weights.add_alone(&booked, sums);
    }
}

/// Stable's past, frozen at cutover.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Requests and failures of the hours of the cutover yesterday and a week ago ([`super::hours`]), where enough was
    /// counted; the release's own part until cutover is a window, too, which the judge counts itself.
    pub errors: Vec<Window>,
}

/// What the holdback says since cutover of a candidate that looks bad beside history.
///
/// History alone takes back four times the errors on both colors in 17 to 20 of 20 simulated releases: the holdback has a
/// twentieth of the traffic, so history condemns long before the holdback can acquit. So history counts only once the
/// holdback bears it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holdback {
    /// Stable's requests until cutover.
    #[serde(default)]
    before: u64,
    /// That the candidate is not one and a half times as bad.
    test: Ratio,
    sums: Vec<f64>,
    highest: f64,
    /// That it is worse, from what came since history began to speak. What came before would only dilute it: a fault
    /// shows in the holdback after a few errors instead of hundreds.
    #[serde(default)]
    asked: Option<Vec<f64>>,
}

/// The candidate may be as much worse as the judge grants.
const WORSE: f64 = 1.25;
/// A candidate that is not so much worse than the holdback is acquitted.
const BOUND: f64 = 1.5;

// === impl Holdback ===

impl Holdback {
    /// Begins at cutover, when stable had completed so many requests.
    pub fn new(before: u64) -> Self {
        let below: Vec<f64> = [0.5, 0.8, 1.0, 1.2].into();
        let sums = vec![0.0; below.len()];
        Holdback { before, sums, test: Ratio::new(BOUND, below), highest: 0.0, asked: None }
    }

    /// Failures of a block or a batch of slots.
    pub fn add(&mut self, errors: Errors) {
        self.test.add(errors, &mut self.sums);
        self.highest = self.highest.max(mixed(&self.sums));
        if let Some(sums) = &mut self.asked {
            Ratio::worse_than(WORSE).add(errors, sums);
        }
    }

    /// Whether history makes the candidate suspicious now: the holdback is asked from here on, until it no longer does.
    pub fn ask(&mut self, suspicious: bool) {
        if !suspicious {
            self.asked = None;
        } else if self.asked.is_none() {
            self.asked = Some(vec![0.0; ALTERNATIVES]);
        }
    }

    /// Whether history counts, by what stable has completed by now. Without anybody in the holdback there is nothing but
    /// history; a candidate that was acquitted once stays so. The holdback answers with a chance of `alpha` of being
    /// wrong: with evidence of 10 alone 10 of 200 shared incidents took a healthy candidate back.
    pub fn bears_out(&self, completed: u64, alpha: f64, beta: f64) -> bool {
        let acquitted = self.highest >= log(1.0 / beta);
        let worse = self.asked.as_ref().is_some_and(|sums| mixed(sums) >= log(1.0 / alpha));
        !acquitted && (worse || completed <= self.before)
    }
}

/// Evidence of alternatives of equal weight.
fn mixed(sums: &[f64]) -> f64 {
    lse(sums.iter().copied()) - log(sums.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many seconds of a candidate that fails so often beside a holdback of a twentieth that fails so often.
    fn told(holdback: &mut Holdback, seconds: u64, candidate: u64, stable: u64) {
        for _ in 0..seconds {
            holdback.add(Errors::realised(190, 10, candidate, stable));
        }
    }

    #[test]
    fn the_strictest_alpha_leaves_the_tests_their_part() {
        // Half of it is what a lost checkpoint costs.
        for alpha in [0.1, 0.01, 0.002, 0.001, 0.0005, 1e-6] {
            let live = crate::judge::Analysis { alpha, ..crate::judge::Analysis::live() };
            assert!(crate::judge::Judge::new(live.clone()).is_ok(), "{alpha}");
            assert!(live.budget() >= 0.899 * alpha, "{} of {alpha}", live.budget());
        }
    }

    #[test]
    fn history_counts_only_once_the_holdback_bears_it_out() {
        let mut holdback = Holdback::new(1_000);
        assert!(holdback.bears_out(1_000, 0.01, 0.05), "nobody is in it: there is nothing but history");
        assert!(!holdback.bears_out(1_001, 0.01, 0.05), "it was not asked yet");
        told(&mut holdback, 60, 10, 0);
        assert!(!holdback.bears_out(2_000, 0.01, 0.05), "what came before it was asked is no answer");
        holdback.ask(true);
        told(&mut holdback, 5, 10, 0);
        assert!(!holdback.bears_out(2_000, 0.01, 0.05), "50 errors are too few to tell");
        told(&mut holdback, 10, 10, 0);
        assert!(holdback.bears_out(2_000, 0.01, 0.05));
        holdback.ask(false);
        assert!(!holdback.bears_out(2_000, 0.01, 0.05), "history no longer speaks");
    }

    #[test]
    fn a_shared_incident_is_not_borne_out_and_acquits_for_good() {
        let mut holdback = Holdback::new(1_000);
        holdback.ask(true);
        for _ in 0..200 {
            told(&mut holdback, 1, 19, 1);
            assert!(!holdback.bears_out(2_000, 0.01, 0.05));
        }
        told(&mut holdback, 200, 60, 0);
        assert!(!holdback.bears_out(2_000, 0.01, 0.05), "it was acquitted");
        assert!(!holdback.bears_out(1_000, 0.01, 0.05));
    }
}
