//! Healthy candidates, in every kind of world that the promise names: none may be rolled back more often than once in a
//! hundred releases, by no metric, and a healthy release must be promoted.
//!
//! Every world is judged as the product judges it: errors, latency and, after cutover, history; where sessions stick, the
//! session is the unit of them all.

use super::settings::{MINUTE_MS, live, live_per_request};
use super::{Bursts, FaultKind, Latency, Proxy, Sessions, Setting};
use hueshift_core::judge::analysis::PredictionMode;
use hueshift_core::judge::{Analysis, Metric, Mode};

/// A world and the part of its releases that must be promoted: a judge that proves nothing is worth nothing.
pub type Healthy = (Setting, f64);

const ALL: f64 = 0.99;
/// Where each request draws for itself: two or three of a hundred are held by chance, because the negative control looks
/// noisy from evidence of 10 on.
const CONTROLLED: f64 = 0.95;

/// Those that are repeated with every change.
pub fn listed() -> Vec<Healthy> {
    vec![
        (Setting::plain("20 + 180 rps, .5 %", live_per_request()), CONTROLLED),
        (
            Setting { errors: 0.02, ..Setting::plain("20 + 180 rps, 2 %", everything(live_per_request())) },
            0.9,
        ),
        (at_the_margins(), 0.9),
        (no_margins(), 0.0),
        (rate(0.5, 0.5, live_per_request(), "0.5 rps, 50 %, an hour"), 0.8),
        (rate(1_000.0, 0.01, live_per_request(), "1000 rps, 1 %"), CONTROLLED),
        (
            Setting {
                duration_ms: 3 * MINUTE_MS,
                ..by_session("1000 rps, 50 %, 2000 sessions", sticky(2_000), 1_000.0, &[0.5])
            },
            ALL,
        ),
        (Setting { swing: 0.8, ..by_session("50 rps, swinging by 80 %", passing(), 50.0, &[0.1]) }, ALL),
        (
            Setting { proxies: unequal(), ..by_session("three unequal proxies", sticky(300), 200.0, &[0.1]) },
            0.9,
        ),
        (
            Setting {
                loss: 0.02,
                proxies: vec![Proxy::EQUAL; 3],
                ..by_session("2 % of reports lost, 2 % doubled", passing(), 200.0, &[0.1])
            },
            ALL,
        ),
        (by_session("30 sessions", sticky(30), 200.0, &[0.1]), 0.0),
        (by_session("300 sessions, 5 %", sticky(300), 200.0, &[0.05]), 0.0),
        (everywhere(by_session("2000 sessions, all metrics", sticky(2_000), 200.0, &[0.1])), ALL),
        (by_session("passing sessions", passing(), 200.0, &[0.1]), ALL),
        (
            Setting {
                bursts: Some(Bursts { per_second: 0.02, mean_ms: 60_000.0, requests: 1.0 }),
                ..by_session("clients that fail for a minute", sticky(300), 200.0, &[0.1])
            },
            0.0,
        ),
        (
            Setting {
                bursts: Some(BURSTS),
                ..by_session("bursts within a second, heavy sessions", sticky(300), 200.0, &[0.1])
            },
            0.0,
        ),
        (robust(), ALL),
        (ramp("a whole ramp and holdback, slower under load", passing(), everything(live())), ALL),
        (ramp("likewise by requests", Sessions::PerRequest, everything(live_per_request())), CONTROLLED),
        (cold(), ALL),
    ]
}

/// The whole grid: the listed ones, and rates by shares by who asks.
pub fn grid() -> Vec<Healthy> {
    let mut all = listed();
    for rps in [0.5, 5.0, 50.0, 1_000.0] {
        for share in [0.01, 0.1, 0.5] {
            all.push((rate(rps, share, live_per_request(), "by requests"), 0.0));
            for (who, name) in
                [(sticky(30), "30 sessions"), (sticky(300), "300 sessions"), (sticky(2_000), "2000 sessions")]
            {
                all.push((Setting { sessions: who, ..rate(rps, share, live(), name) }, 0.0));
            }
        }
    }
    let four = vec![Proxy::EQUAL; 4];
    all.push((Setting { proxies: four, ..by_session("four proxies", passing(), 200.0, &[0.1]) }, ALL));
    all.push((hours(6, passing(), live(), "six hours of passing sessions"), ALL));
    all
}

