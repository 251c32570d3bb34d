//! The books of one release: per Envoy, lottery and worker the last counters, and what of them is new.

use super::check;
use super::facts::{Facts, LIVING_MS, ProxyFacts, Recent, VmFacts};
use super::silence::{self, Late, Pace, Voice};
use crate::color::{Color, PerColor};
use crate::contract::{Control, LotteryReport, PREDICTION_BINS, PlanReport, Report, Tally};
use crate::histogram::{FIRST_BUCKET, LAST_BUCKET};
use crate::judge::dead::DeadInput;
use crate::judge::slots::SlotSet;
use crate::judge::{Row, Side};
use crate::share::Bps;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// The books of one release.
#[derive(Debug)]
pub(super) struct Books {
    /// (epoch, limit) in order of first sight; a lottery's number in rows is its place, from 1.
    numbers: Vec<(u64, Bps)>,
    proxies: BTreeMap<String, ProxyBooks>,
    /// Rows of processes that were replaced since the last call of `rows`.
    left: Vec<(String, ProxyBooks)>,
    /// Slots that were in rows before; filters repeat them until they are acknowledged.
    told_done: SlotSet,
    totals: PerColor<Tally>,
    told_completions: PerColor<Counts>,
    reported_ms: u64,
}

/// One Envoy process.
#[derive(Debug, Default)]
struct ProxyBooks {
    incarnation: u64,
    row_seq: u64,
    lotteries: BTreeMap<usize, Lottery>,
    workers: BTreeMap<u64, Worker>,
    started: PerColor<u64>,
    recent: Recent,
}

/// One worker as it last reported.
#[derive(Debug)]
struct Worker {
    facts: VmFacts,
    pace: Pace,
    first_ms: u64,
    tripped: u32,
    gauges: PerColor<Gauges>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gauges {
    in_flight: u32,
    oldest_ms: u64,
}

/// One lottery on one Envoy. Sums never shrink: a rebuilt worker has a new number and its old counters stay.
#[derive(Debug, Default)]
struct Lottery {
    vms: BTreeMap<u64, PerColor<Tally>>,
    gauges: BTreeMap<u64, PerColor<Gauges>>,
    new_errors: BTreeSet<u16>,
    new_events: BTreeSet<u16>,
    new_done: BTreeSet<u16>,
    /// To the first byte and in all.
    new_times: BTreeMap<u16, (u16, u16)>,
    new_predictions: BTreeMap<u16, u16>,
    seen: PerColor<Seen>,
    /// The negative control of all workers, where requests draw for themselves. Never more of it than of the color.
    control: PerColor<Control>,
    /// Workers of a checkpoint, which has no histograms: their first report is only where they begin.
    restored: BTreeSet<u64>,
    /// The next row says that all histograms begin at zero: to a judge that was restored the first one is a baseline.
    begins_again: bool,
    /// What a worker's last report said: it is repeated until it is acknowledged.
    said: BTreeMap<u64, Said>,
    changed: bool,
}

/// Slots of one report of one worker.
#[derive(Debug, Default)]
struct Said {
    errors: BTreeSet<u16>,
    events: BTreeSet<u16>,
    times: BTreeSet<u32>,
    predictions: BTreeSet<u32>,
}

/// Successful answers of all workers.
#[derive(Debug, Default)]
struct Seen {
    latency: BTreeMap<u16, u64>,
    total: BTreeMap<u16, u64>,
    predictions: BTreeMap<u16, u64>,
}

/// What the judge counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Sessions by what they showed first.
    Session,
    /// Requests.
    Request,
    /// Requests, but seconds are the draws.
    Second,
}

/// The counters that judging needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    started: u64,
    completed: u64,
    errors: u64,
    #[serde(default)]
    events: u64,
}

/// The counters of one release, to go on from after a restart of the controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IntakeCheckpoint {
    numbers: Vec<(u64, Bps)>,
    proxies: BTreeMap<String, ProxyCheckpoint>,
    totals: PerColor<Counts>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct ProxyCheckpoint {
    incarnation: u64,
    row_seq: u64,
    acks: BTreeMap<u64, u64>,
    /// What each worker promised: one that died before a restart must not be forgotten by it.
    #[serde(default)]
    promises: BTreeMap<u64, u32>,
    /// By number of the lottery and of the worker.
    lotteries: BTreeMap<usize, BTreeMap<u64, PerColor<Counts>>>,
    /// By number of the lottery, where there is any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    control: BTreeMap<usize, PerColor<Control>>,
}

