//! How many candidate requests a verdict will take: an expectation for planning, no promise.

use libm::log;
use serde::{Deserialize, Serialize};

/// A difference that should be found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Stable's error rate.
    pub stable_rate: f64,
    /// How many times as often the candidate fails.
    pub ratio: f64,
    /// The candidate's share of requests.
    pub share: f64,
    /// Chance of a false rollback.
    pub alpha: f64,
}

/// Candidate requests until the rollback, right within about a fifth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// On average.
    pub mean: f64,
    /// In 95 of 100 releases.
    pub p95: f64,
}

// === impl Effect ===

impl Effect {
    /// The planned sample; `None` where the numbers make no sense or there is nothing to find.
    pub fn sample(&self) -> Option<Sample> {
        let Effect { stable_rate, ratio, share, alpha } = *self;
        let sensible = stable_rate > 0.0 && ratio > 0.0 && ratio.is_finite() && share > 0.0 && share < 1.0;
        if !sensible || ratio == 1.0 || !(alpha > 0.0 && alpha < 1.0) {
            return None;
        }
        let among_errors = share * ratio / (share * ratio + 1.0 - share);
        let divergence = among_errors * log(among_errors / share)
            + (1.0 - among_errors) * log((1.0 - among_errors) / (1.0 - share));
        let mean = (log(1.0 / alpha) + 1.5) / (stable_rate * (ratio + (1.0 - share) / share) * divergence);
        mean.is_finite().then_some(Sample { mean, p95: 2.0 * mean })
    }
}
