//! What a tick brought, and which sessions have been counted so far.
//!
//! Two books of slots. *Seen*: slots that erred on either color; each is one draw of the ratio test. *Done*: the
//! candidate's units of the absolute certificate. A slot that already erred on stable is no unit of the latter: its
//! later errors are not reported again, and counting it as good would be a lie.

use super::analysis::Mode;
use super::block::Stratum;
use super::evidence::Slots;
use super::ratio::Errors;
use super::row::Row;
use super::slots::{SlotSet, errors_of, limit_of};
use super::tally::Delta;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the accepted rows of a tick add, over all strata.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The candidate's completed requests.
    pub requests: u64,
    /// Of those, failures.
    pub errors: u64,
    /// Requests and failures that are units of the absolute certificate: those of rows without done slots.
    plain: (u64, u64),
    strata: BTreeMap<Stratum, StratumSlots>,
}

#[derive(Debug, Default)]
struct StratumSlots {
    limit: u16,
    errors: SlotSet,
    done: SlotSet,
}

/// The sessions counted so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Units {
    /// Slots with an error, on either color.
    seen: SlotSet,
    /// Of those, the ones whose first error was the candidate's.
    candidate_errors: SlotSet,
    /// Slots with a completed request on the candidate that had not erred on stable before.
    done: SlotSet,
    /// Units that are requests, and those in error.
    plain: (u64, u64),
}

// === impl Batch ===

impl Batch {
    /// Adds an accepted row.
    pub fn add(&mut self, row: &Row, delta: &Delta, mode: Mode) {
        let (n, errors) = (delta.green.requests, delta.green.errors);
        self.requests = self.requests.saturating_add(n);
        self.errors = self.errors.saturating_add(errors);
        let done = row.done_slots.as_deref().filter(|_| mode == Mode::Sessions);
        if done.is_none() {
            self.plain = (self.plain.0.saturating_add(n), self.plain.1.saturating_add(errors));
        }
        let done = done.unwrap_or_default();
        if mode != Mode::Sessions || (row.error_slots.is_empty() && done.is_empty()) {
            return;
        }
        let slots = self.strata.entry((row.proxy.clone(), row.epoch)).or_default();
        slots.limit = limit_of(row.split);
        row.error_slots.iter().for_each(|slot| _ = slots.errors.insert(*slot));
        done.iter().filter(|slot| **slot < slots.limit).for_each(|slot| _ = slots.done.insert(*slot));
    }
}

// === impl Units ===

impl Units {
    /// Books a tick's slots; gives the errors of each stratum that had a new one.
    pub fn take(&mut self, batch: &Batch) -> Vec<Errors> {
        self.plain = (self.plain.0.saturating_add(batch.plain.0), self.plain.1.saturating_add(batch.plain.1));
        let mut found = Vec::new();
        for slots in batch.strata.values() {
            let mut fresh = slots.errors.clone();
            fresh.remove(&self.seen);
            if !fresh.is_empty() {
                found.push(errors_of(slots.limit, &self.seen, &fresh));
                self.seen.extend(&fresh);
                self.candidate_errors.extend(&fresh.below(slots.limit));
            }
            let mut done = slots.done.clone();
            let mut erred_on_stable = self.seen.clone();
            erred_on_stable.remove(&self.candidate_errors);
            done.remove(&erred_on_stable);
            self.done.extend(&done);
        }
        found
    }

    /// Units of the absolute certificate and those in error.
    pub fn totals(&self) -> (u64, u64) {
        let slots = self.candidate_slots();
        (self.plain.0.saturating_add(slots.done.into()), self.plain.1.saturating_add(slots.errors.into()))
    }

    /// The candidate's sessions.
    pub fn candidate_slots(&self) -> Slots {
        Slots { done: self.done.len(), errors: self.done.len_in_both(&self.candidate_errors) }
    }
}
