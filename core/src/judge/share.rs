//! Robust mode: a bet on the candidate's share of each second's errors.
//!
//! For sticky sessions whose slots are unknown. A burst inside one second is one draw; it costs about three times
//! the delay and does not stand bursts that last longer.

use libm::log1p;
use serde::{Deserialize, Serialize};

/// The bets.
pub const LAMBDAS: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6];

/// Errors of one stratum in one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SecondErrors {
    /// The *configured* split.
    pub split: f64,
    /// The candidate's failures.
    pub candidate: u64,
    /// Stable's failures.
    pub stable: u64,
}

/// The log-increment per bet of one second; all zero without an error.
pub fn increments(rho0: f64, strata: impl Iterator<Item = SecondErrors>) -> [f64; LAMBDAS.len()] {
    let (mut all, mut candidate, mut expected) = (0.0, 0.0, 0.0);
    for s in strata {
        let errors = s.candidate.saturating_add(s.stable) as f64;
        all += errors;
        candidate += s.candidate as f64;
        expected += errors * (s.split * rho0 / (s.split * rho0 + 1.0 - s.split));
    }
    if all == 0.0 {
        return [0.0; LAMBDAS.len()];
    }
    let (observed, expected) = (candidate / all, expected / all);
    let most = if expected > 0.0 { 0.95 / expected } else { f64::INFINITY };
    LAMBDAS.map(|lambda| log1p(lambda.min(most) * (observed - expected)))
}
