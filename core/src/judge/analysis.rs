//! Every parameter of judging, with its default, and the check that a set of them makes sense.
//!
//! The names and defaults are those of the world format, so that a recorded world carries exactly what the live
//! judge was built with. What the product sets differently from a world's defaults is in [`Analysis::live`].

use super::certificate::Tolerance;
use super::history::limit_alpha;
use super::scales::Scale;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use libm::log;
use serde::{Deserialize, Serialize};

/// For faults that need some minutes' sessions.
const TWO_MINUTES: Scale = Scale { length_ms: 120_000, every_ms: 120_000 };
/// For those that show at once, whenever they begin. A candidate that became slower by half was found after 11 s in the
/// mean; with windows of 10 s one after the other after 16 s, with one begun every 5 s no sooner.
const OVERLAPPING: Scale = Scale { length_ms: 21_000, every_ms: 7_000 };

/// Parameters of one judge. A field that is missing in JSON takes its default; unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Analysis {
    /// Chance of a false rollback per release.
    pub alpha: f64,
    /// Chance of a false certificate.
    pub beta: f64,
    /// What is judged.
    pub metrics: Vec<Metric>,
    /// Ratio of error rates that is still acceptable.
    pub rho0: f64,
    /// Error rate below which nothing is rolled back.
    pub error_floor: f64,
    /// Ceiling of the metric `slo`; it is judged without a control.
    pub slo_error_rate: Option<f64>,
    /// In mode `sessions`: latency and predictions, too, count a session once, by its first answer
    /// (`first_latency`, `first_predictions` of rows) and not by its requests.
    pub firsts: bool,
    /// In mode `sessions`: windows with a fresh memory of sessions, beside the whole release.
    pub scales: Vec<Scale>,
    /// Where a block's share comes from.
    pub split_mode: SplitMode,
    /// What one draw of chance is.
    pub mode: Mode,
    /// Fewest candidate requests that close a block at once.
    pub min_green: u64,
    /// Fewest stable requests that close a block at once.
    pub min_blue: u64,
    /// Age from which one request of each color closes a block, ms.
    pub merge_ms: u64,
    /// Age that closes a block whatever it holds, ms.
    pub max_block_ms: u64,
    /// How many restarts follow row 0.
    pub restarts: u32,
    /// Time between restarts, ms.
    pub restart_every_ms: u64,
    /// Weight of row 0.
    pub restart_v0: f64,
    /// Stable's latency histogram from before the release (bucket to count).
    pub latency_reference: Option<BTreeMap<i32, u64>>,
    /// Stable requests after which a missing reference is frozen.
    pub latency_min_reference: u64,
    /// Latency margin in buckets.
    pub latency_shift: u32,
    /// Latency margin in µs.
    pub latency_guard_us: u64,
    /// Latency of this long after the start does not count, ms.
    pub latency_warmup_ms: u64,
    /// Likewise, of this long after each raise of the share, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub raise_warmup_ms: u64,
    /// How much more load per endpoint than stable the candidate may carry while latencies are compared; `null`:
    /// they always are.
    pub load_tolerance: Option<f64>,
    /// Length after which the process of the whole release is followed by a new one with half of its alpha, ms;
    /// `null`: never.
    pub renew_ms: Option<u64>,
    /// Bins of the metric `predictions`.
    pub prediction_bins: u32,
    /// How predictions are compared.
    pub prediction_mode: PredictionMode,
    /// Distance above which predictions condemn.
    pub ks_reject: f64,
    /// Distance below which predictions are certified.
    pub ks_accept: f64,
    /// Whether the observed split is tested against the configured one.
    pub srm: bool,
    /// Chance of a false hold by that test.
    pub alpha_srm: f64,
    /// Evidence from which the verdict is at least `hold`.
    pub hold_at: f64,
    /// Evidence from which the negative control counts as noisy.
    pub noisy_at: f64,
    /// The ratio that the line's verdict `certified` asks for.
    pub rho_max: Tolerance,
    /// Share of the budget per metric, before it is renormalised over the active ones.
    pub weights: BTreeMap<String, f64>,
    /// Error rate that the absolute certificate of the line's verdict asks for; `null`: no such certificate.
    pub p_ceiling: Option<f64>,
    /// How proxies' words are combined; `null`: the plain product over strata.
    pub witness: Option<Witness>,
    /// Proxies whose word is never left out, with `witness`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<String>,
}

/// Something that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Failures, against stable.
    Errors,
    /// Failures, against a fixed ceiling.
    Slo,
    /// Time to answer.
    Latency,
    /// What the model says.
    Predictions,
    /// Events that somebody named, such as answers that blame the client.
    Custom,
    /// Failures after cutover, against stable's past.
    History,
}

