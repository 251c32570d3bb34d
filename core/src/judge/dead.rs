//! The dead-candidate rule: a color that answers nobody is off, whatever the number of its sessions.
//!
//! A plain rule beside the tests: counting distinct sessions makes a color with two busy sessions untestable. It is
//! safe because a healthy model answers someone; any one success resets it. It spends no alpha.

use serde::{Deserialize, Serialize};

/// Completions since the last success that condemn.
const COMPLETED: u64 = 20;
/// How long ago the first of them must be, and how fresh stable's last success, ms.
const WINDOW_MS: u64 = 3_000;

/// What completed since the last tick, over all proxies; client aborts are in neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadInput {
    /// The candidate's completed requests.
    pub candidate_completed: u64,
    /// Of those, failures.
    pub candidate_errors: u64,
    /// Stable's completed requests.
    pub stable_completed: u64,
    /// Of those, failures.
    pub stable_errors: u64,
}

/// State of the rule for one release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadRule {
    failures: u64,
    first_failure_ms: u64,
    stable_success_ms: Option<u64>,
    fired: bool,
}

// === impl DeadRule ===

impl DeadRule {
    /// Takes a tick's deltas; true from the moment on that the candidate counts as dead (latched).
    pub fn tick(&mut self, t_ms: u64, delta: DeadInput) -> bool {
        if delta.stable_completed > delta.stable_errors {
            self.stable_success_ms = Some(t_ms);
        }
        if delta.candidate_completed > delta.candidate_errors {
            // The order within a tick is unknown: a success counts as the latest.
            self.failures = 0;
        } else if delta.candidate_completed > 0 {
            if self.failures == 0 {
                self.first_failure_ms = t_ms;
            }
            self.failures = self.failures.saturating_add(delta.candidate_completed);
        }
        let stable_answers = self.stable_success_ms.is_some_and(|at| t_ms.saturating_sub(at) <= WINDOW_MS);
        let old_enough = t_ms.saturating_sub(self.first_failure_ms) >= WINDOW_MS;
        self.fired |= self.failures >= COMPLETED && old_enough && stable_answers;
        self.fired
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}
