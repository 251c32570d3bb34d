//! The latency metric: is the candidate slower than stable by more than the granted margin?
//!
//! Exact counts in fixed buckets, candidate counts booked lower by the margin ([`margin`]), then color given bucket
//! with weights from stable's own histogram ([`weights`]). That histogram is from before the release, or gathered
//! first and then frozen: weights are never chosen from the data that they score.
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
    shift: u32,
    guard_us: u64,
    wanted: u64,
    counts: Sparse,
    frozen: bool,
    margin: Margin,
    weights: Option<Weights>,
}

/// What a checkpoint keeps; the rest is computed from it.
#[derive(Serialize, Deserialize)]
struct Saved {
    shift: u32,
    guard_us: u64,
    wanted: u64,
    counts: Sparse,
    frozen: bool,
}

// === impl Reference ===

impl Reference {
    /// Frozen if the analysis brings a histogram from before the release, else to be gathered.
    pub fn new(analysis: &Analysis) -> Self {
        let mut counts = Sparse::new();
        for (bucket, n) in analysis.latency_reference.iter().flatten() {
            add(&mut counts, clamped(*bucket), *n);
        }
        Reference::from(Saved {
            shift: analysis.latency_shift,
            guard_us: analysis.latency_guard_us,
            wanted: analysis.latency_min_reference.max(1),
            frozen: !counts.is_empty(),
            counts,
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

    /// Where a session's first answer is booked; stable's fills the reference until it is frozen.
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

    /// Stable's observations are the reference until it is frozen.
    fn refer(&mut self, place: u16, n: u64) {
        if !self.frozen {
            add(&mut self.counts, place, n);
        }
    }

    /// Freezes the reference once it is large enough; true at that moment. What waits in open blocks must then be
    /// dropped: it is part of the reference.
    pub fn freeze(&mut self) -> bool {
        if self.frozen || total(&self.counts) < self.wanted {
            return false;
        }
        self.frozen = true;
        self.weights = Weights::of(&self.counts);
        true
    }
}

impl From<Saved> for Reference {
    fn from(saved: Saved) -> Self {
        let Saved { shift, guard_us, wanted, counts, frozen } = saved;
        let weights = if frozen { Weights::of(&counts) } else { None };
        Reference { shift, guard_us, wanted, frozen, margin: Margin::new(shift, guard_us), weights, counts }
    }
}

impl From<Reference> for Saved {
    fn from(reference: Reference) -> Self {
        let Reference { shift, guard_us, wanted, counts, frozen, .. } = reference;
        Saved { shift, guard_us, wanted, counts, frozen }
    }
}
