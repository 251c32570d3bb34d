//! Faults and liars, each with what is promised of them; healthy worlds are in [`super::healthy`].

use super::healthy::passing;
use super::{Bursts, FaultKind, Proxy, Sessions, Setting};
use hueshift_core::judge::{Analysis, Metric, Mode};

/// Published defaults, errors alone, requests as the unit, no certificate of an absolute level.
pub fn per_request() -> Analysis {
    Analysis { metrics: vec![Metric::Errors], ..Analysis::default() }
}

/// Likewise latency alone.
pub fn latency() -> Analysis {
    Analysis { metrics: vec![Metric::Latency], ..Analysis::default() }
}

/// What the product judges live.
pub fn live() -> Analysis {
    Analysis::live()
}

/// Likewise where each request draws its own color.
pub fn live_per_request() -> Analysis {
    Analysis::live_per_request()
}

/// Events alone.
fn events(analysis: Analysis) -> Analysis {
    Analysis { metrics: vec![Metric::Custom], srm: false, ..analysis }
}

/// What is compared with the rules of others: the product's judge of errors and latency.
pub fn compared() -> Analysis {
    Analysis { metrics: vec![Metric::Errors, Metric::Latency], ..Analysis::live() }
}

pub(super) const MINUTE_MS: u64 = 60_000;

/// Faults, each with the band in which the mean delay must lie, s: as published, those of events and after cutover as
/// measured first.
pub fn faults() -> Vec<(Setting, std::ops::Range<f64>)> {
    let plain = |name| Setting::plain(name, per_request());
    let long = |name| Setting { duration_ms: 20 * MINUTE_MS, ..plain(name) };
    let band = |mean: f64| mean * 0.85..mean * 1.15;
    let wide = |mean: f64| mean * 0.75..mean * 1.25;
    vec![
        (plain(".5 → 5 %").with(FaultKind::Errors(0.05)), band(7.5)),
        (Setting { errors: 0.001, ..plain(".1 → 1 %") }.with(FaultKind::Errors(0.01)), band(36.0)),
        (Setting { errors: 0.01, ..long("1 → 2 %") }.with(FaultKind::Errors(0.02)), band(219.0)),
        (plain("all 5xx").with(FaultKind::Errors(1.0)), 0.25..0.5),
        (plain(".5 → 5 % from 1 min on").with_from(MINUTE_MS, FaultKind::Errors(0.05)), band(12.1)),
        (plain(".5 → 5 % from 5 min on").with_from(5 * MINUTE_MS, FaultKind::Errors(0.05)), band(12.5)),
        (Setting::plain("latency × 1.5", latency()).with(FaultKind::Slower(1.5)).referred(), wide(2.6)),
        (
            Setting {
                // 1 of 2,000 takes longer than the usual ten.
                duration_ms: 20 * MINUTE_MS,
                ..Setting::plain("3 % of requests 3 times slower", latency())
            }
            .with(FaultKind::SlowTail(0.03, 3.0))
            .referred(),
            wide(130.0),
        ),
        (
            Setting {
                sessions: passing(),
                ..Setting::plain("whole answers × 3, first byte in time", live())
            }
            .with(FaultKind::Longer(3.0)),
            wide(10.0),
        ),
        (
            Setting::plain("whole answers × 1.5, by requests", live_per_request())
                .with(FaultKind::Longer(1.5)),
            wide(17.6),
        ),
        (Setting::plain("events × 8", events(Analysis::default())).with(FaultKind::Events(8.0)), wide(19.8)),
        (
            Setting {
                sessions: passing(), ..Setting::plain("events × 8, passing sessions", events(live()))
            }
            .with(FaultKind::Events(8.0)),
            wide(8.2),
        ),
        (
            Setting {
                sessions: passing(),
                shares: vec![0.05, 0.25, 0.5],
                holdback: Some(0.95),
                // Ten minutes from its begin on, as the late ones have: with three, 4 of 2,000 are not found in time.
                duration_ms: 17 * MINUTE_MS,
                ..Setting::plain(".5 → 5 % after cutover, passing sessions", live())
            }
            .with_from(7 * MINUTE_MS, FaultKind::Errors(0.05)),
            wide(40.0),
        ),
    ]
}

/// Recorded worlds of every kind that is shared as an example, each with the time by which it must be rolled back, ms;
/// `None`: never.
pub fn recorded() -> Vec<(Setting, Option<u64>)> {
    let world = |name, rps, share, seconds: u64, analysis| Setting {
        rps,
        shares: vec![share],
        duration_ms: seconds * 1_000,
        proxies: vec![Proxy::EQUAL; 2],
        ..Setting::plain(name, analysis)
    };
    let both = Analysis::default;
    let sessions = Analysis { mode: Mode::Sessions, srm: false, ..per_request() };
    let unequal = |share, errors| Proxy { share, errors, ..Proxy::EQUAL };
    vec![
        (world("healthy", 50.0, 0.1, 60, both()).referred(), None),
        (
            world("errors step up", 180.0, 0.1, 75, per_request()).with_from(15_000, FaultKind::Errors(0.05)),
            Some(75_000),
        ),
        (
            world("slower by half", 80.0, 0.15, 60, both())
                .with_from(10_000, FaultKind::Slower(1.5))
                .referred(),
            Some(60_000),
        ),
        (
            Setting {
                tick_ms: 1_000,
                errors: 0.005,
                proxies: vec![unequal(0.1, 1.0), unequal(1.0, 10.0)],
                ..world("two unequal proxies", 200.0, 0.5, 300, per_request())
            },
            None,
        ),
        (
            Setting {
                tick_ms: 1_000,
                loss: 0.1,
                errors: 0.012,
                ..world("lost and doubled", 100.0, 0.05, 150, per_request())
            },
            None,
        ),
        (
            Setting {
                tick_ms: 1_000,
                sessions: Sessions::Sticky { count: 3_000, zipf: 0.0, sigma: 0.0, requests: None },
                bursts: Some(Bursts { per_second: 0.05, mean_ms: 30_000.0, requests: 1.0 }),
                ..world("clients that fail", 80.0, 0.1, 200, sessions)
            },
            None,
        ),
        // Four candidate errors against none.
        (Setting { tick_ms: 1_000, errors: 0.02, ..world("few samples", 2.0, 0.5, 60, per_request()) }, None),
    ]
}
