//! What people and programs may know about a running controller: the one view-model behind every verb.
//!
//! The engine fills it, the control socket carries it as JSON, every verb renders it; so `status`, `watch`,
//! `explain` and scripts cannot disagree. It holds facts and reasons, no layout, and nothing here decides.
//!
//! Times are Unix milliseconds and end in `_ms`; [`View::now_ms`] is the clock they are read against, so that
//! rendering needs none. Evidence is in natural logarithms, as the judge keeps it.

mod words;

pub use self::words::{
    chance, complaint, ended, errors_came, events, goes_on, held, noisy, odds, percent, predictions_moved,
    rolls_back,
};

use hueshift_core::color::{Color, PerColor};
use hueshift_core::judge::dispersion::Dispersion;
use hueshift_core::judge::evidence::{Interval, Predictions, Slots};
use hueshift_core::judge::hours::Hours;
use hueshift_core::judge::witness::Protection;
use hueshift_core::judge::{Checkpoint, Evidence, Mode, Verdict};
use hueshift_core::share::Bps;
use serde::{Deserialize, Serialize};

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Version of the running controller.
    pub version: String,
    /// Its process id; 0: see [`View::live`].
    pub pid: u32,
    /// When it started.
    pub started_ms: u64,
    /// When this view was made.
    pub now_ms: u64,
    /// The document that it reads, as given on its command line.
    pub file: String,
    /// Each Envoy that it knows.
    pub proxies: Vec<ProxyView>,
    /// Each service, in the order of the document.
    pub services: Vec<ServiceView>,
    /// What a person should look at and what belongs to no single service, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One Envoy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyView {
    /// Its node id.
    pub name: String,
    /// Its process, if it is ours and runs.
    pub pid: Option<u32>,
    /// Workers that have reported since it started.
    pub workers: u32,
    /// When the last report came.
    pub reported_ms: Option<u64>,
    /// How often it was restarted after dying.
    pub restarts: u32,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Where Envoy serves it.
    pub listen: String,
    /// The stable color.
    pub live: Color,
    /// Where the open release stands; `Idle` without one.
    pub phase: Phase,
    /// Since when.
    pub phase_since_ms: u64,
    /// Number of the open release, or of the last one; 0 before the first.
    pub release: u32,
    /// Whether a person paused the open release.
    pub paused: bool,
    /// The current step while Progressing.
    pub step: Option<StepView>,
    /// What proxies are told and what they do.
    pub plan: PlanView,
    /// Both colors.
    pub colors: PerColor<ColorView>,
    /// The judge's books, while a release is judged.
    pub evidence: Option<EvidenceView>,
    /// Why it does not go on right now; empty when nothing is awaited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_on: Vec<Waiting>,
    /// What would make it go on: [`goes_on`] of the rest.
    #[serde(default)]
    pub goes_on: Option<String>,
    /// What would roll it back: [`rolls_back`] of the rest.
    #[serde(default)]
    pub rolls_back: Option<String>,
    /// Ended releases, the latest last; at most [`MAX_HISTORY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<ReleaseRecord>,
    /// What a person should look at, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Most records per service in a view; the state directory keeps more.
pub const MAX_HISTORY: usize = 20;

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No release.
    Idle,
    /// The candidate gets its capacity and answers its first health checks.
    Preparing,
    /// Gates before traffic.
    Validating,
    /// Sessions get their pins before anything may move.
    Marking,
    /// For a person or a window.
    Waiting,
    /// The ramp.
    Progressing,
    /// After cutover, with a holdback on the old color as control.
    Soaking,
    /// The old color finishes what it has.
    Draining,
    /// All traffic back to the stable color.
    RollingBack,
}

/// The step that a ramp stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Since when this share is enforced; absent while it is not.
    pub enforced_since_ms: Option<u64>,
}

/// What proxies are told and how many of them do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Its number.
    pub epoch: u64,
    /// The candidate's share in the routes.
    pub limit: Bps,
    /// An upper bound that replies carry (0 after a rollback).
    pub cap: Option<Bps>,
    /// Envoys that sent a request of this service since the plan was written.
    pub with_traffic: u32,
    /// Of those, the ones that enforce it.
    pub enforcing: u32,
    /// Envoys without traffic of this service.
    pub idle: u32,
    /// Envoys whose own fuse tripped.
    pub fuses_tripped: u32,
    /// The routes do not say so yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwritten: bool,
}

