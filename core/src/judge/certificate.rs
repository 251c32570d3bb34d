//! Certificates: evidence that the candidate is good enough, latched at the first proof.
//!
//! Absence of alarm is not health, so promotion asks for one of these. They have no restarts: a certificate is
//! about the whole release.

use crate::share::Bps;
use serde::{Deserialize, Serialize};

/// Ratio of error rates that a certificate excludes; only these four are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub enum Tolerance {
    /// Not twice as bad.
    Two,
    /// Not three times as bad.
    Three,
    /// Not five times as bad.
    Five,
    /// Not ten times as bad.
    Ten,
}

/// A ratio that is none of the four.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoSuchTolerance(pub f64);

/// What a step asks for: either certificate is enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Requirement {
    /// The ratio certificate.
    pub rho_max: Tolerance,
    /// The absolute certificate; `None`: not in force, the ratio certificate has all of beta.
    pub p_ceiling: Option<f64>,
}

// === impl Tolerance ===

impl Tolerance {
    /// Largest ratio first, as they are listed.
    pub const ALL: [Tolerance; 4] = [Tolerance::Ten, Tolerance::Five, Tolerance::Three, Tolerance::Two];

    /// The ratio.
    pub fn ratio(self) -> f64 {
        match self {
            Tolerance::Two => 2.0,
            Tolerance::Three => 3.0,
            Tolerance::Five => 5.0,
            Tolerance::Ten => 10.0,
        }
    }
}

impl From<Tolerance> for f64 {
    fn from(tolerance: Tolerance) -> f64 {
        tolerance.ratio()
    }
}

impl TryFrom<f64> for Tolerance {
    type Error = NoSuchTolerance;
    fn try_from(ratio: f64) -> Result<Self, Self::Error> {
        Tolerance::ALL.into_iter().find(|t| t.ratio() == ratio).ok_or(NoSuchTolerance(ratio))
    }
}

impl core::fmt::Display for NoSuchTolerance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "rho_max must be one of 10, 5, 3 and 2, not {}", self.0)
    }
}

impl core::error::Error for NoSuchTolerance {}

// === impl Requirement ===

impl Requirement {
    /// More exposure, less doubt: what a step at `share` asks for unless the user says otherwise.
    pub fn for_share(share: Bps, absolute: bool) -> Self {
        let bps = share.get();
        let rho_max = match bps {
            0..=100 => Tolerance::Ten,
            101..=500 => Tolerance::Five,
            501..=2_500 => Tolerance::Three,
            _ => Tolerance::Two,
        };
        let p_ceiling = match bps {
            0..=500 => 0.05,
            501..=2_500 => 0.02,
            _ => 0.01,
        };
        Requirement { rho_max, p_ceiling: absolute.then_some(p_ceiling) }
    }
}
