//! What is promised of a judge, checked against counts.

use super::{Count, most_in};
use hueshift_core::judge::Metric;
use std::ops::Range;

/// Chance of a false rollback per release.
pub const ALPHA: f64 = 0.01;

/// Within this, s, is a 5 % fault found at 100 candidate requests/s that starts after hours.
pub const LATE_S: Range<f64> = 0.5..30.0;

/// At most as many false rollbacks as a chance of 1 % explains, of the whole and of each metric by itself; and at least
/// this part is promoted.
pub fn healthy(count: &Count, promoted: f64) -> Result<(), String> {
    let most = most_in(count.runs(), ALPHA);
    let metrics = Metric::ALL.map(|metric| (metric.as_str(), count.fired(metric)));
    for (what, n) in [("all", count.rollbacks())].into_iter().chain(metrics) {
        if n > most {
            return Err(format!(
                "{}: {n} of {} healthy releases rolled back ({what})",
                count.name,
                count.runs()
            ));
        }
    }
    match count.promoted() as f64 >= promoted * count.runs() as f64 {
        true => Ok(()),
        false => {
            Err(format!("{}: {} of {} healthy releases promoted", count.name, count.promoted(), count.runs()))
        }
    }
}

/// All found, none before its time, in the stated time.
pub fn found(count: &Count, band: &Range<f64>) -> Result<(), String> {
    let (delays, name) = (count.delays(), count.name);
    if count.early() > most_in(count.runs(), ALPHA) {
        return Err(format!("{name}: {} rolled back before the fault", count.early()));
    }
    if delays.len() + count.early() < count.runs() {
        return Err(format!("{name}: {} of {} found", delays.len(), count.runs()));
    }
    match band.contains(&delays.mean_s()) {
        true => Ok(()),
        false => Err(format!("{name}: found after {:.2} s, stated {band:?}", delays.mean_s())),
    }
}

/// A healthy world in a line: how many were rolled back, and by which metric alone would have been.
pub fn told(count: &Count) -> String {
    let metrics = Metric::ALL.into_iter().filter(|metric| count.judged.contains(metric));
    let alone: Vec<String> =
        metrics.map(|metric| format!("{} {}", metric.as_str(), count.fired(metric))).collect();
    format!(
        "{:48} {:>3} of {} rolled back ({}), {:>4} promoted (mean {:.0} s)",
        count.name,
        count.rollbacks(),
        count.runs(),
        alone.join(", "),
        count.promoted(),
        count.promotions().mean_s()
    )
}

/// A fault in a line.
pub fn told_found(count: &Count, band: &Range<f64>) -> String {
    let delays = count.delays();
    format!(
        "{:48} {} of {} found, mean {:.2} s (stated {:.1}..{:.1}), p95 {:.1} s, {:.0} candidate requests",
        count.name,
        delays.len(),
        count.runs(),
        delays.mean_s(),
        band.start,
        band.end,
        delays.quantile_s(0.95),
        count.mean_requests()
    )
}
