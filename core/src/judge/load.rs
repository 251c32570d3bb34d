//! The load guard: latency is compared only while the candidate is not the busier color.
//!
//! Blue/green changes the load of both colors, and a server's latency changes with its load by far more than the
//! margin; a candidate that carries more per endpoint than stable would be condemned for its traffic, with certainty
//! and not by chance. Compared is the load that is *offered*: requests that start, per ready endpoint. Requests in
//! flight alone would not do: a candidate that is slow has more of them for that very reason, and a guard on them
//! would hide the fault that it should let pass. Stable's own requests in flight only say how busy "busy" is: where
//! hardly anything queues, a difference of load explains nothing.
//!
//! A candidate that carries *less* than stable is compared: if latency grows with load, that hides faults but
//! condemns nobody. What the busier candidate showed is judged against stable's own past at that load ([`Past`]), which
//! can hold a release and never condemn it.

use super::buckets::{add, total};
use super::history::{LatencyHistory, envelope};
use super::restarts::{Restarts, Schedule};
use crate::histogram::Sparse;
use alloc::collections::BTreeMap;
use alloc::vec;
use libm::{exp, floor, log2};
use serde::{Deserialize, Serialize};

/// What one color carries now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColorLoad {
    /// Endpoints that are ready.
    pub ready: u32,
    /// Requests in flight.
    pub in_flight: u32,
}

/// What both colors carry now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The candidate.
    pub green: ColorLoad,
    /// Stable.
    pub blue: ColorLoad,
}

/// Over how long loads are averaged, ms: single requests are no load.
const MEMORY_MS: f64 = 10_000.0;
/// Requests in flight per endpoint that one color may have more than the other by load alone: at most that much longer
/// (10 %) does a request wait.
const IDLE: f64 = 0.1;
/// Observations that make stable's past usable at a load.
const ENOUGH: u64 = 1_000;
/// What chance may do to that past.
const DELTA: f64 = 0.001;

/// Whether latencies may be compared now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadGuard {
    tolerance: f64,
    load: Option<Load>,
    t_ms: u64,
    /// Requests that started lately, (candidate, stable), fading; per second if divided by the memory.
    started: (f64, f64),
    /// Stable's requests in flight, averaged likewise.
    in_flight: f64,
}

/// Stable's latencies by its load, and the candidate's at the same load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    classes: BTreeMap<i32, Class>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Class {
    stable: Sparse,
    /// Once it has begun, what stable adds no longer counts.
    score: Option<Restarts>,
}

// === impl LoadGuard ===

impl LoadGuard {
    /// The candidate may carry this much more than stable, 0.25: a quarter.
    pub fn new(tolerance: f64) -> Self {
        LoadGuard { tolerance, load: None, t_ms: 0, started: (0.0, 0.0), in_flight: 0.0 }
    }

    /// Takes what a tick shows: the load if it is known, and requests that started (candidate, stable).
    pub fn see(&mut self, t_ms: u64, load: Option<Load>, started: (u64, u64)) {
        self.load = load.or(self.load);
        let passed = t_ms.saturating_sub(self.t_ms) as f64;
        self.t_ms = t_ms;
        let fade = exp(-passed / MEMORY_MS);
        self.started = (self.started.0 * fade + started.0 as f64, self.started.1 * fade + started.1 as f64);
        let now = self.load.map_or(0.0, |load| f64::from(load.blue.in_flight));
        self.in_flight = self.in_flight * fade + now * (1.0 - fade);
    }

    /// Whether the candidate is at most as busy as it may be. Colors of unknown size count as equal.
    pub fn comparable(&self) -> bool {
        let (green, blue) = self.offered();
        if green <= blue * (1.0 + self.tolerance) {
            return true;
        }
        let (_, ready) = self.ready();
        let waiting = self.in_flight / ready;
        // By load alone requests in flight grow in proportion.
        self.load.is_some() && blue > 0.0 && waiting * (green / blue - 1.0) <= IDLE
    }

    /// The class of each color's load: half an octave of requests per second and endpoint; `None`: no request.
    fn class(&self) -> (Option<i32>, Option<i32>) {
        let of = |load: f64| (load > 0.0).then(|| floor(2.0 * log2(load)) as i32);
        let (green, blue) = self.offered();
        (of(green), of(blue))
    }

    /// Requests per endpoint, (candidate, stable).
    fn offered(&self) -> (f64, f64) {
        let (green, blue) = self.ready();
        (self.started.0 / green, self.started.1 / blue)
    }

    fn ready(&self) -> (f64, f64) {
        self.load.map_or((1.0, 1.0), |load| {
            let at_least_one = |ready: u32| f64::from(ready.max(1));
            (at_least_one(load.green.ready), at_least_one(load.blue.ready))
        })
    }
}

// === impl Past ===

