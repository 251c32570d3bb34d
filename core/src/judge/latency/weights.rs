//! How much an observation of a bucket speaks for "the candidate is slower": one table per alternative.
//!
//! *Tilts* move the whole distribution by a fraction of its spread, *tails* multiply a slow part of it. Both come from
//! a histogram of stable that was fixed before the data they score; it need not be right, only earlier.

use super::super::buckets::{Buckets, SECOND_SCALE, on_second_scale};
use super::super::quantile::normal;
use crate::histogram::{FIRST_BUCKET, LAST_BUCKET, Sparse};
use alloc::vec;
use alloc::vec::Vec;
use libm::{exp, log};

/// Shifts of the body, in standard deviations.
const TILTS: [f64; 5] = [0.1, 0.2, 0.4, 0.8, 1.6];
/// Slow parts: above this many thousandths, this many times as frequent.
const TAILS: [(u128, f64); 6] = [(900, 2.0), (900, 6.0), (990, 2.0), (990, 6.0), (999, 2.0), (999, 6.0)];
/// How many buckets.
pub const BUCKETS: usize = (LAST_BUCKET - FIRST_BUCKET) as usize + 1;

/// The tables and their prior.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Those of the first scale, then those of the second.
    alternatives: Vec<Alternative>,
    on_first: usize,
    prior: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Alternative {
    weight: Vec<f64>,
    ln: Vec<f64>,
}

// === impl Weights ===

impl Weights {
    /// Tilts and tails from stable's histogram, of each of its scales; `None` if it is empty.
    pub fn of(reference: &Sparse) -> Option<Weights> {
        let first = Weights::of_one(reference)?;
        Some(match Weights::of_one(&on_second_scale(reference)) {
            Some(second) => first.and(second),
            None => first,
        })
    }

    /// Half of the prior for each.
    fn and(mut self, second: Weights) -> Weights {
        self.alternatives.extend(second.alternatives);
        self.prior.extend(second.prior);
        self.prior.iter_mut().for_each(|part| *part /= 2.0);
        self
    }

    fn of_one(reference: &Sparse) -> Option<Weights> {
        let counts: Vec<u64> = kept(reference);
        let total: u128 = counts.iter().map(|n| u128::from(*n)).sum();
        if total == 0 {
            return None;
        }
        let n = total as f64;
        let mut below = 0u128;
        let cumulated: Vec<u128> = counts
            .iter()
            .map(|count| {
                below += u128::from(*count);
                below
            })
            .collect();
        let part: Vec<f64> = counts.iter().map(|count| *count as f64 / n).collect();
        let middles =
            cumulated.iter().zip(&counts).map(|(up_to, count)| (*up_to as f64 - *count as f64 / 2.0) / n);
        let tilts = tilts(&middles.collect::<Vec<_>>(), &part);
        let tails = TAILS.iter().filter_map(|(thousandths, times)| {
            // Whole numbers: in floats a bucket could be in the tail on one machine and not on another.
            let slow: Vec<bool> = cumulated.iter().map(|up_to| 1_000 * up_to > thousandths * total).collect();
            let in_tail: u128 =
                counts.iter().zip(&slow).filter(|(_, slow)| **slow).map(|(n, _)| u128::from(*n)).sum();
            let p = in_tail as f64 / n;
            let elsewhere = (1.0 - p * times) / (1.0 - p);
            let weights = || slow.iter().map(|slow| if *slow { *times } else { elsewhere }).collect();
            (p * times > 0.0 && p * times < 0.95).then(weights)
        });
        let tails: Vec<Vec<f64>> = tails.collect();
        let (body, tail) = if tails.is_empty() { (1.0, 0.0) } else { (0.5, 0.5) };
        let mut prior = vec![body / tilts.len() as f64; tilts.len()];
        prior.extend(vec![tail / tails.len().max(1) as f64; tails.len()]);
        Some(Weights::new(tilts.into_iter().chain(tails), prior))
    }

    /// Tilts alone, equally likely, from parts of a whole per bucket.
    pub fn tilted(part: &[f64]) -> Weights {
        let mut below = 0.0;
        let middle = |part: &f64| {
            below += part;
            below - part / 2.0
        };
        let middles: Vec<f64> = part.iter().map(middle).collect();
        let tilts = tilts(&middles, part);
        let prior = vec![1.0 / tilts.len() as f64; tilts.len()];
        Weights::new(tilts.into_iter(), prior)
    }

