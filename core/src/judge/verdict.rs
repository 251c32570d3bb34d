//! The four verdicts and the order in which they are decided.

use super::math::lse;
use core::fmt;
use libm::log;
use serde::{Deserialize, Serialize};

/// What the evidence allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing speaks against the candidate, nothing yet certifies it.
    Continue,
    /// Suspicion: keep the weights, do not promote.
    Hold,
    /// Good enough for the tolerance that was asked for.
    Certified,
    /// Condemned; latched.
    Rollback,
}

/// The weighted average of pieces of evidence (weight, log E), weights renormalised. It is right under any
/// dependence between them; their product would not be. Of nothing: 0.
pub fn average(evidence: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let total: f64 = evidence.clone().map(|(weight, _)| weight).sum();
    if total > 0.0 { lse(evidence.map(|(weight, log_e)| log(weight / total) + log_e)) } else { 0.0 }
}

/// What evidence alone says: rollback from 1/alpha on, hold from `hold_at` on.
pub fn zone(log_e: f64, alpha: f64, hold_at: f64) -> Verdict {
    if log_e >= log(1.0 / alpha) {
        Verdict::Rollback
    } else if log_e >= log(hold_at) {
        Verdict::Hold
    } else {
        Verdict::Continue
    }
}

/// What a verdict is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs {
    /// Condemned now or ever before.
    pub condemned: bool,
    /// Evidence in the zone of suspicion, a broken split or a noisy control.
    pub suspicious: bool,
    /// A certificate that is asked for holds.
    pub certified: bool,
}

// === impl Verdict ===

impl Verdict {
    /// First match wins: a certificate never outranks suspicion, nothing outranks a condemnation.
    pub(super) fn decide(signs: Signs) -> Verdict {
        match signs {
            Signs { condemned: true, .. } => Verdict::Rollback,
            Signs { suspicious: true, .. } => Verdict::Hold,
            Signs { certified: true, .. } => Verdict::Certified,
            _ => Verdict::Continue,
        }
    }

    /// Its name in output and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Continue => "continue",
            Verdict::Hold => "hold",
            Verdict::Certified => "certified",
            Verdict::Rollback => "rollback",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
