//! Whole releases in memory, from fixed seeds: traffic, sessions, lottery, proxies, reports and faults.
//!
//! Nothing here listens or sleeps: a release of ten minutes takes milliseconds, so that thousands can be judged and
//! a promise like "one false rollback in a hundred" can be counted. A [`Setting`] says what the world is like, a
//! [`Rule`] judges it (ours, another's, or a stand-in that shows what the counting is worth), [`Outcome`] says what
//! came of it. What is deliberately absent: Envoy, the filter's bookkeeping and time on a wall, which have tests of
//! their own; latencies are drawn in histogram buckets, because the judge sees nothing finer. Nothing here ships; it is
//! a crate of its own because it is compiled for speed, unlike the harness of the end-to-end tests.
#![forbid(unsafe_code)]
// A simulation that cannot be built is a mistake in a test: it panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod chance;
pub mod healthy;
pub mod liars;
mod many;
pub mod promise;
pub mod record;
mod release;
mod rules;
mod sessions;
pub mod settings;
pub mod table;

pub use many::{Count, Delays, most_in, run_many};
pub use release::run;
pub use rules::{AlwaysFires, Foretells, NeverFires, Ours, Rule, SaysNothing, Word};

use hueshift_core::judge::{Analysis, Metric};

/// Everything about a simulated release but its seed.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What it is called in output.
    pub name: &'static str,
    /// How long it is watched.
    pub duration_ms: u64,
    /// Time between reports and ticks.
    pub tick_ms: u64,
    /// Until then a tick takes a second: hours in which nothing happens.
    pub lull_ms: u64,
    /// Requests per second, both colors together.
    pub rps: f64,
    /// How much the rate and the errors swing, 0..1: `rate * (1 + swing sin t)`.
    pub swing: f64,
    /// The candidate's shares, in order; the next one follows a certificate (see [`Rule`]).
    pub shares: Vec<f64>,
    /// Share after the last certificate, while the old color stays as control: the cutover.
    pub holdback: Option<f64>,
    /// Error rate of both colors without a fault.
    pub errors: f64,
    /// Who asks.
    pub sessions: Sessions,
    /// The Envoys.
    pub proxies: Vec<Proxy>,
    /// What answers take.
    pub latency: Latency,
    /// Errors that come together.
    pub bursts: Option<Bursts>,
    /// Chance that a report is lost, and that one arrives twice.
    pub loss: f64,
    /// From cutover on the error rate of both colors is this many times what it was: a shared incident.
    pub incident: f64,
    /// After each raise of its share the candidate's caches are cold: it takes this many times as long, for so long (ms).
    pub cold: Option<(f64, u64)>,
    /// A proxy that lies.
    pub liar: Option<Liar>,
    /// What is wrong with the candidate.
    pub fault: Option<Fault>,
    /// The judge's parameters.
    pub analysis: Analysis,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sessions {
    /// Each request draws for itself.
    PerRequest,
    /// A population that sticks to its colors.
    Sticky {
        /// How many at a time.
        count: usize,
        /// Exponent of their activity: 0 all equal, 1 the usual few heavy ones.
        zipf: f64,
        /// Standard deviation of ln(latency) between sessions.
        sigma: f64,
        /// Requests until a session is replaced by a new one; `None`: never.
        requests: Option<u32>,
    },
}

/// One Envoy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proxy {
    /// Its part of the traffic, relative to the others.
    pub weight: f64,
    /// Factor on the error rate behind it.
    pub errors: f64,
    /// Factor on the share: a proxy that is an epoch behind.
    pub share: f64,
    /// Factor on latency: a proxy far away.
    pub slower: f64,
}

/// What answers take: log-normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Median, ms.
    pub median_ms: f64,
    /// Standard deviation of the logarithm within a session.
    pub sigma: f64,
    /// Utilization of a color that serves everything; latency grows as 1/(1 - utilization). 0: not at all. Each color
    /// has one endpoint.
    pub utilization: f64,
    /// Whether rows have two times, to the first byte (which is the above) and in all: how much longer an answer takes
    /// differs from one to the next. Worlds of the plain format have one.
    pub has_total: bool,
}

/// Errors that come together, on either color.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// Clients that fail at a time, per second.
    pub per_second: f64,
    /// How long a client fails, mean, ms. 0: within one tick.
    pub mean_ms: f64,
    /// Its failing requests per second (or, within one tick, at once).
    pub requests: f64,
}

/// A proxy that forges evidence: the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liar {
    /// That many candidate errors per tick that never were.
    CandidateErrors(u64),
    /// That many stable errors per tick that never were.
    StableErrors(u64),
}

/// What is wrong with the candidate, and from when on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// From when on, ms.
    pub from_ms: u64,
    /// What.
    pub kind: FaultKind,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FaultKind {
    /// This error rate.
    Errors(f64),
    /// Latency times this.
    Slower(f64),
    /// The total time times this, the first byte in time.
    Longer(f64),
    /// This error rate, and latency times this: both at once.
    Both(f64, f64),
    /// This part of the requests takes this many times as long.
    SlowTail(f64, f64),
    /// This part of the requests is never answered.
    Hang(f64),
    /// Predictions moved by this many bins.
    Shift(f64),
    /// This many times as many events.
    Events(f64),
}

/// What came of one release.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// When it was rolled back.
    pub rollback_ms: Option<u64>,
    /// When the last share was certified.
    pub promoted_ms: Option<u64>,
    /// Metrics whose own evidence ever reached 1/alpha.
    pub fired: Vec<Metric>,
    /// Candidate requests from the fault on (or the start) until the rollback or the end.
    pub candidate_requests: u64,
    /// Of those, answers that were bad because of the fault (or errors).
    pub bad: u64,
}

// === impl Setting ===

impl Setting {
    /// The world of the published figures: 20 candidate and 180 stable requests per second, one Envoy, ten minutes.
    pub fn plain(name: &'static str, analysis: Analysis) -> Self {
        Setting {
            name,
            duration_ms: 600_000,
            tick_ms: 250,
            lull_ms: 0,
            rps: 200.0,
            swing: 0.0,
            shares: vec![0.1],
            holdback: None,
            errors: 0.005,
            sessions: Sessions::PerRequest,
            proxies: vec![Proxy::EQUAL],
            latency: Latency {
                median_ms: 40.0,
                sigma: 0.5,
                utilization: 0.0,
                has_total: analysis.witness.is_some(),
            },
            bursts: None,
            loss: 0.0,
            incident: 1.0,
            cold: None,
            liar: None,
            fault: None,
            analysis,
        }
    }

    /// With this fault from the start of the release.
    pub fn with(self, kind: FaultKind) -> Self {
        self.with_from(0, kind)
    }

    /// With this fault from some time on.
    pub fn with_from(self, from_ms: u64, kind: FaultKind) -> Self {
        Setting { fault: Some(Fault { from_ms, kind }), ..self }
    }

    /// With stable's latencies from before the release as reference.
    pub fn referred(self) -> Self {
        let reference = release::reference(&self);
        Setting { analysis: Analysis { latency_reference: Some(reference), ..self.analysis }, ..self }
    }

    /// Whether this is judged, hence worth drawing.
    fn draws(&self, metric: Metric) -> bool {
        self.analysis.metrics.contains(&metric)
    }
}

// === impl Proxy ===

impl Proxy {
    /// One like all others.
    pub const EQUAL: Proxy = Proxy { weight: 1.0, errors: 1.0, share: 1.0, slower: 1.0 };
}
