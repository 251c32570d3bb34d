//! What a plan says: the changes, and for people every reason why a release does not go on.
//!
//! Every "no" is a typed reason that prints as one lowercase line; how it is laid out is the views' business.

use crate::color::Color;
use crate::release::{Cause, Phase, Record, Route, State, Step};
use crate::share::Bps;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What has to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan that is not applied changes nothing"]
pub struct Plan {
    /// The writes.
    pub changes: Vec<Change>,
    /// Why these, and why no others.
    pub report: PlanReport,
    /// Look again after this many ms even if nothing happens; `None`: only when something changes.
    pub wake_after_ms: Option<u64>,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The record of a finished release; written once.
    Record(Record),
    /// What is remembered.
    Save(State),
    /// What the proxies are told.
    Route(Route),
}

/// The explanation of a plan. It is no summary of the changes.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "an unread report is not actionable"]
pub struct PlanReport {
    /// Transitions, in order.
    pub moves: Vec<Move>,
    /// What is missing before the release goes on.
    pub waiting_on: Vec<WaitingOn>,
    /// What people are told about their orders.
    pub answers: Vec<Answer>,
}

/// One transition.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Of which release.
    pub release: u32,
    /// Where it went.
    pub to: Phase,
    /// The candidate's share from then on.
    pub limit: Bps,
    /// Why.
    pub why: Step,
    /// Why it is taken back, where it is.
    pub cause: Option<Cause>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The order's number.
    pub number: u64,
    /// What happens now, or why nothing does.
    pub result: Result<Done, Refusal>,
}

/// An order that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A release is opened.
    Opened(u32),
    /// The wait is over.
    GoesOn(u32),
    /// Advancing stopped.
    Paused,
    /// Advancing goes on.
    Resumed,
    /// The release is taken back.
    TakesBack(u32),
}

/// An order that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A release is open already.
    ReleaseOpen(u32),
    /// No release is open.
    NothingOpen,
    /// The standby runs what the live color runs.
    SameRevision(String),
    /// It was rolled back before.
    Condemned(String),
    /// It is already on its way back.
    RollingBack,
    /// The candidate takes no connections.
    NotAccepting(Color),
    /// Nothing is waited for that a person could skip.
    NothingToSkip(Phase),
    /// The controller is about to end.
    Stopping,
    /// It is so already.
    Already,
}

/// Why a release does not go on. Each prints as one lowercase line that fits "waiting for …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The color takes no connections.
    Endpoints(Color),
    /// Proxies with traffic do not enforce the epoch yet.
    Enforcement {
        /// The epoch.
        epoch: u64,
        /// How many do.
        enforcing: u32,
        /// How many should.
        busy: u32,
    },
    /// A worker's filter does not report.
    Silent {
        /// Its Envoy.
        proxy: String,
        /// The worker's number.
        vm: u64,
        /// How many more are silent.
        others: usize,
    },
    /// The step's minimum time.
    MinTime(u64),
    /// The step's minimum sample.
    MinRequests(u64),
    /// A certificate for this share.
    Evidence(Bps),
    /// The judge is suspicious.
    Suspicion,
    /// A person paused it.
    Paused,
    /// The deadline passed without a verdict.
    Person,
    /// Sessions are being marked.
    Marking(u64),
    /// The watch after cutover.
    Soak(u64),
    /// Requests on the old color.
    Drain {
        /// The old color.
        color: Color,
        /// How many.
        in_flight: u64,
    },
    /// Idle, and the standby's revision was condemned.
    CondemnedRevision(String),
    /// The document changed what the live color runs; that is never acted on.
    LiveRevision(Color),
}

// === impl WaitingOn ===

impl WaitingOn {
    /// For programs: a word that never changes its meaning.
    pub fn reason(&self) -> &'static str {
        match self {
            WaitingOn::Endpoints(_) => "endpoints",
            WaitingOn::Enforcement { .. } => "enforcement",
            WaitingOn::Silent { .. } => "silent-worker",
            WaitingOn::MinTime(_) => "min-time",
            WaitingOn::MinRequests(_) => "min-requests",
            WaitingOn::Evidence(_) => "evidence",
            WaitingOn::Suspicion => "suspicion",
            WaitingOn::Paused => "paused",
            WaitingOn::Person => "person",
            WaitingOn::Marking(_) => "marking",
            WaitingOn::Soak(_) => "soak",
            WaitingOn::Drain { .. } => "drain",
            WaitingOn::CondemnedRevision(_) => "condemned-revision",
            WaitingOn::LiveRevision(_) => "live-revision",
        }
    }
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| ms.div_ceil(1_000);
        match self {
            WaitingOn::Endpoints(color) => {
                write!(f, "{color} to accept connections with the document's revision")
            }
            WaitingOn::Enforcement { epoch, busy: 0, .. } => {
                write!(f, "a request that shows that epoch {epoch} is enforced")
            }
            WaitingOn::Enforcement { epoch, enforcing, busy } => {
                write!(f, "all Envoys with traffic to enforce epoch {epoch} ({enforcing} of {busy} do)")
            }
            WaitingOn::Silent { proxy, vm, others } => {
                write!(f, "worker {vm} of Envoy {proxy} to report")?;
                if *others > 0 { write!(f, " (and {others} more)") } else { Ok(()) }
            }
            WaitingOn::MinTime(left) => write!(f, "the step's minimum time ({} s left)", seconds(left)),
            WaitingOn::MinRequests(left) => write!(f, "{left} more candidate requests"),
            WaitingOn::Evidence(share) => write!(f, "evidence that certifies the candidate at {share}"),
            WaitingOn::Suspicion => f.write_str("the judge's suspicion to clear"),
            WaitingOn::Paused => f.write_str("a person to resume it"),
            WaitingOn::Person => f.write_str("a person: the step's deadline passed without a verdict"),
            WaitingOn::Marking(left) => write!(f, "running sessions to be marked ({} s left)", seconds(left)),
            WaitingOn::Soak(left) => write!(f, "the watch after cutover ({} s left)", seconds(left)),
            WaitingOn::Drain { color, in_flight } => {
                write!(f, "{in_flight} requests in flight on {color}")
            }
            WaitingOn::CondemnedRevision(revision) => {
                write!(f, "a person: revision {revision} was rolled back and is not tried again by itself")
            }
            WaitingOn::LiveRevision(color) => {
                write!(
                    f,
                    "a person: the document changed the revision of {color}, which is live; release on the other color instead"
                )
            }
        }
    }
}
