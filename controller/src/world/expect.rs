//! What a world says should come of it, and whether it did.

use hueshift_core::judge::line::{Counted, MetricLogs, RowCounts};
use hueshift_core::judge::{Line, Verdict};
use serde::Deserialize;
use std::fmt;

/// The field `expect` of a world.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// What should come of it; absent: nothing is said.
    pub verdict: Option<Expected>,
    /// For rollback: no earlier.
    pub not_before_ms: u64,
    /// No later.
    pub by_ms: Option<u64>,
    /// `[t_ms, log_e]` of the reference.
    pub trace: Vec<(u64, f64)>,
    /// The reference's last line.
    #[serde(rename = "final")]
    pub last: Option<Last>,
}

/// What should come of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Rolled back in time, and for good.
    Rollback,
    /// No rollback; anything else is fine.
    Never,
    /// Hold at some time, never rolled back.
    Hold,
    /// Certified at some time, never rolled back.
    Certified,
    /// Every line says continue.
    Continue,
}

/// The reference's last line.
#[derive(Debug, Clone, Deserialize)]
pub struct Last {
    /// Evidence per metric.
    pub metrics: MetricLogs,
    /// Evidence that the split is broken.
    pub log_srm: f64,
    /// Rows by what became of them.
    pub rows: RowCounts,
    /// Accepted counts.
    pub counted: Counted,
}

/// What was seen of a judge's lines.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// How many lines.
    pub lines: u64,
    /// First tick with that verdict.
    pub rollback_ms: Option<u64>,
    /// First tick with that verdict.
    pub hold_ms: Option<u64>,
    /// First tick with that verdict.
    pub certified_ms: Option<u64>,
    /// Whether a rollback was ever taken back.
    pub unlatched: bool,
    /// The last line.
    pub last: Option<Line>,
}

// === impl Watched ===

impl Watched {
    /// Takes the next line.
    pub fn see(&mut self, line: Line) {
        self.lines += 1;
        let first = match line.verdict {
            Verdict::Rollback => Some(&mut self.rollback_ms),
            Verdict::Hold => Some(&mut self.hold_ms),
            Verdict::Certified => Some(&mut self.certified_ms),
            Verdict::Continue => None,
        };
        if let Some(first) = first {
            first.get_or_insert(line.t_ms);
        }
        self.unlatched |= self.rollback_ms.is_some() && line.verdict != Verdict::Rollback;
        self.last = Some(line);
    }

    /// Whether the verdict is the one that was expected, in time; `None`: nothing was.
    pub fn meets(&self, expect: &Expect) -> Option<bool> {
        let in_time = |at: Option<u64>| at.is_some_and(|at| expect.by_ms.is_none_or(|by| at <= by));
        let never = self.rollback_ms.is_none();
        Some(match expect.verdict? {
            Expected::Rollback => {
                let early = self.rollback_ms.is_some_and(|at| at < expect.not_before_ms);
                in_time(self.rollback_ms) && !early && !self.unlatched
            }
            Expected::Never => never,
            Expected::Hold => never && in_time(self.hold_ms),
            Expected::Certified => never && in_time(self.certified_ms),
            Expected::Continue => never && self.hold_ms.is_none() && self.certified_ms.is_none(),
        })
    }
}

// === impl Expected ===

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Rollback => "a rollback",
            Expected::Never => "no rollback",
            Expected::Hold => "a hold and no rollback",
            Expected::Certified => "a certificate and no rollback",
            Expected::Continue => "nothing but continue",
        })
    }
}
