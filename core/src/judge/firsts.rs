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
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Slots that were observed, and their blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Firsts {
    seen: Ledger,
    #[serde(with = "pairs")]
    open: BTreeMap<(Stratum, NewTo), Open>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Open {
    opened_ms: u64,
    observed: Buckets,
}

// === impl Firsts ===

impl Firsts {
    /// Takes what a stratum reported: slots with the bucket that their role books them in, or with one on each of two
    /// scales. Slots below `limit` are
    /// the candidate's; those seen before change nothing.
    pub fn take(
        &mut self,
        t_ms: u64,
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
            let fresh = || Open { opened_ms: t_ms, ..Open::default() };
            let open = self.open.entry((stratum.clone(), new_to)).or_insert_with(fresh);
            open.observed.extend(&observed);
        }
    }

    /// Takes out the blocks that close at `t_ms`, in the order of their strata.
    pub fn close(&mut self, t_ms: u64, analysis: &Analysis) -> Vec<((Stratum, NewTo), Buckets)> {
        let closed = self.open.extract_if(.., |_, open| open.closes(t_ms, analysis));
        closed.map(|(key, open)| (key, open.observed)).collect()
    }

    /// Drops what waits in open blocks.
    pub fn drop_open(&mut self) {
        self.open.clear();
    }

    /// Drops what is new only to cases that leave somebody out.
    pub fn drop_exceptions(&mut self) {
        self.open.retain(|(_, new_to), _| *new_to == NewTo::All);
    }

    /// Whether a block closes at `t_ms`.
    pub fn any_closes(&self, t_ms: u64, analysis: &Analysis) -> bool {
        self.open.values().any(|open| open.closes(t_ms, analysis))
    }
}

// === impl Open ===

impl Open {
    fn closes(&self, t_ms: u64, analysis: &Analysis) -> bool {
        let (green, blue) = self.observed.totals();
        let age = t_ms.saturating_sub(self.opened_ms);
        (green >= analysis.min_green && blue >= analysis.min_blue)
            || (age >= analysis.merge_ms && green > 0 && blue > 0)
            || age >= analysis.max_block_ms
    }
}