// === impl Books ===

impl Books {
    pub fn new(now_ms: u64) -> Self {
        Books {
            numbers: Vec::new(),
            proxies: BTreeMap::new(),
            left: Vec::new(),
            told_done: SlotSet::default(),
            totals: PerColor::default(),
            told_completions: PerColor::default(),
            reported_ms: now_ms,
        }
    }

    /// When a report last named this release.
    pub fn reported_ms(&self) -> u64 {
        self.reported_ms
    }

    /// How many workers' books of lotteries are kept.
    pub fn entries(&self) -> usize {
        self.proxies
            .values()
            .flat_map(|proxy| proxy.lotteries.values())
            .map(|lottery| lottery.vms.len())
            .sum()
    }

    /// How many lotteries there would be with those of `plan`.
    pub fn lotteries_with(&self, plan: &PlanReport) -> usize {
        let new = plan.lotteries.iter().filter(|lottery| self.number(lottery).is_none());
        self.numbers.len() + new.count()
    }

    /// The last counters of a worker in a lottery.
    pub fn last(
        &self,
        proxy: &str,
        incarnation: u64,
        vm: u64,
        lottery: &LotteryReport,
    ) -> Option<&PerColor<Tally>> {
        let books = self.proxies.get(proxy).filter(|books| books.incarnation == incarnation)?;
        books.lotteries.get(&self.number(lottery)?)?.vms.get(&vm)
    }

    /// Books a checked report.
    pub fn book(&mut self, report: &Report, plan: &PlanReport, pace: Pace, now_ms: u64) {
        self.reported_ms = now_ms;
        let numbers: Vec<usize> = plan.lotteries.iter().map(|lottery| self.number_or_new(lottery)).collect();
        let books = self.proxies.entry(report.proxy.clone()).or_default();
        if report.incarnation > books.incarnation {
            let old = core::mem::replace(
                books,
                ProxyBooks { incarnation: report.incarnation, ..Default::default() },
            );
            // Only a process that restarts many times within one tick could make this grow.
            if old.lotteries.values().any(Lottery::has_news) && self.left.len() < 64 {
                self.left.push((report.proxy.clone(), old));
            }
        }
        let mut started = 0u64;
        for (lottery, number) in plan.lotteries.iter().zip(numbers) {
            let grown = books.lotteries.entry(number).or_default().book(
                report.vm,
                lottery,
                &self.told_done,
                &mut self.totals,
            );
            for color in Color::BOTH {
                let sum = books.started.get_mut(color);
                *sum = sum.saturating_add(*grown.get(color));
                started = started.saturating_add(*grown.get(color));
            }
        }
        books.see(report.vm, plan, started, pace, now_ms);
    }

    /// A worker now has a plan of another release.
    pub fn leave(&mut self, proxy: &str, vm: u64) {
        if let Some(books) = self.proxies.get_mut(proxy) {
            books.workers.remove(&vm);
        }
    }

    /// See [`super::Intake::rows`].
    pub fn rows(&mut self, stable: Color, unit: Unit) -> Vec<Row> {
        let mut rows = Vec::new();
        for (name, mut books) in core::mem::take(&mut self.left) {
            books.rows(&name, &self.numbers, stable, unit, &mut rows);
        }
        for (name, books) in &mut self.proxies {
            books.rows(name, &self.numbers, stable, unit, &mut rows);
        }
        for row in &rows {
            row.done_slots.iter().flatten().for_each(|slot| _ = self.told_done.insert(*slot));
        }
        rows
    }

    /// See [`super::Intake::completions`].
    pub fn completions(&mut self, stable: Color) -> DeadInput {
        let now = PerColor::from_fn(|color| Counts::of(self.totals.get(color)));
        let told = core::mem::replace(&mut self.told_completions, now);
        let new = |color: Color| {
            let (now, told) = (now.get(color), told.get(color));
            (now.completed.saturating_sub(told.completed), now.errors.saturating_sub(told.errors))
        };
        let ((stable_completed, stable_errors), (candidate_completed, candidate_errors)) =
            (new(stable), new(stable.other()));
        DeadInput { candidate_completed, candidate_errors, stable_completed, stable_errors }
    }