/// One color of a service. Counts are those of the open release, or of the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColorView {
    /// What runs there, in the owner's words.
    pub revision: String,
    /// Whether this revision was rolled back and is not tried again by itself.
    pub marked_bad: bool,
    /// The share that the plan gives it.
    pub intended: Bps,
    /// The share of requests that it got over the last seconds; absent without traffic.
    pub enforced: Option<f64>,
    /// Endpoints in the document.
    pub endpoints: u32,
    /// Of those, the ones that accept connections.
    pub endpoints_up: u32,
    /// Requests completed.
    pub requests: u64,
    /// Of those, failures.
    pub errors: u64,
    /// Requests per second over the last seconds.
    pub rate: f64,
    /// Failed share over the last seconds; absent without traffic.
    pub error_rate: Option<f64>,
    /// Median time to first byte, ms.
    pub p50_ms: Option<f64>,
    /// Its 99 % quantile, ms.
    pub p99_ms: Option<f64>,
    /// The 99 % quantile of whole answers, ms.
    #[serde(default)]
    pub p99_total_ms: Option<f64>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Distinct session slots seen in this release.
    pub sessions: u32,
}

/// The judge's books over an open release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// What the judge says.
    pub verdict: Verdict,
    /// ln E that the candidate is worse than acceptable.
    pub log_e: f64,
    /// What speaks most against the candidate; absent while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leading: Option<Cause>,
    /// Rollback at this ln E: ln(1/alpha).
    pub rollback_at: f64,
    /// Held at this ln E.
    pub hold_at: f64,
    /// Certificates that count for the current step; one that reaches its target is enough.
    pub certificates: Vec<CertificateView>,
    /// What one observation is.
    pub unit: Unit,
    /// What one draw of chance is, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<Chance>,
    /// Requests and failures per color.
    pub counted: PerColor<Counted>,
    /// Failures per request, with the interval that holds the true rate however often one looks.
    pub rates: PerColor<Option<Interval>>,
    /// The candidate's distinct sessions, where sessions are the unit.
    pub slots: Option<Slots>,
    /// Candidate observations (of [`EvidenceView::unit`]) still expected before a certificate, if it stays as it is.
    pub still_needed: Option<u64>,
    /// How long that takes if they keep coming as they did in this release, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_ms: Option<u64>,
    /// How far the candidate's predictions are from stable's, where that is judged and both made some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Predictions>,
    /// Events that somebody named, where they are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomView>,
    /// The error rate that the document allows, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<f64>,
    /// Why it is held although no odds say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
    /// How much one proxy's word can be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
}

/// Why a release is held although the candidate's odds are fine, the gravest reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBy {
    /// Worse than stable's past, but what is left of stable is as bad now.
    SharedIncident,
    /// Slower than stable was when it carried as much.
    SlowAtLoad,
    /// Other parts of the traffic arrive than were drawn.
    Split,
    /// Two parts of stable differ as much.
    Noisy,
}

/// Answers that are judged beside failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomView {
    /// What people call them.
    pub name: String,
    /// Requests, and of them those with an event, per color.
    pub counted: PerColor<Counted>,
}

/// One way in which the current step may be certified.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CertificateView {
    /// What it would prove.
    pub claim: Claim,
    /// ln E towards it.
    pub log_e: f64,
    /// Proven at this ln E.
    pub target: f64,
}

/// What a certificate proves about the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// Its error rate is below this many times stable's.
    Ratio(f64),
    /// Its error rate is below this.
    Absolute(f64),
}

/// What the judge counts as one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A session, once per release.
    Sessions,
    /// A request.
    Requests,
}

/// What one draw of chance is where failures are judged. It is chosen before the release, never by looking at the
/// candidate; only a noisy environment makes it a more careful one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// The unit: `sessions`, `per_error` (the request) or `robust` (the second).
    pub mode: Mode,
    /// Two parts of the stable color that should be alike differ: `per_error` goes on as `robust`, and the ramp holds.
    pub noisy: bool,
    /// What an earlier release showed, by which it was chosen; absent: none lasted long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// How the errors came in an earlier release, of the color that is stable since.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// Its number.
    pub release: u32,
    /// What was seen.
    pub dispersion: Dispersion,
}

