//! Predictions: does the candidate say other things than stable?
//!
//! *Equality* (the same model on another image or node): any shift is a fault; color given bin, with weights learned
//! from earlier blocks only. *Effect* (a new model should differ): a band around the largest distance of the two
//! distributions that holds at all times; only a large distance condemns ([`Band`]).

use super::buckets::{Buckets, total};
use crate::histogram::Sparse;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use libm::{exp2, fabs, log, sqrt};
use serde::{Deserialize, Serialize};

/// Observations that the common distribution counts for in the weights.
pub const STRENGTH: f64 = 20.0;

/// What was seen in earlier blocks, pooled over strata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    seen: Buckets,
}

/// Weights of a tick, from the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PlugIn {
    weights: Vec<f64>,
}

/// A distance and the interval that holds it at all times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// What was observed.
    pub observed: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// The bands of all lotteries. Proxies of one lottery are pooled: they have one split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    epochs: BTreeMap<u64, Buckets>,
    /// Lotteries with news since [`Band::fired`] last looked: most ticks bring news of one.
    #[serde(skip)]
    news: BTreeSet<u64>,
    fired: bool,
}

// === impl Past ===

impl Past {
    /// The weights that score the next blocks.
    pub fn weights(&self, bins: u32, strength: f64) -> PlugIn {
        let (green_all, blue_all) = self.seen.totals();
        let (green_all, blue_all) = (green_all as f64, blue_all as f64);
        let weight = |bin: u16| {
            let of = |counts: &Sparse| counts.get(&bin).copied().unwrap_or(0) as f64;
            let (green, blue) = (of(&self.seen.green), of(&self.seen.blue));
            let common = (green + blue + 0.5) / (green_all + blue_all + 0.5 * f64::from(bins));
            ((green + strength * common) / (green_all + strength))
                / ((blue + strength * common) / (blue_all + strength))
        };
        PlugIn { weights: (0..last_bin(bins).saturating_add(1)).map(weight).collect() }
    }

    /// Learns from blocks that were scored.
    pub fn learn(&mut self, block: &Buckets) {
        self.seen.extend(block);
    }
}

// === impl PlugIn ===

impl PlugIn {
    /// The log-increment of a block.
    pub fn increment(&self, block: &Buckets) -> f64 {
        block.increment(|bin| self.at(bin))
    }

    /// The weight of a bin.
    pub fn at(&self, bin: u16) -> f64 {
        self.weights.get(usize::from(bin)).copied().unwrap_or(1.0)
    }
}

// === impl Band ===

impl Band {
    /// Adds a block of a lottery.
    pub fn add(&mut self, epoch: u64, block: &Buckets) {
        self.epochs.entry(epoch).or_default().extend(block);
        if !block.is_empty() {
            self.news.insert(epoch);
        }
    }

    /// Whether the distance was ever surely above `reject` (latched). The i-th lottery spends `alpha` / 2^i.
    pub fn fired(&mut self, alpha: f64, reject: f64) -> bool {
        let news = core::mem::take(&mut self.news);
        let mut epochs = (1u32..).zip(&self.epochs).filter(|(_, (epoch, _))| news.contains(epoch));
        self.fired = self.fired
            || epochs.any(|(i, (_, seen))| {
                let alpha = alpha * exp2(-f64::from(i));
                distance(&seen.green, &seen.blue, alpha).is_some_and(|d| d.lower > reject)
            });
        self.fired
    }

    /// Whether it fired.
    pub fn has_fired(&self) -> bool {
        self.fired
    }

    /// The distance of the first lottery that condemns, else of the newest one in which both roles were seen.
    pub fn shown(&self, alpha: f64, reject: f64) -> Option<Distance> {
        let epochs = (1u32..).zip(self.epochs.values());
        let mut distances =
            epochs.filter_map(|(i, seen)| distance(&seen.green, &seen.blue, alpha * exp2(-f64::from(i))));
        let mut newest = None;
        distances.find(|distance| newest.insert(*distance).lower > reject).or(newest)
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }
}

/// The bin that an observation is booked in: the last one takes all above it.
pub fn bin(bin: i32, bins: u32) -> u16 {
    u16::try_from(bin.max(0)).unwrap_or(u16::MAX).min(last_bin(bins))
}

fn last_bin(bins: u32) -> u16 {
    u16::try_from(bins.saturating_sub(1)).unwrap_or(u16::MAX - 1)
}

/// The largest difference of the two distributions (Kolmogorov and Smirnov) with its time-uniform band; `None` while
/// one role has nothing.
pub fn distance(green: &Sparse, blue: &Sparse, alpha: f64) -> Option<Distance> {
    let (green_all, blue_all) = (total(green) as f64, total(blue) as f64);
    if green_all == 0.0 || blue_all == 0.0 {
        return None;
    }
    let (mut observed, mut green_below, mut blue_below) = (0.0f64, 0u64, 0u64);
    let bins: BTreeSet<u16> = green.keys().chain(blue.keys()).copied().collect();
    for bin in bins {
        green_below = green_below.saturating_add(green.get(&bin).copied().unwrap_or(0));
        blue_below = blue_below.saturating_add(blue.get(&bin).copied().unwrap_or(0));
        observed = observed.max(fabs(green_below as f64 / green_all - blue_below as f64 / blue_all));
    }
    let slack = radius(green_all, alpha / 2.0) + radius(blue_all, alpha / 2.0);
    Some(Distance { observed, lower: (observed - slack).max(0.0), upper: (observed + slack).min(1.0) })
}

/// How far an empirical distribution of `t` observations may be off anywhere, at any time, with probability `alpha`
/// (Howard and Ramdas 2022).
pub fn radius(t: f64, alpha: f64) -> f64 {
    0.85 * sqrt((log(log(core::f64::consts::E * t)) + 0.8 * log(1612.0 / alpha)) / t)
}
