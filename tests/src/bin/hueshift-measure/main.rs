//! Measurements against the real product, printed as distributions: `cargo measure <WHAT> [--runs N]`.
//!
//! Not tests: nothing here fails on a slow machine. Every figure comes from the event logs of clients and model
//! servers, so that it says what users saw and not what the controller believes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "part of the test crate"
)]

mod cost;
mod distribution;
mod judge;
mod judged;
mod mesh;
mod rescue;
mod soft;

use clap::{Parser, Subcommand};
use hueshift_tests::cluster::netns;
use hueshift_tests::scene::Fault;
use hueshift_tests::{programs, vms};
use std::process::ExitCode;
use std::time::Instant;

/// Measure what Hueshift promises, with a real Envoy and real traffic.
#[derive(Debug, Parser)]
#[command(name = "cargo measure", bin_name = "cargo measure")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A candidate at 10 % of 200 requests/s turns to 100 % errors: first bad answer to last request
    Rescue {
        /// Runs of each way
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// Only this way: report, both, fuse or dead
        #[arg(long)]
        way: Option<rescue::Way>,
    },
    /// 5 % errors against 0.5 % at 20 candidate requests/s: time until the candidate is off
    Soft {
        /// Runs
        #[arg(long, default_value_t = 20)]
        runs: u32,
    },
    /// 30 % of 20 candidate requests/s are never answered: time until the candidate is off
    Hang {
        /// Runs of each way
        #[arg(long, default_value_t = 10)]
        runs: u32,
        /// Sessions that take turns
        #[arg(long, default_value_t = 4_000)]
        sessions: u32,
        /// Only ways whose name has this in it
        #[arg(long, default_value = "")]
        only: String,
    },
    /// The candidate takes half as long again at 20 requests/s: time until it is off
    Latency {
        /// Runs of each way
        #[arg(long, default_value_t = 10)]
        runs: u32,
        /// Sessions that take turns
        #[arg(long, default_value_t = 20_000)]
        sessions: u32,
        /// Instead its answers begin in time and end 400 ms later
        #[arg(long)]
        whole: bool,
        /// Only ways whose name has this in it
        #[arg(long, default_value = "")]
        only: String,
    },
    /// What the filter costs Envoy per request, beside the same requests without it
    Cost {
        /// Rounds
        #[arg(long, default_value_t = 6)]
        runs: u32,
    },
    /// Both colors at 30 % errors for a minute: how many false rollbacks
    Shared {
        /// Runs
        #[arg(long, default_value_t = 20)]
        runs: u32,
    },
    /// The judge over simulated releases: against the rules of others (the README's table), and its own promises
    Judge(judge::Judge),
    /// One lying proxy of twelve on simulated traffic: what its word can do, by requests and by sessions
    Liar {
        /// Releases per case
        #[arg(long, default_value_t = 100)]
        runs: u64,
    },
    /// A hard failure in the mesh: first bad answer to last request, to the routes written, to the routes served
    Mesh {
        /// Runs of each way
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// Only this way: quiet, busy or push
        #[arg(long)]
        way: Option<mesh::Way>,
    },
    /// Sixteen workers started at once: does each draw a number of its own
    Workers {
        /// Rounds
        #[arg(long, default_value_t = 200)]
        runs: u32,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // These need neither a clock nor an Envoy.
    match &arguments.what {
        What::Judge(what) => return judge::measure(what),
        What::Liar { runs } => {
            judge::liars(*runs);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if let What::Mesh { .. } = arguments.what {
        netns::enter();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("Envoy {}, {cores} cores, {} build", programs::envoy_version(), build());
    runtime.block_on(async {
        tokio::select! {
            () = run(arguments.what) => ExitCode::SUCCESS,
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

async fn run(what: What) {
    match what {
        What::Rescue { runs, way } => rescue::measure(runs, way).await,
        What::Soft { runs } => soft::five_percent(runs).await,
        What::Hang { runs, sessions, only } => judged::measure(Fault::Hang, runs, sessions, &only).await,
        What::Latency { runs, sessions, whole, only } => {
            let fault = if whole { Fault::Long } else { Fault::Slow };
            judged::measure(fault, runs, sessions, &only).await;
        }
        What::Cost { runs } => cost::measure(runs).await,
        What::Shared { runs } => soft::shared_incident(runs).await,
        What::Mesh { runs, way } => mesh::measure(runs, way).await,
        What::Workers { runs } => workers(runs).await,
        What::Judge(_) | What::Liar { .. } => {}
    }
}

async fn workers(runs: u32) {
    let began = Instant::now();
    for run in 1..=runs {
        vms::sixteen_workers_draw_distinct_numbers().await;
        if run % 10 == 0 || run == runs {
            println!("{run} rounds, 16 distinct numbers in each ({:.0} s)", began.elapsed().as_secs_f64());
        }
    }
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}
