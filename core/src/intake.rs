//! From reports to rows: the books of all proxies, and what the planner may read from them.
//!
//! Reports are cumulative per (proxy, incarnation, vm); the judge wants one cumulative row per Envoy and lottery. The
//! intake sums an Envoy's workers, keeps the last counts of workers that were rebuilt, and refuses what cannot be
//! (shrinking counters, more errors than requests): a row that it gives is never malformed. It judges nothing and
//! reads no clock.
//!
//! Everything a proxy can make grow is bounded; what does not fit is refused whole and counted, so that a hostile
//! proxy starves itself and nobody else.

mod books;
mod check;
mod facts;
mod silence;

pub use books::IntakeCheckpoint;
pub use facts::{Facts, ProxyFacts, SilentVm, VmFacts};

use crate::color::Color;
use crate::contract::{Report, ServiceId};
use crate::judge::Row;
use crate::judge::dead::DeadInput;
use crate::problem::Problem;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use books::{Books, Unit};
use serde::{Deserialize, Serialize};
use silence::{Ear, Pace};

/// Most Envoys.
const MAX_PROXIES: usize = 4_096;
/// Most workers of one incarnation of an Envoy, rebuilt ones included.
const MAX_VMS: usize = 1_024;
/// Most releases with open books; the one that was silent longest makes room.
const MAX_BOOKS: usize = 256;
/// Most lotteries of one release.
const MAX_LOTTERIES: usize = 256;
/// Most books of one worker in one lottery, over all releases.
const MAX_ENTRIES: usize = 65_536;
/// A release whose last report is older than this may be closed to make room, ms.
const SILENT_MS: u64 = 60_000;
/// How long a problem of a proxy is told after its count last grew, ms: longer than between two slow reports.
const TROUBLE_MS: u64 = 25_000;

/// The books of all proxies.
#[derive(Debug, Default)]
pub struct Intake {
    proxies: BTreeMap<String, Proxy>,
    books: BTreeMap<(ServiceId, u32), Books>,
    highest: BTreeMap<ServiceId, (u32, u64)>,
    problems: Problems,
    ear: Ear,
}

/// One Envoy process: what has been acknowledged to its workers, and what goes wrong there.
#[derive(Debug, Default)]
struct Proxy {
    incarnation: u64,
    acks: BTreeMap<u64, u64>,
    /// Counts by worker and kind, and when a kind last grew.
    troubles: BTreeMap<(u64, Problem), u64>,
    grew_ms: BTreeMap<Problem, u64>,
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
    /// More errors or events than completed requests.
    Errors,
    /// A counter above 2^53.
    TooLarge,
    /// A slot above 9999, or a latency or a prediction that is in no bucket.
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

// === impl Intake ===

impl Intake {
    /// Takes a report, or refuses it whole.
    pub fn take(&mut self, report: &Report, now_ms: u64) -> Taken {
        let outcome = self.try_take(report, now_ms);
        let problem = match outcome {
            Outcome::Accepted => None,
            Outcome::Ignored => Some(&mut self.problems.ignored),
            Outcome::Malformed(_) => Some(&mut self.problems.malformed),
            Outcome::Overflow => Some(&mut self.problems.overflow),
        };
        if let Some(problem) = problem {
            *problem = problem.saturating_add(1);
        }
        Taken { outcome, ack: self.ack(report) }
    }

    /// One row per (Envoy, lottery) of the release that changed since the last call, sorted; the color `stable`
    /// becomes the side blue.
    pub fn rows(&mut self, id: ServiceId, release: u32, stable: Color) -> Vec<Row> {
        self.rows_of(id, release, stable, Unit::Session)
    }

    /// The same for a judge that counts requests: with the histograms of latency and predictions, which one that
    /// counts sessions by their firsts has no use for, and with the negative control.
    pub fn rows_by_request(&mut self, id: ServiceId, release: u32, stable: Color) -> Vec<Row> {
        self.rows_of(id, release, stable, Unit::Request)
    }