/// Listed worlds, each judged without what makes it safe.
pub fn unguarded() -> Vec<(Setting, &'static str)> {
    type Break = fn(Analysis) -> Analysis;
    let by_requests: Break = |analysis| Analysis { mode: Mode::PerError, firsts: false, ..analysis };
    let unguarded: [(&str, &str, Break); 6] = [
        ("likewise by requests", "latencies compared at any load", |analysis| Analysis {
            load_tolerance: None,
            ..analysis
        }),
        ("caches that are cold after each raise", "without warm-up", |analysis| Analysis {
            raise_warmup_ms: 0,
            ..analysis
        }),
        ("clients that fail for a minute", "requests as the unit", by_requests),
        ("bursts within a second, heavy sessions", "requests as the unit", by_requests),
        ("300 sessions, 5 %", "latencies of requests", |analysis| Analysis { firsts: false, ..analysis }),
        ("bursts within a second, robust mode", "requests as the unit", by_requests),
    ];
    let find = |(name, lost, broken): (&str, &'static str, Break)| {
        let (setting, _) = listed().into_iter().find(|(setting, _)| setting.name == name)?;
        Some((Setting { analysis: broken(setting.analysis.clone()), ..setting }, lost))
    };
    unguarded.into_iter().filter_map(find).collect()
}

/// No session keys, and failures that come ten at a time and all on one color, as from a client that tries again or a
/// server that stumbles: any two parts of the traffic differ. What the product knows of it, is asked of a release before.
pub fn keyless_bursts() -> Setting {
    Setting {
        bursts: Some(BURSTS),
        duration_ms: 6 * MINUTE_MS,
        ..Setting::plain("no session keys, bursts within a second", live_per_request())
    }
}

/// After cutover something that both colors use falls ill: both fail four times as often. History says so of nearly
/// every one of these releases, which is no reason to take them back.
pub fn incident() -> Setting {
    Setting {
        shares: vec![0.05, 0.25, 0.5],
        holdback: Some(0.95),
        incident: 4.0,
        sessions: passing(),
        ..Setting::plain("a shared incident after cutover", live())
    }
}

/// A fault that starts after so many hours at 1,000 requests/s: by then every slot has failed once, whoever asks.
pub fn late(hours: u64) -> [Setting; 3] {
    let fault = |setting: Setting| {
        let from_ms = setting.duration_ms;
        let setting =
            Setting { duration_ms: from_ms + 10 * MINUTE_MS, lull_ms: from_ms - MINUTE_MS, ..setting };
        setting.with_from(from_ms, FaultKind::Errors(0.05))
    };
    [
        fault(self::hours(hours, passing(), live(), "late, passing sessions")),
        fault(self::hours(hours, sticky(2_000), live(), "late, 2000 sessions that stay")),
        fault(self::hours(hours, Sessions::PerRequest, live_per_request(), "late, by requests")),
    ]
}

/// So many hours at 1,000 requests/s and 10 %.
fn hours(hours: u64, sessions: Sessions, analysis: Analysis, name: &'static str) -> Setting {
    let duration_ms = hours * 60 * MINUTE_MS;
    Setting { rps: 1_000.0, sessions, duration_ms, lull_ms: duration_ms, ..Setting::plain(name, analysis) }
}

/// Ten clients' worth of failures at once, every five seconds.
const BURSTS: Bursts = Bursts { per_second: 0.2, mean_ms: 0.0, requests: 10.0 };

/// A population that stays: a few heavy ones, each with its own pace.
fn sticky(count: usize) -> Sessions {
    Sessions::Sticky { count, zipf: 1.0, sigma: 1.0, requests: None }
}

/// Sessions that come and go, ten requests each on average.
pub(super) fn passing() -> Sessions {
    Sessions::Sticky { count: 500, zipf: 0.0, sigma: 1.0, requests: Some(10) }
}

