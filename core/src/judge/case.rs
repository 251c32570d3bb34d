//! A case: the evidence against the candidate from one set of witnesses, one process per metric.
//!
//! The plain judge has one case that hears everybody. A rule that leaves witnesses out keeps a case for each set and
//! combines what they say; to each other slots are new ([`super::ledger`]), so that a liar cannot use up the others'.

use super::analysis::{Analysis, Metric, Mode, PredictionMode};
use super::errors::ErrorsMetric;
use super::ledger::Without;
use super::line::MetricLogs;
use super::one_sample::{self, OneSample};
use super::predictions::{Band, Distance, Past, STRENGTH};
use super::restarts::{Restarts, Schedule};
use super::testimony::Heard;
use alloc::vec;
use alloc::vec::Vec;
use libm::exp;
use serde::{Deserialize, Serialize};

/// The evidence from one set of witnesses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    schedule: Schedule,
    errors: Option<ErrorsMetric>,
    slo: Option<OneRate>,
    /// Events, by the form of the errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custom: Option<ErrorsMetric>,
    /// Begins when there is a reference.
    latency: Option<Restarts>,
    equality: Option<Restarts>,
    band: Option<Band>,
    /// Sessions' predictions of earlier blocks.
    past: Past,
    /// Since cutover.
    history: Option<OneRate>,
    judges_history: bool,
}

/// What is the same for all who hear a tick.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The tick, ms since the start of the analysis.
    pub t_ms: u64,
    /// When the case began, ms; its restarts count from there.
    pub since_ms: u64,
    /// The parameters.
    pub analysis: &'a Analysis,
}

/// The candidate's error rate against a fixed number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OneRate {
    test: OneSample,
    restarts: Restarts,
}

// === impl Case ===

impl Case {
    /// A case at time 0.
    pub fn new(analysis: &Analysis, schedule: Schedule) -> Self {
        let active = |metric| analysis.metrics.contains(&metric);
        let predictions = |mode| active(Metric::Predictions) && analysis.prediction_mode == mode;
        Case {
            schedule,
            errors: active(Metric::Errors).then(|| ErrorsMetric::new(analysis, analysis.mode, schedule)),
            custom: active(Metric::Custom)
                .then(|| ErrorsMetric::new(analysis, events_unit(analysis), schedule)),
            slo: analysis.slo_error_rate.filter(|_| active(Metric::Slo)).map(|p0| OneRate::new(p0, schedule)),
            latency: None,
            equality: predictions(PredictionMode::Equality).then(|| Restarts::equal(schedule, 1)),
            band: predictions(PredictionMode::Effect).then(Band::default),
            past: Past::default(),
            history: None,
            judges_history: active(Metric::History),
        }
    }

    /// From now on latency counts, with this prior of its alternatives.
    pub fn begin_latency(&mut self, prior: &[f64]) {
        if self.latency.is_none() {
            self.latency = Some(Restarts::new(self.schedule, prior));
        }
    }

    /// A case that has heard the same, but remembers no evidence from it: what its processes start from now on counts.
    pub(super) fn begun_again(&self) -> Self {
        let mut case = self.clone();
        let rates = [&mut case.slo, &mut case.history].into_iter().flatten().map(|rate| &mut rate.restarts);
        let errors =
            [&mut case.errors, &mut case.custom].into_iter().flatten().flat_map(ErrorsMetric::processes);
        let processes = errors.chain(rates).chain(&mut case.latency).chain(&mut case.equality);
        processes.for_each(Restarts::forget_started);
        case
    }

    /// From now on the candidate's errors are also held against this rate, of stable's past.
    pub fn begin_history(&mut self, limit: f64) {
        if self.judges_history && self.history.is_none() {
            self.history = Some(OneRate::new(limit, self.schedule));
        }
    }

    /// Hears a tick, but for the seats that it never hears.
    pub fn hear(&mut self, scene: Scene<'_>, heard: &Heard<'_>, without: Without) {
        let t_ms = scene.t_ms.saturating_sub(scene.since_ms);
        let (requests, errors) = heard.requests(without);
        let fresh = self.hear_errors(t_ms, heard, without, (requests, errors));
        // A failing session counts once: fewer failures only lower these scores. (World files have it by requests.)
        let failing = fresh.unwrap_or(errors).min(errors);
        if let Some(slo) = &mut self.slo {
            slo.add(t_ms, requests, if scene.analysis.firsts { failing } else { errors });
        }
        self.hear_events(t_ms, heard, without, requests);
        if let Some(history) = &mut self.history {
            history.add(t_ms, requests, failing);
        }
        if let Some(latency) = &mut self.latency {
            let counts_firsts = scene.analysis.firsts && scene.analysis.mode == Mode::Sessions;
            let sums = if counts_firsts {
                sum(latency.len(), heard.latency(without))
            } else {
                sum(latency.len(), heard.closed(without).map(|(_, closed)| closed.latency.as_slice()))
            };
            if let Some(sums) = sums {
                latency.add(t_ms, &sums);
            }
        }
        self.hear_predictions(t_ms, scene, heard, without);
    }

