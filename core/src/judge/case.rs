//! A case: the evidence against the candidate from one set of witnesses, one process per metric.
//!
//! The plain judge has one case that hears everybody. A rule that leaves witnesses out keeps a case for each set and
//! combines what they say; each keeps its own set of seen slots, so that a liar cannot use up the others' slots.

use super::analysis::{Analysis, Metric, Mode, PredictionMode};
use super::block::Stratum;
use super::errors::ErrorsMetric;
use super::firsts::Firsts;
use super::latency::weights::Weights;
use super::line::MetricLogs;
use super::one_sample::{self, OneSample};
use super::predictions::{Band, Distance, Past, STRENGTH};
use super::restarts::{Restarts, Schedule};
use super::slots::{SlotSet, errors_of};
use super::testimony::Testimony;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The evidence from one set of witnesses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    schedule: Schedule,
    errors: Option<ErrorsMetric>,
    slo: Option<OneRate>,
    /// Begins when there is a reference.
    latency: Option<Restarts>,
    equality: Option<Restarts>,
    band: Option<Band>,
    /// Slots with an error, on either color.
    seen: SlotSet,
    /// Where sessions are the observations.
    firsts: Option<Observed>,
    /// Since cutover.
    history: Option<OneRate>,
    judges_history: bool,
}