    fn new(tables: impl Iterator<Item = Vec<f64>>, prior: Vec<f64>) -> Self {
        let alternative =
            |weight: Vec<f64>| Alternative { ln: weight.iter().map(|w| log(*w)).collect(), weight };
        let alternatives: Vec<Alternative> = tables.map(alternative).collect();
        Weights { on_first: alternatives.len(), alternatives, prior }
    }

    /// Weight of each alternative before the data.
    pub fn prior(&self) -> &[f64] {
        &self.prior
    }

    /// How many alternatives.
    pub fn len(&self) -> usize {
        self.alternatives.len()
    }

    /// Whether there is no alternative.
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// The weight of a bucket per alternative.
    pub fn at(&self, bucket: u16) -> impl Iterator<Item = f64> + '_ {
        self.alternatives.iter().map(move |a| look(&a.weight, bucket, 1.0))
    }

    /// Adds the log-increment of each alternative for a block to `sums`. One-sided blocks say nothing.
    pub fn add(&self, block: &Buckets, sums: &mut [f64]) {
        let (first, second) = self.alternatives.split_at(self.on_first);
        let mut sums = sums.iter_mut();
        add_scale(first, &block.both(0), sums.by_ref().take(first.len()));
        add_scale(second, &block.both(SECOND_SCALE), sums);
    }

    /// Adds the log-increment of each alternative for the candidate's observations alone: no control.
    pub fn add_alone(&self, green: &Sparse, sums: &mut [f64]) {
        for (sum, alternative) in sums.iter_mut().zip(&self.alternatives) {
            *sum +=
                green.iter().map(|(bucket, n)| *n as f64 * look(&alternative.ln, *bucket, 0.0)).sum::<f64>();
        }
    }
}

/// Adds what a block says on one scale: per bucket the candidate's count and that of both.
fn add_scale<'a>(
    alternatives: &[Alternative],
    counts: &[(u16, f64, f64)],
    sums: impl Iterator<Item = &'a mut f64>,
) {
    let (green, all) = counts.iter().fold((0.0, 0.0), |sum, (_, green, all)| (sum.0 + green, sum.1 + all));
    let share = green / all;
    if !(share > 0.0 && share < 1.0) {
        return;
    }
    for (sum, alternative) in sums.zip(alternatives) {
        let (mut hits, mut expected) = (0.0, 0.0);
        // Tails have two weights only: a logarithm costs more than all else here.
        let (mut weight, mut ln) = (f64::NAN, 0.0);
        for (bucket, green, all) in counts {
            hits += green * look(&alternative.ln, *bucket, 0.0);
            let at = look(&alternative.weight, *bucket, 1.0);
            if at != weight {
                (weight, ln) = (at, log(share * at + 1.0 - share));
            }
            expected += all * ln;
        }
        *sum += hits - expected;
    }
}

/// The counts of all buckets that are kept, lowest first.
pub(in super::super) fn kept(counts: &Sparse) -> Vec<u64> {
    (FIRST_BUCKET..=LAST_BUCKET).map(|bucket| counts.get(&bucket).copied().unwrap_or(0)).collect()
}

fn look(table: &[f64], bucket: u16, outside: f64) -> f64 {
    let place = usize::from(bucket.saturating_sub(FIRST_BUCKET));
    table.get(place).copied().unwrap_or(outside)
}

/// Density ratios of a normal shift, by each bucket's middle rank, clipped and normalised.
fn tilts(middles: &[f64], part: &[f64]) -> Vec<Vec<f64>> {
    let z: Vec<f64> = middles.iter().map(|p| normal(p.clamp(1e-5, 1.0 - 1e-5))).collect();
    let tilt = |d: f64| {
        let raw: Vec<f64> = z.iter().map(|z| exp(d * z - d * d / 2.0).clamp(0.02, 50.0)).collect();
        let norm: f64 = raw.iter().zip(part).map(|(w, part)| w * part).sum();
        raw.iter().map(|w| w / norm).collect()
    };
    TILTS.into_iter().map(tilt).collect()
}
