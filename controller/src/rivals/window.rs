//! What a rule that reads a metrics store can see: counts over a trailing window, and a limit per metric.

use hueshift_core::judge::tally::{Delta, SideDelta};
use hueshift_core::judge::{Analysis, Metric};
use std::collections::{BTreeMap, VecDeque};

/// Lowest success rate that passes.
const SUCCESS: f64 = 0.99;
/// The latency limit over the p99 from before the release: the usual "p99 + 20 %".
const LATENCY_OVER: f64 = 1.2;
/// Buckets per doubling of latency.
const BUCKETS_PER_OCTAVE: f64 = 16.0;

/// What a tick brought, per role.
#[derive(Debug, Clone, Default)]
pub(super) struct Tick {
    pub candidate: Seen,
    pub stable: Seen,
}

/// Counts of one role.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub requests: u64,
    pub errors: u64,
    /// Bucket to count.
    pub latency: BTreeMap<i32, u64>,
}

/// A trailing window of the candidate.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    ticks: VecDeque<(u64, Seen)>,
}

/// What a user of a threshold rule would have written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Highest bucket that the p99 may lie in; `None`: latency is not looked at.
    p99: Option<i32>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Passed,
    Failed,
    NoData,
}

// === impl Tick ===

impl Tick {
    pub fn add(&mut self, delta: &Delta) {
        self.candidate.add(&delta.green);
        self.stable.add(&delta.blue);
    }
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, side: &SideDelta) {
        self.requests = self.requests.saturating_add(side.requests);
        self.errors = self.errors.saturating_add(side.errors);
        self.add_latency(&side.latency);
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: &Seen) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.add_latency(&other.latency);
    }

    fn add_latency(&mut self, latency: &BTreeMap<i32, u64>) {
        for (bucket, count) in latency {
            let sum = self.latency.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    fn is_empty(&self) -> bool {
        self.requests == 0 && self.latency.is_empty()
    }

    /// The bucket of the 99 % quantile.
    pub fn p99(&self) -> Option<i32> {
        p99(&self.latency)
    }
}

// === impl Window ===

impl Window {
    pub fn add(&mut self, t_ms: u64, seen: Seen) {
        if !seen.is_empty() {
            self.ticks.push_back((t_ms, seen));
        }
    }

    /// The sum of what came after `t_ms`; older ticks are forgotten.
    pub fn since(&mut self, t_ms: u64) -> Seen {
        while self.ticks.front().is_some_and(|(at, _)| *at <= t_ms) {
            self.ticks.pop_front();
        }
        let mut sum = Seen::default();
        self.ticks.iter().for_each(|(_, seen)| sum.extend(seen));
        sum
    }
}

// === impl Limits ===

impl Limits {
    pub fn of(analysis: &Analysis) -> Self {
        let reference = analysis.latency_reference.as_ref();
        let reference = reference.filter(|_| analysis.metrics.contains(&Metric::Latency));
        // The cast is of a few buckets.
        let over = (BUCKETS_PER_OCTAVE * LATENCY_OVER.log2()).round() as i32;
        Limits { p99: reference.and_then(p99).map(|bucket| bucket.saturating_add(over)) }
    }

    pub fn check(self, seen: &Seen) -> Check {
        if seen.requests == 0 {
            return Check::NoData;
        }
        let success = 1.0 - seen.errors as f64 / seen.requests as f64;
        let slow = self.p99.is_some_and(|limit| seen.p99().is_some_and(|p99| p99 > limit));
        if success < SUCCESS || slow { Check::Failed } else { Check::Passed }
    }
}

fn p99(histogram: &BTreeMap<i32, u64>) -> Option<i32> {
    let total: u128 = histogram.values().map(|count| u128::from(*count)).sum();
    let wanted = (total * 99).div_ceil(100).max(1);
    let mut below = 0u128;
    histogram.iter().find_map(|(bucket, count)| {
        below += u128::from(*count);
        (below >= wanted).then_some(*bucket)
    })
}
