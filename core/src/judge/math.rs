//! The few special functions that judging needs, in log space and without std.

use core::f64::consts::PI;
use libm::{exp, lgamma, log, log1p};

/// `ln(sum exp(x))`, left to right; of nothing: minus infinity.
pub fn lse(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let highest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    // Beside the highest, which is 1, anything below e^-40 is lost in rounding.
    let part = |x: f64| if x - highest < -40.0 { 0.0 } else { exp(x - highest) };
    highest + log(terms.map(part).sum())
}

/// `ln(exp(a) + exp(b))`.
pub fn log_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + log1p(exp(low - high)) }
}

/// `ln B(a, b)` for positive `a` and `b`.
///
/// `lgamma(a) + lgamma(b) - lgamma(a + b)` loses all digits when an argument is large, and the split test works
/// with counts of millions; there the Stirling corrections are subtracted, not the functions.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a <= b { (a, b) } else { (b, a) };
    let sum = small + large;
    if small >= STIRLING_FROM {
        let ratio = small / large;
        let share = ratio / (1.0 + ratio);
        let correction = stirling(small) + (stirling(large) - stirling(sum));
        0.5 * log(2.0 * PI) - 0.5 * log(large) + correction + (small - 0.5) * log(share)
            - large * log1p(ratio)
    } else if large >= STIRLING_FROM {
        let correction = stirling(large) - stirling(sum);
        lgamma(small) + correction - (large + small - 0.5) * log1p(small / large) - small * (log(large) - 1.0)
    } else {
        lgamma(small) + lgamma(large) - lgamma(sum)
    }
}

const STIRLING_FROM: f64 = 15.0;

/// `lgamma(x) - (x - 1/2) ln x + x - ln(2 pi)/2`, for x >= 15 to about 1e-17.
fn stirling(x: f64) -> f64 {
    let y = 1.0 / (x * x);
    let series = [
        1.0 / 156.0,
        -691.0 / 360_360.0,
        1.0 / 1_188.0,
        -1.0 / 1_680.0,
        1.0 / 1_260.0,
        -1.0 / 360.0,
        1.0 / 12.0,
    ];
    series.iter().fold(0.0, |sum, c| sum * y + c) / x
}

/// The interval that holds a rate at all times with probability 1 - alpha, after `errors` of `n` (n > 0).
pub fn rate_interval(errors: u64, n: u64, alpha: f64, prior: (f64, f64)) -> (f64, f64) {
    let (a, b) = prior;
    let (e, ok) = (errors as f64, n.saturating_sub(errors) as f64);
    let level = ln_beta(a + e, b + ok) - ln_beta(a, b) + log(alpha);
    let height = |p: f64| {
        let hits = if e > 0.0 { e * log(p) } else { 0.0 };
        let misses = if ok > 0.0 { ok * log1p(-p) } else { 0.0 };
        level - hits - misses
    };
    let middle = e / (e + ok).max(1.0);
    (edge(height, middle, 0.0), edge(height, middle, 1.0))
}

/// Where `height`, below 0 at `inside` and growing towards `end`, crosses 0; `end` if it never does.
fn edge(height: impl Fn(f64) -> f64, inside: f64, end: f64) -> f64 {
    let (mut low, mut high) = (inside, end);
    let last = high + (low - high) * 1e-15;
    if height(last.clamp(1e-300, 1.0 - 1e-16)) < 0.0 {
        return end;
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle == low || middle == high {
            break;
        }
        if height(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_logarithm_of_zero() {
        assert_eq!(lse([].into_iter()), f64::NEG_INFINITY);
        assert_eq!(log_add_exp(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
    }

    #[test]
    fn huge_logarithms_stay_finite() {
        assert_eq!(lse([1e6, 0.0].into_iter()), 1e6);
        assert_eq!(log_add_exp(-1e6, 1e6), 1e6);
    }

    #[test]
    fn ln_beta_agrees_across_the_change_of_method() {
        // B(a, b) = B(a, b + 1) (a + b) / b, with b and b + 1 on both sides of the change.
        for a in [0.5, 3.0, 14.5, 15.5, 4_000.0] {
            for b in [14.5, 14.99, 15.0] {
                let stepped = ln_beta(a, b + 1.0) + log((a + b) / b);
                assert!((ln_beta(a, b) - stepped).abs() < 1e-11 * stepped.abs().max(1.0), "a {a} b {b}");
            }
        }
    }
}
