//! Flagger's rule: failed checks add up over the whole analysis, good ones never take one back.

use super::window::{Check, Limits, Tick, Window};
use hueshift_core::judge::Verdict;

/// `threshold` of its blue/green examples, the middle of the documented ones (1 if unset, 2, 5, 10).
pub(super) const THRESHOLD: u32 = 5;
/// `interval`.
const INTERVAL_MS: u64 = 30_000;
/// The metric's own `interval`.
const WINDOW_MS: u64 = 60_000;
/// `iterations`: ten minutes.
const ITERATIONS: u32 = 20;

#[derive(Debug, Clone)]
pub(super) struct Flagger {
    threshold: u32,
    limits: Limits,
    window: Window,
    next_ms: u64,
    failed: u32,
    passed: u32,
}

// === impl Flagger ===

impl Flagger {
    pub fn new(threshold: u32, limits: Limits) -> Self {
        let window = Window::default();
        // A threshold of 0 means 1 there.
        Flagger { threshold: threshold.max(1), limits, window, next_ms: INTERVAL_MS, failed: 0, passed: 0 }
    }

    pub fn tick(&mut self, t_ms: u64, tick: Tick) -> Verdict {
        self.window.add(t_ms, tick.candidate);
        if t_ms < self.next_ms {
            return Verdict::Continue;
        }
        self.next_ms += INTERVAL_MS;
        match self.limits.check(&self.window.since(t_ms.saturating_sub(WINDOW_MS))) {
            Check::Passed => self.passed += 1,
            // "No values found" is a failed check.
            Check::Failed | Check::NoData => self.failed += 1,
        }
        if self.failed >= self.threshold {
            Verdict::Rollback
        } else if self.passed >= ITERATIONS {
            Verdict::Certified
        } else {
            Verdict::Continue
        }
    }
}
