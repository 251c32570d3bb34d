//! The demo: real models, a real Envoy, real traffic; a healthy release is promoted, a bad one is taken back.
//!
//! What is shown while it runs comes from the controller's status; what is claimed at the end comes only from the
//! event logs of client and model servers. The exit code tells whether all of it happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "part of the test crate")]

mod plot;
mod screen;

use clap::Parser;
use hueshift_tests::programs;
use plot::{Demo, Pace};
use std::process::ExitCode;

/// Watch Hueshift promote a healthy release and take back a bad one, with real traffic through a real Envoy.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Arguments {
    /// More traffic and shorter steps: under a minute of release time
    #[arg(long)]
    fast: bool,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Release B stays healthy: nothing to take back, so the demo must fail
    #[arg(long, hide = true)]
    healthy_b: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let pace = if arguments.fast { Pace::FAST } else { Pace::EASY };
    runtime.block_on(async {
        tokio::select! {
            code = run(pace, arguments.healthy_b, arguments.keep) => code,
            // Leaving the future drops everything it started.
            _ = tokio::signal::ctrl_c() => {
                println!("\nstopped");
                ExitCode::from(130)
            }
        }
    })
}

async fn run(pace: Pace, healthy_b: bool, keep: bool) -> ExitCode {
    screen::title(&pace, &programs::envoy_version());
    let mut demo = Demo::start(pace).await;
    // Without an end of A there is no standby for B, and the claims fail as they stand.
    if demo.release_a().await {
        demo.release_b(healthy_b).await;
    }
    let claims = demo.finish(keep).await;
    screen::claims(&claims);
    let held = claims.iter().all(|claim| claim.held);
    if keep {
        demo.keep().await;
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
