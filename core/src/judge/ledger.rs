//! Who said what of each session first: one ledger for all cases that leave witnesses out.
//!
//! A case that never heard a witness counts a session where somebody else says it first, so each case has its own view
//! of what is new, and a liar that claims every session uses up nothing of the others' views. Kept one by one that is
//! thousands of sets, each asked for each session. But a case leaves out at most two seats, so per slot only the first
//! three that spoke of it matter: what the first says is new to every case that hears it; what a second one says, to the
//! cases without the first; what a third one says, to the one case without both.

use super::slots::{SlotSet, drawn};
use crate::contract::SLOTS;
use crate::judge::ratio::Errors;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place among the witnesses.
pub type Seat = u8;

/// Whom a case does not hear: nobody, one seat or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Without(Option<Seat>, Option<Seat>);

/// To which of the cases that hear the speaker something is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NewTo {
    /// All of them.
    All,
    /// Those without this seat, the first to speak of it.
    Without(Seat),
    /// The one without the first two.
    WithoutBoth(Seat, Seat),
}

/// Per slot the first seats that spoke of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// The first two, and whether nothing more is new.
    said: Vec<[Seat; 2]>,
    closed: SlotSet,
    /// How many slots below a limit were said, for the limits that were asked for.
    counts: BTreeMap<u16, Counts>,
}

/// How many slots were said, and by one or two seats alone.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    all: u32,
    by_one: BTreeMap<Seat, u32>,
    by_two: BTreeMap<(Seat, Seat), u32>,
}

/// Errors of one stratum in one tick that are new to some case.
#[derive(Debug)]
pub struct Batch {
    speaker: Option<Seat>,
    limit: u16,
    /// (candidate, stable).
    new: BTreeMap<NewTo, (u64, u64)>,
    /// Before this batch: all slots, and those below the limit.
    seen: Counts,
    below: Counts,
}

const NOBODY: Seat = Seat::MAX;

// === impl Without ===

impl Without {
    /// Hears everybody.
    pub const NOBODY: Without = Without(None, None);

    /// Never heard this seat.
    pub fn one(seat: Seat) -> Self {
        Without(Some(seat), None)
    }

    /// Never heard these two.
    pub fn both(one: Seat, other: Seat) -> Self {
        Without(Some(one), Some(other))
    }

    /// Whether it hears that speaker; a trusted one (`None`) always.
    pub fn hears(self, speaker: Option<Seat>) -> bool {
        speaker.is_none_or(|seat| !self.leaves_out(seat))
    }

    /// Whether a speaker's word that is new to these cases is new to it.
    pub fn is_told(self, speaker: Option<Seat>, new_to: NewTo) -> bool {
        self.hears(speaker)
            && match new_to {
                NewTo::All => true,
                NewTo::Without(first) => self.leaves_out(first),
                NewTo::WithoutBoth(first, second) => self.leaves_out(first) && self.leaves_out(second),
            }
    }

    /// The seats.
    pub fn seats(self) -> impl Iterator<Item = Seat> {
        [self.0, self.1].into_iter().flatten()
    }

    fn leaves_out(self, seat: Seat) -> bool {
        self.0 == Some(seat) || self.1 == Some(seat)
    }
}

// === impl Ledger ===

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            said: vec![[NOBODY; 2]; SLOTS.into()],
            closed: SlotSet::default(),
            counts: BTreeMap::from([(SLOTS, Counts::default())]),
        }
    }
}

impl Ledger {
    /// Takes a speaker's word about a slot; `None`: it is new to nobody. A trusted speaker is heard by all.
    pub fn take(&mut self, slot: u16, speaker: Option<Seat>) -> Option<NewTo> {
        let new_to = self.news(slot, speaker)?;
        let said = self.said.get_mut(usize::from(slot))?;
        match (new_to, speaker) {
            (NewTo::All, Some(seat)) => said[0] = seat,
            (NewTo::Without(_), Some(seat)) => said[1] = seat,
            (_, None) | (NewTo::WithoutBoth(..), _) => _ = self.closed.insert(slot),
        }
        for counts in self.counts.range_mut(slot.saturating_add(1)..).map(|(_, counts)| counts) {
            counts.add(new_to, speaker);
        }
        Some(new_to)
    }

    /// Errors of a stratum with this slot limit; `None` if they are new to nobody.
    pub fn batch(&mut self, slots: &SlotSet, limit: u16, speaker: Option<Seat>) -> Option<Batch> {
        let limit = limit.min(SLOTS);
        let fresh: Vec<u16> = slots.iter().filter(|slot| self.news(*slot, speaker).is_some()).collect();
        if fresh.is_empty() {
            return None;
        }
        let (seen, below) = (self.counts(SLOTS), self.counts(limit));
        let mut new = BTreeMap::<NewTo, (u64, u64)>::new();
        for slot in fresh {
            if let Some(new_to) = self.take(slot, speaker) {
                let (candidate, stable) = new.entry(new_to).or_default();
                *(if slot < limit { candidate } else { stable }) += 1;
            }
        }
        Some(Batch { speaker, limit, new, seen, below })
    }

    fn news(&self, slot: u16, speaker: Option<Seat>) -> Option<NewTo> {
        let [first, second] = *self.said.get(usize::from(slot))?;
        if self.closed.contains(slot) || speaker.is_some_and(|seat| seat == first || seat == second) {
            None
        } else if first == NOBODY {
            Some(NewTo::All)
        } else if second == NOBODY {
            Some(NewTo::Without(first))
        } else {
            Some(NewTo::WithoutBoth(first, second))
        }
    }

