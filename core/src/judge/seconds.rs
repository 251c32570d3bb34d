//! A color's errors second by second, for the choice of the next release's unit of chance ([`super::dispersion`]).
//!
//! Counted is the color that has most of the traffic: stable while the candidate is tried, the candidate once it serves.
//! A stretch is a time without a change of the share, because the errors of a color follow its share, and a step would
//! look like a clump. An error belongs to the second in which it was reported: up to a report's interval late, which
//! spreads a clump. An Envoy that could not report for a while, or a change of load, looks like one: both err to the
//! careful side.

use super::dispersion::Dispersion;
use crate::share::Bps;
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// Most seconds that are kept.
const MOST: usize = 600;
/// The first seconds of a stretch do not count: Envoys change over one after the other, and after a pause of the
/// controller what was missed comes at once.
const SETTLE: u64 = 5;

/// The seconds of one release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seconds {
    open: Option<Stretch>,
    /// Of the last stretch that was long enough.
    stable: Option<Dispersion>,
    candidate: Option<Dispersion>,
}

/// A time of one share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stretch {
    /// Whether the candidate has most of the traffic.
    candidate: bool,
    /// The second that is first in `errors`.
    from: u64,
    errors: VecDeque<u64>,
}

// === impl Seconds ===

impl Seconds {
    /// The share changed, or somebody goes on after a pause.
    pub fn at_share(&mut self, t_ms: u64, share: Bps) {
        self.close();
        let candidate = share > share.rest();
        // Without a candidate Envoys report too seldom.
        self.open = (share > Bps::ZERO).then(|| Stretch::begin(t_ms, candidate));
    }

    /// Errors reported in the tick that ends at `t_ms`.
    pub fn add(&mut self, t_ms: u64, candidate: u64, stable: u64) {
        let Some(stretch) = &self.open else { return };
        let of = stretch.candidate;
        if stretch.is_paused(t_ms) {
            self.close();
            self.open = Some(Stretch::begin(t_ms, of));
        }
        if let Some(stretch) = &mut self.open {
            stretch.add(t_ms, if of { candidate } else { stable });
        }
    }

    /// What is known of a role's errors: in the present stretch if that is long enough, else in the last one that was.
    pub fn dispersion(&self, candidate: bool) -> Option<Dispersion> {
        let open = self.open.as_ref().filter(|stretch| stretch.candidate == candidate);
        let kept = if candidate { self.candidate } else { self.stable };
        open.and_then(Stretch::dispersion).or(kept)
    }

    fn close(&mut self) {
        if let Some(stretch) = self.open.take() {
            let kept = if stretch.candidate { &mut self.candidate } else { &mut self.stable };
            *kept = stretch.dispersion().or(*kept);
        }
    }
}

// === impl Stretch ===

impl Stretch {
    fn begin(t_ms: u64, candidate: bool) -> Self {
        Stretch { candidate, from: t_ms.div_ceil(1_000) + SETTLE, errors: VecDeque::new() }
    }

    fn end(&self) -> u64 {
        self.from.saturating_add(self.errors.len() as u64)
    }

    /// Whether nobody looked for so long that what comes now is of many seconds.
    fn is_paused(&self, t_ms: u64) -> bool {
        // A stretch that has not begun to count begins anew: its first report is of all the time since.
        let patience = if self.errors.is_empty() { 0 } else { SETTLE };
        second(t_ms) > self.end().saturating_add(patience)
    }

    fn add(&mut self, t_ms: u64, errors: u64) {
        let second = second(t_ms);
        if second < self.from {
            return;
        }
        while self.end() <= second {
            self.errors.push_back(0);
        }
        // One more than counts: the last one is not over.
        while self.errors.len() > MOST + 1 {
            self.errors.pop_front();
            self.from += 1;
        }
        if let Some(last) = self.errors.back_mut() {
            *last = last.saturating_add(errors);
        }
    }

    fn dispersion(&self) -> Option<Dispersion> {
        let mut over = self.errors.clone();
        over.pop_back();
        Dispersion::of(over.make_contiguous())
    }
}

