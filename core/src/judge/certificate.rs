//! Certificates: evidence that the candidate is good enough, latched at the first proof.
//!
//! Absence of alarm is not health, so promotion asks for one of these. They have no restarts: a certificate is
//! about the whole release.

use super::evidence::Progress;
use super::math::lse;
use super::one_sample::OneSample;
use super::ratio::{Errors, Ratio};
use crate::share::Bps;
use alloc::vec;
use alloc::vec::Vec;
use libm::log;
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

/// `p_g / p_b` under which a certificate is found; those below the tolerance are used.
const RATIOS: [f64; 4] = [0.5, 0.8, 1.0, 1.2];
/// Ceilings that are followed from the start, whatever the first step asks for.
const CEILINGS: [f64; 3] = [0.05, 0.02, 0.01];

/// All certificates of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificates {
    ratios: Vec<RatioCertificate>,
    /// Candidate units (requests or slots) and those in error.
    n: u64,
    errors: u64,
    ceilings: Vec<Ceiling>,
}

/// Null: `p_g >= bound * p_b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioCertificate {
    bound: Tolerance,
    test: Ratio,
    sums: Vec<f64>,
    highest: f64,
}

/// Null: `p_g >= bound`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ceiling {
    bound: f64,
    test: OneSample,
    highest: f64,
}

// === impl Certificates ===

impl Certificates {
    /// The four ratios and the usual ceilings.
    pub fn new() -> Self {
        Certificates {
            ratios: Tolerance::ALL.into_iter().map(|t| RatioCertificate::new(t, &RATIOS)).collect(),
            n: 0,
            errors: 0,
            ceilings: CEILINGS.into_iter().map(Ceiling::new).collect(),
        }
    }

    /// Failures of a block or a batch of slots, for the ratio certificates.
    pub fn add(&mut self, errors: Errors) {
        self.ratios.iter_mut().for_each(|certificate| certificate.add(errors));
    }

    /// Candidate units so far and those in error, for the absolute certificates.
    pub fn set_units(&mut self, n: u64, errors: u64) {
        (self.n, self.errors) = (n, errors);
    }

    /// Marks the highest evidence; once per tick.
    pub fn mark(&mut self) {
        for certificate in &mut self.ratios {
            certificate.highest = certificate.highest.max(certificate.log_e());
        }
        for ceiling in &mut self.ceilings {
            ceiling.highest = ceiling.highest.max(ceiling.test.log_e(self.n, self.errors));
        }
    }

    /// Follows the ceiling of `requirement` from now on, if it is none of the usual ones.
    pub fn follow(&mut self, requirement: Requirement) {
        if let Some(bound) = requirement.p_ceiling
            && !self.ceilings.iter().any(|ceiling| ceiling.bound == bound)
        {
            self.ceilings.push(Ceiling::new(bound));
            self.mark();
        }
    }

    /// Ratios that are certified at this threshold, largest first.
    pub fn certified(&self, threshold: f64) -> Vec<Tolerance> {
        self.ratios.iter().filter(|c| c.highest >= threshold).map(|c| c.bound).collect()
    }

    /// Whether either certificate of `requirement` holds.
    pub fn hold(&self, requirement: Requirement, beta: f64) -> bool {
        self.ratio(requirement, beta).holds() || self.ceiling(requirement, beta).is_some_and(|c| c.holds())
    }

    /// The ratio certificate of `requirement`.
    pub fn ratio(&self, requirement: Requirement, beta: f64) -> Progress<Tolerance> {
        let bound = requirement.rho_max;
        let (log_e, highest) =
            self.ratios.iter().find(|c| c.bound == bound).map_or((0.0, 0.0), |c| (c.log_e(), c.highest));
        Progress { bound, log_e, highest, certified_at: requirement.threshold(beta) }
    }

    /// The absolute certificate of `requirement`, if it is in force.
    pub fn ceiling(&self, requirement: Requirement, beta: f64) -> Option<Progress<f64>> {
        let ceiling = self.ceilings.iter().find(|c| Some(c.bound) == requirement.p_ceiling)?;
        Some(Progress {
            bound: ceiling.bound,
            log_e: ceiling.test.log_e(self.n, self.errors),
            highest: ceiling.highest,
            certified_at: requirement.threshold(beta),
        })
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates::new()
    }
}

// === impl RatioCertificate ===

impl RatioCertificate {
    /// With those of `ratios` that lie below the bound, equally likely.
    pub fn new(bound: Tolerance, ratios: &[f64]) -> Self {
        let below: Vec<f64> = ratios.iter().copied().filter(|rho| *rho < bound.ratio()).collect();
        RatioCertificate {
            bound,
            sums: vec![0.0; below.len()],
            test: Ratio::new(bound.ratio(), below),
            highest: 0.0,
        }
    }

    /// Failures of a block or a batch of slots.
    pub fn add(&mut self, errors: Errors) {
        self.test.add(errors, &mut self.sums);
    }

    /// The evidence now.
    pub fn log_e(&self) -> f64 {
        lse(self.sums.iter().copied()) - log(self.sums.len() as f64)
    }
}

// === impl Ceiling ===

impl Ceiling {
    fn new(bound: f64) -> Self {
        Ceiling { bound, test: OneSample::below(bound), highest: 0.0 }
    }
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

    /// The evidence that a certificate needs: beta is halved where two certificates compete.
    pub fn threshold(&self, beta: f64) -> f64 {
        if self.p_ceiling.is_some() { log(2.0 / beta) } else { log(1.0 / beta) }
    }
}
