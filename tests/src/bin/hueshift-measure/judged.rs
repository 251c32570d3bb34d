//! Faults that no error rate shows: requests without an answer, and a slower candidate.

use crate::distribution;
use hueshift::view::{Cause, End};
use hueshift_tests::scene::{Fault, Onset, Scene};

/// Time from the fault to the candidate's last request: of a revision that is bad from its first request on, with four
/// stable endpoints and with one of them lost at that moment, and of one that becomes bad later.
pub async fn measure(fault: Fault, runs: u32, sessions: u32, only: &str) {
    let (name, expected) = match fault {
        Fault::Hang => ("30 % never answered", Cause::Hung),
        Fault::Slow => ("latency × 1.5", Cause::Latency),
        Fault::Long => ("answers end 400 ms late", Cause::Latency),
    };
    println!("{name} at 20 candidate requests/s from {sessions} sessions; fault → last request\n");
    let mut scene = Scene::start("judged", sessions, true).await;
    let mut lines = Vec::new();
    let ways = [
        ("from the first request", Onset::Release, false),
        ("an endpoint lost", Onset::Release, true),
        ("after 12 s", Onset::Later, false),
        ("an endpoint lost then", Onset::Later, true),
    ];
    for (which, onset, lose) in ways.into_iter().filter(|(which, ..)| which.contains(only)) {
        let (mut times, mut missed, mut causeless) = (Vec::new(), 0, 0);
        for run in 1..=runs {
            let found = scene.find(fault, onset, lose).await;
            let cause = found.record.cause;
            println!(
                "{which:<22} {run:>3}/{runs} {:>6.2} s, {:>3} requests, {:?} {cause:?}",
                found.time.as_secs_f64(),
                found.exposed,
                found.record.end
            );
            causeless += found.causeless;
            match (found.record.end, cause) {
                (End::RolledBack, Some(Cause::Fuse)) => times.push(found.time),
                (End::RolledBack, Some(cause)) if cause == expected => times.push(found.time),
                _ => missed += 1,
            }
        }
        lines.push(format!(
            "{}   otherwise ended: {missed}, causeless moves: {causeless}",
            distribution::line(which, &times)
        ));
    }
    println!("\n{}\n{}", distribution::heads(), lines.join("\n"));
}