/// Sessions as observations, per metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Observed {
    latency: Firsts,
    predictions: Firsts,
    past: Past,
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
    /// Weights of latency, once there is a reference.
    pub weights: Option<&'a Weights>,
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
            errors: active(Metric::Errors).then(|| ErrorsMetric::new(analysis, schedule)),
            slo: analysis.slo_error_rate.filter(|_| active(Metric::Slo)).map(|p0| OneRate::new(p0, schedule)),
            latency: None,
            equality: predictions(PredictionMode::Equality).then(|| Restarts::equal(schedule, 1)),
            band: predictions(PredictionMode::Effect).then(Band::default),
            seen: SlotSet::default(),
            history: None,
            judges_history: active(Metric::History),
            firsts: (analysis.firsts && analysis.mode == Mode::Sessions).then(Observed::default),
        }
    }

    /// From now on latency counts, with this prior of its alternatives; what waits in open blocks may be part of the
    /// reference and is dropped.
    pub fn begin_latency(&mut self, prior: &[f64]) {
        if self.latency.is_none() {
            self.latency = Some(Restarts::new(self.schedule, prior));
            if let Some(firsts) = &mut self.firsts {
                firsts.latency.drop_open();
            }
        }
    }

    /// A case that has heard the same, but remembers no evidence from it: what its processes start from now on counts.
    pub(super) fn begun_again(&self) -> Self {
        let mut case = self.clone();
        let rates = [&mut case.slo, &mut case.history].into_iter().flatten().map(|rate| &mut rate.restarts);
        let errors = case.errors.as_mut().map(ErrorsMetric::processes);
        let processes =
            errors.into_iter().flatten().chain(rates).chain(&mut case.latency).chain(&mut case.equality);
        processes.for_each(Restarts::forget_started);
        case
    }

    /// From now on the candidate's errors are also held against this rate, of stable's past.
    pub fn begin_history(&mut self, limit: f64) {
        if self.judges_history && self.history.is_none() {
            self.history = Some(OneRate::new(limit, self.schedule));
        }
    }

    /// Hears the strata of a tick, in their order.
    pub fn hear<'a>(
        &mut self,
        scene: &Scene<'_>,
        strata: impl Iterator<Item = (&'a Stratum, &'a Testimony)> + Clone,
    ) {
        let t_ms = scene.t_ms.saturating_sub(scene.since_ms);
        let (mut requests, mut errors) = (0u64, 0u64);
        for (_, said) in strata.clone() {
            requests = requests.saturating_add(said.requests);
            errors = errors.saturating_add(said.errors);
        }
        if let Some(slo) = &mut self.slo {
            slo.add(t_ms, requests, errors);
        }
        if let Some(metric) = &mut self.errors {
            metric.add_requests(t_ms, requests, errors);
        }
        let fresh = self.hear_slots(t_ms, strata.clone());
        if let Some(history) = &mut self.history {
            // A failing session counts once: fewer failures only lower this score.
            history.add(t_ms, requests, fresh.unwrap_or(errors).min(errors));
        }
        self.hear_blocks(t_ms, strata.clone());
        self.hear_firsts(t_ms, scene, strata.clone());
        let mut second = strata.filter_map(|(_, said)| said.second).peekable();
        if second.peek().is_some()
            && let Some(metric) = &mut self.errors
        {
            metric.add_second(t_ms, second);
        }
    }

    /// Whether time alone will close a block at `t_ms`.
    pub fn any_closes(&self, t_ms: u64, analysis: &Analysis) -> bool {
        self.firsts.as_ref().is_some_and(|firsts| {
            firsts.latency.any_closes(t_ms, analysis) || firsts.predictions.any_closes(t_ms, analysis)
        })
    }

    /// Sessions' first answers, in blocks of their own.
    fn hear_firsts<'a>(
        &mut self,
        t_ms: u64,
        scene: &Scene<'_>,
        strata: impl Iterator<Item = (&'a Stratum, &'a Testimony)>,
    ) {
        let Some(firsts) = &mut self.firsts else { return };
        for (stratum, said) in strata {
            firsts.latency.take(scene.t_ms, stratum, said.limit, &said.first_latency);
            firsts.predictions.take(scene.t_ms, stratum, said.limit, &said.first_predictions);
        }
        let closed = firsts.latency.close(scene.t_ms, scene.analysis);
        if let (Some(latency), Some(weights)) = (&mut self.latency, scene.weights)
            && !closed.is_empty()
        {
            let mut sums = vec![0.0; weights.len()];
            closed.iter().for_each(|(_, observed)| weights.add(observed, &mut sums));
            latency.add(t_ms, &sums);
        }
        let closed = firsts.predictions.close(scene.t_ms, scene.analysis);
        if let Some(equality) = self.equality.as_mut().filter(|_| !closed.is_empty()) {
            let weights = firsts.past.weights(scene.analysis.prediction_bins, STRENGTH);
            equality.add(t_ms, &[closed.iter().map(|(_, observed)| weights.increment(observed)).sum()]);
            closed.iter().for_each(|(_, observed)| firsts.past.learn(observed));
        }
        if let Some(band) = &mut self.band {
            closed.iter().for_each(|((_, epoch), observed)| band.add(*epoch, observed));
        }
    }

    /// Each slot once, at its first error; gives the candidate's new ones where slots are the unit.
    fn hear_slots<'a>(
        &mut self,
        t_ms: u64,
        strata: impl Iterator<Item = (&'a Stratum, &'a Testimony)> + Clone,
    ) -> Option<u64> {
        let metric = self.errors.as_mut().filter(|metric| metric.counts_slots())?;
        let mut found = Vec::new();
        for (_, said) in strata.filter(|(_, said)| !said.error_slots.is_empty()) {
            let mut fresh = said.error_slots.clone();
            fresh.remove(&self.seen);
            found.push(errors_of(said.limit, &self.seen, &fresh));
            self.seen.extend(&fresh);
        }
        let fresh = found.iter().fold(0u64, |sum, errors| sum.saturating_add(errors.candidate));
        metric.add_errors(t_ms, found.into_iter());
        Some(fresh)
    }

    fn hear_blocks<'a>(
        &mut self,
        t_ms: u64,
        strata: impl Iterator<Item = (&'a Stratum, &'a Testimony)> + Clone,
    ) {
        let closed = || strata.clone().filter_map(|(stratum, said)| Some((stratum, said.closed.as_ref()?)));
        if let Some(metric) = self.errors.as_mut().filter(|metric| !metric.counts_slots()) {
            metric.add_increments(t_ms, closed().map(|(_, closed)| &closed.ratio));
        }
        if let Some(latency) = &mut self.latency {
            latency.add(t_ms, &sum(latency.len(), closed().map(|(_, closed)| closed.latency.as_slice())));
        }
        if let Some(equality) = &mut self.equality {
            equality.add(t_ms, &[closed().map(|(_, closed)| closed.predictions).sum()]);
        }
        if let Some(band) = &mut self.band {
            closed().for_each(|((_, epoch), closed)| band.add(*epoch, closed.predicted()));
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
            history: self
                .judges_history
                .then(|| self.history.as_ref().map_or(0.0, |history| history.restarts.log_e())),
        }
    }

    /// Whether predictions are surely too far from stable's (latched). They spend their own part of alpha.
    pub fn predictions_condemn(&mut self, analysis: &Analysis) -> bool {
        let alpha = analysis.alpha * analysis.part(Metric::Predictions);
        self.band.as_mut().is_some_and(|band| band.fired(alpha, analysis.ks_reject))
    }

    /// The distance of predictions in the newest lottery.
    pub fn distance(&self, analysis: &Analysis) -> Option<Distance> {
        self.band.as_ref()?.newest(analysis.alpha * analysis.part(Metric::Predictions))
    }
}

/// Sums of increments, alternative by alternative.
fn sum<'a>(alternatives: usize, increments: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut sums = vec![0.0; alternatives];
    for increments in increments {
        sums.iter_mut().zip(increments).for_each(|(sum, more)| *sum += more);
    }
    sums
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
