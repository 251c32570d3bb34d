//! What a color completed hour by hour of the wall clock, for the same hour of a later day ([`super::history`]).
//!
//! Nobody counts between releases, so these are hours in which a release was open: its day under watch above all.

use super::history::{History, Window};
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// Hours of a day.
const DAY: u64 = 24;
/// Hours of a week.
const WEEK: u64 = 7 * DAY;
/// Most hours that are kept: the same hour a week ago, and those since.
const MOST: usize = WEEK as usize + 1;

/// Fewest requests of an hour that says something. The upper limit of fewer is above .69 % without a single failure
/// (`1 - .001^(1/1000)`), and the highest limit counts: a minute of yesterday's ramp would excuse every error.
const ENOUGH: u64 = 1_000;

/// A color's requests and failures, by hours since 1970 (UTC).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hours(BTreeMap<u64, Window>);

// === impl Hours ===

impl Hours {
    /// What was completed at this time, Unix ms.
    pub fn add(&mut self, wall_ms: u64, n: u64, errors: u64) {
        if n == 0 {
            return;
        }
        self.book(hour(wall_ms), Window { n, errors });
    }

    /// The hours of both.
    pub fn and(mut self, other: &Hours) -> Hours {
        for (hour, window) in &other.0 {
            self.book(*hour, *window);
        }
        self
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The windows that a cutover at this time (Unix ms) is held against: its hour and the next, yesterday and a week ago,
    /// where enough was counted. (A cutover at five to ten is watched from ten on.) What stable did in this release until
    /// cutover is a window that the judge counted itself.
    pub fn before(&self, wall_ms: u64) -> History {
        let ago = |hours: u64| self.0.get(&hour(wall_ms).checked_sub(hours)?).copied();
        let windows = [DAY, DAY - 1, WEEK, WEEK - 1].into_iter().filter_map(ago);
        History { errors: windows.filter(|window| window.n >= ENOUGH).collect() }
    }

    fn book(&mut self, hour: u64, counted: Window) {
        let window = self.0.entry(hour).or_default();
        window.n = window.n.saturating_add(counted.n);
        window.errors = window.errors.saturating_add(counted.errors);
        while self.0.len() > MOST {
            self.0.pop_first();
        }
    }
}

fn hour(wall_ms: u64) -> u64 {
    wall_ms / 3_600_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    /// Some hour since 1970.
    const NOW: u64 = 495_000;

    fn at(hour: u64, minute: u64) -> u64 {
        hour * HOUR_MS + minute * 60_000
    }

    #[test]
    fn the_hours_of_yesterday_and_of_last_week_are_the_windows() {
        let mut hours = Hours::default();
        let then =
            [(NOW - WEEK, 1), (NOW - DAY - 1, 2), (NOW - DAY, 3), (NOW - DAY + 1, 4), (NOW - DAY + 2, 5)];
        for (hour, errors) in then {
            hours.add(at(hour, 0), 500, errors);
            hours.add(at(hour, 59), 500, 0);
        }
        let windows = |minute| hours.before(at(NOW, minute)).errors;
        let expected = [3, 4, 1].map(|errors| Window { n: 1_000, errors });
        assert_eq!((windows(0), windows(59)), (expected.to_vec(), expected.to_vec()));
        assert_eq!(hours.before(at(NOW + 3, 0)).errors, [], "nobody counted then");
        assert_eq!(hours.before(0).errors, [], "a clock that was never set");
    }

    #[test]
    fn an_hour_of_few_requests_is_no_window() {
        let mut hours = Hours::default();
        hours.add(at(NOW - DAY, 0), 999, 0);
        assert_eq!(hours.before(at(NOW, 0)).errors, []);
        hours.add(at(NOW - DAY, 1), 1, 0);
        assert_eq!(hours.before(at(NOW, 0)).errors.len(), 1);
    }

    #[test]
    fn a_week_is_kept_and_no_more() {
        let mut hours = Hours::default();
        (0..1_000).for_each(|ago| hours.add(at(NOW - ago, 0), 1_000, 0));
        assert_eq!(hours.0.len(), MOST);
        let last = (0..1_000).fold(Hours::default(), |mut hours, hour| {
            hours.add(at(NOW + hour, 0), 1_000, 0);
            hours
        });
        assert_eq!(last.before(at(NOW + 999, 0)).errors.len(), 4);
        assert_eq!(hours.clone().and(&last).0.len(), MOST);
    }

    #[test]
    fn hours_of_several_releases_add_up() {
        let of = |errors| {
            let mut hours = Hours::default();
            hours.add(at(NOW - DAY, 5), 600, errors);
            hours.add(at(NOW - DAY, 5), 0, 0);
            hours
        };
        assert_eq!(of(1).and(&of(2)).before(at(NOW, 0)).errors, [Window { n: 1_200, errors: 3 }]);
        let text = serde_json::to_string(&of(1)).unwrap();
        assert_eq!(serde_json::from_str::<Hours>(&text).unwrap(), of(1), "{text}");
    }
}
