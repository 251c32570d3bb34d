//! Strata and blocks: what is compared with what.
//!
//! A stratum is one Envoy in one lottery; counts of different strata are never pooled, because two healthy proxies
//! with unequal splits and error rates would condemn each other. A block is what a stratum gathered since its last
//! one. When it closes depends on counts of requests and on time, never on errors.

use super::analysis::{Analysis, SplitMode};
use super::buckets::Buckets;
use super::ratio::{Errors, share_of};
use super::tally::Delta;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One Envoy in one lottery; its order is that of all sums.
pub type Stratum = (String, u64);

/// The open blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    #[serde(with = "pairs")]
    open: BTreeMap<Stratum, Block>,
}

/// What a stratum gathered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    opened_ms: u64,
    split: f64,
    /// Stable.
    pub blue: Count,
    /// The candidate.
    pub green: Count,
    /// The negative control, contained in `blue`.
    pub control: Count,
    /// Latencies, as they are booked.
    pub latency: Buckets,
    /// Predictions by bin.
    pub predictions: Buckets,
}

/// Requests and errors of one role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Requests.
    pub n: u64,
    /// Errors.
    pub errors: u64,
}

// === impl Blocks ===

impl Blocks {
    /// Adds the requests and errors of a difference to the stratum's block and gives the block; a difference without
    /// any count opens none.
    pub fn add(&mut self, t_ms: u64, stratum: Stratum, split: f64, delta: &Delta) -> Option<&mut Block> {
        let news = [&delta.blue, &delta.green].into_iter().any(|side| {
            side.n > 0 || side.requests > 0 || !side.latency.is_empty() || !side.predictions.is_empty()
        });
        let fresh = || Block {
            opened_ms: t_ms,
            split,
            blue: Count::default(),
            green: Count::default(),
            control: Count::default(),
            latency: Buckets::default(),
            predictions: Buckets::default(),
        };
        let block = match self.open.entry(stratum) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if news => entry.insert(fresh()),
            Entry::Vacant(_) => return None,
        };
        for (count, side) in [
            (&mut block.blue, &delta.blue),
            (&mut block.green, &delta.green),
            (&mut block.control, &delta.control),
        ] {
            count.n = count.n.saturating_add(side.n);
            count.errors = count.errors.saturating_add(side.errors);
        }
        Some(block)
    }

    /// Drops the latencies of open blocks.
    pub fn drop_latency(&mut self) {
        self.open.values_mut().for_each(|block| block.latency.clear());
    }

    /// Drops the predictions of open blocks.
    pub fn drop_predictions(&mut self) {
        self.open.values_mut().for_each(|block| block.predictions.clear());
    }

    /// Whether any block closes at `t_ms`.
    pub fn any_closes(&self, t_ms: u64, analysis: &Analysis) -> bool {
        self.open.values().any(|block| block.closes(t_ms, analysis))
    }

    /// Takes out the blocks that close at `t_ms`, in the order of their strata.
    pub fn close(&mut self, t_ms: u64, analysis: &Analysis) -> Vec<(Stratum, Block)> {
        self.open.extract_if(.., |_, block| block.closes(t_ms, analysis)).collect()
    }
}

// === impl Block ===

impl Block {
    /// The candidate's share of the block.
    pub fn share(&self, mode: SplitMode) -> f64 {
        match mode {
            SplitMode::Configured => self.split,
            SplitMode::Realised => share_of(self.green.n, self.blue.n),
        }
    }

    /// Its failures, with the share that belongs to them.
    pub fn errors(&self, mode: SplitMode) -> Errors {
        Errors { share: self.share(mode), candidate: self.green.errors, stable: self.blue.errors }
    }

    fn closes(&self, t_ms: u64, analysis: &Analysis) -> bool {
        let age = t_ms.saturating_sub(self.opened_ms);
        analysis.split_mode == SplitMode::Configured
            || (self.green.n >= analysis.min_green && self.blue.n >= analysis.min_blue)
            || (age >= analysis.merge_ms && self.green.n > 0 && self.blue.n > 0)
            || age >= analysis.max_block_ms
    }
}

/// A map whose keys are no text, as a list of pairs: JSON has only text keys.
pub(super) mod pairs {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(in super::super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::SideDelta;
    use super::*;

    fn delta(blue: u64, green: u64) -> Delta {
        let side = |n| SideDelta { n, requests: n, ..SideDelta::default() };
        Delta { blue: side(blue), green: side(green), ..Delta::default() }
    }

    /// The first tick at which a block of this content, opened at 250 ms, closes.
    fn closes_at(blue: u64, green: u64, analysis: &Analysis) -> Option<u64> {
        let mut blocks = Blocks::default();
        blocks.add(250, ("gw".into(), 1), 0.1, &delta(blue, green));
        (1..400).map(|n| n * 250).find(|t_ms| !blocks.close(*t_ms, analysis).is_empty())
    }

    #[test]
    fn a_block_closes_by_its_requests_and_its_age_alone() {
        let analysis = Analysis::default();
        assert_eq!(closes_at(9, 1, &analysis), Some(250), "enough of both");
        assert_eq!(closes_at(8, 1, &analysis), Some(1_250), "after a second one of each is enough");
        assert_eq!(closes_at(500, 0, &analysis), Some(60_250), "one-sided: after a minute it is given up");
        assert_eq!(closes_at(0, 0, &analysis), None, "nothing opens no block");
        let configured = Analysis { split_mode: SplitMode::Configured, ..analysis };
        assert_eq!(closes_at(1, 0, &configured), Some(250));
    }

    #[test]
    fn strata_are_never_pooled_and_come_in_their_order() {
        let mut blocks = Blocks::default();
        for (proxy, epoch) in [("gw-1", 1), ("gw-0", 2), ("gw-0", 1), ("gw-1", 1)] {
            blocks.add(250, (proxy.into(), epoch), 0.1, &delta(9, 1));
        }
        let closed = blocks.close(250, &Analysis::default());
        let strata: Vec<_> =
            closed.iter().map(|((proxy, epoch), b)| (proxy.as_str(), *epoch, b.blue.n)).collect();
        assert_eq!(strata, [("gw-0", 1, 9), ("gw-0", 2, 9), ("gw-1", 1, 18)]);
    }
}
