//! Argo Rollouts' rule: a fixed number of measurements, of which only so many may fail.

use super::window::{Check, Limits, Tick, Window};
use hueshift_core::judge::Verdict;

/// Failed measurements that fail the run: one more than the default `failureLimit`.
pub(super) const FAILURES: u32 = 1;
/// `interval`, and what the query looks back over.
const INTERVAL_MS: u64 = 60_000;
/// `count`: ten minutes.
const COUNT: u32 = 10;
/// Errors in a row that abort: one more than the default `consecutiveErrorLimit`.
const ERRORS_IN_A_ROW: u32 = 5;

#[derive(Debug, Clone)]
pub(super) struct Argo {
    failures: u32,
    limits: Limits,
    window: Window,
    next_ms: u64,
    failed: u32,
    measured: u32,
    errors: u32,
}

// === impl Argo ===

impl Argo {
    pub fn new(failures: u32, limits: Limits) -> Self {
        Argo {
            failures: failures.max(1),
            limits,
            window: Window::default(),
            next_ms: INTERVAL_MS,
            failed: 0,
            measured: 0,
            errors: 0,
        }
    }

    pub fn tick(&mut self, t_ms: u64, tick: Tick) -> Verdict {
        self.window.add(t_ms, tick.candidate);
        if t_ms < self.next_ms {
            return Verdict::Continue;
        }
        self.next_ms += INTERVAL_MS;
        match self.limits.check(&self.window.since(t_ms.saturating_sub(INTERVAL_MS))) {
            // An empty result is an error; it is measured again and does not count.
            Check::NoData => self.errors += 1,
            check => {
                self.errors = 0;
                self.measured += 1;
                self.failed += u32::from(check == Check::Failed);
            }
        }
        if self.failed >= self.failures || self.errors >= ERRORS_IN_A_ROW {
            Verdict::Rollback
        } else if self.measured >= COUNT {
            Verdict::Certified
        } else {
            Verdict::Continue
        }
    }
}