fn by_session(name: &'static str, sessions: Sessions, rps: f64, shares: &[f64]) -> Setting {
    let duration_ms = 6 * MINUTE_MS;
    Setting { sessions, rps, shares: shares.to_vec(), duration_ms, ..Setting::plain(name, live()) }
}

/// So many requests per second; slow services for an hour, few of whose requests fail.
fn rate(rps: f64, share: f64, analysis: Analysis, name: &'static str) -> Setting {
    let setting = Setting { rps, shares: vec![share], ..Setting::plain(name, analysis) };
    match rps {
        ..2.0 => Setting { errors: 0.001, duration_ms: 60 * MINUTE_MS, tick_ms: 1_000, ..setting },
        500.0.. => Setting { duration_ms: 3 * MINUTE_MS, ..setting },
        _ => setting,
    }
}

/// Predictions of the same model, a ceiling of errors and events, too.
fn everything(analysis: Analysis) -> Analysis {
    let more = [Metric::Slo, Metric::Predictions, Metric::Custom];
    Analysis {
        metrics: analysis.metrics.iter().copied().chain(more).collect(),
        slo_error_rate: Some(0.05),
        prediction_mode: PredictionMode::Equality,
        ..analysis
    }
}

fn everywhere(setting: Setting) -> Setting {
    Setting { analysis: everything(setting.analysis.clone()), ..setting }
}

/// As bad as is granted, in both metrics at once.
fn at_the_margins() -> Setting {
    let granted = 2f64.powf(4.0 / 16.0);
    Setting::plain("at both margins, .5 / .625 %, latency × 1.19", live_per_request())
        .with(FaultKind::Both(0.00625, granted))
        .referred()
}

fn no_margins() -> Setting {
    let analysis = Analysis {
        rho0: 1.0,
        error_floor: 1e-5,
        latency_shift: 0,
        latency_guard_us: 0,
        ..live_per_request()
    };
    Setting { shares: vec![0.5], ..Setting::plain("no margins, no floor, 50 %", analysis) }
}

fn unequal() -> Vec<Proxy> {
    vec![
        Proxy { weight: 0.6, errors: 0.5, share: 1.0, slower: 1.0 },
        Proxy { weight: 0.3, errors: 4.0, share: 0.4, slower: 2.0 },
        Proxy { weight: 0.1, errors: 1.0, share: 2.0, slower: 0.7 },
    ]
}

/// Robust mode knows no sessions: a second is its unit. It stands bursts of clients that come and go, and of clients that
/// stay if all are equally active (0 of 100 rolled back). It cannot stand heavy clients that stay (300 with Zipf activity:
/// 9 of 100, 2,000: 8 of 100): their colors are drawn once, the color that got the heaviest has more of the requests and
/// of their errors than its configured share in every second alike, and nothing in the counts says how many draws there
/// were. Where sessions are known (the product's reports name their slots) they are the unit, and the same bursts of
/// heavy sessions that stay are among the worlds above.
fn robust() -> Setting {
    let analysis = Analysis { mode: Mode::Robust, metrics: vec![Metric::Errors], ..live_per_request() };
    Setting {
        sessions: passing(),
        bursts: Some(BURSTS),
        ..Setting::plain("bursts within a second, robust mode", analysis)
    }
}

/// The candidate takes twice as long for twenty seconds after each raise; the warm-up is half a minute.
fn cold() -> Setting {
    Setting {
        sessions: passing(),
        shares: vec![0.05, 0.25, 0.5],
        holdback: Some(0.95),
        duration_ms: 6 * MINUTE_MS,
        cold: Some((2.0, 20_000)),
        ..Setting::plain(
            "caches that are cold after each raise",
            Analysis { raise_warmup_ms: 30_000, ..live() },
        )
    }
}

/// Each color has an endpoint that serves everything half busy; at last it has all but nothing to do.
fn ramp(name: &'static str, sessions: Sessions, analysis: Analysis) -> Setting {
    Setting {
        sessions,
        shares: vec![0.05, 0.25, 0.5],
        holdback: Some(0.95),
        duration_ms: 6 * MINUTE_MS,
        latency: Latency { median_ms: 40.0, sigma: 0.5, utilization: 0.5, has_total: true },
        ..Setting::plain(name, analysis)
    }
}