    /// Likewise where failures of one second count as one draw: nothing rests on requests being draws there, which is
    /// all that the negative control could guard, and it would call every release noisy.
    pub fn rows_by_second(&mut self, id: ServiceId, release: u32, stable: Color) -> Vec<Row> {
        self.rows_of(id, release, stable, Unit::Second)
    }

    fn rows_of(&mut self, id: ServiceId, release: u32, stable: Color, unit: Unit) -> Vec<Row> {
        self.books.get_mut(&(id, release)).map_or_else(Vec::new, |books| books.rows(stable, unit))
    }

    /// What completed since the last call, for the dead-candidate rule.
    pub fn completions(&mut self, id: ServiceId, release: u32, stable: Color) -> DeadInput {
        self.books.get_mut(&(id, release)).map_or_else(DeadInput::default, |books| books.completions(stable))
    }

    /// What the planner and the view may know. Workers that fell silent long before `now_ms` are left out.
    pub fn facts(&self, id: ServiceId, release: u32, now_ms: u64) -> Facts {
        let books = self.books.get(&(id, release));
        let mut facts = books.map_or_else(Facts::default, |books| books.facts(now_ms, self.ear.heard_ms()));
        for facts in &mut facts.proxies {
            let proxy = self.proxies.get(&facts.proxy);
            facts.problems = proxy.map_or_else(Vec::new, |proxy| proxy.problems(now_ms));
        }
        facts.highest = self.highest.get(&id).copied();
        facts
    }

    /// Reports that were not used, so far.
    pub fn problems(&self) -> Problems {
        self.problems
    }

    /// Closes the books of all releases of a service before `release`.
    pub fn forget_before(&mut self, id: ServiceId, release: u32) {
        self.books.retain(|(of, number), _| *of != id || *number >= release);
    }

    /// The counters of one release; take it together with the judge's checkpoint, after the rows were judged.
    pub fn checkpoint(&self, id: ServiceId, release: u32) -> IntakeCheckpoint {
        let acks = |proxy: &str| self.proxies.get(proxy).map_or_else(BTreeMap::new, |p| p.acks.clone());
        self.books.get(&(id, release)).map_or_else(IntakeCheckpoint::default, |books| books.checkpoint(acks))
    }

    /// Goes on from a checkpoint: only what was counted since makes rows.
    pub fn restore(&mut self, id: ServiceId, release: u32, checkpoint: IntakeCheckpoint, now_ms: u64) {
        for (name, incarnation, acks) in checkpoint.acks() {
            let proxy = self.proxies.entry(name.clone()).or_default();
            if incarnation > proxy.incarnation {
                *proxy = Proxy { incarnation, ..Proxy::default() };
            }
            if incarnation == proxy.incarnation {
                for (vm, seq) in acks {
                    let ack = proxy.acks.entry(*vm).or_default();
                    *ack = (*ack).max(*seq);
                }
            }
        }
        self.books.insert((id, release), Books::restore(checkpoint, now_ms, self.ear.heard_ms()));
    }

    fn ack(&self, report: &Report) -> u64 {
        let proxy = self.proxies.get(&report.proxy).filter(|proxy| proxy.incarnation == report.incarnation);
        proxy.and_then(|proxy| proxy.acks.get(&report.vm)).copied().unwrap_or(0)
    }

    fn try_take(&mut self, report: &Report, now_ms: u64) -> Outcome {
        if let Err(why) = check::shape(report) {
            return Outcome::Malformed(why);
        }
        let newest = self.proxies.get(&report.proxy).map_or(0, |proxy| proxy.incarnation);
        if report.incarnation < newest || report.seq <= self.ack(report) {
            return Outcome::Ignored;
        }
        if let Err(why) = check::growth(report, |id, release| self.books.get(&(id, release))) {
            return Outcome::Malformed(why);
        }
        if !self.make_room(report, now_ms) {
            return Outcome::Overflow;
        }
        self.book(report, now_ms);
        Outcome::Accepted
    }

