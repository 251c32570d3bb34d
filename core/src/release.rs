//! One release as values: its phases, what is remembered of a service, and the route that follows from it.
//!
//! [`State`] is what a home persists. The desired [`Route`] is a pure function of it ([`State::route`]), so a
//! process that dies between any two writes finds out by comparing what still has to be written. Decisions live
//! in [`crate::planner`]; nothing here looks at traffic.

use crate::color::{Color, PerColor};
use crate::contract::ServiceId;
use crate::judge::watches::Watch;
use crate::route_plan::{KeyRule, Pins, RoutePlan};
use crate::share::Bps;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Where a release stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No release is open; the route carries no plan.
    #[default]
    Idle,
    /// The plan is open with limit 0; the candidate gets ready to take connections.
    Preparing,
    /// Gates run before any traffic.
    Validating,
    /// Sessions get pins to stable (only where sessions are kept).
    Marking,
    /// Approval, windows, a pause: nothing technical is missing.
    Waiting,
    /// The ramp.
    Progressing {
        /// Index of the step, from 0.
        step: u32,
    },
    /// Everything but the holdback is on the candidate.
    Soaking,
    /// Everything is on the candidate; requests on the old color finish.
    Draining,
    /// The candidate is condemned or given up: limit 0, pins void, until the proxies enforce it.
    RollingBack,
}

/// Why a release was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The judge's verdict.
    Verdict,
    /// The dead-candidate rule: nobody got an answer any more.
    Dead,
    /// The fuses inside the Envoys.
    Fuse,
    /// A person's word.
    Aborted,
    /// The step's deadline passed without a verdict, and the document says rollback.
    Inconclusive,
    /// The candidate's revision was changed while its release was open.
    Superseded,
    /// The controller was stopped on purpose.
    Stopped,
    /// The state was lost or older than the route: which step was certified is unknown.
    Interrupted,
    /// The route says that it was taken back, and the process died before it could remember why.
    Unwritten,
}

/// What became of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The candidate is the stable color now.
    Promoted,
    /// Stable stayed.
    RolledBack(Cause),
}

/// What is remembered of one service, as persisted. Times are ms of one clock that never jumps (the home's).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The service.
    pub id: ServiceId,
    /// The stable color.
    pub live: Color,
    /// Number of the newest release; 0: none yet.
    pub release: u32,
    /// The newest epoch that was handed out.
    pub epoch: u64,
    /// Where the release stands.
    pub phase: Phase,
    /// When that phase (or step) began.
    pub entered_ms: u64,
    /// When the release was opened.
    pub opened_ms: u64,
    /// The revision that each color is known to have; another one of the standby in the document starts a release.
    pub revisions: PerColor<String>,
    /// Revisions that are not tried again until a person says so, oldest first.
    #[serde(default)]
    pub condemned: Vec<String>,
    /// A person stopped the ramp; judging and rollback go on.
    #[serde(default)]
    pub paused: bool,
    /// Why it is rolling back (only then).
    #[serde(default)]
    pub cause: Option<Cause>,
    /// How the newest finished release ended.
    #[serde(default)]
    pub last: Option<Ended>,
    /// Times of the steps so far, for the record.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// The newest person's order that was dealt with.
    #[serde(default)]
    pub orders_done: u64,
    /// Session keys of the open plan: fixed while a release is open, or sessions would draw anew in its middle.
    #[serde(default)]
    pub keys: Vec<SavedKey>,
    /// Shares of the open release, fixed for the same reason.
    #[serde(default)]
    pub steps: Vec<Bps>,
    /// Share that stays on the old color while soaking.
    #[serde(default)]
    pub holdback: Bps,
    /// How far the soak has come: it may end earlier, but the holdback shrinks only by this.
    #[serde(default)]
    pub watch: Watch,
    /// Whether sessions keep their color.
    #[serde(default)]
    pub keep: bool,
    /// Version of the mesh key of the open plan, fixed like its session keys.
    #[serde(default = "first_key")]
    pub key_version: u8,
}

/// States from before keys were counted have the first one.
fn first_key() -> u8 {
    1
}

/// The end of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number.
    pub release: u32,
    /// The revision that was tried.
    pub revision: String,
    /// What became of it.
    pub outcome: Outcome,
    /// When.
    pub at_ms: u64,
}