    /// See [`super::Intake::facts`].
    pub fn facts(&self, now_ms: u64, heard_ms: u64) -> Facts {
        let mut totals = self.totals.clone();
        let mut proxies = Vec::new();
        for (name, books) in &self.proxies {
            let Late { silent, gone } = books.late(now_ms, heard_ms);
            let living = |worker: &&Worker| {
                let VmFacts { vm, reported_ms, .. } = worker.facts;
                now_ms.saturating_sub(reported_ms) <= LIVING_MS
                    && !silent.iter().any(|silent| silent.vm == vm)
                    && !gone.contains(&vm)
            };
            let workers: Vec<&Worker> = books.workers.values().filter(living).collect();
            for color in Color::BOTH {
                let sum = totals.get_mut(color);
                for gauges in workers.iter().map(|worker| worker.gauges.get(color)) {
                    sum.in_flight = sum.in_flight.saturating_add(gauges.in_flight);
                    sum.oldest_ms = sum.oldest_ms.max(gauges.oldest_ms);
                }
            }
            proxies.push(ProxyFacts {
                proxy: name.clone(),
                incarnation: books.incarnation,
                tripped: workers.iter().map(|worker| worker.tripped).max().unwrap_or(0),
                vms: workers.iter().map(|worker| worker.facts).collect(),
                silent,
                problems: Vec::new(),
                started: books.started,
                recent: books.recent.sum(now_ms),
            });
        }
        Facts { proxies, totals, highest: None }
    }

    /// See [`super::Intake::checkpoint`].
    pub fn checkpoint(&self, acks: impl Fn(&str) -> BTreeMap<u64, u64>) -> IntakeCheckpoint {
        let counts = |tallies: &PerColor<Tally>| PerColor::from_fn(|color| Counts::of(tallies.get(color)));
        let vms =
            |lottery: &Lottery| lottery.vms.iter().map(|(vm, tallies)| (*vm, counts(tallies))).collect();
        let proxy = |(name, books): (&String, &ProxyBooks)| {
            let lotteries = books.lotteries.iter().map(|(number, lottery)| (*number, vms(lottery))).collect();
            let ProxyBooks { incarnation, row_seq, .. } = *books;
            let promises = books.workers.iter().map(|(vm, worker)| (*vm, worker.pace.next_ms)).collect();
            let control =
                books.lotteries.iter().filter(|(_, lottery)| lottery.control != PerColor::default());
            let control = control.map(|(number, lottery)| (*number, lottery.control)).collect();
            let acks = acks(name);
            (name.clone(), ProxyCheckpoint { incarnation, row_seq, acks, promises, lotteries, control })
        };
        IntakeCheckpoint {
            numbers: self.numbers.clone(),
            proxies: self.proxies.iter().map(proxy).collect(),
            totals: counts(&self.totals),
        }
    }

    /// See [`super::Intake::restore`].
    pub fn restore(checkpoint: IntakeCheckpoint, now_ms: u64, heard_ms: u64) -> Self {
        let tallies = |counts: PerColor<Counts>| PerColor::from_fn(|color| counts.get(color).tally());
        let lottery = |vms: BTreeMap<u64, PerColor<Counts>>, control: Option<&PerColor<Control>>| Lottery {
            restored: vms.keys().copied().collect(),
            begins_again: true,
            control: control.copied().unwrap_or_default(),
            vms: vms.into_iter().map(|(vm, counts)| (vm, tallies(counts))).collect(),
            ..Lottery::default()
        };
        let proxy = |proxy: ProxyCheckpoint| {
            let lotteries = proxy.lotteries.into_iter();
            let lotteries: BTreeMap<usize, Lottery> =
                lotteries.map(|(number, vms)| (number, lottery(vms, proxy.control.get(&number)))).collect();
            let started = PerColor::from_fn(|color| {
                let tallies = lotteries.values().flat_map(|l| l.vms.values());
                tallies.fold(0u64, |sum, tally| sum.saturating_add(tally.get(color).started))
            });
            let worker = |(vm, next_ms): (u64, u32)| {
                // Its epoch is 0: it proves nothing until it reports.
                let facts = VmFacts { vm, reported_ms: now_ms, ..VmFacts::default() };
                let pace = Pace { heard_ms, next_ms, built_ms: 0 };
                let gauges = PerColor::default();
                (vm, Worker { facts, pace, first_ms: now_ms, tripped: 0, gauges })
            };
            let workers = proxy.promises.into_iter().map(worker).collect();
            let ProxyCheckpoint { incarnation, row_seq, .. } = proxy;
            ProxyBooks { incarnation, row_seq, lotteries, started, workers, ..ProxyBooks::default() }
        };
        Books {
            numbers: checkpoint.numbers,
            proxies: checkpoint.proxies.into_iter().map(|(name, books)| (name, proxy(books))).collect(),
            totals: tallies(checkpoint.totals),
            told_completions: checkpoint.totals,
            ..Books::new(0)
        }
    }