    fn counts(&mut self, limit: u16) -> Counts {
        if let Some(counts) = self.counts.get(&limit) {
            return counts.clone();
        }
        let mut counts = Counts::default();
        for (slot, [first, second]) in (0..limit).zip(&self.said) {
            let seat = |seat: &Seat| Some(*seat).filter(|seat| *seat != NOBODY);
            match (seat(first), seat(second), self.closed.contains(slot)) {
                (None, _, false) => {}
                (_, _, true) => counts.all += 1,
                (Some(first), None, false) => counts.add(NewTo::All, Some(first)),
                (Some(first), Some(second), false) => {
                    counts.add(NewTo::All, Some(first));
                    counts.add(NewTo::Without(first), Some(second));
                }
            }
        }
        // A release has few limits; a hostile proxy names as many as it likes.
        if self.counts.len() < 64 {
            self.counts.insert(limit, counts.clone());
        }
        counts
    }

    /// The slots that anybody spoke of.
    fn seen(&self) -> SlotSet {
        let mut seen = self.closed.clone();
        let said = (0..SLOTS).zip(&self.said).filter(|(_, said)| said[0] != NOBODY);
        said.for_each(|(slot, _)| _ = seen.insert(slot));
        seen
    }
}

/// Kept is what was said, not by whom: a case that takes up after a restart has heard what everyone had.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.seen().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Ledger {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let closed = SlotSet::deserialize(from)?;
        let counts = Counts { all: closed.len(), ..Counts::default() };
        Ok(Ledger { closed, counts: BTreeMap::from([(SLOTS, counts)]), ..Ledger::default() })
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, new_to: NewTo, speaker: Option<Seat>) {
        match new_to {
            NewTo::All => self.all += 1,
            NewTo::Without(first) => take_one(&mut self.by_one, first),
            NewTo::WithoutBoth(first, second) => take_one(&mut self.by_two, ordered(first, second)),
        }
        match (new_to, speaker) {
            (NewTo::All, Some(seat)) => *self.by_one.entry(seat).or_default() += 1,
            (NewTo::Without(first), Some(seat)) => {
                *self.by_two.entry(ordered(first, seat)).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Slots that a case has seen: not those that only a seat spoke of that it never heard.
    fn seen_by(&self, without: Without) -> u32 {
        let alone = without.seats().filter_map(|seat| self.by_one.get(&seat)).sum::<u32>();
        let both = match without {
            Without(Some(one), Some(other)) => self.by_two.get(&ordered(one, other)).copied().unwrap_or(0),
            _ => 0,
        };
        self.all.saturating_sub(alone).saturating_sub(both)
    }
}

// === impl Batch ===

impl Batch {
    /// What a case hears of it, with the share that fits drawing without replacement.
    pub fn errors(&self, without: Without) -> Option<Errors> {
        if !without.hears(self.speaker) {
            return None;
        }
        let (mut candidate, mut stable) = (0u64, 0u64);
        for (_, new) in self.new.iter().filter(|(new_to, _)| without.is_told(self.speaker, **new_to)) {
            candidate = candidate.saturating_add(new.0);
            stable = stable.saturating_add(new.1);
        }
        (candidate > 0 || stable > 0).then(|| {
            let (seen, below) = (self.seen.seen_by(without), self.below.seen_by(without));
            drawn(self.limit, seen, below, candidate, stable)
        })
    }
}

fn ordered(one: Seat, other: Seat) -> (Seat, Seat) {
    if one <= other { (one, other) } else { (other, one) }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::slots::errors_of;

    const SEATS: Seat = 4;

    fn cases() -> Vec<Without> {
        let mut all = vec![Without::NOBODY];
        all.extend((0..SEATS).map(Without::one));
        all.extend((0..SEATS).flat_map(|j| (0..j).map(move |i| Without::both(i, j))));
        all
    }

    /// The plain way: a set of its own for every case.
    #[test]
    fn one_ledger_says_what_a_set_per_case_would() {
        let mut ledger = Ledger::default();
        let mut sets: Vec<SlotSet> = cases().iter().map(|_| SlotSet::default()).collect();
        let mut state = 1u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        for _ in 0..3_000 {
            let speaker = Some(below(5) as Seat).filter(|seat| *seat < SEATS);
            let limit = [500, 2_500, 10_000][below(3) as usize];
            let mut slots = SlotSet::default();
            (0..=below(4)).for_each(|_| _ = slots.insert(below(3_000) as u16));
            let batch = ledger.batch(&slots, limit, speaker);
            for (without, set) in cases().into_iter().zip(&mut sets) {
                let mut fresh = slots.clone();
                fresh.remove(set);
                let wanted =
                    (without.hears(speaker) && !fresh.is_empty()).then(|| errors_of(limit, set, &fresh));
                assert_eq!(batch.as_ref().and_then(|batch| batch.errors(without)), wanted, "{without:?}");
                if without.hears(speaker) {
                    set.extend(&fresh);
                }
            }
        }
        assert!(sets.iter().all(|set| set.len() > 2_000));
    }

    #[test]
    fn after_writing_and_reading_nothing_that_was_said_is_new() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.take(7, Some(1)), Some(NewTo::All));
        let text = serde_json::to_string(&ledger).unwrap();
        let mut read: Ledger = serde_json::from_str(&text).unwrap();
        assert_eq!((read.take(7, Some(2)), read.take(8, Some(2))), (None, Some(NewTo::All)));
        assert_eq!(ledger.take(7, Some(2)), Some(NewTo::Without(1)));
    }
}
