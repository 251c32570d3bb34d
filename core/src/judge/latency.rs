//! The latency metric: is the candidate slower than stable by more than the granted margin?
//!
//! Exact counts in fixed buckets, candidate counts booked lower by the margin ([`margin`]), then color given bucket
//! with weights from stable's own histogram ([`weights`]). That histogram is from before the release, or gathered
//! first and then frozen: weights are never chosen from the data that they score. A live release begins with a small one
//! and goes on with larger ones, each from observations before those that it scores: what passes until the first is
//! not judged, and one of a few observations, perhaps of a bad second, is a poor one.
//!
//! An answer has two times, to its first byte and in all. They lie on two scales of the same histogram, and half of the
//! alternatives are of each: an average, which is right whatever the two have in common. Rows that know one time have
//! one scale.

pub mod margin;
pub mod weights;

use super::analysis::Analysis;
use super::buckets::{Buckets, SECOND_SCALE, add, total};
use super::tally::SideDelta;
use crate::histogram::Sparse;
use margin::{Margin, clamped};
use serde::{Deserialize, Serialize};
use weights::Weights;

/// Where latencies are booked, and stable's reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Reference {
    saved: Saved,
    margin: Margin,
    weights: Option<Weights>,
}

/// What a checkpoint keeps; the rest is computed from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    shift: u32,
    guard_us: u64,
    /// Stable's observations so far.
    counts: Sparse,
    /// How many of them the next tables need; `None`: there are no more.
    wanted: Option<u64>,
    /// The reference is followed by larger ones of up to so many; `None`: the first one stays.
    #[serde(default)]
    most: Option<u64>,
    /// What the present tables are from.
    #[serde(default)]
    used: Sparse,
}

/// A reference is followed by one of this many times as many observations.
const GROWTH: u64 = 2;

// === impl Reference ===

impl Reference {
    /// Frozen if the analysis brings a histogram from before the release, else to be gathered.
    pub fn new(analysis: &Analysis) -> Self {
        let mut used = Sparse::new();
        for (bucket, n) in analysis.latency_reference.iter().flatten() {
            add(&mut used, clamped(*bucket), *n);
        }
        Reference::from(Saved {
            shift: analysis.latency_shift,
            guard_us: analysis.latency_guard_us,
            counts: Sparse::new(),
            wanted: used.is_empty().then(|| analysis.latency_min_reference.max(1)),
            most: analysis.latency_most_reference.filter(|_| used.is_empty()),
            used,
        })
    }

    /// The tables; `None` until the reference is frozen.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// Books what a row adds.
    pub fn book(&mut self, block: &mut Buckets, blue: &SideDelta, green: &SideDelta) {
        for (bucket, n) in &green.latency {
            self.book_green(block, *bucket, *n);
        }
        for (bucket, n) in &green.total {
            add(&mut block.green, SECOND_SCALE + self.margin.booked(*bucket), *n);
        }
        for (bucket, n) in &blue.latency {
            self.book_blue(block, clamped(*bucket), *n);
        }
        for (bucket, n) in &blue.total {
            self.book_blue(block, SECOND_SCALE + clamped(*bucket), *n);
        }
    }

    /// Books the candidate's observations of a bucket.
    pub fn book_green(&self, block: &mut Buckets, bucket: i32, n: u64) {
        add(&mut block.green, self.margin.booked(bucket), n);
    }

    /// Books stable's observations at a place of either scale.
    fn book_blue(&mut self, block: &mut Buckets, place: u16, n: u64) {
        add(&mut block.blue, place, n);
        self.refer(place, n);
    }

    /// Where a session's first answer is booked; stable's fills the reference to come.
    pub fn book_first(&mut self, is_candidate: bool, bucket: i32) -> u16 {
        self.book_one(is_candidate, bucket, 0)
    }

    /// Likewise by its total time.
    pub fn book_first_total(&mut self, is_candidate: bool, bucket: i32) -> u16 {
        self.book_one(is_candidate, bucket, SECOND_SCALE)
    }

    fn book_one(&mut self, is_candidate: bool, bucket: i32, scale: u16) -> u16 {
        if is_candidate {
            return scale + self.margin.booked(bucket);
        }
        self.refer(scale + clamped(bucket), 1);
        scale + clamped(bucket)
    }

    /// Stable's observations are the reference to come.
    fn refer(&mut self, place: u16, n: u64) {
        if self.saved.wanted.is_some() {
            add(&mut self.saved.counts, place, n);
        }
    }

    /// Freezes the reference once it is large enough; true at that moment. What waits in open blocks must then be
    /// dropped: it is part of the reference.
    pub fn freeze(&mut self) -> bool {
        let Saved { counts, wanted, most, used, .. } = &mut self.saved;
        let gathered = total(counts);
        let Some(mut next) = wanted.filter(|wanted| gathered >= *wanted) else { return false };
        while next <= gathered && next < u64::MAX {
            next = next.saturating_mul(GROWTH);
        }
        *wanted = most.is_some_and(|most| next <= most).then_some(next);
        *used = if wanted.is_some() { counts.clone() } else { core::mem::take(counts) };
        self.weights = self.saved.weights();
        true
    }
}

// === impl Saved ===

impl Saved {
    fn weights(&self) -> Option<Weights> {
        match self.most {
            Some(_) => Weights::in_all_places(&self.used),
            None => Weights::of(&self.used),
        }
    }
}

impl From<Saved> for Reference {
    fn from(saved: Saved) -> Self {
        let margin = Margin::new(saved.shift, saved.guard_us);
        Reference { margin, weights: saved.weights(), saved }
    }
}

impl From<Reference> for Saved {
    fn from(reference: Reference) -> Self {
        reference.saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_live_reference_grows_and_survives_a_checkpoint() {
        let mut reference = Reference::new(&Analysis::live());
        let (mut frozen, mut tables) = (Vec::new(), Vec::new());
        for n in 1..=2_000u64 {
            // A bad second at first: everything takes far longer.
            reference.book_first(false, if n <= 20 { 300 } else { 200 + (n % 40) as i32 });
            if reference.freeze() {
                frozen.push(n);
                tables.push(reference.weights().unwrap().clone());
            }
            if n % 150 == 0 {
                let text = serde_json::to_string(&reference).unwrap();
                assert_eq!(serde_json::from_str::<Reference>(&text).unwrap(), reference, "after {n}");
            }
        }
        assert_eq!(frozen, [50, 100, 200, 400, 800, 1_600]);
        assert_eq!(reference.weights(), tables.last(), "what comes later changes nothing");
        // Half a standard deviation above stable's middle speaks the clearer, the less of the bad second there is.
        let tilt = |weights: &Weights| weights.at(230).nth(2).unwrap();
        assert!(tables.windows(2).all(|pair| tilt(&pair[0]) < tilt(&pair[1])), "{tables:?}");
        assert!(tables.iter().all(|weights| weights.len() == 22 && weights.prior() == tables[0].prior()));
    }

    #[test]
    fn a_reference_from_before_the_release_is_the_only_one() {
        let known = [(200, 50), (220, 50)].into_iter().collect();
        let analysis = Analysis { latency_reference: Some(known), ..Analysis::live() };
        let mut reference = Reference::new(&analysis);
        let before = reference.weights().cloned();
        assert!(before.is_some());
        (0..3_000).for_each(|_| _ = reference.book_first(false, 300));
        assert_eq!((reference.freeze(), reference.weights()), (false, before.as_ref()));
    }
}
