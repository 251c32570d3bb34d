//! What each stratum said in one tick, before anything is summed over strata.
//!
//! This is the seam between the tests and the question whose word counts: a [`super::case::Case`] hears all strata,
//! or all but those of one witness, and sums what it heard. Log-increments that do not depend on who is heard are
//! computed once; what does depend on it (which slots are new to whom) is worked out once for all cases of a window
//! ([`Heard`]).

use super::analysis::{Analysis, Mode, PredictionMode};
use super::block::{Block, Stratum};
use super::buckets::Buckets;
use super::firsts::Firsts;
use super::latency::weights::Weights;
use super::ledger::{Batch, Ledger, NewTo, Seat, Without};
use super::ratio;
use super::row::Row;
use super::share::SecondErrors;
use super::slots::{SlotSet, limit_of};
use super::tally::Delta;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// All strata of a tick, in the order of all sums.
#[derive(Debug, Default)]
pub struct Hearing {
    /// By stratum; its first part is the Envoy, the witness.
    pub strata: BTreeMap<Stratum, Testimony>,
}

/// One stratum in one tick.
#[derive(Debug, Default)]
pub struct Testimony {
    /// The candidate's completed requests.
    pub requests: u64,
    /// Of those, failures.
    pub errors: u64,
    /// The slot limit of its lottery.
    pub limit: u16,
    /// Slots with a first error; some may have been reported before, by this witness or another.
    pub error_slots: SlotSet,
    /// The candidate's completed requests with an event.
    pub events: u64,
    /// Slots with a first event, likewise.
    pub event_slots: SlotSet,
    /// Slots with a first completed request on the candidate, likewise.
    pub done_slots: SlotSet,
    /// Completed requests and failures of the candidate in rows that do not report their slots: each is a unit of the
    /// absolute certificate.
    pub plain: (u64, u64),
    /// First successful answers of slots, likewise, with the bucket in which their role books them, and that of the total
    /// time.
    pub first_latency: Vec<(u16, u16, Option<u16>)>,
    /// First predictions of slots, likewise with their bin.
    pub first_predictions: Vec<(u16, u16)>,
    /// What a block that closed says.
    pub closed: Option<Closed>,
    /// Errors of the second that is over (robust mode).
    pub second: Option<SecondErrors>,
    /// Its events.
    pub second_events: Option<SecondErrors>,
}

/// A closed block with its log-increments.
#[derive(Debug)]
pub struct Closed {
    /// What was counted.
    pub block: Block,
    /// Per alternative of the ratio of error rates; zero where slots are the unit.
    pub ratio: [f64; ratio::ALTERNATIVES],
    /// Per alternative of latency; empty while there is no reference.
    pub latency: Vec<f64>,
    /// Of the plug-in test of predictions.
    pub predictions: f64,
}

/// Which sessions a window has counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    errors: Ledger,
    /// As large as the other, so it is there only where events come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Ledger>,
    latency: Firsts,
    predictions: Predictions,
}

/// Sessions' first predictions. Each lottery has a band of its own, and any of them may condemn on its own part of
/// alpha: a union bound, which holds however much lotteries have in common. So a session that was heard in one lottery is
/// heard again in the next, perhaps on the other color, and a service with few sessions is judged by all of them at
/// each share. One process over all lotteries (equality) hears a session once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Predictions(BTreeMap<u64, Firsts>);

/// Lotteries whose predictions are heard side by side: Envoys change over one after the other. A late word of an older
/// one is not heard.
const LOTTERIES: usize = 4;

/// A tick as the cases of one window hear it.
#[derive(Debug, Default)]
pub struct Heard<'a> {
    /// The candidate's requests and failures, of all and by seat.
    all: (u64, u64),
    by_seat: BTreeMap<Seat, (u64, u64)>,
    /// Of its requests those with an event.
    events: u64,
    events_by_seat: BTreeMap<Seat, u64>,
    event_batches: Vec<Batch>,
    batches: Vec<Batch>,
    closed: Vec<(Option<Seat>, u64, &'a Closed)>,
    seconds: Vec<(Option<Seat>, SecondErrors)>,
    second_events: Vec<(Option<Seat>, SecondErrors)>,
    latency: Vec<(Option<Seat>, NewTo, Vec<f64>)>,
    predictions: Vec<(Option<Seat>, NewTo, u64, Buckets)>,
}

