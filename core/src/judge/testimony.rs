//! What each stratum said in one tick, before anything is summed over strata.
//!
//! This is the seam between the tests and the question whose word counts: a [`super::case::Case`] hears all strata,
//! or all but those of one witness, and sums what it heard. Log-increments that do not depend on who is heard are
//! computed once, here; what does depend on it (which slots are new) stays raw.

use super::analysis::Mode;
use super::block::{Block, Stratum};
use super::buckets::Buckets;
use super::ratio;
use super::row::Row;
use super::share::SecondErrors;
use super::slots::{SlotSet, limit_of};
use super::tally::Delta;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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
    /// Slots with a first completed request on the candidate, likewise.
    pub done_slots: SlotSet,
    /// Completed requests and failures of the candidate in rows that do not report their slots: each is a unit of the
    /// absolute certificate.
    pub plain: (u64, u64),
    /// First successful answers of slots, likewise, with the bucket in which their role books them.
    pub first_latency: Vec<(u16, u16)>,
    /// First predictions of slots, likewise with their bin.
    pub first_predictions: Vec<(u16, u16)>,
    /// What a block that closed says.
    pub closed: Option<Closed>,
    /// Errors of the second that is over (robust mode).
    pub second: Option<SecondErrors>,
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

// === impl Testimony ===

impl Testimony {
    /// Adds an accepted row.
    pub fn add(&mut self, row: &Row, delta: &Delta, mode: Mode) {
        let (n, errors) = (delta.green.requests, delta.green.errors);
        self.requests = self.requests.saturating_add(n);
        self.errors = self.errors.saturating_add(errors);
        self.limit = limit_of(row.split);
        let done = row.done_slots.as_deref().filter(|_| mode == Mode::Sessions);
        if done.is_none() {
            self.plain = (self.plain.0.saturating_add(n), self.plain.1.saturating_add(errors));
        }
        if mode == Mode::Sessions {
            row.error_slots.iter().for_each(|slot| _ = self.error_slots.insert(*slot));
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
