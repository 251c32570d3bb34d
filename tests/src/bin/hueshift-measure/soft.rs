//! Soft failures: a worse error rate must be found, the same error rate on both colors must not.

use crate::distribution;
use hueshift::control::Command as Order;
use hueshift::view::End;
use hueshift_tests::clock::{between, now_ns};
use hueshift_tests::model::Faults;
use hueshift_tests::stage::{SERVICE, Stage, by_hand};
use std::time::Duration;

const SESSIONS: u32 = 4_000;

/// 5 % against 0.5 %: from the change to the last request in the server's log.
pub async fn five_percent(runs: u32) {
    println!(
        "5 % errors against 0.5 % at 20 candidate requests/s from {SESSIONS} sessions; change → last request\n"
    );
    let mut stage = Stage::start("soft", &[10], by_hand).await;
    stage.models.blue.set(Faults::errors(0.005));
    let (mut times, mut missing) = (Vec::new(), 0);
    for run in 1..=runs {
        let mut load = stage.load(SESSIONS, 200.0);
        load.poisson = true;
        load.seed = u64::from(run);
        let load = load.start();
        stage.release(&format!("g{}", run + 1));
        stage.models.green.set(Faults::errors(0.005));
        stage.wait_share(10).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let changed = now_ns();
        stage.models.green.set(Faults::errors(0.05));
        let record = stage.home.wait_end(SERVICE, run, Duration::from_secs(180)).await;
        load.stop().await;
        let last = stage.models.green.log().last().map_or(0, |event| event.at);
        let time = between(changed, last);
        println!("{run:>3}/{runs} {:>7.2} s, {:?} {:?}", time.as_secs_f64(), record.end, record.cause);
        match record.end {
            End::RolledBack => times.push(time),
            _ => missing += 1,
        }
    }
    println!("\n{}\n{}", distribution::heads(), distribution::line("5 % against 0.5 %", &times));
    println!("not rolled back: {missing}");
}

/// Both colors at 30 % for a minute: rollbacks.
pub async fn shared_incident(runs: u32) {
    println!("both colors at 30 % errors for 60 s, 200 requests/s, 10 % on the candidate\n");
    let mut stage = Stage::start("shared", &[10], by_hand).await;
    let mut false_rollbacks = 0;
    for run in 1..=runs {
        stage.models.blue.set(Faults::default());
        let mut load = stage.load(SESSIONS, 200.0);
        load.poisson = true;
        load.seed = u64::from(run);
        let load = load.start();
        stage.release(&format!("g{}", run + 1));
        stage.wait_share(10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.models.blue.set(Faults::errors(0.3));
        stage.models.green.set(Faults::errors(0.3));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let view = stage.home.service(SERVICE).await;
        let rolled_back =
            view.history.iter().any(|record| record.release == run && record.end == End::RolledBack);
        false_rollbacks += u32::from(rolled_back);
        let log_e = view.evidence.as_ref().map(|evidence| evidence.log_e);
        println!("{run:>3}/{runs} {} (ln E {log_e:.2?})", if rolled_back { "ROLLED BACK" } else { "held" });
        if !rolled_back {
            stage.home.order(SERVICE, Order::Abort).await;
        }
        stage.home.wait_end(SERVICE, run, Duration::from_secs(20)).await;
        load.stop().await;
    }
    println!("\nfalse rollbacks: {false_rollbacks} of {runs}");
}
