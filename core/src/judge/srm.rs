//! Sample ratio mismatch: does the traffic that arrives match the split that was configured?
//!
//! If not, routing or counting is broken, and with it the judge's premise: that holds a release, it never condemns.

use super::math::ln_beta;
use libm::{log, log1p};

/// Strength of the prior around the configured split.
pub const STRENGTH: f64 = 100.0;

/// Evidence of one configured split with its totals; 0 where the split leaves nothing to chance.
pub fn log_e(strength: f64, split: f64, candidate: u64, stable: u64) -> f64 {
    if !(split > 0.0 && split < 1.0) {
        return 0.0;
    }
    let (a, b) = (strength * split, strength * (1.0 - split));
    let (g, s) = (candidate as f64, stable as f64);
    ln_beta(a + g, b + s) - ln_beta(a, b) - g * log(split) - s * log1p(-split)
}
