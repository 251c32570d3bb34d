//! The worlds in which the promises are counted.

use super::{Bursts, FaultKind, Latency, Liar, Proxy, Sessions, Setting};
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

/// What is compared with the rules of others: the product's judge of errors and latency.
pub fn compared() -> Analysis {
    Analysis { metrics: vec![Metric::Errors, Metric::Latency], ..Analysis::live() }
}

const MINUTE_MS: u64 = 60_000;

fn sticky(count: usize) -> Sessions {
    Sessions::Sticky { count, zipf: 1.0, sigma: 1.0, requests: None }
}

/// Sessions that come and go, ten requests each on average.
fn passing() -> Sessions {
    Sessions::Sticky { count: 500, zipf: 0.0, sigma: 1.0, requests: Some(10) }
}

/// Healthy candidates: none of these may be rolled back more often than once in a hundred releases. With each the
/// part of releases that must be promoted: a judge that proves nothing is worth nothing.
pub fn null() -> Vec<(Setting, f64)> {
    let all = 0.99;
    // Thirty sessions have one on the candidate, or none; 0.5 requests/s prove nothing within the hour.
    let promoted =
        [all, all, all, 0.15, all, 0.1, all, all, 0.15, 0.95, all, all, 0.9, all, all, all, all, all];
    healthy().into_iter().zip(promoted).collect()
}

fn healthy() -> Vec<Setting> {
    let unequal = vec![
        Proxy { weight: 0.6, errors: 0.5, share: 1.0 },
        Proxy { weight: 0.3, errors: 4.0, share: 0.4 },
        Proxy { weight: 0.1, errors: 1.0, share: 2.0 },
    ];
    let many = |of: fn(&'static str, Analysis) -> Setting, n: usize, name, analysis| Setting {
        proxies: vec![Proxy::EQUAL; n],
        ..of(name, analysis)
    };
    vec![
        Setting::plain("20 + 180 rps, .5 %", per_request()),
        Setting { errors: 0.02, ..Setting::plain("20 + 180 rps, 2 %", per_request()) },
        Setting::plain("at the margin, .5 % / .625 %", per_request()).with(FaultKind::Errors(0.00625)),
        Setting {
            rps: 0.5,
            shares: vec![0.5],
            errors: 0.02,
            duration_ms: 60 * MINUTE_MS,
            tick_ms: 1_000,
            ..Setting::plain("0.5 rps, 50 %, an hour", per_request())
        },
        Setting { rps: 1_000.0, shares: vec![0.01], ..Setting::plain("1000 rps, 1 %", per_request()) },
        Setting { rps: 5.0, swing: 0.8, ..Setting::plain("5 rps, swinging by 80 %", live()) },
        Setting { proxies: unequal, ..Setting::plain("three unequal proxies", per_request()) },
        Setting { loss: 0.02, ..many(Setting::plain, 3, "2 % of reports lost, 2 % doubled", live()) },
        Setting { sessions: sticky(30), ..Setting::plain("30 sessions", live()) },
        Setting { sessions: sticky(300), shares: vec![0.05], ..Setting::plain("300 sessions, 5 %", live()) },
        Setting { sessions: sticky(2_000), ..Setting::plain("2000 sessions", live()) },
        Setting { sessions: passing(), ..Setting::plain("passing sessions", live()) },
        Setting {
            sessions: sticky(300),
            bursts: Some(Bursts { per_second: 0.02, mean_ms: 60_000.0, requests: 1.0 }),
            ..Setting::plain("clients that fail for a minute", live())
        },
        // Robust mode knows no sessions: it stands bursts of clients that come once, not heavy ones that stay.
        Setting {
            bursts: Some(Bursts { per_second: 0.2, mean_ms: 0.0, requests: 10.0 }),
            ..Setting::plain("bursts within a second", Analysis { mode: Mode::Robust, ..per_request() })
        },
        Setting {
            sessions: passing(),
            shares: vec![0.05, 0.25, 0.5],
            holdback: Some(0.95),
            latency: Latency { median_ms: 40.0, sigma: 0.5, utilization: 0.5 },
            // Errors alone: in the holdback stable is nearly idle, so latencies cannot be compared at all.
            ..Setting::plain(
                "a whole ramp and holdback, slower under load",
                Analysis { metrics: vec![Metric::Errors], ..live() },
            )
        },
        Setting {
            sessions: passing(),
            ..many(Setting::plain, 4, "four proxies", Analysis { metrics: vec![Metric::Errors], ..live() })
        },
        Setting::plain("latency as stable's, by requests", latency()).referred(),
        Setting::plain("latency at the margin, × 1.09, by requests", latency())
            .with(FaultKind::Slower(1.09))
            .referred(),
    ]
}

/// Faults, each with the band in which the mean delay must lie, s.
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
            Setting::plain("3 % of requests 3 times slower", latency())
                .with(FaultKind::SlowTail(0.03, 3.0))
                .referred(),
            wide(130.0),
        ),
    ]
}

/// Twelve equal proxies, errors alone.
fn twelve(name: &'static str, analysis: Analysis) -> Setting {
    let analysis = Analysis { metrics: vec![Metric::Errors], ..analysis };
    Setting { proxies: vec![Proxy::EQUAL; 12], ..Setting::plain(name, analysis) }
}

/// One of twelve proxies lies about a healthy candidate.
pub fn forged(analysis: Analysis) -> Setting {
    let liar = Some(Liar::CandidateErrors(1));
    Setting { liar, ..twelve("one of twelve proxies forges candidate errors", analysis) }
}

/// A true 5 % fault that twelve honest proxies see.
pub fn honest(analysis: Analysis) -> Setting {
    twelve("twelve honest proxies, .5 → 5 %", analysis).with(FaultKind::Errors(0.05))
}

/// One of twelve proxies hides a true 5 % fault.
pub fn hidden(analysis: Analysis) -> Setting {
    let liar = Some(Liar::StableErrors(2));
    let setting = twelve("one of twelve proxies forges stable errors, .5 → 5 %", analysis);
    Setting { liar, ..setting }.with(FaultKind::Errors(0.05))
}

/// A true 5 % fault where one proxy has nine tenths of the traffic.
pub fn dominated(analysis: Analysis) -> Setting {
    let proxy = |at| Proxy { weight: if at == 0 { 99.0 } else { 1.0 }, ..Proxy::EQUAL };
    let setting = twelve("one of twelve proxies has 90 % of the traffic, .5 → 5 %", analysis);
    Setting { proxies: (0..12).map(proxy).collect(), ..setting }.with(FaultKind::Errors(0.05))
}
