//! Live and offline are one code: what `up --record` wrote, judged again by `simulate`, ends in the same tick with the
//! same evidence.
//!
//! With `HUESHIFT_REFERENCE` naming the Python reference of the statistics (it needs numpy and scipy and is not part
//! of this repository), and `HUESHIFT_PYTHON` an interpreter that has them, the recorded world is judged by it too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::view::{Cause, End};
use hueshift_tests::clock::wait_for;
use hueshift_tests::model::Faults;
use hueshift_tests::stage::{SERVICE, Stage, by_hand, no_fuse};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_rollback_is_the_same_in_simulate() {
    let mut stage = Stage::with("replay", &[20], 2, Some("world.json"), |document| {
        by_hand(document);
        no_fuse(document);
        // The reference knows the ratio certificates only.
        document.spec.analysis.absolute_certificate = false;
    })
    .await;
    stage.models.blue.set(Faults::errors(0.01));
    let load = stage.load(1_500, 200.0).start();
    stage.release("g2");
    stage.models.green.set(Faults::errors(0.01));
    stage.wait_share(20).await;
    wait_for("some healthy traffic", Duration::from_secs(30), async || {
        (stage.models.green.seen() > 80).then_some(())
    })
    .await;
    stage.models.green.set(Faults::errors(0.3));
    let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(60)).await;
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Errors)), "{record:?}");
    drop(load);
    stage.home.interrupt();

    let world = recorded(stage.workplace.path());
    let output = stage.home.command("simulate").arg("--world").arg(&world).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lines_of(&output.stdout);
    let live = record.evidence.expect("evidence of the decision").log_e;
    let first = first_rollback(&lines);
    let offline = first["log_e"].as_f64().unwrap();
    assert!((offline - live).abs() <= 1e-6, "live {live}, offline {offline} at {} ms", first["t_ms"]);
    println!(
        "ln E {live:.6} live and {offline:.6} offline, at {} ms of {} ticks",
        first["t_ms"],
        lines.len()
    );

    if let Some(reference) = std::env::var_os("HUESHIFT_REFERENCE") {
        let python = std::env::var_os("HUESHIFT_PYTHON").unwrap_or_else(|| "python3".into());
        let output = Command::new(python).arg(reference).arg(&world).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs = lines_of(&output.stdout);
        assert_eq!(theirs.len(), lines.len(), "ticks");
        for (ours, theirs) in lines.iter().zip(&theirs) {
            assert_eq!(ours["verdict"], theirs["verdict"], "at {} ms", ours["t_ms"]);
            let (a, b) = (ours["log_e"].as_f64().unwrap(), theirs["log_e"].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-6 + 1e-9 * b.abs(), "{a} against {b} at {} ms", ours["t_ms"]);
        }
        println!("the reference agrees in all {} ticks", lines.len());
    }
}

/// The one world that was recorded; its name carries service and release.
fn recorded(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut worlds: Vec<PathBuf> = entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("world"))
        .filter(|path| path.is_file())
        .collect();
    worlds.sort();
    assert_eq!(worlds.len(), 1, "one release, one world: {worlds:?}");
    worlds.remove(0)
}

fn lines_of(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn first_rollback(lines: &[Value]) -> &Value {
    lines.iter().find(|line| line["verdict"] == "rollback").expect("simulate rolls back too")
}