impl Past {
    /// Books what a tick observed, by the load of each color: the candidate's by its own buckets, without a margin.
    /// The candidate is scored only while it is too busy to be compared.
    pub fn add(
        &mut self,
        guard: &LoadGuard,
        t_ms: u64,
        observed: (&Sparse, &Sparse),
        shift: u32,
        schedule: Schedule,
    ) {
        let (green, blue) = observed;
        let (at_green, at_blue) = guard.class();
        if let Some(class) = at_blue
            && !blue.is_empty()
        {
            let class = self.classes.entry(class).or_default();
            if class.score.is_none() {
                blue.iter().for_each(|(bucket, n)| add(&mut class.stable, *bucket, *n));
            }
        }
        if guard.comparable() || green.is_empty() {
            return;
        }
        let class = at_green.and_then(|class| self.classes.get_mut(&class));
        if let Some(class) = class.filter(|class| total(&class.stable) >= ENOUGH) {
            class.add(t_ms, green, shift, schedule);
        }
    }

    /// The strongest evidence at any load that the candidate is slower than stable was.
    pub fn log_e(&self) -> f64 {
        let scores = self.classes.values().filter_map(|class| class.score.as_ref());
        scores.map(Restarts::log_e).fold(0.0, f64::max)
    }
}

// === impl Class ===

impl Class {
    fn add(&mut self, t_ms: u64, green: &Sparse, shift: u32, schedule: Schedule) {
        let Some(envelope) = envelope(core::slice::from_ref(&self.stable), DELTA) else { return };
        let history = LatencyHistory::new(&envelope, shift);
        let score = self.score.get_or_insert_with(|| Restarts::equal(schedule, history.alternatives()));
        let mut sums = vec![0.0; history.alternatives()];
        history.add(green, &mut sums);
        score.add(t_ms, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guard after a minute of these requests per second and endpoints, (candidate, stable), with so many of
    /// stable's requests in flight.
    fn guard(rate: (u64, u64), ready: (u32, u32), in_flight: (u32, u32)) -> LoadGuard {
        let mut guard = LoadGuard::new(0.25);
        let load = Load {
            green: ColorLoad { ready: ready.0, in_flight: in_flight.0 },
            blue: ColorLoad { ready: ready.1, in_flight: in_flight.1 },
        };
        (1..=60).for_each(|second| guard.see(second * 1_000, Some(load), rate));
        guard
    }

    #[test]
    fn a_candidate_that_carries_a_quarter_more_is_not_compared() {
        assert!(guard((100, 100), (4, 4), (40, 40)).comparable());
        assert!(guard((124, 100), (4, 4), (40, 40)).comparable());
        assert!(!guard((126, 100), (4, 4), (40, 40)).comparable());
        assert!(!guard((950, 50), (4, 4), (40, 2)).comparable(), "the holdback: stable is nearly idle");
    }

    #[test]
    fn endpoints_count_not_shares() {
        assert!(guard((900, 100), (36, 4), (40, 40)).comparable());
        assert!(
            !guard((50, 50), (1, 4), (40, 40)).comparable(),
            "half of the traffic on a fifth of the endpoints"
        );
    }

    #[test]
    fn a_slow_candidate_is_not_hidden_by_its_own_requests_in_flight() {
        assert!(guard((100, 100), (4, 4), (400, 40)).comparable());
    }

    #[test]
    fn where_nothing_queues_load_explains_nothing() {
        assert!(guard((2, 1), (1, 1), (0, 0)).comparable());
        assert!(!guard((20, 10), (1, 1), (0, 1)).comparable());
    }

    #[test]
    fn colors_of_unknown_size_count_as_equal() {
        let mut guard = LoadGuard::new(0.25);
        guard.see(1_000, None, (10, 90));
        assert!(guard.comparable());
        (2..60).for_each(|second| guard.see(second * 1_000, None, (90, 10)));
        assert!(!guard.comparable());
    }

    #[test]
    fn the_past_of_stable_at_the_same_load_finds_a_slow_candidate_and_acquits_an_equal_one() {
        let schedule =
            Schedule { count: 0, every_ms: 10_000, v0: 0.5, scheme: super::super::restarts::Scheme::Uniform };
        for (bucket, slower) in [(250, false), (262, true)] {
            let mut past = Past::default();
            let spread = |middle: u16, n: u64| (0..5).map(|i| (middle - 2 + i, n)).collect::<Sparse>();
            let ramp = guard((5, 100), (1, 1), (1, 10));
            (0..30).for_each(|t| past.add(&ramp, t, (&Sparse::new(), &spread(250, 10)), 4, schedule));
            let soak = guard((100, 5), (1, 1), (10, 1));
            assert!(!soak.comparable());
            (30..60).for_each(|t| past.add(&soak, t, (&spread(bucket, 4), &spread(250, 1)), 4, schedule));
            assert_eq!(past.log_e() > 100f64.ln(), slower, "{}", past.log_e());
        }
    }
}