/// The unit of chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A lottery per request: the request.
    PerError,
    /// Sticky sessions: the lottery slot, once per release, at its first error.
    Sessions,
    /// Sticky sessions with unknown slots, or failures that come in clumps: a second's share of errors.
    Robust,
}

/// Where a block's share comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitMode {
    /// From the block's own requests.
    Realised,
    /// From the plan; only valid for a lottery per request.
    Configured,
}

/// How predictions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictionMode {
    /// A new model should differ; only a large distance condemns.
    Effect,
    /// The same model: any shift is a fault.
    Equality,
}

/// How proxies' words are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// No single proxy decides.
    LeaveOneOut,
}

/// Why a set of parameters cannot be judged with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AnalysisError {
    /// A parameter is outside the values for which the tests are valid.
    OutOfRange {
        /// Name of the parameter.
        field: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// `slo` is judged but has no ceiling.
    SloWithoutRate,
    /// An active metric has no weight.
    NoWeight(Metric),
}

// === impl Analysis ===

impl Default for Analysis {
    fn default() -> Self {
        let weight = |name: &str, weight| (String::from(name), weight);
        Analysis {
            alpha: 0.01,
            beta: 0.05,
            metrics: vec![Metric::Errors, Metric::Latency],
            rho0: 1.25,
            error_floor: 0.001,
            slo_error_rate: None,
            firsts: false,
            scales: Vec::new(),
            split_mode: SplitMode::Realised,
            mode: Mode::PerError,
            min_green: 1,
            min_blue: 9,
            merge_ms: 1_000,
            max_block_ms: 60_000,
            restarts: 60,
            restart_every_ms: 10_000,
            restart_v0: 0.5,
            latency_reference: None,
            latency_min_reference: 2_000,
            latency_shift: 2,
            latency_guard_us: 2_000,
            latency_warmup_ms: 0,
            raise_warmup_ms: 0,
            load_tolerance: None,
            renew_ms: None,
            prediction_bins: 20,
            prediction_mode: PredictionMode::Effect,
            ks_reject: 0.15,
            ks_accept: 0.10,
            srm: true,
            alpha_srm: 0.001,
            hold_at: 10.0,
            noisy_at: 10.0,
            rho_max: Tolerance::Two,
            weights: BTreeMap::from([
                weight("errors", 0.40),
                weight("slo", 0.10),
                weight("latency", 0.30),
                weight("predictions", 0.10),
                weight("custom", 0.10),
                weight("history", 0.10),
            ]),
            p_ceiling: None,
            witness: None,
            trusted: Vec::new(),
        }
    }
}

impl Analysis {
    /// What the product judges a live release with: errors, latency and, after cutover, history; sessions as the unit of
    /// both, in the whole release, in windows of two minutes and in overlapping ones of 21 s; a restart every 10 s over
    /// 24 hours (after the last restart a process goes blind); latency may be four buckets (19 %) slower; no test of the split
    /// (under sticky routing requests are not draws); no single proxy decides.
    pub fn live() -> Self {
        Analysis {
            mode: Mode::Sessions,
            firsts: true,
            scales: vec![TWO_MINUTES, OVERLAPPING],
            restarts: 8_640,
            // Most bad candidates are bad from their first request on.
            restart_v0: 0.75,
            metrics: vec![Metric::Errors, Metric::Latency, Metric::History],
            latency_shift: 4,
            // What passes until then is not judged. Larger ones that follow find a fault later where there are many Envoys:
            // what waits in open blocks then is part of the reference and cannot be scored.
            latency_min_reference: 100,
            load_tolerance: Some(0.25),
            renew_ms: Some(86_400_000),
            srm: false,
            witness: Some(Witness::LeaveOneOut),
            ..Analysis::default()
        }
    }

    /// What the product judges with where each request draws its own color (no session key): the request is the unit. Where
    /// failures are known to come in clumps ([`super::dispersion::choose`]) `mode` is [`Mode::Robust`].
    pub fn live_per_request() -> Self {
        Analysis {
            mode: Mode::PerError,
            firsts: false,
            scales: Vec::new(),
            // The negative control starts as the tests do, and what it once calls noisy is held for good: with three
            // quarters 3 % of healthy releases were, with half 2 %.
            restart_v0: 0.5,
            latency_min_reference: 2_000,
            // Each request is a draw here, so the split can be tested.
            srm: true,
            ..Analysis::live()
        }
    }

    /// A metric's weight before it is renormalised; 0 if it has none.
    pub fn weight(&self, metric: Metric) -> f64 {
        self.weights.get(metric.as_str()).copied().unwrap_or(0.0)
    }

    /// The evidence that condemns. With history a part of alpha is what its limit itself may be wrong by, from the
    /// release's start on.
    pub fn rollback_at(&self) -> f64 {
        log(1.0 / self.budget())
    }