// === impl Sessions ===

impl Sessions {
    /// Works out what is new to whom. `seat_of` gives a proxy's place; `None`: it is heard in every case.
    pub fn hear<'a>(
        &mut self,
        t_ms: u64,
        analysis: &Analysis,
        weights: Option<&Weights>,
        hearing: &'a Hearing,
        seat_of: impl Fn(&str) -> Option<Seat>,
    ) -> Heard<'a> {
        let mut heard = Heard::default();
        let slots = analysis.mode == Mode::Sessions;
        for (stratum, said) in &hearing.strata {
            let speaker = seat_of(&stratum.0);
            heard.all = sum(heard.all, (said.requests, said.errors));
            if let Some(seat) = speaker {
                let of_seat = heard.by_seat.entry(seat).or_default();
                *of_seat = sum(*of_seat, (said.requests, said.errors));
                let events = heard.events_by_seat.entry(seat).or_default();
                *events = events.saturating_add(said.events);
            }
            heard.events = heard.events.saturating_add(said.events);
            if slots && !said.event_slots.is_empty() {
                let ledger = self.events.get_or_insert_default();
                heard.event_batches.extend(ledger.batch(&said.event_slots, said.limit, speaker));
            }
            if slots && !said.error_slots.is_empty() {
                heard.batches.extend(self.errors.batch(&said.error_slots, said.limit, speaker));
            }
            self.latency.take(
                t_ms,
                analysis,
                stratum,
                speaker,
                said.limit,
                said.first_latency.iter().copied(),
            );
            let memory = if analysis.prediction_mode == PredictionMode::Effect { stratum.1 } else { 0 };
            if let Some(predictions) = self.predictions.of(memory)
                && !said.first_predictions.is_empty()
            {
                let firsts = said.first_predictions.iter().map(|(slot, bin)| (*slot, *bin, None));
                predictions.take(t_ms, analysis, stratum, speaker, said.limit, firsts);
            }
            heard.closed.extend(said.closed.as_ref().map(|closed| (speaker, stratum.1, closed)));
            heard.seconds.extend(said.second.map(|second| (speaker, second)));
            heard.second_events.extend(said.second_events.map(|second| (speaker, second)));
        }
        for (((proxy, _), new_to), observed) in self.latency.close(t_ms) {
            if let Some(weights) = weights {
                let mut sums = vec![0.0; weights.len()];
                weights.add(&observed, &mut sums);
                heard.latency.push((seat_of(&proxy), new_to, sums));
            }
        }
        for predictions in self.predictions.0.values_mut() {
            for (((proxy, epoch), new_to), observed) in predictions.close(t_ms) {
                heard.predictions.push((seat_of(&proxy), new_to, epoch, observed));
            }
        }
        heard
    }

    /// Whether time alone will close a block at `t_ms`.
    pub fn any_closes(&self, t_ms: u64) -> bool {
        let mut predictions = self.predictions.0.values();
        self.latency.any_closes(t_ms) || predictions.any(|firsts| firsts.any_closes(t_ms))
    }

    /// Drops latencies that may be part of the reference.
    pub fn drop_open_latency(&mut self) {
        self.latency.drop_open();
    }

    /// Drops what a checkpoint cannot keep.
    pub fn drop_exceptions(&mut self) {
        self.latency.drop_exceptions();
        self.predictions.0.values_mut().for_each(Firsts::drop_exceptions);
    }
}

// === impl Predictions ===

impl Predictions {
    /// The memory of a lottery; `None`: it is over.
    fn of(&mut self, lottery: u64) -> Option<&mut Firsts> {
        if !self.0.contains_key(&lottery) && self.0.len() >= LOTTERIES {
            let oldest = *self.0.keys().next()?;
            if lottery < oldest {
                return None;
            }
            self.0.remove(&oldest);
        }
        Some(self.0.entry(lottery).or_default())
    }
}

