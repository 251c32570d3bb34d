//! A rate against a fixed number, without a control: the error floor, the ceiling, the absolute certificate.

use super::math::lse;
use alloc::vec::Vec;
use libm::{log, log1p, pow};
use serde::{Deserialize, Serialize};

/// How many alternatives a test has that condemns.
pub const ALTERNATIVES: usize = 8;
/// `p_k / p0` of a test that certifies.
const BELOW: [f64; 4] = [0.01, 0.1, 0.3, 0.6];

/// One null hypothesis about a rate and its alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneSample {
    hit: Vec<f64>,
    miss: Vec<f64>,
}

// === impl OneSample ===

impl OneSample {
    /// Null `p <= p0`, 0 < p0 <= 0.5.
    pub fn above(p0: f64) -> Self {
        let low = 1.5 * p0;
        let top = (500.0 * p0).min(0.9);
        OneSample::new(p0, (0..ALTERNATIVES).map(|k| low * pow(top / low, k as f64 / 7.0)))
    }

    /// Null `p >= p0`, 0 < p0 < 1.
    pub fn below(p0: f64) -> Self {
        OneSample::new(p0, BELOW.into_iter().map(|b| p0 * b))
    }

    /// Null at `p0` against the given rates.
    pub fn new(p0: f64, rates: impl Iterator<Item = f64> + Clone) -> Self {
        OneSample {
            hit: rates.clone().map(|p| log(p / p0)).collect(),
            miss: rates.map(|p| log1p(-p) - log1p(-p0)).collect(),
        }
    }

    /// Adds the log-increment of each alternative for `errors` of `n` to `sums`.
    pub fn add(&self, n: u64, errors: u64, sums: &mut [f64]) {
        let (hits, misses) = (errors as f64, n.saturating_sub(errors) as f64);
        for ((sum, hit), miss) in sums.iter_mut().zip(&self.hit).zip(&self.miss) {
            *sum += hits * hit + misses * miss;
        }
    }

    /// Evidence of one process without restarts and with equal prior, from totals.
    pub fn log_e(&self, n: u64, errors: u64) -> f64 {
        let (hits, misses) = (errors as f64, n.saturating_sub(errors) as f64);
        lse(self.hit.iter().zip(&self.miss).map(|(hit, miss)| hits * hit + misses * miss))
            - log(self.hit.len() as f64)
    }

    /// How many alternatives.
    pub fn len(&self) -> usize {
        self.hit.len()
    }

    /// Whether there is no alternative.
    pub fn is_empty(&self) -> bool {
        self.hit.is_empty()
    }
}
