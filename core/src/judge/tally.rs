//! Rows to differences: which rows count, and what is new in them.
//!
//! Rows are cumulative, so a lost row is healed by the next, and a repeated one adds nothing. A row that is refused
//! changes nothing at all, its `seq` included.

use super::line::{Counted, RowCounts};
use super::row::{Row, Side};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The last accepted counters of every (proxy, incarnation, epoch).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    proxies: BTreeMap<String, Proxy>,
    counts: RowCounts,
    /// Strata that are not kept, in a record of too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u64,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Taken; this is new.
    Accepted(Box<Delta>),
    /// Repeated or late.
    Ignored,
    /// Against the rules.
    Malformed,
}

/// What a row adds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Stable.
    pub blue: SideDelta,
    /// The candidate.
    pub green: SideDelta,
    /// The negative control, contained in `blue`.
    pub control: SideDelta,
}

/// What a row adds to one role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SideDelta {
    /// What blocks count: starts where the side has them, else completed requests.
    pub n: u64,
    /// Completed requests.
    pub requests: u64,
    /// Of those, failures.
    pub errors: u64,
    /// Of the completed ones, those with an event.
    pub events: u64,
    /// New latency counts.
    pub latency: BTreeMap<i32, u64>,
    /// New counts of total times.
    pub total: BTreeMap<i32, u64>,
    /// New prediction counts.
    pub predictions: BTreeMap<i32, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Proxy {
    /// The highest accepted; counters of older ones can never be asked for again and are dropped.
    incarnation: u64,
    epochs: BTreeMap<u64, Epoch>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Epoch {
    /// Constant per (proxy, epoch), whatever the incarnation.
    split: f64,
    /// Of the proxy's incarnation; `None` until it reported this epoch.
    last: Option<Last>,
    /// What its earlier incarnations counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    past: Counted,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Last {
    seq: u64,
    blue: Counters,
    green: Counters,
    control: Counters,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Counters {
    requests: i64,
    errors: i64,
    #[serde(skip_serializing_if = "is_zero")]
    events: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latency: BTreeMap<i32, i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    total: BTreeMap<i32, i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    predictions: BTreeMap<i32, i64>,
    /// The histograms were forgotten: the first count of each bucket is only a baseline.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    forgotten: bool,
}

// === impl Tally ===

impl Tally {
    /// Takes a row by the rules of the world format.
    pub fn take(&mut self, row: &Row) -> Outcome {
        let outcome = self.try_take(row);
        let count = match outcome {
            Outcome::Accepted(_) => &mut self.counts.accepted,
            Outcome::Ignored => &mut self.counts.ignored,
            Outcome::Malformed => &mut self.counts.malformed,
        };
        *count = count.saturating_add(1);
        outcome
    }

    /// Rows so far, by what became of them.
    pub fn counts(&self) -> RowCounts {
        self.counts
    }

    /// What all strata add up to; `None`: some were left out.
    pub(super) fn counted(&self) -> Option<Counted> {
        let strata = self.proxies.values().flat_map(|proxy| proxy.epochs.values());
        let sum = strata.map(Epoch::counted).fold(Counted::default(), Counted::and);
        (self.left_out == 0).then_some(sum)
    }

    /// Forgets histograms: after a restore the next counts of each bucket are only a baseline.
    pub(super) fn forget_histograms(&mut self) {
        for epoch in self.proxies.values_mut().flat_map(|proxy| proxy.epochs.values_mut()) {
            for side in
                epoch.last.iter_mut().flat_map(|last| [&mut last.blue, &mut last.green, &mut last.control])
            {
                side.forgotten |=
                    [&side.latency, &side.total, &side.predictions].iter().any(|counts| !counts.is_empty());
                side.latency.clear();
                side.total.clear();
                side.predictions.clear();
            }
        }
    }

    /// Keeps the first `most` strata: a record must fit its object.
    pub(super) fn keep_first(&mut self, most: usize) {
        let mut kept = 0usize;
        for proxy in self.proxies.values_mut() {
            proxy.epochs.retain(|_, _| {
                kept += 1;
                kept <= most
            });
        }
        self.proxies.retain(|_, proxy| !proxy.epochs.is_empty());
        self.left_out = kept.saturating_sub(most) as u64;
    }

    fn try_take(&mut self, row: &Row) -> Outcome {
        let proxy = self.proxies.get(&row.proxy);
        let epoch = proxy.and_then(|p| p.epochs.get(&row.epoch));
        let incarnation = proxy.map_or(0, |p| p.incarnation);
        let last = epoch.filter(|_| row.incarnation == incarnation).and_then(|e| e.last.as_ref());
        if row.incarnation < incarnation || last.is_some_and(|last| row.seq <= last.seq) {
            return Outcome::Ignored;
        }
        if !(0.0..=1.0).contains(&row.split) || epoch.is_some_and(|e| e.split != row.split) {
            return Outcome::Malformed;
        }
        let (none, unsaid) = (Last::default(), Side::default());
        let last = last.unwrap_or(&none);
        let sides = (
            last.blue.news(row.blue.as_ref().unwrap_or(&unsaid)),
            last.green.news(row.green.as_ref().unwrap_or(&unsaid)),
            last.control.news(row.control.as_ref().unwrap_or(&unsaid)),
        );
        let (Some(blue), Some(green), Some(control)) = sides else {
            return Outcome::Malformed;
        };
        if control.requests > blue.requests || control.errors > blue.errors {
            return Outcome::Malformed;
        }
        self.remember(row);
        Outcome::Accepted(Box::new(Delta { blue, green, control }))
    }

    fn remember(&mut self, row: &Row) {
        let proxy = self.proxies.entry(row.proxy.clone()).or_default();
        if row.incarnation > proxy.incarnation {
            proxy.incarnation = row.incarnation;
            proxy.epochs.values_mut().for_each(Epoch::begin_again);
        }
        let new = Epoch { split: row.split, last: None, past: Counted::default() };
        let epoch = proxy.epochs.entry(row.epoch).or_insert(new);
        let last = epoch.last.get_or_insert_default();
        last.seq = row.seq;
        for (counters, side) in
            [(&mut last.blue, &row.blue), (&mut last.green, &row.green), (&mut last.control, &row.control)]
        {
            side.iter().for_each(|side| counters.remember(side));
        }
    }
}

// === impl Epoch ===

impl Epoch {
    /// A new incarnation counts from zero.
    fn begin_again(&mut self) {
        self.past = self.counted();
        self.last = None;
    }

    fn counted(&self) -> Counted {
        let of = |n: i64| u64::try_from(n).unwrap_or(0);
        self.past.and(self.last.as_ref().map_or(Counted::default(), |Last { blue, green, .. }| Counted {
            blue_requests: of(blue.requests),
            blue_errors: of(blue.errors),
            green_requests: of(green.requests),
            green_errors: of(green.errors),
        }))
    }
}

// === impl Counters ===

impl Counters {
    /// What a row adds; `None` if it breaks a rule.
    fn news(&self, side: &Side) -> Option<SideDelta> {
        let grown_by = |now: Option<i64>, last: i64| grown(now.unwrap_or(last), last);
        let requests = grown_by(side.requests, self.requests)?;
        let errors = grown_by(side.errors, self.errors)?;
        let events = grown_by(side.events, self.events)?;
        let n = match side.started.or(self.started) {
            Some(started) => grown(started, self.started.unwrap_or(0))?,
            None => requests,
        };
        if errors > requests || events > requests {
            return None;
        }
        let latency = self.new_in(&self.latency, &side.latency)?;
        let total = self.new_in(&self.total, &side.total)?;
        let predictions = self.new_in(&self.predictions, &side.predictions)?;
        Some(SideDelta { n, requests, errors, events, latency, total, predictions })
    }

    fn new_in(&self, last: &BTreeMap<i32, i64>, said: &BTreeMap<i32, i64>) -> Option<BTreeMap<i32, u64>> {
        let mut new = BTreeMap::new();
        for (bucket, count) in said {
            let before = last.get(bucket).copied().unwrap_or(if self.forgotten { *count } else { 0 });
            let added = grown(*count, before)?;
            if added > 0 {
                new.insert(*bucket, added);
            }
        }
        Some(new)
    }

    /// Moves on to what a row says.
    fn remember(&mut self, side: &Side) {
        for (last, now) in [
            (&mut self.requests, side.requests),
            (&mut self.errors, side.errors),
            (&mut self.events, side.events),
        ] {
            *last = now.unwrap_or(*last);
        }
        self.started = side.started.or(self.started);
        self.latency.extend(&side.latency);
        self.total.extend(&side.total);
        self.predictions.extend(&side.predictions);
    }
}

fn is_zero<T: Default + PartialEq>(n: &T) -> bool {
    *n == T::default()
}

fn grown(now: i64, last: i64) -> Option<u64> {
    now.checked_sub(last).and_then(|d| u64::try_from(d).ok())
}
