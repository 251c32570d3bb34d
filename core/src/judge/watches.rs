//! After cutover: three watches over the holdback, each with its own question, and a watch without an end.
//!
//! The processes of the release go on; the watches only say how far the candidate has come since cutover. *Five
//! minutes*: nothing broke at once. *Half an hour*: the holdback certifies the candidate. *A day*: the daily peak passed.
//! None can delay a rollback.

use super::verdict::Verdict;
use libm::{exp, log, log1p};
use serde::{Deserialize, Serialize};

/// A watch that is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// The first one: no suspicion.
    #[default]
    FiveMinutes,
    /// The second: a certificate.
    HalfHour,
    /// The last: no suspicion at any time of the day.
    Day,
    /// All are passed.
    Over,
}

/// What a watch sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Time since cutover, ms.
    pub since_ms: u64,
    /// The judge's verdict for the step after cutover.
    pub verdict: Verdict,
    /// Whether a certificate of that step ever held.
    pub certified: bool,
    /// Whether what looks bad is a shared incident.
    pub shared_incident: bool,
}

const FIVE_MINUTES_MS: u64 = 300_000;
const HALF_HOUR_MS: u64 = 1_800_000;
const DAY_MS: u64 = 86_400_000;

// === impl Watch ===

impl Watch {
    /// The watch that is on; it stays on past its time while its question is open.
    pub fn after(self, sight: Sight) -> Watch {
        let Sight { since_ms, verdict, certified, shared_incident } = sight;
        let clean = matches!(verdict, Verdict::Continue | Verdict::Certified) && !shared_incident;
        match self {
            Watch::FiveMinutes if since_ms >= FIVE_MINUTES_MS && clean => Watch::HalfHour.after(sight),
            Watch::HalfHour if since_ms >= HALF_HOUR_MS && clean && certified => Watch::Day.after(sight),
            Watch::Day if since_ms >= DAY_MS && clean => Watch::Over,
            watch => watch,
        }
    }

    /// The part of the traffic that stays on the old color, in basis points, of the 500 that are held back at first.
    pub fn holdback_bps(self) -> u16 {
        match self {
            Watch::FiveMinutes | Watch::HalfHour => 500,
            Watch::Day => 100,
            Watch::Over => 0,
        }
    }
}

/// A watch without an end (an e-detector): mean time to a false alarm is at least the threshold, in ticks; it spends no
/// alpha and condemns nobody.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    log_r: f64,
}

// === impl Detector ===

impl Detector {
    /// Nothing was seen yet.
    pub fn new() -> Self {
        Detector { log_r: f64::NEG_INFINITY }
    }

    /// Takes the log-factor of a tick: `R = (1 + R) * factor`.
    pub fn add(&mut self, log_factor: f64) {
        // ln(1 + R) without leaving the logarithm.
        let grown =
            if self.log_r > 0.0 { self.log_r + log1p(exp(-self.log_r)) } else { log1p(exp(self.log_r)) };
        self.log_r = grown + log_factor;
    }

    /// Whether a mean time of `ticks` to a false alarm is kept by an alarm now.
    pub fn alarms(&self, ticks: f64) -> bool {
        self.log_r >= log(ticks)
    }
}

impl Default for Detector {
    fn default() -> Self {
        Detector::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(minutes: u64, verdict: Verdict, certified: bool) -> Sight {
        Sight { since_ms: minutes * 60_000, verdict, certified, shared_incident: false }
    }

    #[test]
    fn each_watch_has_its_own_question() {
        let first = Watch::FiveMinutes;
        assert_eq!(first.after(sight(4, Verdict::Certified, true)), first);
        assert_eq!(first.after(sight(5, Verdict::Hold, true)), first, "suspicion keeps it on");
        assert_eq!(first.after(sight(5, Verdict::Continue, false)), Watch::HalfHour);
        assert_eq!(first.after(sight(31, Verdict::Continue, false)), Watch::HalfHour, "no proof, no step");
        assert_eq!(first.after(sight(31, Verdict::Continue, true)), Watch::Day);
        assert_eq!(Watch::Day.after(sight(24 * 60, Verdict::Certified, true)), Watch::Over);
        let incident = Sight { shared_incident: true, ..sight(40, Verdict::Continue, true) };
        assert_eq!(Watch::HalfHour.after(incident), Watch::HalfHour);
    }

    #[test]
    fn the_holdback_shrinks_and_never_grows() {
        let all = [Watch::FiveMinutes, Watch::HalfHour, Watch::Day, Watch::Over].map(Watch::holdback_bps);
        assert!(all.is_sorted_by(|a, b| a >= b), "{all:?}");
    }

    #[test]
    fn a_detector_forgets_a_good_past_and_finds_a_late_fault() {
        let mut detector = Detector::new();
        (0..100_000).for_each(|_| detector.add(-0.5));
        assert!(!detector.alarms(100.0));
        let needed = (1..).find(|_| {
            detector.add(1.0);
            detector.alarms(100_000.0)
        });
        assert_eq!(needed, Some(11), "e^1 + … + e^11 passes 10^5; the long past costs nothing");
    }
}