    fn number(&self, lottery: &LotteryReport) -> Option<usize> {
        let place = self.numbers.iter().position(|of| *of == (lottery.epoch, lottery.limit))?;
        Some(place + 1)
    }

    fn number_or_new(&mut self, lottery: &LotteryReport) -> usize {
        self.number(lottery).unwrap_or_else(|| {
            self.numbers.push((lottery.epoch, lottery.limit));
            self.numbers.len()
        })
    }
}

// === impl ProxyBooks ===

impl ProxyBooks {
    fn late(&self, now_ms: u64, heard_ms: u64) -> Late {
        let voice = |worker: &Worker| Voice {
            pace: worker.pace,
            first_ms: worker.first_ms,
            reported_ms: worker.facts.reported_ms,
        };
        let voices = self.workers.iter().map(|(vm, worker)| (*vm, voice(worker))).collect();
        silence::late(&voices, now_ms, heard_ms)
    }

    fn see(&mut self, vm: u64, plan: &PlanReport, started: u64, pace: Pace, now_ms: u64) {
        let traffic_ms = if started > 0 {
            now_ms
        } else {
            self.workers.get(&vm).map_or(0, |worker| worker.facts.traffic_ms)
        };
        let gauges = PerColor::from_fn(|color| {
            let of_vm = self.lotteries.values().filter_map(|lottery| lottery.gauges.get(&vm));
            of_vm.map(|gauges| gauges.get(color)).fold(Gauges::default(), |sum, more| Gauges {
                in_flight: sum.in_flight.saturating_add(more.in_flight),
                oldest_ms: sum.oldest_ms.max(more.oldest_ms),
            })
        });
        let facts = VmFacts { vm, epoch: plan.epoch, reported_ms: now_ms, traffic_ms };
        let first_ms = self.workers.get(&vm).map_or(now_ms, |worker| worker.first_ms);
        self.workers.insert(vm, Worker { facts, pace, first_ms, tripped: plan.tripped, gauges });
        self.recent.add(now_ms, started);
        if self.workers.len() > 1 {
            let Late { gone, .. } = self.late(now_ms, pace.heard_ms);
            self.workers.retain(|vm, _| !gone.contains(vm));
        }
    }

    fn rows(&mut self, name: &str, numbers: &[(u64, Bps)], stable: Color, unit: Unit, rows: &mut Vec<Row>) {
        if self.lotteries.values().any(Lottery::has_news) {
            self.row_seq = self.row_seq.saturating_add(1);
        }
        for (number, lottery) in self.lotteries.iter_mut().filter(|(_, lottery)| lottery.has_news()) {
            let limit =
                number.checked_sub(1).and_then(|place| numbers.get(place)).map_or(Bps::ZERO, |of| of.1);
            rows.push(Row {
                proxy: String::from(name),
                incarnation: self.incarnation,
                seq: self.row_seq,
                epoch: *number as u64,
                split: limit.fraction(),
                blue: Some(lottery.side(stable, unit)),
                green: Some(lottery.side(stable.other(), unit)),
                control: if unit == Unit::Request { lottery.control_side(stable) } else { None },
                error_slots: core::mem::take(&mut lottery.new_errors).into_iter().collect(),
                done_slots: Some(core::mem::take(&mut lottery.new_done).into_iter().collect()),
                first_latency: firsts(lottery.new_times.iter().map(|(slot, times)| (*slot, times.0))),
                first_total: firsts(lottery.new_times.iter().map(|(slot, times)| (*slot, times.1))),
                first_predictions: firsts(core::mem::take(&mut lottery.new_predictions)),
                event_slots: core::mem::take(&mut lottery.new_events).into_iter().collect(),
            });
            lottery.new_times.clear();
            // What was counted since the beginning follows in the next row.
            lottery.changed = core::mem::take(&mut lottery.begins_again) && unit != Unit::Session;
        }
    }
}