/// Observations of one color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub n: u64,
    /// Of those, failures.
    pub errors: u64,
}

/// One reason why a release does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For programs: a lowercase word with dashes that never changes its meaning, e.g. `evidence`, `min-time`,
    /// `enforcement`, `endpoints`; `paused` and `person` mean that nothing goes on without a command.
    pub reason: String,
    /// For people: one lowercase line that fits "waiting for …".
    pub text: String,
}

/// One release, as it is kept in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// The service.
    pub service: String,
    /// Its number.
    pub release: u32,
    /// The color on trial.
    pub candidate: Color,
    /// What it ran.
    pub revision: String,
    /// What the stable color ran.
    pub stable_revision: String,
    /// When it began.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// How it ended.
    pub end: End,
    /// Why, where it did not simply pass.
    pub cause: Option<Cause>,
    /// The phases it went through.
    pub phases: Vec<PhaseTime>,
    /// The shares it reached.
    pub steps: Vec<StepTime>,
    /// Shares that it left without a certificate, because a person, the deadline or the document said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncertified: Vec<Bps>,
    /// The judge's books at the decision.
    pub evidence: Option<EvidenceView>,
    /// The judge itself at the decision: `hueshift report` computes its evidence again. In files, not in views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Box<JudgeRecord>>,
    /// Requests per color in this release.
    pub requests: PerColor<Counted>,
    /// How the errors came of the color that serves after it; absent: it did not last long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<Dispersion>,
    /// What the color that serves after it completed hour by hour: what a later cutover at the same hour is held against.
    #[serde(default, skip_serializing_if = "Hours::is_empty")]
    pub hours: Hours,
    /// When the candidate's first failure of the decisive run was reported.
    pub first_bad_ms: Option<u64>,
    /// When the rollback was decided: the very reply to a proxy carried the cap.
    pub cap_ms: Option<u64>,
}

/// A judge at its decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeRecord {
    /// Version of the controller that decided.
    pub version: String,
    /// What it said.
    pub evidence: Evidence,
    /// What it said it from: parameters, counts by proxy and lottery, the state of every test.
    pub state: Checkpoint,
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The candidate serves.
    Promoted,
    /// Stable serves on.
    RolledBack,
    /// Another revision took its place before it was decided.
    Superseded,
}

/// Why a release ended without passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// More errors than stable, beyond chance.
    Errors,
    /// Requests that it never answers, beyond chance.
    Hung,
    /// Slower than stable, beyond chance.
    Latency,
    /// Its predictions differ too much from stable's, beyond chance.
    Predictions,
    /// More of the events that somebody named than stable, beyond chance.
    Custom,
    /// More errors than the document's ceiling, beyond chance.
    Slo,
    /// After cutover more errors than stable had before, beyond chance, and than the holdback.
    History,
    /// Nothing but errors for seconds.
    Dead,
    /// The fuse inside the proxies tripped.
    Fuse,
    /// A person aborted it.
    Aborted,
    /// No verdict before the deadline, and the document says rollback.
    Inconclusive,
    /// The standby changed again.
    Superseded,
    /// The controller was stopped on purpose.
    Stopped,
    /// The controller's memory of it was lost.
    Interrupted,
    /// It was taken back, and the controller died before it could write why.
    Unwritten,
}

/// When a phase began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// Its begin.
    pub at_ms: u64,
}

/// When a share was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// The candidate's share.
    pub share: Bps,
    /// When it was written.
    pub at_ms: u64,
}

// === impl View ===

impl View {
    /// Whether a running controller says this; else it is what it last wrote down.
    pub fn live(&self) -> bool {
        self.pid != 0
    }
}

// === impl ServiceView ===

impl ServiceView {
    /// The color on trial, or the standby when no release is open.
    pub fn candidate(&self) -> Color {
        self.live.other()
    }

