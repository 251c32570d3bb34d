//! How long a ramp will take: the expected path of the certificates, and of a fault, at a given traffic.
//!
//! The judge's own formulas with expected counts in place of observed ones (a healthy candidate: the same errors
//! on both colors), so it tells means, not promises; single releases differ by a factor of two either way. What
//! it deliberately does not do: simulate, or read anything live.

use crate::api::{Advance, AnalysisSpec, BlueGreen, StepSpec};
use hueshift_core::contract::SLOTS;
use hueshift_core::judge::Requirement;
use std::time::Duration;

/// What is expected to arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests per second, both colors together.
    pub requests_per_second: f64,
    /// Failed share of requests on a healthy model.
    pub error_rate: f64,
    /// Requests of one session; 1 where each request draws for itself.
    pub requests_per_session: f64,
}

/// One step of the expected ramp.
#[derive(Debug, Clone, PartialEq)]
pub struct StepForecast {
    /// Candidate sessions seen at this share until it advances.
    pub sessions: f64,
    /// Time at this share; `None`: not before the deadline.
    pub time: Option<Duration>,
    /// Until a candidate with three times the errors is rolled back at this share; `None`: not before the
    /// deadline.
    pub finds_threefold: Option<Duration>,
}

/// Points at which the expected path is looked at, per step.
const POINTS: u32 = 20_000;
/// The fault that planning is done for.
const THREEFOLD: f64 = 3.0;

/// The expected ramp of a healthy candidate, step by step. It stops after a step that would not advance.
pub fn forecast(document: &BlueGreen, traffic: Traffic) -> Vec<StepForecast> {
    let release = &document.spec.release;
    let mut path = Path::new(traffic, &document.spec.analysis);
    let mut steps = Vec::new();
    for step in &release.steps {
        let forecast = path.step(step, release.advance, release.deadline);
        let stuck = forecast.time.is_none();
        steps.push(forecast);
        if stuck {
            break;
        }
    }
    steps
}

/// Expected state of the certificates on the way up.
struct Path<'a> {
    analysis: &'a AnalysisSpec,
    traffic: Traffic,
    /// New sessions per second.
    sessions_per_second: f64,
    /// Share of sessions that see an error.
    failing: f64,
    /// Sessions so far, both colors.
    sessions: f64,
    /// ln E per alternative: four ratios, then three ceilings.
    ratios: [Certificate; 4],
    ceilings: [Certificate; 3],
}

/// One certificate: its null, and ln E per alternative.
struct Certificate {
    null: f64,
    alternatives: Vec<f64>,
    logs: Vec<f64>,
}

// === impl Path ===

impl<'a> Path<'a> {
    fn new(traffic: Traffic, analysis: &'a AnalysisSpec) -> Self {
        let per_session = traffic.requests_per_session.max(1.0);
        let ratio = |null: f64| {
            Certificate::new(null, [0.5, 0.8, 1.0, 1.2].into_iter().filter(|rho| *rho < null).collect())
        };
        let ceiling =
            |null: f64| Certificate::new(null, [0.01, 0.1, 0.3, 0.6].map(|part| part * null).to_vec());
        Path {
            analysis,
            traffic,
            sessions_per_second: traffic.requests_per_second / per_session,
            failing: 1.0 - (1.0 - traffic.error_rate).powf(per_session),
            sessions: 0.0,
            ratios: [10.0, 5.0, 3.0, 2.0].map(ratio),
            ceilings: [0.05, 0.02, 0.01].map(ceiling),
        }
    }

    fn step(&mut self, step: &StepSpec, advance: Advance, deadline: Duration) -> StepForecast {
        let share = step.share.fraction();
        let finds_threefold = self.finds(share, THREEFOLD).filter(|time| *time <= deadline);
        let waits = match advance {
            Advance::Certified => step.min_time,
            Advance::Unsuspicious => step
                .min_time
                .max(seconds(step.min_requests as f64 / (self.traffic.requests_per_second * share))),
        };
        let slice = deadline.as_secs_f64() / f64::from(POINTS);
        let before = self.sessions;
        for point in 0..=POINTS {
            let time = seconds(slice * f64::from(point));
            if time >= waits && (advance == Advance::Unsuspicious || self.certified(step)) {
                let sessions = (self.sessions - before) * share;
                return StepForecast { sessions, time: Some(time), finds_threefold };
            }
            self.pass(slice, share);
        }
        StepForecast { sessions: (self.sessions - before) * share, time: None, finds_threefold }
    }

    fn certified(&self, step: &StepSpec) -> bool {
        let wanted = Requirement::for_share(step.share, self.analysis.absolute_certificate);
        let beta = if wanted.p_ceiling.is_some() { self.analysis.beta / 2.0 } else { self.analysis.beta };
        let target = (1.0 / beta).ln();
        let ratio = self.ratios.iter().find(|c| c.null == wanted.rho_max.ratio());
        let ceiling = self.ceilings.iter().find(|c| Some(c.null) == wanted.p_ceiling);
        [ratio, ceiling].into_iter().flatten().any(|certificate| certificate.log_e() >= target)
    }

