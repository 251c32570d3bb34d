//! When silent workers are revived: all VMs of an Envoy are built anew, which is the only way back for one whose VM
//! died (the proxy fails open and skips the filter there for good).
//!
//! Rarely: what killed a VM may kill the next one, and each rebuilding forgets what was not yet reported.

use alloc::string::String;
use alloc::vec::Vec;

/// A worker that is late may be slow only; it must be silent for this time, ms.
pub const AFTER_MS: u64 = 3_000;
/// Shortest time between two revivals, ms.
pub const EVERY_MS: u64 = 600_000;
/// Shortest time between two attempts of which the first did not succeed, ms.
const RETRY_MS: u64 = 10_000;

/// What was done so far. Lost with the controller: a new one may revive once more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revival {
    next_ms: u64,
}

// === impl Revival ===

impl Revival {
    /// The Envoys (sorted) whose VMs should be built anew now, given silent workers and for how long they are.
    pub fn due<'a>(&mut self, silent: impl Iterator<Item = (&'a String, u64)>, now_ms: u64) -> Vec<String> {
        if now_ms < self.next_ms {
            return Vec::new();
        }
        let mut proxies: Vec<String> =
            silent.filter(|(_, for_ms)| *for_ms >= AFTER_MS).map(|(proxy, _)| proxy.clone()).collect();
        proxies.sort();
        proxies.dedup();
        if !proxies.is_empty() {
            self.next_ms = now_ms.saturating_add(EVERY_MS);
        }
        proxies
    }

    /// The last attempt failed.
    pub fn failed(&mut self, now_ms: u64) {
        self.next_ms = now_ms.saturating_add(RETRY_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_envoy_is_revived_once_in_ten_minutes() {
        let mut revival = Revival::default();
        let (a, b) = (String::from("gw-a"), String::from("gw-b"));
        let mut due = |silent: &[(&String, u64)], now_ms| revival.due(silent.iter().copied(), now_ms);
        assert!(due(&[(&a, 2_900)], 10_000).is_empty(), "it may be slow only");
        assert_eq!(due(&[(&b, 3_000), (&a, 9_000), (&a, 3_000)], 10_100), ["gw-a", "gw-b"]);
        assert!(due(&[(&a, 100_000)], 609_000).is_empty());
        assert_eq!(due(&[(&a, 700_000)], 610_100), ["gw-a"]);
    }

    #[test]
    fn an_attempt_that_failed_is_made_again_soon() {
        let mut revival = Revival::default();
        let a = String::from("gw-a");
        assert_eq!(revival.due([(&a, 5_000)].into_iter(), 1_000).len(), 1);
        revival.failed(1_200);
        assert!(revival.due([(&a, 5_000)].into_iter(), 11_000).is_empty());
        assert_eq!(revival.due([(&a, 5_000)].into_iter(), 11_200).len(), 1);
    }
}