    /// Whether all that the report would add fits; closes silent releases if that helps.
    fn make_room(&mut self, report: &Report, now_ms: u64) -> bool {
        let vms = match self.proxies.get(&report.proxy) {
            Some(proxy)
                if proxy.incarnation == report.incarnation && !proxy.acks.contains_key(&report.vm) =>
            {
                proxy.acks.len() + 1
            }
            Some(_) => 0,
            None if self.proxies.len() >= MAX_PROXIES => return false,
            None => 0,
        };
        if vms > MAX_VMS || (self.adds_entries(report) && self.entries_with(report) > MAX_ENTRIES) {
            return false;
        }
        for plan in &report.plans {
            let key = (plan.id, plan.release);
            if let Some(books) = self.books.get(&key) {
                if books.lotteries_with(plan) > MAX_LOTTERIES {
                    return false;
                }
            } else {
                if plan.lotteries.len() > MAX_LOTTERIES
                    || (self.books.len() >= MAX_BOOKS && !self.close_silent(now_ms))
                {
                    return false;
                }
                self.books.insert(key, Books::new(now_ms));
            }
        }
        true
    }

    fn entries_with(&self, report: &Report) -> usize {
        let kept: usize = self.books.values().map(Books::entries).sum();
        kept + report.plans.iter().map(|plan| plan.lotteries.len()).sum::<usize>()
    }

    fn adds_entries(&self, report: &Report) -> bool {
        report.plans.iter().any(|plan| {
            let books = self.books.get(&(plan.id, plan.release));
            plan.lotteries.iter().any(|lottery| {
                books.and_then(|b| b.last(&report.proxy, report.incarnation, report.vm, lottery)).is_none()
            })
        })
    }

    fn close_silent(&mut self, now_ms: u64) -> bool {
        let oldest =
            self.books.iter().min_by_key(|(_, books)| books.reported_ms()).map(|(key, books)| (*key, books));
        match oldest {
            Some((key, books)) if now_ms.saturating_sub(books.reported_ms()) >= SILENT_MS => {
                self.books.remove(&key);
                true
            }
            _ => false,
        }
    }

    fn book(&mut self, report: &Report, now_ms: u64) {
        let proxy = self.proxies.entry(report.proxy.clone()).or_default();
        if report.incarnation > proxy.incarnation {
            *proxy = Proxy { incarnation: report.incarnation, ..Proxy::default() };
        }
        proxy.acks.insert(report.vm, report.seq);
        proxy.note(report, now_ms);
        self.ear.hear(now_ms);
        let pace = Pace {
            heard_ms: self.ear.heard_ms(),
            next_ms: report.next_ms,
            built_ms: now_ms.saturating_sub(report.age_ms),
        };
        for plan in &report.plans {
            let highest = self.highest.entry(plan.id).or_default();
            *highest = (*highest).max((plan.release, plan.epoch));
            if let Some(books) = self.books.get_mut(&(plan.id, plan.release)) {
                books.book(report, plan, pace, now_ms);
            }
        }
        // The worker enforces the newest release of a service that it names; older ones only settle their books.
        for plan in &report.plans {
            if report.plans.iter().any(|other| other.id == plan.id && other.release > plan.release) {
                continue;
            }
            for (_, other) in
                self.books.iter_mut().filter(|((id, release), _)| *id == plan.id && *release != plan.release)
            {
                other.leave(&report.proxy, report.vm);
            }
        }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Names that this version does not know are another version's and stay out, so the memory is bounded.
    fn note(&mut self, report: &Report, now_ms: u64) {
        for (name, count) in &report.problems {
            let Some(problem) = Problem::named(name) else { continue };
            let before = self.troubles.insert((report.vm, problem), *count).unwrap_or(0);
            if *count > before {
                self.grew_ms.insert(problem, now_ms);
            }
        }
    }

    fn problems(&self, now_ms: u64) -> Vec<Problem> {
        let fresh = |(_, at): &(&Problem, &u64)| now_ms.saturating_sub(**at) <= TROUBLE_MS;
        self.grew_ms.iter().filter(fresh).map(|(problem, _)| *problem).collect()
    }
}
