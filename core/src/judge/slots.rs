//! Sessions as the unit of chance: a lottery slot counts once per release, at its first error.
//!
//! A client that fails for a minute and sticks to one color is one draw, not sixty. Slots are drawn without
//! replacement: the candidate's share is that of its slots among those that have not erred yet.

use super::ratio::Errors;
use crate::contract::SLOTS;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A set of lottery slots, 0..10 000; written as hex digits, 64 slots a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Vec<u64>,
}

const WORDS: usize = (SLOTS as usize).div_ceil(64);

/// Errors of a batch of slots that were not in `seen`, with the share that fits drawing without replacement.
pub fn errors_of(limit: u16, seen: &SlotSet, fresh: &SlotSet) -> Errors {
    let limit = limit.min(SLOTS);
    let candidate = u64::from(fresh.len_below(limit));
    let stable = u64::from(fresh.len()).saturating_sub(candidate);
    drawn(limit, seen.len(), seen.len_below(limit), candidate, stable)
}

/// Errors of new slots after `seen` were drawn, of those `below` ones below the limit.
pub fn drawn(limit: u16, seen: u32, below: u32, candidate: u64, stable: u64) -> Errors {
    let left = u32::from(SLOTS).saturating_sub(seen);
    let left_below = u32::from(limit).saturating_sub(below);
    let share = if left == 0 { 0.0 } else { f64::from(left_below) / f64::from(left) };
    Errors { share, candidate, stable }
}

/// The slot limit of a configured share.
pub fn limit_of(split: f64) -> u16 {
    // The cast saturates; `rint` rounds half to even, as the reference does.
    (libm::rint(split * f64::from(SLOTS)) as u16).min(SLOTS)
}

// === impl SlotSet ===

impl Default for SlotSet {
    fn default() -> Self {
        SlotSet { words: vec![0; WORDS] }
    }
}

impl SlotSet {
    /// Adds a slot; false if it was there or is no slot.
    pub fn insert(&mut self, slot: u16) -> bool {
        let bit = 1u64 << (slot % 64);
        match self.words.get_mut(usize::from(slot / 64)) {
            Some(word) if slot < SLOTS && *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether it holds the slot.
    pub fn contains(&self, slot: u16) -> bool {
        self.words.get(usize::from(slot / 64)).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// How many slots.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many slots below `limit`.
    pub fn len_below(&self, limit: u16) -> u32 {
        let whole = usize::from(limit / 64);
        let full: u32 = self.words.iter().take(whole).map(|word| word.count_ones()).sum();
        let part = self.words.get(whole).map_or(0, |word| (word & ((1 << (limit % 64)) - 1)).count_ones());
        full + part
    }

    /// How many slots are in both.
    pub fn len_in_both(&self, other: &SlotSet) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Adds all slots of `other`.
    pub fn extend(&mut self, other: &SlotSet) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Takes out all slots of `other`.
    pub fn remove(&mut self, other: &SlotSet) {
        for (word, less) in self.words.iter_mut().zip(&other.words) {
            *word &= !less;
        }
    }

    /// The slots below `limit`.
    pub fn below(&self, limit: u16) -> SlotSet {
        let mut set = self.clone();
        for (word, first) in set.words.iter_mut().zip((0u32..).step_by(64)) {
            match u32::from(limit).saturating_sub(first) {
                0 => *word = 0,
                kept @ 1..64 => *word &= (1 << kept) - 1,
                _ => {}
            }
        }
        set
    }

    /// The slots, rising.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        // Most words of a tick's set are empty.
        let words = (0u16..).zip(&self.words).filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(WORDS * 16);
        for word in &self.words {
            // Writing to a String cannot fail.
            let _ = write!(text, "{word:016x}");
        }
        to.serialize_str(text.trim_end_matches('0'))
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || de::Error::custom("a slot set is at most 2512 hex digits");
        if text.len() > WORDS * 16 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut set = SlotSet::default();
        for (word, start) in set.words.iter_mut().zip((0..text.len()).step_by(16)) {
            let digits = text.get(start..text.len().min(start + 16)).unwrap_or_default();
            let value = u64::from_str_radix(digits, 16).map_err(|_| wrong())?;
            *word = value << (4 * (16 - digits.len()));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_writing_and_reading() {
        let mut set = SlotSet::default();
        for slot in [0, 1, 63, 64, 4_711, 9_998, 9_999] {
            assert!(set.insert(slot));
            assert!(!set.insert(slot), "a slot is new once");
        }
        assert!(!set.insert(10_000), "no such slot");
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<SlotSet>(&text).unwrap(), set);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 63, 64, 4_711, 9_998, 9_999]);
        assert_eq!((set.len(), set.len_below(64), set.len_below(65), set.len_below(10_000)), (7, 3, 4, 7));
        assert_eq!(set.below(64).iter().collect::<Vec<_>>(), [0, 1, 63]);
        assert_eq!(set.below(9_999).len(), 6);
        set.remove(&set.below(4_712));
        assert_eq!(set.iter().collect::<Vec<_>>(), [9_998, 9_999]);
        assert!(serde_json::from_str::<SlotSet>("\"xyz\"").is_err());
        assert_eq!(serde_json::from_str::<SlotSet>("\"\"").unwrap(), SlotSet::default());
    }
}
