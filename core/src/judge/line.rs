//! What the judge says after a tick; serialized, it is exactly one output line of `simulate`.

use super::analysis::{Analysis, Metric};
use super::certificate::Tolerance;
use super::math::lse;
use super::verdict::Verdict;
use alloc::vec::Vec;
use libm::log;
use serde::{Deserialize, Serialize};

/// The judge's word after a tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Time since the start of the analysis, ms.
    pub t_ms: u64,
    /// The verdict, with `certified` as `rho_max` and `p_ceiling` of the analysis ask for it.
    pub verdict: Verdict,
    /// Combined evidence against the candidate (natural log).
    pub log_e: f64,
    /// Evidence per metric.
    pub metrics: MetricLogs,
    /// Evidence that the split is broken; 0 if it is not tested.
    pub log_srm: f64,
    /// Whether the negative control ever condemned itself.
    pub noisy: bool,
    /// Ratios for which the candidate is certified, largest first.
    pub certified: Vec<Tolerance>,
    /// Rows so far, by what became of them.
    pub rows: RowCounts,
    /// Accepted counts so far.
    pub counted: Counted,
}

/// Evidence per active metric; an inactive one is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricLogs {
    /// Errors against stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// Errors against the ceiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<f64>,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictions: Option<f64>,
    /// Events against stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<f64>,
    /// Errors after cutover against stable's past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<f64>,
}

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Taken.
    pub accepted: u64,
    /// Repeated or late.
    pub ignored: u64,
    /// Against the rules; nothing of it was used.
    pub malformed: u64,
}

/// Accepted counts per role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Stable's completed requests.
    pub blue_requests: u64,
    /// Stable's failures.
    pub blue_errors: u64,
    /// The candidate's completed requests.
    pub green_requests: u64,
    /// The candidate's failures.
    pub green_errors: u64,
}

// === impl Counted ===

impl Counted {
    /// Both together.
    #[must_use]
    pub(super) fn and(self, other: Counted) -> Counted {
        Counted {
            blue_requests: self.blue_requests.saturating_add(other.blue_requests),
            blue_errors: self.blue_errors.saturating_add(other.blue_errors),
            green_requests: self.green_requests.saturating_add(other.green_requests),
            green_errors: self.green_errors.saturating_add(other.green_errors),
        }
    }
}

// === impl MetricLogs ===

impl MetricLogs {
    /// The weighted average of the evidence; weights are parts of all active metrics, also of one that decides by
    /// itself and is not in the sum. Of nothing: 0.
    pub fn combine(&self, analysis: &Analysis) -> f64 {
        let judged = || Metric::ALL.into_iter().filter_map(|m| Some((analysis.part(m), self.get(m)?)));
        if judged().next().is_none() {
            return 0.0;
        }
        lse(judged().collect::<Vec<_>>().into_iter().map(|(part, log_e)| log(part) + log_e))
    }

    /// Per metric the larger of this and of `other`, of which `ln_part` comes off.
    pub(super) fn raise_to(&mut self, other: &MetricLogs, ln_part: f64) {
        for metric in Metric::ALL {
            if let Some(log_e) = other.get(metric) {
                self.set(metric, self.get(metric).unwrap_or(f64::NEG_INFINITY).max(log_e + ln_part));
            }
        }
    }

    /// Sets the evidence of a metric.
    pub(super) fn set(&mut self, metric: Metric, log_e: f64) {
        match metric {
            Metric::Errors => self.errors = Some(log_e),
            Metric::Slo => self.slo = Some(log_e),
            Metric::Latency => self.latency = Some(log_e),
            Metric::Predictions => self.predictions = Some(log_e),
            Metric::Custom => self.custom = Some(log_e),
            Metric::History => self.history = Some(log_e),
        }
    }

    /// The evidence of a metric.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Errors => self.errors,
            Metric::Slo => self.slo,
            Metric::Latency => self.latency,
            Metric::Predictions => self.predictions,
            Metric::Custom => self.custom,
            Metric::History => self.history,
        }
    }
}
