//! From reports to rows: the books of all proxies, and what the planner may read from them.
//!
//! Reports are cumulative per (proxy, incarnation, vm); the judge wants one cumulative row per Envoy and lottery. The
//! intake sums an Envoy's workers, keeps the last counts of workers that were rebuilt, and refuses what cannot be
//! (shrinking counters, more errors than requests). It judges nothing and reads no clock.

use crate::color::{Color, PerColor};
use crate::contract::{Report, ServiceId, Tally};
use crate::judge::Row;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The books of all proxies.
#[derive(Debug, Default)]
pub struct Intake {
    problems: Problems,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether it was used.
    pub outcome: Outcome,
    /// The last `seq` taken of this (proxy, incarnation, vm): the reply's `ack`.
    pub ack: u64,
}

/// Whether a report was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was.
    Accepted,
    /// Repeated, late, or of an older incarnation.
    Ignored,
    /// Against the rules; nothing of it was used.
    Malformed(Malformed),
    /// There is no room for another proxy, worker or lottery; nothing of it was used.
    Overflow,
}

/// Which rule a report broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No proxy name, or one longer than 256 bytes.
    Proxy,
    /// The same service or lottery twice.
    Repeated,
    /// A counter is lower than in an earlier report.
    Shrunk,
    /// More errors than completed requests.
    Errors,
    /// A slot above 9999.
    Slot,
}

/// Reports that were not used, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// Repeated, late, or of an older incarnation.
    pub ignored: u64,
    /// Against the rules.
    pub malformed: u64,
    /// No room.
    pub overflow: u64,
}

/// What the planner and the view may know about one release.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Proxies that ever reported this release, by name.
    pub proxies: Vec<ProxyFacts>,
    /// Totals over all proxies and lotteries of the release; gauges over living workers.
    pub totals: PerColor<Tally>,
    /// The highest (release, epoch) of this service in any report.
    pub highest: Option<(u32, u64)>,
}

/// One Envoy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyFacts {
    /// The Envoy.
    pub proxy: String,
    /// Its process.
    pub incarnation: u64,
    /// Its living workers that saw a plan of this release.
    pub vms: Vec<VmFacts>,
    /// Number of the fuse's current trip; 0: not tripped.
    pub tripped: u32,
    /// Requests started per color in this release.
    pub started: PerColor<u64>,
    /// Requests started in about the last ten seconds, both colors.
    pub recent: u64,
}

/// One worker of an Envoy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VmFacts {
    /// Its number.
    pub vm: u64,
    /// Epoch of the plan that it enforces.
    pub epoch: u64,
    /// When it last reported.
    pub reported_ms: u64,
    /// When a report last brought a newly started request; 0: never.
    pub traffic_ms: u64,
}

/// The counters of one release, to go on from after a restart of the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IntakeCheckpoint {}

// === impl Intake ===

impl Intake {
    /// Takes a report.
    pub fn take(&mut self, report: &Report, now_ms: u64) -> Taken {
        let _ = now_ms;
        Taken { outcome: Outcome::Accepted, ack: report.seq }
    }

    /// One row per (Envoy, lottery) of the release that changed since the last call, sorted; the color `stable`
    /// becomes the side blue.
    pub fn rows(&mut self, id: ServiceId, release: u32, stable: Color) -> Vec<Row> {
        let _ = (id, release, stable);
        Vec::new()
    }

    /// What the planner and the view may know. Workers that fell silent long before `now_ms` are left out.
    pub fn facts(&self, id: ServiceId, release: u32, now_ms: u64) -> Facts {
        let _ = (id, release, now_ms);
        Facts::default()
    }

    /// Reports that were not used, so far.
    pub fn problems(&self) -> Problems {
        self.problems
    }

    /// The counters of one release; take it together with the judge's checkpoint.
    pub fn checkpoint(&self, id: ServiceId, release: u32) -> IntakeCheckpoint {
        let _ = (id, release);
        IntakeCheckpoint {}
    }

    /// Goes on from a checkpoint: only what was counted since makes rows.
    pub fn restore(&mut self, id: ServiceId, release: u32, checkpoint: IntakeCheckpoint) {
        let _ = (id, release, checkpoint);
    }
}

// === impl ProxyFacts ===

impl ProxyFacts {
    /// The lowest epoch among workers that had traffic since `since_ms`; `None`: no traffic since then.
    pub fn enforces(&self, since_ms: u64) -> Option<u64> {
        self.vms.iter().filter(|vm| vm.traffic_ms >= since_ms && vm.traffic_ms > 0).map(|vm| vm.epoch).min()
    }
}