/// One entry of a release's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at_ms: u64,
    /// Where the release went.
    pub phase: Phase,
    /// The candidate's share from then on.
    pub limit: Bps,
    /// Why.
    pub why: Step,
}

/// Why a release went on to its next phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The standby has another revision than before.
    NewRevision,
    /// A person's word.
    Person,
    /// Nothing was missing.
    Ready,
    /// The evidence certified it.
    Certified,
    /// Minimum time and sample passed without suspicion.
    Unsuspicious,
    /// The deadline passed, and the document says promote.
    Deadline,
    /// The watch passed.
    Watched,
    /// The old color has no request left, or its deadline passed.
    Drained,
    /// Taken back; the cause is in the record.
    TakenBack,
    /// The proxies enforce it.
    Enforced,
}

/// [`KeyRule`] as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SavedKey {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// The record of one release, written once when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The service.
    pub id: ServiceId,
    /// The release's number.
    pub release: u32,
    /// Its last epoch.
    pub epoch: u64,
    /// The color that was tried.
    pub candidate: Color,
    /// What ran there.
    pub revision: String,
    /// What ran on the stable color.
    pub stable_revision: String,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was opened.
    pub opened_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// Its phases and steps.
    pub timeline: Vec<Moment>,
}

/// What a service's route says: one short route, or three with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where everything goes that the plan does not send elsewhere.
    pub stable: Color,
    /// The plan; none: the filter is inert.
    pub plan: Option<RoutePlan>,
}

// === impl Phase ===

impl Phase {
    /// Whether a release is open.
    pub fn is_open(self) -> bool {
        self != Phase::Idle
    }

    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Idle => "Idle",
            Phase::Preparing => "Preparing",
            Phase::Validating => "Validating",
            Phase::Marking => "Marking",
            Phase::Waiting => "Waiting",
            Phase::Progressing { .. } => "Progressing",
            Phase::Soaking => "Soaking",
            Phase::Draining => "Draining",
            Phase::RollingBack => "RollingBack",
        }
    }

    /// Whether the machine has this edge. Everything open may roll back; only what is over becomes idle.
    pub fn may_become(self, next: Phase) -> bool {
        use Phase::{
            Draining, Idle, Marking, Preparing, Progressing, RollingBack, Soaking, Validating, Waiting,
        };
        match (self, next) {
            (Idle, Preparing) => true,
            // A lost or rewound state finds an open route that it knows nothing about.
            (Idle, RollingBack) => true,
            (Idle, _) | (_, Preparing) => false,
            (RollingBack, Idle) | (Draining, Idle) => true,
            (_, Idle) => false,
            (RollingBack, _) => false,
            (_, RollingBack) => true,
            (Preparing, Validating) | (Validating, Marking | Waiting) | (Marking, Waiting) => true,
            (Waiting, Progressing { step }) => step == 0,
            (Waiting, Soaking) => true,
            (Progressing { step: from }, Progressing { step: to }) => to == from + 1,
            (Progressing { .. }, Soaking) | (Soaking, Draining) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Cause ===

impl Cause {
    /// Whether the revision is not tried again until a person says so.
    pub fn condemns(&self) -> bool {
        match self {
            Cause::Verdict | Cause::Dead | Cause::Fuse | Cause::Aborted | Cause::Inconclusive => true,
            // Most likely one of the five above; a revision that was good costs a person's word.
            Cause::Unwritten => true,
            Cause::Superseded | Cause::Stopped | Cause::Interrupted => false,
        }
    }

    /// The word used in records, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Cause::Verdict => "verdict",
            Cause::Dead => "dead",
            Cause::Fuse => "fuse",
            Cause::Aborted => "aborted",
            Cause::Inconclusive => "inconclusive",
            Cause::Superseded => "superseded",
            Cause::Stopped => "stopped",
            Cause::Interrupted => "interrupted",
            Cause::Unwritten => "unwritten",
        }
    }
}

impl fmt::Display for Cause {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Verdict => "the judge found it worse than stable",
            Cause::Dead => "it stopped answering anyone",
            Cause::Fuse => "the fuses in the proxies tripped",
            Cause::Aborted => "a person aborted it",
            Cause::Inconclusive => "its step's deadline passed without a verdict",
            Cause::Superseded => "its revision was changed while the release was open",
            Cause::Stopped => "the controller was stopped",
            Cause::Interrupted => "the controller's state was lost or older than the route",
            Cause::Unwritten => "it was taken back, and the controller died before it could write why",
        })
    }
}