    /// Whether a release is open.
    pub fn open(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// With the sentences that follow from its facts.
    pub fn told(mut self) -> Self {
        self.goes_on = goes_on(&self);
        self.rolls_back = rolls_back(&self);
        self
    }

    /// Whether nothing goes on without a command.
    pub fn needs_person(&self) -> bool {
        self.paused
            || self.waiting_on.iter().any(|waiting| matches!(waiting.reason.as_str(), "paused" | "person"))
    }

    /// The latest ended release.
    pub fn last(&self) -> Option<&ReleaseRecord> {
        self.history.last()
    }
}

// === impl EvidenceView ===

impl EvidenceView {
    /// Whether two parts of the stable color that should be alike differ.
    pub fn is_noisy(&self) -> bool {
        self.chance.is_some_and(|chance| chance.noisy)
    }
}

// === impl Earlier ===

impl Earlier {
    /// The newest of these records, oldest first, that says something of the color that is stable since; `None`: none does,
    /// or a model took over since in a release that was too short.
    pub fn newest(records: &[ReleaseRecord]) -> Option<Earlier> {
        for record in records.iter().rev() {
            if let Some(dispersion) = record.dispersion {
                return Some(Earlier { release: record.release, dispersion });
            }
            if record.end == End::Promoted {
                return None;
            }
        }
        None
    }
}

/// What the model that is stable now completed hour by hour, by these records, oldest first: those since it was promoted,
/// and that of its promotion.
pub fn stables_hours(records: &[ReleaseRecord]) -> Hours {
    let promoted = records.iter().rposition(|record| record.end == End::Promoted).unwrap_or(0);
    records.iter().skip(promoted).fold(Hours::default(), |all, record| all.and(&record.hours))
}

// === impl Phase ===

impl Phase {
    /// The name shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Idle => "Idle",
            Phase::Preparing => "Preparing",
            Phase::Validating => "Validating",
            Phase::Marking => "Marking",
            Phase::Waiting => "Waiting",
            Phase::Progressing => "Progressing",
            Phase::Soaking => "Soaking",
            Phase::Draining => "Draining",
            Phase::RollingBack => "RollingBack",
        }
    }
}

// === impl Counted ===

impl Counted {
    /// Failed share; absent without observations.
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| self.errors as f64 / self.n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_errors_came_is_known_of_the_color_that_is_stable_since() {
        let view: View = serde_json::from_str(include_str!("../tests/views/two-services.json")).unwrap();
        let record = |release: u32, end: End, seconds: Option<u32>| {
            let dispersion = seconds.map(|seconds| Dispersion { seconds, phi: None });
            ReleaseRecord { release, end, dispersion, ..view.services[1].history[1].clone() }
        };
        let long = record(1, End::RolledBack, Some(300));
        let newest =
            |last: ReleaseRecord| Earlier::newest(&[long.clone(), last]).map(|earlier| earlier.release);
        assert_eq!(newest(record(2, End::RolledBack, Some(200))), Some(2));
        assert_eq!(newest(record(2, End::RolledBack, None)), Some(1), "stable is the same still");
        assert_eq!(
            newest(record(2, End::Promoted, None)),
            None,
            "a model took over of which nothing is known"
        );
    }

    #[test]
    fn stables_hours_are_those_of_the_model_that_is_stable_now() {
        let view: View = serde_json::from_str(include_str!("../tests/views/two-services.json")).unwrap();
        let day_ms = 24 * 3_600_000;
        let record = |end: End, n: u64| {
            let mut hours = Hours::default();
            hours.add(400 * day_ms, n, 0);
            ReleaseRecord { end, hours, ..view.services[1].history[1].clone() }
        };
        let known = |records: &[ReleaseRecord]| {
            let windows = stables_hours(records).before(401 * day_ms).errors;
            windows.iter().map(|window| window.n).collect::<Vec<_>>()
        };
        let (rolled_back, promoted) = (record(End::RolledBack, 3_000), record(End::Promoted, 20_000));
        let superseded = record(End::Superseded, 100_000);
        assert!(known(&[]).is_empty());
        assert_eq!(known(&[rolled_back.clone(), superseded.clone()]), [103_000], "stable stayed");
        assert_eq!(known(&[rolled_back.clone(), promoted, superseded]), [120_000]);
    }
}
