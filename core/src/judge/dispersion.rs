//! Which unit of chance fits a service, chosen beforehand from stable's own errors: never by looking at the candidate.

use super::analysis::Mode;

/// Index of dispersion from which errors are not single draws.
pub const CLUMPED_ABOVE: f64 = 1.5;
/// Seconds of history that the choice needs.
pub const SECONDS: usize = 120;

/// Sample variance over mean of errors per second; `None` without an error (or with less than two seconds).
pub fn dispersion(errors_per_second: &[u64]) -> Option<f64> {
    let n = errors_per_second.len() as f64;
    let mean = errors_per_second.iter().map(|e| *e as f64).sum::<f64>() / n;
    if n < 2.0 || mean.is_nan() || mean <= 0.0 {
        return None;
    }
    let squares: f64 = errors_per_second.iter().map(|e| (*e as f64 - mean) * (*e as f64 - mean)).sum();
    Some(squares / (n - 1.0) / mean)
}

/// Whether errors come in clumps, so that requests must not count as single draws.
pub fn is_clumped(errors_per_second: &[u64]) -> bool {
    dispersion(errors_per_second).is_some_and(|phi| phi > CLUMPED_ABOVE)
}

/// The unit of chance for a service whose sessions' slots are unknown. Too short a history is no proof of
/// independence, so it gets the careful one.
pub fn choose(errors_per_second: &[u64]) -> Mode {
    if errors_per_second.len() < SECONDS || is_clumped(errors_per_second) {
        Mode::Robust
    } else {
        Mode::PerError
    }
}
