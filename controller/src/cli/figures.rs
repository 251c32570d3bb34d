//! Figures as people read them: two or three digits, a unit, a blank between.

/// A span: `45 s`, `1 min 12 s`, `2 h 3 min`, `3 d 4 h`.
pub fn span(ms: u64) -> String {
    let s = ms / 1_000;
    let two = |big: u64, small: u64, names: (&str, &str)| match small {
        0 => format!("{big} {}", names.0),
        _ => format!("{big} {} {small} {}", names.0, names.1),
    };
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => two(s / 60, s % 60, ("min", "s")),
        3_600..86_400 => two(s / 3_600, s / 60 % 60, ("h", "min")),
        _ => two(s / 86_400, s / 3_600 % 24, ("d", "h")),
    }
}

/// A latency: `4.2 ms`, `48 ms`, `1.25 s`.
pub fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.2} s", ms / 1_000.0),
    }
}

/// A count, thousands apart: `12 000`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A rate per second: `0.2`, `9.8`, `190`.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// How far `value` is on its way to `target`, 0..=1.
pub fn progress(value: f64, target: f64) -> f64 {
    if target > 0.0 { (value / target).clamp(0.0, 1.0) } else { 0.0 }
}

/// A bar of `width` cells.
pub fn bar(part: f64, width: usize) -> String {
    let filled = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    // What is not quite full must not look full, what is not quite empty not empty.
    let filled = match filled {
        f if f == width && part < 1.0 => width.saturating_sub(1),
        0 if part > 0.0 => 1.min(width),
        f => f,
    };
    "█".repeat(filled) + &"░".repeat(width - filled)
}

/// `1 Envoy`, `2 Envoys`.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_two_units_or_three_digits() {
        let spans = [0, 45_900, 72_000, 120_000, 7_380_000, 273_600_000].map(span);
        assert_eq!(spans, ["0 s", "45 s", "1 min 12 s", "2 min", "2 h 3 min", "3 d 4 h"]);
        assert_eq!(
            [Some(4.21), Some(48.4), Some(1_250.0), None].map(latency),
            ["4.2 ms", "48 ms", "1.25 s", "-"]
        );
        assert_eq!([0.2, 9.8, 190.4, 12_000.0].map(rate), ["0.2", "9.8", "190", "12 000"]);
    }

    #[test]
    fn a_bar_looks_full_only_when_it_is() {
        assert_eq!(
            [0.0, 0.001, 0.5, 0.999, 1.0].map(|p| bar(p, 4)),
            ["░░░░", "█░░░", "██░░", "███░", "████"]
        );
    }
}
