//! The four verdicts and the order in which they are decided.

use core::fmt;
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