    /// Gives the candidate's failing sessions that are new, where sessions are the unit.
    fn hear_errors(
        &mut self,
        t_ms: u64,
        heard: &Heard<'_>,
        without: Without,
        requests: (u64, u64),
    ) -> Option<u64> {
        let metric = self.errors.as_mut()?;
        metric.add_requests(t_ms, requests.0, requests.1);
        let mut fresh = None;
        if metric.counts_slots() {
            let mut candidate = 0u64;
            let count =
                |errors: &super::ratio::Errors| candidate = candidate.saturating_add(errors.candidate);
            metric.add_errors(t_ms, heard.errors(without).inspect(count));
            fresh = Some(candidate);
        } else {
            metric.add_increments(t_ms, heard.closed(without).map(|(_, closed)| &closed.ratio));
        }
        let mut seconds = heard.seconds(without).peekable();
        if seconds.peek().is_some() {
            metric.add_second(t_ms, seconds);
        }
        fresh
    }

    fn hear_events(&mut self, t_ms: u64, heard: &Heard<'_>, without: Without, requests: u64) {
        let Some(metric) = &mut self.custom else { return };
        metric.add_requests(t_ms, requests, heard.events(without));
        if metric.counts_slots() {
            metric.add_errors(t_ms, heard.event_batches(without));
        }
        let mut seconds = heard.second_events(without).peekable();
        if seconds.peek().is_some() {
            metric.add_second(t_ms, seconds);
        }
    }

    fn hear_predictions(&mut self, t_ms: u64, scene: Scene<'_>, heard: &Heard<'_>, without: Without) {
        if let Some(equality) = &mut self.equality {
            let mut increment: f64 = heard.closed(without).map(|(_, closed)| closed.predictions).sum();
            let observed = || heard.predictions(without).map(|(_, observed)| observed);
            if observed().next().is_some() {
                let weights = self.past.weights(scene.analysis.prediction_bins, STRENGTH);
                increment += observed().map(|observed| weights.increment(observed)).sum::<f64>();
                observed().for_each(|observed| self.past.learn(observed));
            }
            equality.add(t_ms, &[increment]);
        }
        if let Some(band) = &mut self.band {
            let blocks = heard.closed(without).map(|(epoch, closed)| (epoch, closed.predicted()));
            blocks.chain(heard.predictions(without)).for_each(|(epoch, observed)| band.add(epoch, observed));
        }
    }

    /// The evidence per metric; with a noisy control requests are no longer believed to be single draws. Predictions
    /// that may differ are not in it: they condemn by themselves ([`Case::predictions_condemn`]).
    pub fn metrics(&self, analysis: &Analysis, noisy: bool) -> MetricLogs {
        MetricLogs {
            errors: self.errors.as_ref().map(|errors| errors.log_e(noisy)),
            slo: self.slo.as_ref().map(|slo| slo.restarts.log_e()),
            latency: analysis
                .metrics
                .contains(&Metric::Latency)
                .then(|| self.latency.as_ref().map_or(0.0, Restarts::log_e)),
            predictions: self.equality.as_ref().map(Restarts::log_e),
            custom: self.custom.as_ref().map(|custom| custom.log_e(noisy)),
            history: self
                .judges_history
                .then(|| self.history.as_ref().map_or(0.0, |history| history.restarts.log_e())),
        }
    }

    /// Whether predictions are surely too far from stable's (latched). They spend their own part of what a window has
    /// of alpha, `ln_part`.
    pub fn predictions_condemn(&mut self, analysis: &Analysis, ln_part: f64) -> bool {
        let alpha = band_alpha(analysis, ln_part);
        self.band.as_mut().is_some_and(|band| band.fired(alpha, analysis.ks_reject))
    }

    /// What [`Case::predictions_condemn`] last said.
    pub fn is_too_far(&self) -> bool {
        self.band.as_ref().is_some_and(Band::has_fired)
    }

    /// How far predictions are from stable's: in the lottery that condemned, else in the newest one.
    pub fn distance(&self, analysis: &Analysis, ln_part: f64) -> Option<Distance> {
        self.band.as_ref()?.shown(band_alpha(analysis, ln_part), analysis.ks_reject)
    }
}

/// The unit of chance of events. Whether they come in clumps nobody knows before: what is chosen follows from failures. So
/// where requests draw, a second is one draw of them.
fn events_unit(analysis: &Analysis) -> Mode {
    match analysis.mode {
        Mode::Sessions => Mode::Sessions,
        Mode::PerError | Mode::Robust => Mode::Robust,
    }
}

fn band_alpha(analysis: &Analysis, ln_part: f64) -> f64 {
    analysis.budget() * analysis.part(Metric::Predictions) * exp(ln_part)
}

/// Sums of increments, alternative by alternative; `None` of none.
fn sum<'a>(alternatives: usize, mut increments: impl Iterator<Item = &'a [f64]>) -> Option<Vec<f64>> {
    let mut sums = vec![0.0; alternatives];
    let first = increments.next()?;
    for increments in core::iter::once(first).chain(increments) {
        sums.iter_mut().zip(increments).for_each(|(sum, more)| *sum += more);
    }
    Some(sums)
}

// === impl OneRate ===

impl OneRate {
    fn new(p0: f64, schedule: Schedule) -> Self {
        OneRate { test: OneSample::above(p0), restarts: Restarts::equal(schedule, one_sample::ALTERNATIVES) }
    }

    fn add(&mut self, t_ms: u64, n: u64, errors: u64) {
        if n > 0 {
            let mut sums = [0.0; one_sample::ALTERNATIVES];
            self.test.add(n, errors, &mut sums);
            self.restarts.add(t_ms, &sums);
        }
    }
}
