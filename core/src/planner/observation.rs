//! What the planner is told: facts, the document's wishes and people's words, as plain values.
//!
//! Whoever observes fills these; nothing here decides. A fact that is about one epoch, release or share carries that
//! number, so that a late one cannot be taken for news.

use crate::color::PerColor;
use crate::judge::Verdict;
use crate::release::{Route, SavedKey, State};
use crate::share::Bps;
use alloc::string::String;
use alloc::vec::Vec;

/// Everything that is known about one service at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What was last persisted.
    pub state: State,
    /// What the document wishes.
    pub wish: Wish,
    /// The route as it is written; `None`: not written yet, or unreadable.
    pub written: Option<Route>,
    /// The highest (release, epoch) seen in routes, reports and records.
    pub seen: (u32, u64),
    /// The highest release whose record is written; 0: none.
    pub recorded: u32,
    /// What the judge and the rules beside it say about the open release.
    pub judged: Option<Judged>,
    /// Which colors accept connections *and* run the revision that the document names.
    pub accepting: PerColor<bool>,
    /// What the proxies do.
    pub proxies: Proxies,
    /// Workers that should report and do not.
    pub silent: Vec<SilentWorker>,
    /// Requests in flight per color, from workers that enforce the plan.
    pub in_flight: PerColor<u64>,
    /// Candidate requests started at the present share.
    pub step_requests: u64,
    /// What people asked for, oldest first.
    pub orders: Vec<Order>,
    /// The controller is about to end: nothing may be left that only it can watch.
    pub stopping: bool,
}

/// The document's words that matter here.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What should run per color.
    pub revisions: PerColor<String>,
    /// The ramp.
    pub steps: Vec<WishedStep>,
    /// What lets a step advance.
    pub advance: Advance,
    /// Share that stays on the old color while soaking.
    pub holdback: Bps,
    /// What must stay there also after it was proved.
    pub least_holdback: Bps,
    /// Length of the soak, ms.
    pub soak_ms: u64,
    /// Longest wait for requests on the old color, ms.
    pub drain_ms: u64,
    /// Longest time at one step without a verdict, ms.
    pub deadline_ms: u64,
    /// What happens then.
    pub inconclusive: Inconclusive,
    /// Session keys.
    pub keys: Vec<SavedKey>,
    /// Version of the mesh key that plans may name: one that every filter has. `None`: not known now.
    pub key_version: Option<u8>,
    /// How long sessions are marked before traffic moves; only where they are kept, ms.
    pub marking_ms: Option<u64>,
}

/// One step of the ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WishedStep {
    /// The candidate's share.
    pub share: Bps,
    /// Shortest time at it, ms.
    pub min_ms: u64,
    /// Fewest candidate requests (only for [`Advance::Unsuspicious`]).
    pub min_requests: u64,
}

/// What lets a step advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// A certificate.
    Certified,
    /// Minimum time and sample without suspicion.
    Unsuspicious,
}

/// What a deadline without a verdict does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inconclusive {
    /// Wait for a person.
    Hold,
    /// Go on as if certified.
    Promote,
    /// Take the release back.
    Rollback,
}

/// What the judge and the plain rules beside it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// About which release; about another one it says nothing.
    pub release: u32,
    /// For which share `Certified` is meant; for another one it does not count.
    pub share: Bps,
    /// The verdict.
    pub verdict: Verdict,
    /// The dead-candidate rule fired.
    pub dead: bool,
    /// The proxies' fuses condemn the candidate.
    pub fuse: bool,
}

/// What the proxies with traffic do about the present epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Which epoch this is about; about another one it says nothing.
    pub epoch: u64,
    /// Envoys that sent a request of this service since the route was written.
    pub busy: u32,
    /// Of those, the ones whose workers all enforce the present epoch.
    pub enforcing: u32,
    /// Share of the requests of the last ten seconds that those carried.
    pub enforced_share: Bps,
}

/// A worker of an Envoy whose filter is dead or stuck while others go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentWorker {
    /// The Envoy.
    pub proxy: String,
    /// The worker's number.
    pub vm: u64,
}

/// A person's word, numbered so that it counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its number; grows.
    pub number: u64,
    /// What is asked.
    pub verb: Verb,
}

/// What a person may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Try the standby's revision.
    Release {
        /// Also if it was condemned, or is what the live color runs.
        force: bool,
    },
    /// Do not wait any longer here.
    Promote,
    /// Stop advancing.
    Pause,
    /// Go on.
    Resume,
    /// Take it back.
    Abort,
}
