//! Color given bucket, for anything that falls into numbered buckets: a latency, a prediction.
//!
//! Among the observations of one bucket the candidate's share must be its share of all. Each bucket has a weight that
//! was fixed before the data it scores. If weights never fall from bucket to bucket, a candidate that is better than
//! stable (its observations lie lower) cannot raise the score either.

use super::ratio::share_of;
use crate::histogram::Sparse;
use alloc::vec::Vec;
use libm::log;
use serde::{Deserialize, Serialize};

/// From here on stand the buckets of a second scale on which the same observations lie: an answer has a time to its
/// first byte and one in all. It is above every bucket of a first scale.
pub const SECOND_SCALE: u16 = 1 << 14;

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

    /// Buckets with an observation on the scale that stands from `scale` on (0 or [`SECOND_SCALE`]), lowest first, each
    /// with the candidate's count and the sum.
    pub fn both(&self, scale: u16) -> Vec<(u16, f64, f64)> {
        let end = scale.saturating_add(SECOND_SCALE);
        let (mut green, mut blue) =
            (self.green.range(scale..end).peekable(), self.blue.range(scale..end).peekable());
        let mut both = Vec::new();
        while let Some(bucket) = green.peek().into_iter().chain(blue.peek()).map(|(bucket, _)| **bucket).min()
        {
            let green = green.next_if(|(at, _)| **at == bucket).map_or(0.0, |(_, n)| *n as f64);
            let blue = blue.next_if(|(at, _)| **at == bucket).map_or(0.0, |(_, n)| *n as f64);
            both.push((bucket - scale, green, green + blue));
        }
        both
    }

    /// The log-increment of one alternative; 0 if one role has nothing.
    pub fn increment(&self, weight: impl Fn(u16) -> f64) -> f64 {
        let share = self.share();
        if !(share > 0.0 && share < 1.0) {
            return 0.0;
        }
        let (mut hits, mut expected) = (0.0, 0.0);
        for (bucket, green, all) in self.both(0) {
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

/// All observations, each once.
pub fn total(counts: &Sparse) -> u64 {
    counts.range(..SECOND_SCALE).fold(0, |sum, (_, n)| sum.saturating_add(*n))
}

/// What lies on the second scale, by that scale's own buckets.
pub fn on_second_scale(counts: &Sparse) -> Sparse {
    counts.range(SECOND_SCALE..).map(|(bucket, n)| (bucket - SECOND_SCALE, *n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_on_two_scales_is_one_observation() {
        let mut seen = Buckets::default();
        for (side, n) in [(&mut seen.green, 2), (&mut seen.blue, 6)] {
            add(side, 200, n);
            add(side, SECOND_SCALE + 230, n);
        }
        add(&mut seen.blue, SECOND_SCALE + 231, 1);
        assert_eq!((seen.totals(), seen.share()), ((2, 6), 0.25));
        assert_eq!(seen.both(0), [(200, 2.0, 8.0)]);
        assert_eq!(seen.both(SECOND_SCALE), [(230, 2.0, 8.0), (231, 0.0, 1.0)]);
    }
}
