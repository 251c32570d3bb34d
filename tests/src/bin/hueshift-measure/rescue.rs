//! Hard failures: a candidate with 10 % of 200 requests/s turns to 100 % errors. From its first bad answer to the
//! last request in its server's own log.

use crate::distribution;
use clap::ValueEnum;
use hueshift::view::End;
use hueshift_simulation::chance::Chance;
use hueshift_tests::client::Sent;
use hueshift_tests::model::Faults;
use hueshift_tests::stage::{SERVICE, Stage, by_hand, no_fuse};
use std::time::Duration;

/// What is allowed to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The controller's judge only; the fuse is off.
    Report,
    /// Judge and fuse.
    Both,
    /// The fuse only: the controller is killed just before the fault.
    Fuse,
    /// The judge only, and the candidate has three sessions: the dead-candidate rule.
    Dead,
}

struct Tally {
    way: Way,
    times: Vec<Duration>,
    bad: usize,
    lost: usize,
    causeless: usize,
    missing: u32,
}

/// All ways, or one.
pub async fn measure(runs: u32, way: Option<Way>) {
    println!(
        "a candidate with 10 % of 200 requests/s turns to 100 % errors; first bad answer → last request\n"
    );
    let ways = way.map_or_else(|| vec![Way::Report, Way::Both, Way::Fuse, Way::Dead], |way| vec![way]);
    let mut tallies = Vec::new();
    for way in ways {
        tallies.push(one_way(way, runs).await);
    }
    println!("\n{} {:>8} {:>6} {:>10}", distribution::heads(), "bad/run", "lost", "causeless");
    for tally in tallies {
        println!(
            "{} {:>8.1} {:>6} {:>10}{}",
            distribution::line(name(tally.way), &tally.times),
            tally.bad as f64 / tally.times.len().max(1) as f64,
            tally.lost,
            tally.causeless,
            if tally.missing > 0 {
                format!("   {} NOT STOPPED OR NOT RECORDED", tally.missing)
            } else {
                String::new()
            }
        );
    }
}

async fn one_way(way: Way, runs: u32) -> Tally {
    let share = if way == Way::Dead { 50 } else { 10 };
    let mut stage = Stage::start("measure", &[share], |document| {
        by_hand(document);
        if matches!(way, Way::Report | Way::Dead) {
            no_fuse(document);
        }
    })
    .await;
    let mut tally = Tally { way, times: Vec::new(), bad: 0, lost: 0, causeless: 0, missing: 0 };
    let mut chance = Chance::new(u64::from(runs) + way as u64);
    for run in 1..=runs {
        let revision = format!("g{}", run + 1);
        stage.stories.clear();
        let mut load = stage.load(400, 200.0);
        load.poisson = true;
        load.seed = u64::from(run);
        let mut running = load.clone().start();
        stage.release(&revision);
        stage.wait_share(share).await;
        let mut earlier: Vec<Sent> = Vec::new();
        if way == Way::Dead {
            // Three sessions on the candidate and nine times as many on stable.
            tokio::time::sleep(Duration::from_secs(3)).await;
            earlier = running.stop().await;
            load.chosen = Some(three_and_twenty_seven(&earlier));
            running = load.start();
        }
        // The fault begins at any moment between two reports.
        tokio::time::sleep(Duration::from_secs_f64(2.0 + chance.unit())).await;
        let envoy = stage.home.envoy_id().await;
        if way == Way::Fuse {
            stage.home.kill_controller();
        }
        stage.models.green.set(Faults::errors(1.0));
        stage.wait_quiet(Duration::from_secs(2), Duration::from_secs(60)).await;
        if way == Way::Fuse {
            stage.home.up().await;
        }
        let record = stage.home.wait_end(SERVICE, run, Duration::from_secs(20)).await;
        stage.was_rolled_back();
        let clients = [earlier, running.stop().await].concat();
        let findings = stage.findings(&clients);
        tally.lost += findings.lost;
        tally.causeless += findings.causeless.len();
        let same_envoy = stage.home.envoy_id().await == envoy;
        match stage.rescue(&revision) {
            Some(rescue) if record.end == End::RolledBack && same_envoy => {
                println!(
                    "{:<22} {run:>3}/{runs} {:>6.0} ms, {} bad answers, recorded as {:?}",
                    name(way),
                    rescue.time.as_secs_f64() * 1e3,
                    rescue.bad,
                    record.cause
                );
                tally.times.push(rescue.time);
                tally.bad += rescue.bad;
            }
            _ => {
                println!(
                    "{:<22} {run:>3}/{runs} not stopped, not recorded, or Envoy changed: {record:?}",
                    name(way)
                );
                tally.missing += 1;
            }
        }
    }
    tally
}

fn three_and_twenty_seven(log: &[Sent]) -> Vec<u32> {
    let of = |name: &str| {
        let mut sessions: Vec<u32> = log
            .iter()
            .filter(|event| event.revision.as_deref().is_some_and(|revision| revision.starts_with(name)))
            .map(|event| event.session)
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    };
    // A session may have been on blue before the share was in force, so the candidate's come first.
    let candidate = of("g");
    let stable: Vec<u32> = of("b").into_iter().filter(|session| !candidate.contains(session)).collect();
    candidate.into_iter().take(3).chain(stable.into_iter().take(27)).collect()
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Report => "report path alone",
        Way::Both => "report path and fuse",
        Way::Fuse => "fuse alone",
        Way::Dead => "three sessions, no fuse",
    }
}
