//! Which sessions have been counted so far, for the certificates: they are about the whole release.
//!
//! Two books of slots. *Seen*: slots that erred on either color; each is one draw of the ratio test. *Done*: the
//! candidate's units of the absolute certificate. A slot that already erred on stable is no unit of the latter: its
//! later errors are not reported again, and counting it as good would be a lie.

use super::evidence::Slots;
use super::ratio::Errors;
use super::slots::{SlotSet, errors_of};
use super::testimony::Hearing;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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

// === impl Units ===

impl Units {
    /// Books a tick's slots; gives the errors of each stratum that had a new one.
    pub fn take(&mut self, hearing: &Hearing) -> Vec<Errors> {
        let mut found = Vec::new();
        for said in hearing.strata.values() {
            let (n, errors) = said.plain;
            self.plain = (self.plain.0.saturating_add(n), self.plain.1.saturating_add(errors));
            let mut fresh = said.error_slots.clone();
            fresh.remove(&self.seen);
            if !fresh.is_empty() {
                found.push(errors_of(said.limit, &self.seen, &fresh));
                self.seen.extend(&fresh);
                self.candidate_errors.extend(&fresh.below(said.limit));
            }
            if !said.done_slots.is_empty() {
                let mut done = said.done_slots.clone();
                let mut erred_on_stable = self.seen.clone();
                erred_on_stable.remove(&self.candidate_errors);
                done.remove(&erred_on_stable);
                self.done.extend(&done);
            }
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
