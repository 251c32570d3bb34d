//! Sessions counted again: a judge that also looks at short windows, each with a fresh memory of sessions.
//!
//! Counted once per release, sessions are used up: at 1,000 requests/s every lottery slot has had an error within the
//! hour, and a fault that starts later is invisible. So beside the process of the whole release there are processes
//! of two minutes and of ten seconds that know nothing of what was counted before their window.
//!
//! *Why this stays valid.* The lottery is a hash drawn anew for the release, independent of what clients do. While the
//! candidate is healthy it decides nothing about who fails, so which of a window's failing slots lie below the limit is
//! a draw without replacement from the slots that did not fail before *in this window*.
//!
//! 1. *One batch.* The score of `x` candidate slots among `m` new ones is `A^x B^(m-x)`, convex in `x`, and with the
//!    share `r` of the slots left `r A + (1-r) B <= 1`. The expectation of a convex function is at most as large for
//!    draws without replacement as with it (Hoeffding 1963), so that of the score is at most `(r A + (1-r) B)^m <= 1`.
//! 2. *One window.* Given its earlier batches the slots left are again as good as shuffled, so its score is an e-process
//!    for an observer who knows this window alone, and passes `1/a` with chance at most `a` (Ville).
//! 3. *All windows.* Scores of different windows depend on each other (the same unlucky client is on the same color in
//!    each), so they are neither multiplied nor averaged: the release is rolled back if *any* window passes
//!    `1 / (alpha * part)`, and the parts of all windows sum to at most 1. That is the union bound, which holds under any
//!    dependence. Windows start by the clock alone.
//!    Half of a scale's budget is spread evenly over a day, for a fault at any time of it; half goes to the first
//!    windows as `1/i^1.5`, because most faults show when the ramp opens. In nats of ln E, window of ten seconds that
//!    begins after: 0 s 3.0, 10 s 4.1, one minute 6.0, ten minutes 9.1, an hour 10.8, 23 hours 11.2; the two-minute
//!    window there: 3.0, 3.0, 3.0, 5.7, 7.7, 8.7. (Spread evenly, each window of ten seconds would cost 10.6.)
//! 4. *The ramp looks.* Step 2 takes the limit as given, but it rises because of what earlier windows showed. It does so
//!    when *few* of the candidate's slots failed, and fewer failing slots below a low limit make fewer below a higher one
//!    likely: over the releases that reach a share the expected score there is at most the chance to reach it. Summed
//!    over the shares of a ramp a window's expected score is at most their number, not 1, in the worst case, where every
//!    client that fails at all fails in every window and every delay of the ramp is the work of chance. That concerns
//!    only the half of alpha that the short windows have; what really happens is counted by the simulation.
//!
//! The tests of `core/tests/judge_rules.rs` enumerate 1 and 4 exactly.

use alloc::vec::Vec;
use core::f64::consts::{LN_2, PI};
use libm::{log, sqrt};
use serde::{Deserialize, Serialize};

/// How the budget of all scales is shared between the whole release and each shorter scale.
const WHOLE: f64 = 0.5;
/// Of a scale's budget: to the first windows, as 1/i^1.5.
const FRONT: f64 = 0.5;
/// The sum of 1/i^1.5 over all i, rounded up.
const ZETA_3_2: f64 = 2.612_375_349;
/// Of the other half: evenly over the windows of the first day; the rest over all later ones as 1/i².
const FIRST_DAY: f64 = 0.9;
const DAY_MS: u64 = 86_400_000;

/// A window of a scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Length, ms; `None`: without an end.
    every_ms: Option<u64>,
    /// Whether it is the scale of the whole release: a window that follows another has half of its part.
    whole: bool,
    /// The scale's part of the budget.
    part: f64,
    /// Number of the window, from 0.
    number: u64,
}

/// The first windows: of the whole release (of `renew_ms`, then with ever less of the budget), and of each of these
/// lengths.
pub fn begin(renew_ms: Option<u64>, lengths_ms: &[u64]) -> Vec<Window> {
    let shorter = lengths_ms.iter().filter(|length| **length > 0).count();
    let whole = if shorter == 0 { 1.0 } else { WHOLE };
    let part = (1.0 - whole) / shorter.max(1) as f64;
    let shorter = lengths_ms.iter().filter(|length| **length > 0);
    let mut windows =
        Vec::from([Window { every_ms: renew_ms.filter(|ms| *ms > 0), whole: true, part: whole, number: 0 }]);
    windows.extend(shorter.map(|length| Window { every_ms: Some(*length), whole: false, part, number: 0 }));
    windows
}

