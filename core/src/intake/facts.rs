//! What the planner and the view may know about a release in progress: who enforces what, and the totals.

use crate::color::PerColor;
use crate::contract::Tally;
use crate::problem::Problem;
use alloc::string::String;
use alloc::vec::Vec;

/// A worker that has not reported for this long is taken for rebuilt, ms: with one color open a living one reports
/// every ten seconds.
pub(super) const LIVING_MS: u64 = 12_000;
/// The window of [`ProxyFacts::recent`].
const RECENT_SECONDS: usize = 10;

/// What the planner and the view may know about one release.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Proxies that ever reported this release, by name.
    pub proxies: Vec<ProxyFacts>,
    /// Totals over all proxies, incarnations and lotteries of the release; gauges over living workers.
    pub totals: PerColor<Tally>,
    /// The highest (release, epoch) of this service in any report.
    pub highest: Option<(u32, u64)>,
}

/// One Envoy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyFacts {
    /// The Envoy.
    pub proxy: String,
    /// Its process.
    pub incarnation: u64,
    /// Its living workers whose plan is of this release.
    pub vms: Vec<VmFacts>,
    /// Workers that should have reported and did not, while others do.
    pub silent: Vec<SilentVm>,
    /// What went wrong inside its filter lately.
    pub problems: Vec<Problem>,
    /// Number of the fuse's current trip; 0: not tripped.
    pub tripped: u32,
    /// Requests started per color in this release, by this process.
    pub started: PerColor<u64>,
    /// Requests started in about the last ten seconds, both colors.
    pub recent: u64,
}

/// One worker of an Envoy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VmFacts {
    /// Its number.
    pub vm: u64,
    /// Epoch of the plan that it enforces.
    pub epoch: u64,
    /// When it last reported.
    pub reported_ms: u64,
    /// When a report last brought a newly started request; 0: never.
    pub traffic_ms: u64,
}

/// A worker that broke its word to report: its VM is dead, or its thread is stuck. The Envoy may serve on there,
/// without affinity and without counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SilentVm {
    /// Its number.
    pub vm: u64,
    /// Since its last report, ms.
    pub for_ms: u64,
}

/// Requests of the last ten seconds, a second each.
#[derive(Debug, Default)]
pub(super) struct Recent {
    second: u64,
    counts: [u64; RECENT_SECONDS],
}

// === impl ProxyFacts ===

impl ProxyFacts {
    /// The lowest epoch among workers that had traffic since `since_ms`; `None`: no traffic since then.
    pub fn enforces(&self, since_ms: u64) -> Option<u64> {
        self.vms.iter().filter(|vm| vm.traffic_ms >= since_ms && vm.traffic_ms > 0).map(|vm| vm.epoch).min()
    }
}

// === impl Recent ===

impl Recent {
    pub fn add(&mut self, now_ms: u64, count: u64) {
        let second = now_ms / 1_000;
        // Forget what the window has passed; time that goes backwards is booked to the last second.
        let passed = second.saturating_sub(self.second).min(RECENT_SECONDS as u64);
        for ago in 0..passed {
            if let Some(slot) = self.counts.get_mut(place(second - ago)) {
                *slot = 0;
            }
        }
        self.second = self.second.max(second);
        if let Some(slot) = self.counts.get_mut(place(self.second)) {
            *slot = slot.saturating_add(count);
        }
    }

    pub fn sum(&self, now_ms: u64) -> u64 {
        let since = (now_ms / 1_000).saturating_sub(self.second);
        let kept = (RECENT_SECONDS as u64).saturating_sub(since);
        let seconds = (0..kept).filter_map(|ago| self.second.checked_sub(ago));
        seconds.filter_map(|second| self.counts.get(place(second))).fold(0, |sum, n| sum.saturating_add(*n))
    }
}

fn place(second: u64) -> usize {
    (second % RECENT_SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_requests_are_forgotten_after_ten_seconds() {
        let mut recent = Recent::default();
        recent.add(5_000, 3);
        recent.add(9_500, 4);
        assert_eq!(
            (recent.sum(9_900), recent.sum(14_999), recent.sum(15_000), recent.sum(19_000)),
            (7, 7, 4, 0)
        );
        recent.add(100_000, 1);
        assert_eq!(recent.sum(100_000), 1);
        recent.add(50, 1);
        assert_eq!(recent.sum(100_000), 2, "a clock that goes back loses nothing");
    }
}
