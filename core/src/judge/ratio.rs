//! Color given bucket, for failures: among errors the candidate's share must be its share of requests.
//!
//! Right for independent requests with equal rates *within a block*; it needs no constant rate over time. Six
//! alternatives, because a single one finds only differences of its own size.

use alloc::vec::Vec;
use libm::{log, pow};
use serde::{Deserialize, Serialize};

/// How many alternatives the ratio test has.
pub const ALTERNATIVES: usize = 6;

/// One null hypothesis about `rho = p_g / p_b` and its alternatives: above `rho0` to condemn, below to certify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    rho0: f64,
    rho: Vec<f64>,
    ln_relative: Vec<f64>,
}

/// Failures of a block or a batch and the candidate's share of what could have failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// The candidate's share, 0..=1.
    pub share: f64,
    /// The candidate's failures.
    pub candidate: u64,
    /// Stable's failures.
    pub stable: u64,
}

/// `rho_k / rho0`: 1.5 … 32, evenly in the logarithm.
pub fn grid() -> impl Iterator<Item = f64> {
    (0..ALTERNATIVES).map(|k| 1.5 * pow(32.0 / 1.5, k as f64 / 5.0))
}

// === impl Ratio ===

impl Ratio {
    /// Null `p_g <= rho0 p_b` with the six alternatives above it.
    pub fn worse_than(rho0: f64) -> Self {
        Ratio::new(rho0, grid().map(|g| rho0 * g).collect())
    }

    /// Null at `rho0` against the given ratios.
    pub fn new(rho0: f64, rho: Vec<f64>) -> Self {
        let ln_relative = rho.iter().map(|rho| log(rho / rho0)).collect();
        Ratio { rho0, rho, ln_relative }
    }

    /// Adds the log-increment of each alternative to `sums`. A share of 0 or 1 says nothing.
    pub fn add(&self, errors: Errors, sums: &mut [f64]) {
        let Errors { share, candidate, stable } = errors;
        let all = candidate.saturating_add(stable) as f64;
        if all == 0.0 || !(share > 0.0 && share < 1.0) {
            return;
        }
        let base = share * self.rho0 + 1.0 - share;
        for ((sum, rho), ln_relative) in sums.iter_mut().zip(&self.rho).zip(&self.ln_relative) {
            *sum += candidate as f64 * ln_relative - all * log((share * rho + 1.0 - share) / base);
        }
    }

    /// How many alternatives.
    pub fn len(&self) -> usize {
        self.rho.len()
    }

    /// Whether there is no alternative.
    pub fn is_empty(&self) -> bool {
        self.rho.is_empty()
    }
}

// === impl Errors ===

impl Errors {
    /// A block of requests with its realised share.
    pub fn realised(candidates: u64, stables: u64, candidate: u64, stable: u64) -> Self {
        Errors { share: share_of(candidates, stables), candidate, stable }
    }
}

/// The part of `a` in `a + b`; 0 if both are 0.
pub fn share_of(a: u64, b: u64) -> f64 {
    let all = a.saturating_add(b);
    if all == 0 { 0.0 } else { a as f64 / all as f64 }
}
