//! Color given bucket, for anything that falls into numbered buckets: a latency, a prediction.
//!
//! Among the observations of one bucket the candidate's share must be its share of all. Each bucket has a weight that
//! was fixed before the data it scores. If weights never fall from bucket to bucket, a candidate that is better than
//! stable (its observations lie lower) cannot raise the score either.

use super::ratio::share_of;
use crate::histogram::Sparse;
use alloc::collections::BTreeSet;
use libm::log;
use serde::{Deserialize, Serialize};

/// Observations of both roles by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// The candidate's.
    pub green: Sparse,
    /// Stable's.
    pub blue: Sparse,
}

// === impl Buckets ===

impl Buckets {
    /// Observations of the candidate and of stable.
    pub fn totals(&self) -> (u64, u64) {
        (total(&self.green), total(&self.blue))
    }

    /// The candidate's share; 0 or 1 says that there is nothing to compare.
    pub fn share(&self) -> f64 {
        let (green, blue) = self.totals();
        share_of(green, blue)
    }

    /// Whether there is no observation.
    pub fn is_empty(&self) -> bool {
        self.green.is_empty() && self.blue.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.green.clear();
        self.blue.clear();
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Buckets) {
        other.green.iter().for_each(|(bucket, n)| add(&mut self.green, *bucket, *n));
        other.blue.iter().for_each(|(bucket, n)| add(&mut self.blue, *bucket, *n));
    }

    /// Buckets with an observation, with the candidate's count and the sum.
    pub fn both(&self) -> impl Iterator<Item = (u16, f64, f64)> + '_ {
        let used: BTreeSet<u16> = self.green.keys().chain(self.blue.keys()).copied().collect();
        used.into_iter().map(|bucket| {
            let of = |counts: &Sparse| counts.get(&bucket).copied().unwrap_or(0) as f64;
            let green = of(&self.green);
            (bucket, green, green + of(&self.blue))
        })
    }

    /// The log-increment of one alternative; 0 if one role has nothing.
    pub fn increment(&self, weight: impl Fn(u16) -> f64) -> f64 {
        let share = self.share();
        if !(share > 0.0 && share < 1.0) {
            return 0.0;
        }
        let (mut hits, mut expected) = (0.0, 0.0);
        for (bucket, green, all) in self.both() {
            let weight = weight(bucket);
            hits += green * log(weight);
            expected += all * log(share * weight + 1.0 - share);
        }
        hits - expected
    }
}

/// Adds to one bucket.
pub fn add(counts: &mut Sparse, bucket: u16, n: u64) {
    if n > 0 {
        let count = counts.entry(bucket).or_default();
        *count = count.saturating_add(n);
    }
}

/// All observations.
pub fn total(counts: &Sparse) -> u64 {
    counts.values().fold(0, |sum, n| sum.saturating_add(*n))
}