// === impl Lottery ===

impl Lottery {
    fn has_news(&self) -> bool {
        self.changed
            || !self.new_errors.is_empty()
            || !self.new_events.is_empty()
            || !self.new_done.is_empty()
            || !self.new_times.is_empty()
            || !self.new_predictions.is_empty()
    }

    /// Books one worker's counters; gives the requests that it started since.
    fn book(
        &mut self,
        vm: u64,
        report: &LotteryReport,
        told_done: &SlotSet,
        totals: &mut PerColor<Tally>,
    ) -> PerColor<u64> {
        let last = self.vms.entry(vm).or_default();
        let restored = self.restored.remove(&vm);
        let started = PerColor::from_fn(|color| {
            let (now, last) = (report.tallies.get(color), last.get_mut(color));
            if !restored {
                grow_control(self.control.get_mut(color), last, now);
            }
            let started = now.started.saturating_sub(last.started);
            self.changed |= Counts::of(now) != Counts::of(last);
            let seen = (!restored).then(|| self.seen.get_mut(color));
            advance(last, now, totals.get_mut(color), seen.unwrap_or(&mut Seen::default()));
            started
        });
        let gauges = PerColor::from_fn(|color| {
            let Tally { in_flight, oldest_ms, .. } = *report.tallies.get(color);
            Gauges { in_flight, oldest_ms }
        });
        self.gauges.insert(vm, gauges);
        // A filter says a slot again when it errs again seconds later, and until it is acknowledged: the latter is
        // what stood in its last report already.
        let said = self.said.entry(vm).or_default();
        self.new_errors.extend(report.error_slots.iter().filter(|slot| !said.errors.contains(*slot)));
        let times = report.first_times.iter().filter(|entry| !said.times.contains(*entry));
        for (slot, buckets) in times.filter_map(|entry| check::first_times(*entry)) {
            self.new_times.entry(slot).or_insert(buckets);
        }
        let predictions = report.first_predictions.iter().filter(|entry| !said.predictions.contains(*entry));
        for (slot, bin) in predictions.filter_map(|entry| check::first_prediction(*entry)) {
            self.new_predictions.entry(slot).or_insert(bin);
        }
        self.new_events.extend(report.event_slots.iter().filter(|slot| !said.events.contains(*slot)));
        said.events = report.event_slots.iter().copied().collect();
        said.errors = report.error_slots.iter().copied().collect();
        said.times = report.first_times.iter().copied().collect();
        said.predictions = report.first_predictions.iter().copied().collect();
        let candidates = report.done_slots.iter().filter(|slot| **slot < report.limit.get());
        self.new_done.extend(candidates.filter(|slot| !told_done.contains(**slot)));
        started
    }

    /// The sum over the workers.
    fn side(&self, color: Color, unit: Unit) -> Side {
        let sum = |counter: fn(&Tally) -> u64| {
            let sum = self.vms.values().fold(0u64, |sum, vm| sum.saturating_add(counter(vm.get(color))));
            Some(i64::try_from(sum).unwrap_or(i64::MAX))
        };
        let mut side = Side {
            requests: sum(|tally| tally.completed),
            errors: sum(|tally| tally.errors),
            started: sum(|tally| tally.started),
            // Plain worlds do not know it.
            events: sum(|tally| tally.events).filter(|events| *events > 0),
            ..Side::default()
        };
        if unit != Unit::Session {
            let Seen { latency, total, predictions } = self.seen.get(color);
            side.latency = self.histogram(latency, FIRST_BUCKET..=LAST_BUCKET);
            side.total = self.histogram(total, FIRST_BUCKET..=LAST_BUCKET);
            let bins = u16::try_from(PREDICTION_BINS).unwrap_or(u16::MAX);
            side.predictions = self.histogram(predictions, 0..=bins.saturating_sub(1));
        }
        side
    }

    /// The negative control; none where sessions stick.
    fn control_side(&self, stable: Color) -> Option<Side> {
        let Control { started, completed, errors } = *self.control.get(stable);
        let count = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
        let side = || Side {
            requests: count(completed),
            errors: count(errors),
            started: count(started),
            ..Side::default()
        };
        (!self.control.get(stable).is_empty()).then(side)
    }

