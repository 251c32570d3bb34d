//! Tripped fuses, seen from above: the fault of one proxy, or of the candidate.

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
