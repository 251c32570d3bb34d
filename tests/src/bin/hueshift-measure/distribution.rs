//! Order statistics for people.

use std::time::Duration;

/// `min`, `median`, `p90`, `max` in ms, by nearest rank.
pub fn line(name: &str, times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |quantile: f64| {
        let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len().max(1) as f64;
    format!(
        "{name:<22} {:>4} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
        times.len(),
        at(0.0),
        at(0.5),
        mean,
        at(0.9),
        at(1.0)
    )
}

/// Heads of [`line()`]'s columns.
pub fn heads() -> String {
    format!("{:<22} {:>4} {:>9} {:>9} {:>9} {:>9} {:>9}", "ms", "runs", "min", "median", "mean", "p90", "max")
}