    /// What of alpha the tests may spend.
    pub fn budget(&self) -> f64 {
        let limits = if self.metrics.contains(&Metric::History) { limit_alpha(self.alpha) } else { 0.0 };
        self.alpha - limits
    }

    /// A metric's part of the budget; 0 if it is not judged.
    pub fn part(&self, metric: Metric) -> f64 {
        let active = |metric: &Metric| self.metrics.contains(metric);
        let total: f64 = Metric::ALL.into_iter().filter(active).map(|metric| self.weight(metric)).sum();
        if active(&metric) && total > 0.0 { self.weight(metric) / total } else { 0.0 }
    }

    /// Refuses values for which the tests would not be what they claim.
    pub fn check(&self) -> Result<(), AnalysisError> {
        let between = |x: f64, low: f64, high: f64| x > low && x < high;
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let rule = |ok: bool, field, wanted| {
            if ok { Ok(()) } else { Err(AnalysisError::OutOfRange { field, wanted }) }
        };
        rule(between(self.alpha, 0.0, 1.0), "alpha", "between 0 and 1")?;
        rule(self.load_tolerance.is_none_or(positive), "load_tolerance", "above 0")?;
        rule(self.renew_ms.is_none_or(|ms| ms >= 1_000), "renew_ms", "at least 1000")?;
        rule(between(self.beta, 0.0, 1.0), "beta", "between 0 and 1")?;
        rule(between(self.alpha_srm, 0.0, 1.0), "alpha_srm", "between 0 and 1")?;
        rule(positive(self.rho0), "rho0", "above 0")?;
        rule(self.error_floor > 0.0 && self.error_floor <= 0.5, "error_floor", "above 0 and at most 0.5")?;
        rule(
            self.slo_error_rate.is_none_or(|p| p > 0.0 && p <= 0.5),
            "slo_error_rate",
            "above 0 and at most 0.5",
        )?;
        rule(self.p_ceiling.is_none_or(|p| between(p, 0.0, 1.0)), "p_ceiling", "between 0 and 1")?;
        rule(self.restarts <= 1_000_000, "restarts", "at most 1000000")?;
        rule(self.restart_every_ms > 0, "restart_every_ms", "above 0")?;
        rule((0.0..=1.0).contains(&self.restart_v0), "restart_v0", "0 to 1")?;
        rule(
            self.scales.len() <= 8 && self.scales.iter().all(Scale::is_usable),
            "scales",
            "at most 8, each of a length_ms of at least 1000, one begun every_ms of an eighth of that to all of it",
        )?;
        rule(positive(self.hold_at), "hold_at", "above 0")?;
        rule(positive(self.noisy_at), "noisy_at", "above 0")?;
        rule((1..=4_096).contains(&self.prediction_bins), "prediction_bins", "1 to 4096")?;
        rule(self.latency_shift <= 255, "latency_shift", "at most 255")?;
        rule(self.weights.values().all(|w| *w >= 0.0 && w.is_finite()), "weights", "0 or more each")?;
        if self.metrics.contains(&Metric::Slo) && self.slo_error_rate.is_none() {
            return Err(AnalysisError::SloWithoutRate);
        }
        for metric in &self.metrics {
            if self.weight(*metric) <= 0.0 {
                return Err(AnalysisError::NoWeight(*metric));
            }
        }
        Ok(())
    }
}

fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

// === impl Metric ===

impl Metric {
    /// All metrics, in the order in which they are combined and listed.
    pub const ALL: [Metric; 6] =
        [Metric::Errors, Metric::Slo, Metric::Latency, Metric::Predictions, Metric::Custom, Metric::History];

    /// Its name in `metrics` and `weights`.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Errors => "errors",
            Metric::Slo => "slo",
            Metric::Latency => "latency",
            Metric::Predictions => "predictions",
            Metric::Custom => "custom",
            Metric::History => "history",
        }
    }
}

// === impl AnalysisError ===

impl fmt::Display for AnalysisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnalysisError::OutOfRange { field, wanted } => write!(f, "analysis.{field} must be {wanted}"),
            AnalysisError::SloWithoutRate => {
                f.write_str("analysis.metrics names `slo`, so analysis.slo_error_rate must give its ceiling")
            }
            AnalysisError::NoWeight(metric) => {
                write!(f, "analysis.weights gives `{}` no weight above 0, but it is judged", metric.as_str())
            }
        }
    }
}

impl core::error::Error for AnalysisError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::TOLD_MS;

    #[test]
    fn a_session_that_comes_often_is_told_of_in_each_window() {
        let shortest = Analysis::live().scales.iter().map(|scale| scale.length_ms).min().unwrap();
        // What was told just before a window began is told again within the first half of it.
        assert!(shortest >= 2 * TOLD_MS, "{shortest}");
    }
}
