//! The judge's promise, counted over thousands of simulated releases: healthy ones are not rolled back and are
//! promoted, bad ones are found as soon as stated.
//!
//! Seeds are fixed. `HUESHIFT_RUNS=2000` (or more) repeats each world that often, with the same limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::Metric;
use hueshift_tests::simulation::{
    AlwaysFires, Count, NeverFires, Ours, Rule, SaysNothing, Setting, most_in, run_many, settings,
};
use std::io::Write;
use std::ops::Range;

const SEED: u64 = 20_261_125;

fn runs(usual: u64) -> u64 {
    std::env::var("HUESHIFT_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Past the test harness, which would swallow it.
fn tell(line: std::fmt::Arguments<'_>) {
    std::io::stdout().write_all(format!("  {line}\n").as_bytes()).unwrap();
}

/// At most as many false rollbacks as a chance of 1 % explains, of the whole and of each metric by itself; and at least
/// this part is promoted.
fn check_healthy(count: &Count, promoted: f64) -> Result<(), String> {
    let most = most_in(count.runs(), 0.01);
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
fn check_bad(count: &Count, band: &Range<f64>) -> Result<(), String> {
    let (delays, name) = (count.delays(), count.name);
    if count.early() > most_in(count.runs(), 0.01) {
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

fn all_healthy<R: Rule>(runs: u64, rule: impl Fn(&Setting) -> R + Sync) -> Result<(), String> {
    for (setting, least) in settings::null() {
        let count = run_many(&setting, SEED, runs, || rule(&setting));
        let promoted = count.promoted();
        tell(format_args!(
            "{:48} {:>3} of {runs} rolled back, {promoted:>4} certified (mean {:.0} s)",
            setting.name,
            count.rollbacks(),
            count.promotions().mean_s()
        ));
        check_healthy(&count, least)?;
    }
    Ok(())
}

fn all_found<R: Rule>(runs: u64, rule: impl Fn(&Setting) -> R + Sync) -> Result<(), String> {
    for (setting, band) in settings::faults() {
        let count = run_many(&setting, SEED, runs, || rule(&setting));
        tell(format_args!(
            "{:48} mean {:>6.2} s, p95 {:>6.1} s, {:.0} candidate requests",
            setting.name,
            count.delays().mean_s(),
            count.delays().quantile_s(0.95),
            count.mean_requests()
        ));
        check_bad(&count, &band)?;
    }
    Ok(())
}

fn ours(setting: &Setting) -> Ours {
    Ours::new(setting.analysis.clone())
}

#[test]
fn healthy_releases_are_rolled_back_at_most_once_in_a_hundred_in_every_world() {
    assert_eq!(most_in(200, 0.01), 8);
    all_healthy(runs(200), ours).unwrap();
}

#[test]
fn faults_are_found_as_soon_as_stated() {
    all_found(runs(200), ours).unwrap();
}

#[test]
fn judges_that_always_fire_never_fire_or_never_decide_fail_this_suite() {
    assert!(all_healthy(20, |_| AlwaysFires).unwrap_err().contains("20 of 20 healthy releases rolled back"));
    assert!(all_healthy(20, |_| SaysNothing).unwrap_err().contains("0 of 20 healthy releases promoted"));
    assert!(all_found(5, |_| NeverFires).unwrap_err().contains("0 of 5 found"));
}