// === impl Heard ===

impl Heard<'_> {
    /// The candidate's requests and failures.
    pub fn requests(&self, without: Without) -> (u64, u64) {
        let left_out = without.seats().filter_map(|seat| self.by_seat.get(&seat));
        left_out.fold(self.all, |all, less| (all.0.saturating_sub(less.0), all.1.saturating_sub(less.1)))
    }

    /// The candidate's requests with an event.
    pub fn events(&self, without: Without) -> u64 {
        let left_out = without.seats().filter_map(|seat| self.events_by_seat.get(&seat));
        left_out.fold(self.events, |all, less| all.saturating_sub(*less))
    }

    /// Events of new sessions, stratum by stratum.
    pub fn event_batches(&self, without: Without) -> impl Iterator<Item = super::ratio::Errors> {
        self.event_batches.iter().filter_map(move |batch| batch.errors(without))
    }

    /// Errors of new sessions, stratum by stratum.
    pub fn errors(&self, without: Without) -> impl Iterator<Item = super::ratio::Errors> {
        self.batches.iter().filter_map(move |batch| batch.errors(without))
    }

    /// Closed blocks with their lottery.
    pub fn closed(&self, without: Without) -> impl Iterator<Item = (u64, &Closed)> + Clone {
        let heard = self.closed.iter().filter(move |(speaker, ..)| without.hears(*speaker));
        heard.map(|(_, epoch, closed)| (*epoch, *closed))
    }

    /// Errors of seconds that are over.
    pub fn seconds(&self, without: Without) -> impl Iterator<Item = SecondErrors> {
        heard_of(&self.seconds, without)
    }

    /// Events of seconds that are over.
    pub fn second_events(&self, without: Without) -> impl Iterator<Item = SecondErrors> {
        heard_of(&self.second_events, without)
    }

    /// Increments of sessions' first latencies.
    pub fn latency(&self, without: Without) -> impl Iterator<Item = &[f64]> + Clone {
        let heard =
            self.latency.iter().filter(move |(speaker, new_to, _)| without.is_told(*speaker, *new_to));
        heard.map(|(.., sums)| sums.as_slice())
    }

    /// Sessions' first predictions by lottery.
    pub fn predictions(&self, without: Without) -> impl Iterator<Item = (u64, &Buckets)> + Clone {
        let heard =
            self.predictions.iter().filter(move |(speaker, new_to, ..)| without.is_told(*speaker, *new_to));
        heard.map(|(_, _, epoch, observed)| (*epoch, observed))
    }
}

fn heard_of(
    seconds: &[(Option<Seat>, SecondErrors)],
    without: Without,
) -> impl Iterator<Item = SecondErrors> {
    let heard = seconds.iter().filter(move |(speaker, _)| without.hears(*speaker));
    heard.map(|(_, second)| *second)
}

fn sum(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

// === impl Testimony ===

impl Testimony {
    /// Adds an accepted row.
    pub fn add(&mut self, row: &Row, delta: &Delta, mode: Mode) {
        let (n, errors) = (delta.green.requests, delta.green.errors);
        self.requests = self.requests.saturating_add(n);
        self.errors = self.errors.saturating_add(errors);
        self.events = self.events.saturating_add(delta.green.events);
        self.limit = limit_of(row.split);
        let done = row.done_slots.as_deref().filter(|_| mode == Mode::Sessions);
        if done.is_none() {
            self.plain = (self.plain.0.saturating_add(n), self.plain.1.saturating_add(errors));
        }
        if mode == Mode::Sessions {
            row.error_slots.iter().for_each(|slot| _ = self.error_slots.insert(*slot));
            row.event_slots.iter().for_each(|slot| _ = self.event_slots.insert(*slot));
            let done = done.unwrap_or_default().iter().filter(|slot| **slot < self.limit);
            done.for_each(|slot| _ = self.done_slots.insert(*slot));
        }
    }
}

// === impl Closed ===

impl Closed {
    /// Predictions of the block, for the band.
    pub fn predicted(&self) -> &Buckets {
        &self.block.predictions
    }
}