    fn histogram(&self, counts: &BTreeMap<u16, u64>, places: RangeInclusive<u16>) -> BTreeMap<i32, i64> {
        if self.begins_again {
            return places.map(|place| (place.into(), 0)).collect();
        }
        let count = |(place, n): (&u16, &u64)| (i32::from(*place), i64::try_from(*n).unwrap_or(i64::MAX));
        counts.iter().map(count).collect()
    }
}

/// Slots with what each showed first.
fn firsts(new: impl IntoIterator<Item = (u16, u16)>) -> Vec<(u16, i32)> {
    new.into_iter().map(|(slot, place)| (slot, i32::from(place))).collect()
}

/// Moves `last` on to `now` and adds the difference to `total` and to what was `seen`. Gauges are not counters and stay
/// out.
fn advance(last: &mut Tally, now: &Tally, total: &mut Tally, seen: &mut Seen) {
    for (last, now, total) in [
        (&mut last.started, now.started, &mut total.started),
        (&mut last.completed, now.completed, &mut total.completed),
        (&mut last.errors, now.errors, &mut total.errors),
        (&mut last.hung, now.hung, &mut total.hung),
        (&mut last.events, now.events, &mut total.events),
        (&mut last.control.started, now.control.started, &mut total.control.started),
        (&mut last.control.completed, now.control.completed, &mut total.control.completed),
        (&mut last.control.errors, now.control.errors, &mut total.control.errors),
    ] {
        *total = total.saturating_add(raise(last, now));
    }
    advance_map(&mut last.outcomes, &now.outcomes, [&mut total.outcomes]);
    advance_map(&mut last.first_byte, &now.first_byte, [&mut total.first_byte, &mut seen.latency]);
    advance_map(&mut last.total, &now.total, [&mut total.total, &mut seen.total]);
    advance_map(&mut last.predictions, &now.predictions, [&mut total.predictions, &mut seen.predictions]);
}

/// Adds to `sum` what `now` has more than `last`, as far as the color itself has more: a report that claims otherwise
/// must not make a row that the judge refuses.
fn grow_control(sum: &mut Control, last: &Tally, now: &Tally) {
    let grown = |(part, before): (u64, u64), (all, all_before): (u64, u64)| {
        part.saturating_sub(before).min(all.saturating_sub(all_before))
    };
    let (part, before) = (now.control, last.control);
    let completed = grown((part.completed, before.completed), (now.completed, last.completed));
    let errors = grown((part.errors, before.errors), (now.errors, last.errors)).min(completed);
    let started = grown((part.started, before.started), (now.started, last.started));
    sum.completed = sum.completed.saturating_add(completed);
    sum.errors = sum.errors.saturating_add(errors);
    sum.started = sum.started.saturating_add(started);
}

fn advance_map<K: Ord + Clone, const N: usize>(
    last: &mut BTreeMap<K, u64>,
    now: &BTreeMap<K, u64>,
    mut sums: [&mut BTreeMap<K, u64>; N],
) {
    for (key, now) in now {
        // A report has few news, but all buckets that ever counted anything.
        let more = match last.get_mut(key) {
            Some(last) => raise(last, *now),
            None => *last.entry(key.clone()).insert_entry(*now).get(),
        };
        for sum in sums.iter_mut().filter(|_| more > 0) {
            let sum = sum.entry(key.clone()).or_default();
            *sum = sum.saturating_add(more);
        }
    }
}

/// Gives what is new. Counters for display are not checked beforehand: one that shrinks stays.
fn raise(last: &mut u64, now: u64) -> u64 {
    let more = now.saturating_sub(*last);
    *last = now.max(*last);
    more
}

// === impl Counts ===

impl Counts {
    fn of(tally: &Tally) -> Self {
        Counts {
            started: tally.started,
            completed: tally.completed,
            errors: tally.errors,
            events: tally.events,
        }
    }

    fn tally(self) -> Tally {
        let Counts { started, completed, errors, events } = self;
        Tally { started, completed, errors, events, ..Tally::default() }
    }
}

// === impl IntakeCheckpoint ===

impl IntakeCheckpoint {
    /// Per proxy its incarnation and the acknowledged `seq` of its workers.
    pub(super) fn acks(&self) -> impl Iterator<Item = (&String, u64, &BTreeMap<u64, u64>)> {
        self.proxies.iter().map(|(name, proxy)| (name, proxy.incarnation, &proxy.acks))
    }
}
