//! After cutover: stable's own past as the second opinion.
//!
//! Windows of stable's counts are frozen at cutover; the null is an upper limit of all of them, so it may itself be
//! wrong with a small chance, which comes off alpha. History alone condemns every release when the base rate doubles,
//! so it only ever complements the concurrent control of the holdback.

use super::latency::margin::Margin;
use super::latency::weights::{Weights, kept};
use super::math::lse;
use super::quantile::rate_upper_limit;
use super::ratio::{Errors, Ratio};
use crate::histogram::Sparse;
use alloc::vec;
use alloc::vec::Vec;
use libm::{log, sqrt};
use serde::{Deserialize, Serialize};

/// Confidence of each window's upper limit.
pub const CONFIDENCE: f64 = 0.999;
/// What is granted on top of the limit.
pub const MARGIN: f64 = 1.25;
/// What the limits cost of alpha, once for errors and once more for each window of latency.
pub const LIMIT_ALPHA: f64 = 0.001;

/// Stable's requests and failures in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Requests.
    pub n: u64,
    /// Failures.
    pub errors: u64,
}

/// The rate that the candidate must not exceed: the worst window's upper limit, and a margin. `None` without a
/// window that has a request.
pub fn error_limit(windows: &[Window]) -> Option<f64> {
    let limits = windows.iter().filter(|w| w.n > 0).map(|w| rate_upper_limit(w.errors, w.n, CONFIDENCE));
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
    /// Requests and failures of the last half hour, of the same hour yesterday, of the same hour a week ago.
    pub errors: Vec<Window>,
}

/// Evidence since cutover that the candidate is not much worse than the holdback: then a bad look beside history is a
/// shared incident and no reason to roll back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holdback {
    test: Ratio,
    sums: Vec<f64>,
    highest: f64,
}

// === impl Holdback ===

impl Holdback {
    /// Begins at cutover.
    pub fn new() -> Self {
        const BOUND: f64 = 1.5;
        let below: Vec<f64> = [0.5, 0.8, 1.0, 1.2].into();
        Holdback { sums: vec![0.0; below.len()], test: Ratio::new(BOUND, below), highest: 0.0 }
    }

    /// Failures of a block or a batch of slots.
    pub fn add(&mut self, errors: Errors) {
        self.test.add(errors, &mut self.sums);
        let log_e = lse(self.sums.iter().copied()) - log(self.sums.len() as f64);
        self.highest = self.highest.max(log_e);
    }

    /// Whether the candidate is proved not to be one and a half times as bad (latched).
    pub fn acquits(&self, beta: f64) -> bool {
        self.highest >= log(1.0 / beta)
    }
}

impl Default for Holdback {
    fn default() -> Self {
        Holdback::new()
    }
}