// === impl Window ===

impl Window {
    /// The window of its scale at `t_ms`, if a new one has begun.
    pub fn next(&self, t_ms: u64) -> Option<Window> {
        // The tick at the boundary still belongs to the window that it closes.
        let number = t_ms.saturating_sub(1).checked_div(self.every_ms?)?;
        (number > self.number).then_some(Window { number, ..*self })
    }

    /// Its length, ms; `None`: without an end.
    pub fn length_ms(&self) -> Option<u64> {
        self.every_ms
    }

    /// When it began, ms.
    pub fn since_ms(&self) -> u64 {
        self.number.saturating_mul(self.every_ms.unwrap_or(0))
    }

    /// ln of its part of the whole budget.
    pub fn ln_part(&self) -> f64 {
        let Some(every_ms) = self.every_ms else { return log(self.part) };
        if self.whole {
            // A new process begins with half of the last one's alpha.
            return log(self.part) - self.number as f64 * LN_2;
        }
        let of_day = (DAY_MS / every_ms).max(1);
        let even = if self.number < of_day {
            FIRST_DAY / of_day as f64
        } else {
            let i = (self.number - of_day + 1) as f64;
            (1.0 - FIRST_DAY) * 6.0 / (PI * i * PI * i)
        };
        let i = self.number as f64 + 1.0;
        let front = 1.0 / (ZETA_3_2 * i * sqrt(i));
        log(self.part * (FRONT * front + (1.0 - FRONT) * even))
    }

    /// Whether it is that of the whole release.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_shorter_scales_the_release_has_all_of_the_budget() {
        let windows = begin(None, &[]);
        assert_eq!(windows.len(), 1);
        assert_eq!((windows[0].ln_part(), windows[0].next(1_000_000)), (0.0, None));
    }

    const LENGTHS_MS: [u64; 2] = [120_000, 10_000];

    #[test]
    fn all_windows_for_ever_spend_at_most_the_budget() {
        let mut spent = 0.0;
        for first in begin(None, &LENGTHS_MS) {
            let last = if first.is_whole() { 0 } else { 1_000_000 };
            spent += (0..=last).map(|number| Window { number, ..first }.ln_part().exp()).sum::<f64>();
            if !first.is_whole() {
                // What follows is less than the integrals from there: of both halves' tails.
                let rest =
                    FRONT * 2.0 / (ZETA_3_2 * 1e6f64.sqrt()) + (1.0 - FRONT) * (1.0 - FIRST_DAY) * 1e-6;
                spent += first.part * rest;
            }
        }
        assert!(spent <= 1.0 + 1e-7 && spent > 0.999, "{spent}");
    }

    #[test]
    fn early_windows_cost_little_and_late_ones_hardly_more_than_if_all_were_equal() {
        let costs = |first: Window| {
            [0, 10, 60, 600, 3_600, 23 * 3_600].map(|s| {
                let at = first.next(s * 1_000 + 1).unwrap_or(first);
                (-at.ln_part() * 10.0).round() / 10.0
            })
        };
        let [_, two_minutes, ten_seconds] = begin(None, &LENGTHS_MS)[..] else { panic!() };
        assert_eq!(costs(ten_seconds), [3.0, 4.1, 6.0, 9.1, 10.8, 11.2]);
        assert_eq!(costs(two_minutes), [3.0, 3.0, 3.0, 5.7, 7.7, 8.7]);
        let even = -(0.25 * FIRST_DAY / 8_640.0f64).ln();
        assert_eq!((even * 10.0).round() / 10.0, 10.6);
    }

    #[test]
    fn after_a_day_the_release_is_judged_anew_with_half_of_alpha() {
        let day = begin(Some(86_400_000), &[])[0];
        let next = day.next(86_400_001).unwrap();
        assert_eq!((day.ln_part(), next.since_ms(), next.is_whole()), (0.0, 86_400_000, true));
        assert!((next.ln_part().exp() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn windows_begin_by_the_clock() {
        let minute = begin(None, &[60_000])[1];
        assert_eq!(minute.next(60_000), None, "the tick at the boundary closes the old window");
        let second = minute.next(60_010).unwrap();
        assert_eq!((second.since_ms(), second.next(120_000)), (60_000, None));
        assert_eq!(second.next(400_000).unwrap().since_ms(), 360_000, "quiet windows are skipped");
    }
}