/// The second that a tick belongs to: the one that ends with 1000 is the first.
fn second(t_ms: u64) -> u64 {
    t_ms.saturating_sub(1) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bps(share: u16) -> Bps {
        Bps::new(share).unwrap()
    }

    /// Four reports a second, each with the errors that `of` says for (second, quarter), of either role.
    fn pass(seconds: &mut Seconds, from: u64, to: u64, of: impl Fn(u64, u64) -> (u64, u64)) {
        for tick in from * 4 + 1..=to * 4 {
            let (candidate, stable) = of((tick - 1) / 4, (tick - 1) % 4);
            seconds.add(tick * 250, candidate, stable);
        }
    }

    fn each(n: u64) -> impl Fn(u64, u64) -> (u64, u64) {
        move |_, quarter| (0, if quarter == 0 { n } else { 0 })
    }

    #[test]
    fn errors_one_by_one_are_no_clump_and_bursts_are() {
        for (every, clumped) in [(1, false), (12, true)] {
            let mut seconds = Seconds::default();
            seconds.at_share(0, bps(500));
            pass(&mut seconds, 0, 300, |second, quarter| {
                (7, if second % every == 0 && quarter == 1 { every } else { 0 })
            });
            let found = seconds.dispersion(false).unwrap();
            assert_eq!((found.seconds, found.is_clumped()), (294, clumped), "{found:?}");
            assert_eq!(seconds.dispersion(true), None, "the candidate's are not looked at");
        }
    }

    #[test]
    fn what_was_missed_around_a_restart_is_no_clump() {
        for down in [3, 7, 9, 20] {
            let mut seconds = Seconds::default();
            // From the checkpoint on; the first report has all that was missed.
            seconds.at_share(0, bps(500));
            seconds.add(down * 1_000, 0, 10 * down);
            pass(&mut seconds, down, down + 300, each(10));
            let found = seconds.dispersion(false).unwrap();
            assert_eq!(found.phi, Some(0.0), "{down} s: {found:?}");
        }
    }

    #[test]
    fn a_step_is_no_clump_and_short_times_say_nothing() {
        let mut seconds = Seconds::default();
        for (from, to, share, errors) in [(0, 200, 500, 40), (200, 260, 5_000, 20), (260, 500, 0, 20)] {
            seconds.at_share(from * 1_000, bps(share));
            pass(&mut seconds, from, to, each(errors));
        }
        // The newest long one: 5 %. What came within 60 s, or without a candidate, is not in it.
        assert_eq!(seconds.dispersion(false), Some(Dispersion { seconds: 194, phi: Some(0.0) }));
        let mut short = Seconds::default();
        short.at_share(0, bps(500));
        pass(&mut short, 0, 125, each(3));
        assert_eq!(short.dispersion(false), None);
        pass(&mut short, 125, 126, each(3));
        assert_eq!(short.dispersion(false).map(|found| found.seconds), Some(120));
    }

    #[test]
    fn after_cutover_it_is_the_winner() {
        let mut seconds = Seconds::default();
        seconds.at_share(0, bps(5_000));
        pass(&mut seconds, 0, 200, |_, _| (100, 0));
        seconds.at_share(200_000, bps(9_500));
        pass(&mut seconds, 200, 400, |second, _| (u64::from(second % 50 == 0), 100));
        assert_eq!(seconds.dispersion(false).unwrap().phi, None, "no error");
        let winner = seconds.dispersion(true).unwrap();
        assert!((winner.phi.unwrap() - 3.94).abs() < 0.05, "four errors at a time: {winner:?}");
    }

    #[test]
    fn ten_minutes_are_kept_and_a_pause_is_no_burst() {
        let mut seconds = Seconds::default();
        seconds.at_share(0, bps(500));
        pass(&mut seconds, 0, 1_000, each(1));
        assert_eq!(seconds.dispersion(false), Some(Dispersion { seconds: 600, phi: Some(0.0) }));
        let text = serde_json::to_string(&seconds).unwrap();
        assert!(text.len() < 2_000, "{}", text.len());
        assert_eq!(serde_json::from_str::<Seconds>(&text).unwrap(), seconds);
        // Nobody looked for half a minute: what was missed comes at once.
        seconds.add(1_030_000, 0, 30);
        pass(&mut seconds, 1_030, 1_200, each(1));
        assert_eq!(seconds.dispersion(false), Some(Dispersion { seconds: 164, phi: Some(0.0) }));
    }
}
