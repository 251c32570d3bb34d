//! Tripped fuses, seen from above: the fault of one proxy, or of the candidate; and when a tripped one is probed.
//!
//! A probe lets a few real requests through a fuse that tripped for a good reason, so its price is failures. A proxy that
//! cannot reach the candidate would else open and trip for ever: after each trip in a row the pause is twice as long.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// One proxy of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyTrip {
    /// The Envoy.
    pub proxy: String,
    /// Number of its current trip; 0: not tripped.
    pub trip: u32,
    /// Candidate requests that it started in this release.
    pub candidate_started: u64,
}

/// What the trips mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trips {
    /// Nothing is tripped, or too little is known.
    Quiet,
    /// A few proxies only, and the evidence of the others is clean: probe those with a few requests.
    Local(Vec<String>),
    /// The candidate itself: roll back, recorded as `fuse`.
    Global,
}

/// Requests that a probe lets through.
pub const PROBE_REQUESTS: u32 = 10;

/// Pause before the first probe, ms; each further trip of the proxy doubles it.
const PAUSE_MS: u64 = 5_000;
/// The longest pause, ms.
const LONGEST_PAUSE_MS: u64 = 300_000;

/// Since when each proxy's present trip is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probing {
    since: BTreeMap<String, (u32, u64)>,
}

// === impl Probing ===

impl Probing {
    /// Takes the proxies of the release as they are at `t_ms`.
    pub fn see(&mut self, t_ms: u64, proxies: &[ProxyTrip]) {
        for proxy in proxies.iter().filter(|proxy| proxy.trip > 0) {
            match self.since.get_mut(&proxy.proxy) {
                Some((trip, _)) if *trip == proxy.trip => {}
                Some(known) => *known = (proxy.trip, t_ms),
                None => _ = self.since.insert(proxy.proxy.clone(), (proxy.trip, t_ms)),
            }
        }
    }

    /// Whether the trip is old enough for a probe.
    pub fn is_due(&self, t_ms: u64, proxy: &ProxyTrip) -> bool {
        let doublings = proxy.trip.saturating_sub(1).min(16);
        let pause = (PAUSE_MS << doublings).min(LONGEST_PAUSE_MS);
        self.since
            .get(&proxy.proxy)
            .is_some_and(|(trip, at)| *trip == proxy.trip && t_ms.saturating_sub(*at) >= pause)
    }
}

/// Weighs the trips. `log_e` is the evidence against the candidate.
pub fn weigh(proxies: &[ProxyTrip], log_e: f64) -> Trips {
    let with_traffic = proxies.iter().filter(|p| p.candidate_started > 0 || p.trip > 0);
    let (mut total, mut count) = (0u64, 0usize);
    let (mut tripped_traffic, mut tripped) = (0u64, Vec::new());
    for proxy in with_traffic {
        total = total.saturating_add(proxy.candidate_started);
        count += 1;
        if proxy.trip > 0 {
            tripped_traffic = tripped_traffic.saturating_add(proxy.candidate_started);
            tripped.push(proxy.proxy.clone());
        }
    }
    if tripped.is_empty() {
        return Trips::Quiet;
    }
    // max(2, 20 %) of the proxies, or half of the traffic (always so with one Envoy).
    let many = tripped.len() >= 2 && tripped.len().saturating_mul(5) >= count;
    let most = tripped_traffic >= total.saturating_sub(tripped_traffic);
    if many || most {
        Trips::Global
    } else if log_e < 0.0 {
        Trips::Local(tripped)
    } else {
        Trips::Quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    /// (trip, candidate requests) per proxy.
    fn proxies(of: &[(u32, u64)]) -> Vec<ProxyTrip> {
        let proxy = |(i, (trip, candidate_started)): (usize, &(u32, u64))| ProxyTrip {
            proxy: format!("gw-{i}"),
            trip: *trip,
            candidate_started: *candidate_started,
        };
        of.iter().enumerate().map(proxy).collect()
    }

    #[test]
    fn nothing_tripped_is_quiet() {
        assert_eq!(weigh(&[], -1.0), Trips::Quiet);
        assert_eq!(weigh(&proxies(&[(0, 10), (0, 0)]), 3.0), Trips::Quiet);
    }

    #[test]
    fn the_only_envoy_speaks_for_all() {
        assert_eq!(weigh(&proxies(&[(1, 8)]), -1.0), Trips::Global);
        assert_eq!(weigh(&proxies(&[(1, 8), (0, 0)]), -1.0), Trips::Global, "idle ones have no say");
    }

    #[test]
    fn half_of_the_traffic_is_enough() {
        assert_eq!(weigh(&proxies(&[(1, 100), (0, 50), (0, 50)]), -1.0), Trips::Global);
        assert_eq!(weigh(&proxies(&[(1, 99), (0, 50), (0, 50)]), -1.0), Trips::Local(vec!["gw-0".into()]));
    }

    #[test]
    fn two_of_ten_are_many_and_two_of_eleven_are_not() {
        let with = |n: usize| {
            let mut all = vec![(0, 100); n];
            all[0].0 = 1;
            all[1].0 = 7;
            proxies(&all)
        };
        assert_eq!(weigh(&with(10), -1.0), Trips::Global);
        assert_eq!(weigh(&with(11), -1.0), Trips::Local(vec!["gw-0".into(), "gw-1".into()]));
    }

    #[test]
    fn a_local_fault_is_probed_only_while_the_evidence_is_clean() {
        let one = proxies(&[(1, 10), (0, 50), (0, 50)]);
        assert_eq!(weigh(&one, -0.1), Trips::Local(vec!["gw-0".into()]));
        assert_eq!(weigh(&one, 0.0), Trips::Quiet, "neither probed nor rolled back: the judge will say");
    }

    #[test]
    fn a_fuse_that_trips_again_and_again_is_probed_ever_more_rarely() {
        let mut probing = Probing::default();
        let mut t_ms = 0;
        let mut probed = Vec::new();
        for trip in 1..=9 {
            let tripped = proxies(&[(trip, 10), (0, 90)]);
            let begun = t_ms;
            probing.see(t_ms, &tripped);
            while !probing.is_due(t_ms, &tripped[0]) {
                t_ms += 250;
                probing.see(t_ms, &tripped);
            }
            probed.push((t_ms - begun) / 1_000);
            assert!(!probing.is_due(t_ms, &tripped[1]), "what did not trip is not probed");
        }
        assert_eq!(probed, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
