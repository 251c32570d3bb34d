//! Sessions as observations: what the first answer of each lottery slot showed, each slot once.
//!
//! A slow or unusual client that sticks to one color is one draw, however often it asks. Observations wait in blocks
//! of their own, because there are far fewer of them than requests; when a block closes depends on their number and
//! on time, never on what they show. Within a block the candidate's share is realised, as for requests. What is new only
//! to cases that leave somebody out ([`super::ledger`]) waits in blocks of its own again.

use super::analysis::Analysis;
use super::block::{Stratum, pairs};
use super::buckets::{Buckets, add};
use super::ledger::{Ledger, NewTo, Seat};
use alloc::collections::{BTreeMap, BTreeSet};
use serde::{Deserialize, Serialize};

/// Slots that were observed, and their blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved")]
pub struct Firsts {
    seen: Ledger,
    #[serde(with = "pairs")]
    open: BTreeMap<Key, Open>,
    /// The open blocks by when they close: with many witnesses there are tens of thousands, and few close in a tick.
    #[serde(skip)]
    due: BTreeSet<(u64, Key)>,
}

/// Whose block, and to whom it is new.
type Key = (Stratum, NewTo);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Open {
    opened_ms: u64,
    /// When it closes if nothing comes before, ms.
    #[serde(default)]
    due_ms: u64,
    observed: Buckets,
}

/// What a checkpoint keeps.
#[derive(Deserialize)]
struct Saved {
    seen: Ledger,
    #[serde(with = "pairs")]
    open: BTreeMap<Key, Open>,
}

// === impl Firsts ===

impl Firsts {
    /// Takes what a stratum reported: slots with the bucket that their role books them in, or with one on each of two
    /// scales. Slots below `limit` are the candidate's; those seen before change nothing.
    pub fn take(
        &mut self,
        t_ms: u64,
        analysis: &Analysis,
        stratum: &Stratum,
        speaker: Option<Seat>,
        limit: u16,
        firsts: impl IntoIterator<Item = (u16, u16, Option<u16>)>,
    ) {
        let mut new = BTreeMap::<NewTo, Buckets>::new();
        for (slot, bucket, second) in firsts {
            if let Some(new_to) = self.seen.take(slot, speaker) {
                let observed = new.entry(new_to).or_default();
                let counts = if slot < limit { &mut observed.green } else { &mut observed.blue };
                add(counts, bucket, 1);
                second.into_iter().for_each(|bucket| add(counts, bucket, 1));
            }
        }
        for (new_to, observed) in new {
            let key = (stratum.clone(), new_to);
            let fresh = || Open { opened_ms: t_ms, ..Open::default() };
            let open = self.open.entry(key.clone()).or_insert_with(fresh);
            open.observed.extend(&observed);
            let due_ms = open.closes_at(analysis);
            let before = (core::mem::replace(&mut open.due_ms, due_ms), key);
            self.due.remove(&before);
            self.due.insert((due_ms, before.1));
        }
    }

    /// Takes out the blocks that close at `t_ms`, in the order of their strata.
    pub fn close(&mut self, t_ms: u64) -> impl Iterator<Item = (Key, Buckets)> {
        let mut closed = BTreeMap::new();
        while self.any_closes(t_ms)
            && let Some((_, key)) = self.due.pop_first()
        {
            if let Some(open) = self.open.remove(&key) {
                closed.insert(key, open.observed);
            }
        }
        closed.into_iter()
    }

    /// Drops what waits in open blocks.
    pub fn drop_open(&mut self) {
        self.open.clear();
        self.due.clear();
    }

    /// Drops what is new only to cases that leave somebody out.
    pub fn drop_exceptions(&mut self) {
        self.open.retain(|(_, new_to), _| *new_to == NewTo::All);
        self.due.retain(|(_, (_, new_to))| *new_to == NewTo::All);
    }

    /// Whether a block closes at `t_ms`.
    pub fn any_closes(&self, t_ms: u64) -> bool {
        self.due.first().is_some_and(|(due_ms, _)| *due_ms <= t_ms)
    }
}

impl From<Saved> for Firsts {
    fn from(Saved { seen, open }: Saved) -> Self {
        let due = open.iter().map(|(key, open)| (open.due_ms, key.clone())).collect();
        Firsts { seen, open, due }
    }
}

// === impl Open ===

impl Open {
    /// When it closes, ms; 0: it has all that it waits for.
    fn closes_at(&self, analysis: &Analysis) -> u64 {
        let (green, blue) = self.observed.totals();
        if green >= analysis.min_green && blue >= analysis.min_blue {
            return 0;
        }
        let given_up = self.opened_ms.saturating_add(analysis.max_block_ms);
        let merged = self.opened_ms.saturating_add(analysis.merge_ms);
        if green > 0 && blue > 0 { merged.min(given_up) } else { given_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Ticks at which blocks close: 9 slots of stable and one of the candidate at once, one of each, stable alone.
    fn closes_at(firsts: &mut Firsts) -> Vec<(u64, u64)> {
        let ticks = (1..400).map(|n| n * 250);
        ticks
            .flat_map(|t| firsts.close(t).map(|((stratum, _), _)| (stratum.1, t)).collect::<Vec<_>>())
            .collect()
    }

    fn three_blocks() -> Firsts {
        let mut firsts = Firsts::default();
        for (epoch, slots) in [(1, 0..10u16), (2, 10..11), (3, 500..600)] {
            let firsts_of = |slots: core::ops::Range<u16>| slots.map(|slot| (slot, 200, None));
            let limit = if epoch == 3 { 0 } else { slots.start + 1 };
            firsts.take(250, &Analysis::default(), &("gw".into(), epoch), Some(0), limit, firsts_of(slots));
        }
        // One of stable joins the candidate's.
        firsts.take(500, &Analysis::default(), &("gw".into(), 2), Some(1), 11, [(700, 200, None)]);
        firsts
    }

    #[test]
    fn a_block_closes_by_its_observations_and_its_age_alone() {
        assert_eq!(closes_at(&mut three_blocks()), [(1, 250), (2, 1_250), (3, 60_250)]);
    }

    #[test]
    fn what_waited_at_a_checkpoint_closes_at_its_time() {
        let text = serde_json::to_string(&three_blocks()).unwrap();
        let mut read: Firsts = serde_json::from_str(&text).unwrap();
        assert_eq!(closes_at(&mut read), closes_at(&mut three_blocks()));
    }
}
