//! Sessions counted again: a judge that also looks at short windows, each with a fresh memory of sessions.
//!
//! Counted once per release, sessions are used up: at 1,000 requests/s every lottery slot has had an error within the
//! hour, and a fault that starts later is invisible. So beside the process of the whole release there are processes
//! of short windows that know nothing of what was counted before. Windows of a scale may overlap: healthy observations
//! before a fault speak against it, so a window finds it soon only if it began about when the fault did.
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
//!    windows as `1/i^1.5`, because most faults show when the ramp opens. What a window costs by that, in nats of ln E,
//!    stands in this file's tests.
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

/// Windows of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// How long a window is, ms.
    pub length_ms: u64,
    /// Time from the beginning of one to that of the next, ms, at most the length.
    pub every_ms: u64,
}

/// A window of a scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// `None`: there is only this one, and it has no end.
    scale: Option<Scale>,
    /// Whether it is the scale of the whole release: a window that follows another has half of its part.
    whole: bool,
    /// The scale's part of the budget.
    part: f64,
    /// Number of the window, from 0.
    number: u64,
}

/// The first windows: of the whole release (of `renew_ms`, then with ever less of the budget), and of each shorter scale.
pub fn begin(renew_ms: Option<u64>, shorter: &[Scale]) -> Vec<Window> {
    let whole = if shorter.is_empty() { 1.0 } else { WHOLE };
    let part = (1.0 - whole) / shorter.len().max(1) as f64;
    let renewed = renew_ms.map(|ms| Scale { length_ms: ms, every_ms: ms });
    let mut windows = Vec::from([Window { scale: renewed, whole: true, part: whole, number: 0 }]);
    windows.extend(shorter.iter().map(|scale| Window { scale: Some(*scale), whole: false, part, number: 0 }));
    windows
}

// === impl Scale ===

impl Scale {
    /// Long enough to judge anything in, and not so many at a time that judging takes too long.
    pub fn is_usable(&self) -> bool {
        self.length_ms >= 1_000
            && self.every_ms <= self.length_ms
            && self.every_ms.saturating_mul(8) >= self.length_ms
    }
}

// === impl Window ===

impl Window {
    /// The newest window of its scale at `t_ms`, if that is a later one. The tick at a boundary still belongs to the
    /// window that it closes.
    pub fn newest(&self, t_ms: u64) -> Option<Window> {
        let number = t_ms.saturating_sub(1).checked_div(self.scale?.every_ms)?;
        (number > self.number).then_some(Window { number, ..*self })
    }

    /// Whether it is over at `t_ms`.
    pub fn is_over(&self, t_ms: u64) -> bool {
        self.scale.is_some_and(|scale| t_ms > self.since_ms().saturating_add(scale.length_ms))
    }

    /// Its length, ms; `None`: without an end.
    pub fn length_ms(&self) -> Option<u64> {
        self.scale.map(|scale| scale.length_ms)
    }

    /// When it began, ms.
    pub fn since_ms(&self) -> u64 {
        self.scale.map_or(0, |scale| self.number.saturating_mul(scale.every_ms))
    }

    /// ln of its part of the whole budget.
    pub fn ln_part(&self) -> f64 {
        let Some(Scale { every_ms, .. }) = self.scale else { return log(self.part) };
        if self.whole {
            // A new process begins with half of the last one's alpha.
            return log(self.part) - self.number as f64 * LN_2;
        }
        let of_day = DAY_MS.checked_div(every_ms).unwrap_or(1).max(1);
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

    const SCALES: [Scale; 2] =
        [Scale { length_ms: 120_000, every_ms: 120_000 }, Scale { length_ms: 21_000, every_ms: 7_000 }];

    #[test]
    fn without_shorter_scales_the_release_has_all_of_the_budget() {
        let windows = begin(None, &[]);
        assert_eq!(windows.len(), 1);
        assert_eq!((windows[0].ln_part(), windows[0].newest(1_000_000)), (0.0, None));
        assert!(!windows[0].is_over(u64::MAX));
    }

    #[test]
    fn all_windows_for_ever_spend_at_most_the_budget() {
        let mut spent = 0.0;
        for first in begin(None, &SCALES) {
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
            [0, 14, 63, 602, 3_605, 23 * 3_600].map(|s| {
                let at = first.newest(s * 1_000 + 1).unwrap_or(first);
                (-at.ln_part() * 10.0).round() / 10.0
            })
        };
        let [_, two_minutes, overlapping] = begin(None, &SCALES)[..] else { panic!() };
        assert_eq!(costs(overlapping), [3.0, 4.7, 6.5, 9.6, 11.2, 11.6]);
        assert_eq!(costs(two_minutes), [3.0, 3.0, 3.0, 5.7, 7.7, 8.7]);
        let even = -(0.25 * FIRST_DAY / (86_400.0f64 / 7.0)).ln();
        assert_eq!((even * 10.0).round() / 10.0, 10.9);
    }

    #[test]
    fn after_a_day_the_release_is_judged_anew_with_half_of_alpha() {
        let day = begin(Some(86_400_000), &[])[0];
        let next = day.newest(86_400_001).unwrap();
        assert_eq!((day.ln_part(), next.since_ms(), next.is_whole()), (0.0, 86_400_000, true));
        assert!(day.is_over(86_400_001) && !next.is_over(86_400_001));
        assert!((next.ln_part().exp() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn windows_begin_and_end_by_the_clock() {
        let minute = begin(None, &[Scale { length_ms: 60_000, every_ms: 60_000 }])[1];
        assert_eq!(minute.newest(60_000), None, "the tick at the boundary closes the old window");
        assert!(!minute.is_over(60_000) && minute.is_over(60_001));
        let second = minute.newest(60_010).unwrap();
        assert_eq!((second.since_ms(), second.newest(120_000)), (60_000, None));
        assert_eq!(second.newest(400_000).unwrap().since_ms(), 360_000, "quiet windows are skipped");
    }

    #[test]
    fn windows_of_a_scale_overlap() {
        let first = begin(None, &SCALES)[2];
        let third = first.newest(14_001).unwrap();
        assert_eq!((third.since_ms(), third.length_ms()), (14_000, Some(21_000)));
        assert_eq!(
            (first.is_over(21_000), first.is_over(21_001), third.is_over(35_000)),
            (false, true, false)
        );
    }
}
