//! The interval of `p_g / p_b` for display, from the same formula as the verdict; no verdict reads it.

use super::math::lse;
use super::ratio::{Errors, Ratio, grid};
use alloc::vec;
use alloc::vec::Vec;
use libm::{exp, log};
use serde::{Deserialize, Serialize};

/// Ends beyond e^±12 are none.
const WIDEST: f64 = 12.0;

/// The interval that holds the ratio at all times with probability 1 - alpha.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioInterval {
    /// Lower end.
    pub lower: f64,
    /// Upper end; `None`: nothing is known of it.
    pub upper: Option<f64>,
}

/// From sums of failures per *configured* split.
pub fn ratio_interval(groups: &[Errors], alpha: f64) -> RatioInterval {
    let height = log(2.0 / alpha);
    // Falls as the null rises: how surely the ratio is above; and rises with it: how surely it is below.
    let above = |x: f64| log_e(exp(x), groups, |rho0, g| rho0 * g) > height;
    let below = |x: f64| log_e(exp(x), groups, |rho0, g| rho0 / g) > height;
    RatioInterval {
        lower: if above(-WIDEST) { exp(crossing(above)) } else { 0.0 },
        upper: below(WIDEST).then(|| exp(crossing(|x| !below(x)))),
    }
}

fn log_e(rho0: f64, groups: &[Errors], alternative: impl Fn(f64, f64) -> f64) -> f64 {
    let test = Ratio::new(rho0, grid().map(|g| alternative(rho0, g)).collect::<Vec<f64>>());
    let mut sums = vec![0.0; test.len()];
    groups.iter().for_each(|errors| test.add(*errors, &mut sums));
    lse(sums.iter().copied()) - log(test.len() as f64)
}

/// Where `holds` stops to hold between -12 and 12.
fn crossing(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (-WIDEST, WIDEST);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}