    /// What `time` seconds at `share` add.
    fn pass(&mut self, time: f64, share: f64) {
        let sessions = self.sessions_per_second * time;
        // A slot that was seen before is no new observation: the longer the release, the rarer they get.
        let fresh = sessions * (-self.sessions / f64::from(SLOTS)).exp();
        self.sessions += sessions;
        let candidate = fresh * share;
        let (bad, good) = (candidate * self.failing, candidate * (1.0 - self.failing));
        for ceiling in &mut self.ceilings {
            let null = ceiling.null;
            ceiling.add(|p| bad * (p / null).ln() + good * ((1.0 - p) / (1.0 - null)).ln());
        }
        let all_bad = fresh * self.failing;
        for ratio in &mut self.ratios {
            let null = ratio.null;
            let mixed = |rho: f64| share * rho + 1.0 - share;
            ratio.add(|rho| bad * (rho / null).ln() - all_bad * (mixed(rho) / mixed(null)).ln());
        }
    }

    /// Mean time until a candidate with `rho` times the errors is rolled back.
    fn finds(&self, share: f64, rho: f64) -> Option<Duration> {
        let mixed = |rho: f64| share * rho / (share * rho + 1.0 - share);
        let (seen, null) = (mixed(rho), mixed(self.analysis.ratio_margin));
        let divergence = seen * (seen / null).ln() + (1.0 - seen) * ((1.0 - seen) / (1.0 - null)).ln();
        // Below the floor nothing is rolled back, whatever the ratio.
        if rho <= self.analysis.ratio_margin
            || self.failing * rho <= self.analysis.error_floor
            || divergence <= 0.0
        {
            return None;
        }
        let errors_per_session = self.failing * (rho + (1.0 - share) / share);
        let sessions = ((1.0 / self.analysis.alpha).ln() + 1.5) / (errors_per_session * divergence);
        Some(seconds(sessions / (self.sessions_per_second * share)))
    }
}

// === impl Certificate ===

impl Certificate {
    fn new(null: f64, alternatives: Vec<f64>) -> Self {
        let prior = -(alternatives.len() as f64).ln();
        let logs = vec![prior; alternatives.len()];
        Certificate { null, alternatives, logs }
    }

    fn add(&mut self, increment: impl Fn(f64) -> f64) {
        for (log, alternative) in self.logs.iter_mut().zip(&self.alternatives) {
            *log += increment(*alternative);
        }
    }

    fn log_e(&self) -> f64 {
        let top = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + self.logs.iter().map(|log| (log - top).exp()).sum::<f64>().ln()
    }
}

/// A time that may be too long to be one.
fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Homes, Writers, parse};

    fn document(steps: &str) -> BlueGreen {
        let text = format!(
            "apiVersion: hueshift.dev/v1alpha1\nkind: BlueGreen\nmetadata: {{name: a}}\nspec:\n  listen: 127.0.0.1:1\n  \
             colors:\n    blue: {{endpoints: [127.0.0.1:2], revision: v1}}\n    green: {{endpoints: [127.0.0.1:3], revision: v2}}\n  \
             release: {steps}\n"
        );
        parse("f", text.as_bytes(), Writers::Owner, Homes::Any).unwrap().remove(0)
    }

    fn traffic(requests_per_second: f64, error_rate: f64) -> Traffic {
        Traffic { requests_per_second, error_rate, requests_per_session: 1.0 }
    }

    /// "0 errors in 3/p_ceiling requests, plus about 1.4/p_ceiling for the mixture", at half of beta.
    #[test]
    fn a_service_without_errors_is_certified_by_the_ceiling() {
        let steps = forecast(&document("{steps: [{share: 5%}]}"), traffic(200.0, 0.0));
        assert!((95.0..115.0).contains(&steps[0].sessions), "{steps:?}");
        assert_eq!(steps[0].finds_threefold, None, "three times nothing is nothing");
    }

    /// Reference: .5 → 5 % at 20 candidate requests of 200 needs 149 of them on average, 7.5 s.
    #[test]
    fn a_fault_is_found_when_the_reference_finds_it() {
        let path = traffic(200.0, 0.005);
        let document = document("{}");
        let path = Path::new(path, &document.spec.analysis);
        let found = path.finds(0.1, 10.0).unwrap().as_secs_f64();
        assert!((6.0..9.0).contains(&found), "{found}");
    }

    /// Reference: ratio certificate, .5 % errors, share 5 %, whole beta: 2280 requests for 2, 790 for 3 on average.
    #[test]
    fn the_ratio_certificate_takes_what_the_reference_takes() {
        let document = document("{steps: [{share: 5%}]}");
        let mut path = Path::new(traffic(1.0, 0.005), &document.spec.analysis);
        let mut needed = [0.0; 2];
        let target = 20f64.ln();
        for requests in 0..200_000 {
            path.sessions = 0.0;
            path.pass(1.0, 0.05);
            for (needed, null) in needed.iter_mut().zip([2.0, 3.0]) {
                let certificate = path.ratios.iter().find(|c| c.null == null).unwrap();
                if *needed == 0.0 && certificate.log_e() >= target {
                    *needed = f64::from(requests) * 0.05;
                }
            }
        }
        assert!((1_900.0..2_700.0).contains(&needed[0]) && (650.0..950.0).contains(&needed[1]), "{needed:?}");
    }

    #[test]
    fn a_step_that_cannot_be_certified_says_so_and_ends_the_forecast() {
        let steps = forecast(&document("{deadline: 10m}"), traffic(0.01, 0.0));
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].time, None);
    }

    #[test]
    fn minimum_time_and_requests_are_waited_for() {
        let text =
            "{advance: unsuspicious, steps: [{share: 10%, minTime: 30s}, {share: 20%, minRequests: 2000}]}";
        let steps = forecast(&document(text), traffic(100.0, 0.0));
        let times: Vec<u64> = steps.iter().map(|step| step.time.unwrap().as_secs()).collect();
        assert_eq!(times, [30, 100]);
    }
}
