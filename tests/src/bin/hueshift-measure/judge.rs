//! The judge over simulated releases: no Envoy, no clock.

use clap::Args;
use hueshift_simulation::{Ours, Setting, healthy, liars, promise, run_many, settings, table};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Seed of the first release; the next ones follow it.
const SEED: u64 = 20_261_125;

/// Worlds of hours are repeated at most so often.
const MOST_OF_HOURS: u64 = 200;
const HOUR_MS: u64 = 3_600_000;

/// What to measure of it.
#[derive(Debug, Args)]
pub struct Judge {
    /// Releases per cell [default: 500; with --full 2000]
    #[arg(long)]
    runs: Option<u64>,
    /// Its own promises instead: false rollbacks in the whole grid of healthy worlds, delays of all faults
    #[arg(long)]
    full: bool,
    /// With --full: only worlds whose name has this in it
    #[arg(long, requires = "full", default_value = "")]
    only: String,
    /// With --full: no world whose name has this in it
    #[arg(long, requires = "full")]
    skip: Option<String>,
    /// With --full: only the worlds that are repeated with every change
    #[arg(long, requires = "full")]
    listed: bool,
}

/// Measures; with `--full` fails if a promise is broken.
pub fn measure(what: &Judge) -> ExitCode {
    if what.full {
        let worlds = if what.listed { healthy::listed() } else { healthy::grid() };
        return promises(worlds, what);
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&readme).expect("the README is read");
    let table = table::measure(what.runs.unwrap_or(500), |name| eprintln!("{name} …"));
    print!("{table}");
    let placed = table::placed(&text, &table).expect("the README has the markers of `cargo measure judge`");
    std::fs::write(&readme, placed).expect("the README is written");
    ExitCode::SUCCESS
}

fn promises(worlds: Vec<healthy::Healthy>, what: &Judge) -> ExitCode {
    let runs = what.runs.unwrap_or(2_000);
    let is_wanted = |setting: &Setting| {
        let skipped = what.skip.as_ref().is_some_and(|skip| setting.name.contains(skip));
        setting.name.contains(&what.only) && !skipped
    };
    let mut broken = 0;
    let mut tell = |line: String, checked: Result<(), String>, began: Instant| {
        println!("{line} [{:.1} s]", began.elapsed().as_secs_f64());
        if let Err(why) = checked {
            broken += 1;
            println!("  BROKEN: {why}");
        }
    };
    for (setting, least) in worlds.into_iter().filter(|(setting, _)| is_wanted(setting)) {
        let began = Instant::now();
        let runs = if setting.duration_ms > HOUR_MS { runs.min(MOST_OF_HOURS) } else { runs };
        let count = run_many(&setting, SEED, runs, || Ours::new(setting.analysis.clone()));
        let place = format!("{:>6} rps {:?}", setting.rps, setting.shares);
        tell(format!("{place:24} {}", promise::told(&count)), promise::healthy(&count, least), began);
    }
    for (setting, band) in settings::faults().into_iter().filter(|(setting, _)| is_wanted(setting)) {
        let began = Instant::now();
        let count = run_many(&setting, SEED, runs, || Ours::new(setting.analysis.clone()));
        tell(promise::told_found(&count, &band), promise::found(&count, &band), began);
    }
    for setting in healthy::late(6).into_iter().filter(is_wanted) {
        let began = Instant::now();
        let runs = runs.min(MOST_OF_HOURS);
        let count = run_many(&setting, SEED, runs, || Ours::new(setting.analysis.clone()));
        let band = promise::LATE_S;
        tell(promise::told_found(&count, &band), promise::found(&count, &band), began);
    }
    println!("{runs} releases each, seeds from {SEED}; {broken} promises broken");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One lying proxy of twelve.
pub fn liars(runs: u64) {
    for rule in [false, true] {
        for (unit, analysis) in liars::analyses(rule) {
            for case in liars::Case::ALL {
                let count = liars::judged(case, &analysis, SEED, runs);
                println!("{}", liars::told(unit, &analysis, &count));
            }
        }
    }
    println!(
        "{runs} releases of ten minutes each, seeds from {SEED}; 20 candidate and 180 stable requests/s"
    );
}
