//! The judge's state in numbers for people: views and `explain` show them, no verdict reads them.

use super::certificate::Tolerance;
use super::line::{Counted, MetricLogs};
use super::math::rate_interval;
use super::predictions::Distance;
use super::verdict::Verdict;
use super::witness::Protection;
use serde::{Deserialize, Serialize};

/// How far the evidence is, towards rollback and towards promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Time of the last tick, ms since the start of the analysis.
    pub t_ms: u64,
    /// The verdict for the current step.
    pub verdict: Verdict,
    /// Combined evidence against the candidate (natural log).
    pub log_e: f64,
    /// Evidence per metric.
    pub metrics: MetricLogs,
    /// `log_e` at which the candidate is rolled back.
    pub rollback_at: f64,
    /// `log_e` from which the verdict is at least hold.
    pub hold_at: f64,
    /// Completed requests and failures per role.
    pub counted: Counted,
    /// Failures per request with their time-uniform interval; absent without a request.
    pub stable_rate: Option<Interval>,
    /// Likewise, the candidate's.
    pub candidate_rate: Option<Interval>,
    /// Candidate sessions (slots) seen and in error, where sessions are the unit.
    pub candidate_slots: Slots,
    /// The ratio certificate of the current step.
    pub ratio: Progress<Tolerance>,
    /// The absolute certificate of the current step, if it is in force.
    pub ceiling: Option<Progress<f64>>,
    /// Whether the negative control is noisy.
    pub noisy: bool,
    /// Evidence that the split is broken.
    pub log_srm: f64,
    /// After cutover: the candidate looks bad beside stable's past, but the holdback looks as bad now. Hold and alert.
    #[serde(default)]
    pub shared_incident: bool,
    /// The candidate is slower than stable was at the same load; holds, never condemns.
    #[serde(default)]
    pub slow_at_load: bool,
    /// Whether the loads of the colors allow latencies to be compared now.
    #[serde(default)]
    pub comparable: bool,
    /// Predictions that may differ, once both colors made some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Predictions>,
    /// Completed requests with an event, where they are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// How much one proxy's word can be left out; absent where that is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
}

/// Completed requests with an event of the metric `custom`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Of stable.
    pub stable: u64,
    /// Of the candidate.
    pub candidate: u64,
}

/// How far the candidate's predictions are from stable's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// The largest difference of the two distributions (Kolmogorov and Smirnov).
    pub distance: Distance,
    /// The distance that is allowed.
    pub allowed: f64,
    /// Whether it is surely larger than that.
    pub too_far: bool,
}

/// A rate and the interval that holds it at all times with probability 1 - alpha.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// What was observed.
    pub rate: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// Distinct slots of one role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// With a completed request.
    pub done: u32,
    /// With an error.
    pub errors: u32,
}

/// A certificate on its way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress<T> {
    /// What it would certify.
    pub bound: T,
    /// Its evidence now (natural log).
    pub log_e: f64,
    /// The highest so far; the certificate holds once this reaches `certified_at`.
    pub highest: f64,
    /// The evidence that it needs.
    pub certified_at: f64,
}

// === impl Interval ===

impl Interval {
    /// The rate of `errors` in `n`; `None` without a request.
    pub(super) fn of(errors: u64, n: u64, alpha: f64) -> Option<Interval> {
        if n == 0 {
            return None;
        }
        let (lower, upper) = rate_interval(errors, n, alpha, (0.5, 0.5));
        Some(Interval { rate: errors as f64 / n as f64, lower, upper })
    }
}

// === impl Progress ===

impl<T> Progress<T> {
    /// Whether it holds (for good, once reached).
    pub fn holds(&self) -> bool {
        self.highest >= self.certified_at
    }
}
