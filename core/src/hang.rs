//! From when on a request counts as hung: a time that follows from how long the service itself takes.
//!
//! A hung candidate completes nothing, so it shows nowhere else. A fixed time is either far above what an embedding
//! model ever needs, and a partial hang stays unseen for its length, or below what a reasoning model needs, and healthy
//! requests fail. So it is four times what stable's slowest hundredth takes to answer, at least five seconds. A timeout
//! that the user's own route sets needs no word here: Envoy ends such a request earlier, and it counts as failed then.
//!
//! *Why this condemns no healthy candidate.* The time is taken from stable's past and applied to both colors alike, so
//! it is part of what "failed" means and the tests stay what they are. Two things could still make it a bad meaning.
//! Fast answers come first: right after the start there are only those. So a time counts only once stable was watched
//! for that long. And streams may pause for longer than they take to begin: if stable's own requests are called hung
//! more often than one in a thousand, which is the rate below which nothing is rolled back, the release falls back to
//! half a minute for good.

use crate::contract::Tally;
use crate::histogram::quantile_us;
use serde::{Deserialize, Serialize};

/// While the service's own times are not known, ms.
pub const DEFAULT_MS: u64 = 30_000;
/// Never below this, ms: a pause of a few seconds is a pause.
const LEAST_MS: u64 = 5_000;
/// How many times stable's 99 % quantile.
const TIMES: u64 = 4;
/// Answers of stable from which on its quantile is believed.
const ENOUGH: u64 = 100;
/// Requests of stable that hang at least before anything is concluded from their rate.
const FEW: u64 = 3;
/// One hung request of stable in so many makes the time a bad one.
const ONE_IN: u64 = 1_000;

/// The time of one release, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hang {
    /// When stable's first request was seen.
    since_ms: Option<u64>,
    /// Stable's completed and hung requests before its own time first counted.
    before: Option<(u64, u64)>,
    /// Stable pauses for longer than its times to answer say.
    pauses: bool,
    /// What counts now; `None`: the default.
    ms: Option<u64>,
}

// === impl Hang ===

impl Hang {
    /// Takes stable's counts in this release, at `t_ms` of any clock that only grows.
    pub fn see(&mut self, t_ms: u64, stable: &Tally) {
        if stable.started == 0 {
            return;
        }
        let watched = t_ms.saturating_sub(*self.since_ms.get_or_insert(t_ms));
        if let Some((completed, hung)) = self.before {
            let (completed, hung) =
                (stable.completed.saturating_sub(completed), stable.hung.saturating_sub(hung));
            self.pauses |= hung >= FEW && hung.saturating_mul(ONE_IN) > completed;
        }
        let known = stable.first_byte.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        let slowest = quantile_us(&stable.first_byte, 990).filter(|_| known >= ENOUGH);
        let own = slowest.map(|us| us.div_ceil(1_000).saturating_mul(TIMES).max(LEAST_MS));
        // Longer than the default is never too early.
        self.ms = own.filter(|own| *own > DEFAULT_MS || (watched >= *own && !self.pauses));
        if self.ms.is_some_and(|ms| ms < DEFAULT_MS) {
            self.before.get_or_insert((stable.completed, stable.hung));
        }
    }

    /// Time without a byte from upstream from which on a request counts as hung.
    pub fn ms(&self) -> u64 {
        self.ms.unwrap_or(DEFAULT_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::record;

    /// Stable's counts after so many answers that took `ms`.
    fn stable(answers: u64, ms: u64, hung: u64) -> Tally {
        let mut tally =
            Tally { started: answers + hung, completed: answers + hung, hung, ..Tally::default() };
        (0..answers).for_each(|_| record(&mut tally.first_byte, ms * 1_000));
        tally
    }

    fn after(t_ms: u64, tally: &Tally) -> u64 {
        let mut hang = Hang::default();
        hang.see(0, tally);
        hang.see(t_ms, tally);
        hang.ms()
    }

    #[test]
    fn a_fast_service_hangs_after_five_seconds_and_a_slow_one_after_four_times_its_time() {
        assert_eq!(after(60_000, &stable(1_000, 40, 0)), 5_000);
        let slow = after(60_000, &stable(1_000, 3_000, 0));
        assert!((12_000..13_000).contains(&slow), "{slow}");
        let slowest = after(600_000, &stable(1_000, 40_000, 0));
        assert!((160_000..170_000).contains(&slowest), "beyond the default, too: {slowest}");
    }

    #[test]
    fn before_enough_is_known_the_time_is_half_a_minute() {
        assert_eq!(Hang::default().ms(), 30_000);
        assert_eq!(after(60_000, &stable(99, 40, 0)), 30_000);
        assert_eq!(after(60_000, &Tally::default()), 30_000);
    }

    #[test]
    fn the_first_answers_are_the_fast_ones_so_a_time_counts_once_stable_was_watched_for_it() {
        assert_eq!(after(4_990, &stable(1_000, 40, 0)), 30_000);
        assert_eq!(after(5_000, &stable(1_000, 40, 0)), 5_000);
        let slow = stable(1_000, 6_000, 0);
        assert_eq!((after(20_000, &slow), after(29_000, &slow) / 1_000), (30_000, 24));
    }

    #[test]
    fn a_stable_color_that_pauses_for_longer_is_believed_for_the_rest_of_the_release() {
        let mut hang = Hang::default();
        hang.see(0, &stable(500, 40, 0));
        hang.see(10_000, &stable(1_000, 40, 0));
        hang.see(20_000, &stable(5_000, 40, 4));
        assert_eq!(hang.ms(), 5_000, "one in a thousand is the rate below which nothing is rolled back");
        hang.see(21_000, &stable(5_000, 40, 5));
        assert_eq!(hang.ms(), 30_000);
        hang.see(600_000, &stable(1_000_000, 40, 3));
        assert_eq!(hang.ms(), 30_000, "no coming and going");
    }

    #[test]
    fn what_hung_for_half_a_minute_says_nothing_about_five_seconds() {
        let mut hang = Hang::default();
        hang.see(0, &stable(50, 40, 3));
        hang.see(40_000, &stable(1_000, 40, 3));
        assert_eq!(hang.ms(), 5_000);
    }
}
