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

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE_ANSWERS: DeadInput =
        DeadInput { candidate_completed: 0, candidate_errors: 0, stable_completed: 5, stable_errors: 1 };

    fn fails(n: u64) -> DeadInput {
        DeadInput { candidate_completed: n, candidate_errors: n, ..STABLE_ANSWERS }
    }

    #[test]
    fn twenty_failures_over_three_seconds_condemn_and_stay_condemned() {
        let mut rule = DeadRule::default();
        assert!(!rule.tick(1_000, fails(10)));
        assert!(!rule.tick(2_000, fails(10)));
        assert!(!rule.tick(3_990, STABLE_ANSWERS), "the first failure is not yet three seconds old");
        assert!(rule.tick(4_000, STABLE_ANSWERS));
        let recovers = DeadInput { candidate_completed: 1, ..STABLE_ANSWERS };
        assert!(rule.tick(4_010, recovers), "latched");
    }

    #[test]
    fn nineteen_failures_do_not_condemn() {
        let mut rule = DeadRule::default();
        rule.tick(1_000, fails(19));
        assert!(!rule.tick(60_000, STABLE_ANSWERS));
        assert_eq!(rule.failures(), 19);
    }

    #[test]
    fn any_one_success_resets_even_within_the_same_tick() {
        let mut rule = DeadRule::default();
        rule.tick(1_000, fails(19));
        let mixed = DeadInput { candidate_completed: 30, candidate_errors: 29, ..STABLE_ANSWERS };
        assert!(!rule.tick(5_000, mixed));
        assert_eq!(rule.failures(), 0);
        rule.tick(6_000, fails(20));
        assert!(!rule.tick(8_990, STABLE_ANSWERS), "the three seconds begin anew, too");
        assert!(rule.tick(9_000, STABLE_ANSWERS));
    }

    #[test]
    fn while_stable_fails_too_the_candidate_is_not_to_blame() {
        let mut rule = DeadRule::default();
        rule.tick(1_000, fails(20));
        let both = DeadInput { stable_completed: 5, stable_errors: 5, ..fails(20) };
        for t_ms in [4_010, 5_000, 9_000] {
            assert!(!rule.tick(t_ms, both), "stable's last success was at 1000 ms");
        }
        assert!(rule.tick(9_010, fails(1)), "stable is back, the candidate is not");
    }

    #[test]
    fn without_a_request_nothing_is_dead() {
        let mut rule = DeadRule::default();
        assert!(!rule.tick(10_000, STABLE_ANSWERS));
        assert!(!rule.tick(20_000, DeadInput::default()));
    }
}
