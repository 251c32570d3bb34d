//! Which unit of chance fits a service whose requests draw for themselves, chosen beforehand from the errors of the color
//! that is stable: never by looking at the candidate.

use super::analysis::Mode;
use serde::{Deserialize, Serialize};

/// Index of dispersion from which errors are not single draws.
pub const CLUMPED_ABOVE: f64 = 1.5;
/// Seconds of history that the choice needs.
pub const SECONDS: usize = 120;

/// How evenly a color's errors came, in the last seconds of a release in which it had most of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    /// How many seconds, at least [`SECONDS`].
    pub seconds: u32,
    /// Sample variance over mean of errors per second: about 1 where each error is a draw of its own; `None` without an
    /// error.
    pub phi: Option<f64>,
}

// === impl Dispersion ===

impl Dispersion {
    /// Of these seconds; `None`: too few to tell.
    pub fn of(errors_per_second: &[u64]) -> Option<Dispersion> {
        let seconds = u32::try_from(errors_per_second.len()).unwrap_or(u32::MAX);
        let enough = errors_per_second.len() >= SECONDS;
        enough.then(|| Dispersion { seconds, phi: dispersion(errors_per_second) })
    }

    /// Whether errors came in clumps, so that requests must not count as single draws.
    pub fn is_clumped(&self) -> bool {
        self.phi.is_some_and(|phi| phi > CLUMPED_ABOVE)
    }
}

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

/// The unit of chance of a release, by what the newest earlier one said that lasted long enough. Without any the request
/// is the unit, and the negative control the guard.
pub fn choose(earlier: Option<&Dispersion>) -> Mode {
    if earlier.is_some_and(Dispersion::is_clumped) { Mode::Robust } else { Mode::PerError }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_follows_the_newest_word_that_is_long_enough() {
        let clumped: [u64; SECONDS] = core::array::from_fn(|second| if second % 12 == 0 { 12 } else { 0 });
        let even: [u64; SECONDS] = core::array::from_fn(|second| u64::from(second % 2 == 0));
        let mode = |seconds: &[u64]| choose(Dispersion::of(seconds).as_ref());
        assert_eq!(
            (mode(&clumped), mode(&even), mode(&[0; SECONDS])),
            (Mode::Robust, Mode::PerError, Mode::PerError)
        );
        assert_eq!(mode(&clumped[1..]), Mode::PerError, "a second too few says nothing");
    }
}
