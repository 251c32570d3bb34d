//! The population stability index, for display only: the usual rule "PSI > 0.1" fires for 81 % of equal pairs at ten
//! bins and a hundred observations.

use super::buckets::total;
use crate::histogram::Sparse;
use libm::log;
use serde::{Deserialize, Serialize};

/// The correction from which the raw value misleads.
const SHOW_RAW_BELOW: f64 = 0.02;

/// The index of one pair of distributions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    /// As everybody computes it.
    pub raw: f64,
    /// What chance alone adds to it.
    pub bias: f64,
}

/// The index; `None` while one role has nothing.
pub fn psi(green: &Sparse, blue: &Sparse, bins: u16) -> Option<Psi> {
    let (green_all, blue_all) = (total(green) as f64, total(blue) as f64);
    if green_all == 0.0 || blue_all == 0.0 {
        return None;
    }
    let part = |counts: &Sparse, bin: u16, all: f64| {
        (counts.get(&bin).copied().unwrap_or(0) as f64 + 0.5) / (all + 0.5 * f64::from(bins))
    };
    let raw = (0..bins).map(|bin| {
        let (p, q) = (part(green, bin, green_all), part(blue, bin, blue_all));
        (p - q) * log(p / q)
    });
    let bias = f64::from(bins.saturating_sub(1)) * (1.0 / green_all + 1.0 / blue_all);
    Some(Psi { raw: raw.sum(), bias })
}

// === impl Psi ===

impl Psi {
    /// Without what chance adds.
    pub fn adjusted(&self) -> f64 {
        self.raw - self.bias
    }

    /// Whether the raw value may be shown.
    pub fn raw_is_shown(&self) -> bool {
        self.bias < SHOW_RAW_BELOW
    }
}