// === impl State ===

impl State {
    /// A service that was never released: blue serves, and what runs now counts as known.
    pub fn new(id: ServiceId, live: Color, revisions: PerColor<String>, now_ms: u64) -> State {
        State {
            id,
            live,
            release: 0,
            epoch: 0,
            phase: Phase::Idle,
            entered_ms: now_ms,
            opened_ms: now_ms,
            revisions,
            condemned: Vec::new(),
            paused: false,
            cause: None,
            last: None,
            timeline: Vec::new(),
            orders_done: 0,
            keys: Vec::new(),
            steps: Vec::new(),
            holdback: Bps::ZERO,
            watch: Watch::default(),
            keep: false,
            key_version: first_key(),
        }
    }

    /// The color on trial, or the standby.
    pub fn candidate(&self) -> Color {
        self.live.other()
    }

    /// Time in this phase or step. A clock that seems to run backwards means no time has passed.
    pub fn elapsed_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.entered_ms)
    }

    /// The candidate's share that this state asks for.
    pub fn limit(&self) -> Bps {
        match self.phase {
            Phase::Progressing { .. } => self.step_share().unwrap_or(Bps::ZERO),
            Phase::Soaking => self.holdback.rest(),
            Phase::Draining => Bps::ALL,
            _ => Bps::ZERO,
        }
    }

    /// The share of the present step, if there is such a step.
    pub fn step_share(&self) -> Option<Bps> {
        let Phase::Progressing { step } = self.phase else { return None };
        self.steps.get(usize::try_from(step).ok()?).copied()
    }

    /// What pins mean under this state.
    pub fn pins(&self) -> Pins {
        match (self.phase, self.keep) {
            (Phase::RollingBack, _) => Pins::Condemned,
            (_, true) => Pins::Keep,
            (_, false) => Pins::Move,
        }
    }

    /// The route that this state asks for.
    pub fn route(&self) -> Route {
        let plan = self.phase.is_open().then(|| RoutePlan {
            id: self.id,
            release: self.release,
            epoch: self.epoch,
            stable: self.live,
            limit: self.limit(),
            pins: self.pins(),
            key_version: self.key_version,
            keys: self.keys.iter().map(KeyRule::from).collect(),
        });
        Route { stable: self.live, plan }
    }

    /// The record of the release that ends now.
    pub fn record(&self, outcome: Outcome, now_ms: u64) -> Record {
        Record {
            id: self.id,
            release: self.release,
            epoch: self.epoch,
            candidate: self.candidate(),
            revision: self.revisions.get(self.candidate()).clone(),
            stable_revision: self.revisions.get(self.live).clone(),
            outcome,
            opened_ms: self.opened_ms,
            ended_ms: now_ms,
            timeline: self.timeline.clone(),
        }
    }
}

// === impl SavedKey ===

impl From<&KeyRule> for SavedKey {
    fn from(rule: &KeyRule) -> SavedKey {
        match rule {
            KeyRule::Header(name) => SavedKey::Header(name.clone()),
            KeyRule::Cookie(name) => SavedKey::Cookie(name.clone()),
            KeyRule::Query(name) => SavedKey::Query(name.clone()),
        }
    }
}

impl From<&SavedKey> for KeyRule {
    fn from(saved: &SavedKey) -> KeyRule {
        match saved {
            SavedKey::Header(name) => KeyRule::Header(name.clone()),
            SavedKey::Cookie(name) => KeyRule::Cookie(name.clone()),
            SavedKey::Query(name) => KeyRule::Query(name.clone()),
        }
    }
}

// === impl Step ===

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::NewRevision => "the standby has a new revision",
            Step::Person => "a person said so",
            Step::Ready => "nothing was missing",
            Step::Certified => "the evidence certified it",
            Step::Unsuspicious => "minimum time and sample passed without suspicion",
            Step::Deadline => "the deadline passed and the document says promote",
            Step::Watched => "the watch passed",
            Step::Drained => "the old color has no request left or its deadline passed",
            Step::TakenBack => "it was taken back",
            Step::Enforced => "the proxies enforce it",
        })
    }
}
