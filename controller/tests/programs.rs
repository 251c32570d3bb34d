//! Programs that outlive the controller: real processes, through the real launcher.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers outside `#[test]` functions

use hueshift::supervise::{Event, Identity, Keeper, Program};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::time::{Duration, Instant};

fn program(folder: &Path, argv: &[&str]) -> Program {
    Program {
        name: "sleeper".into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        revision: "v1".into(),
        folder: folder.to_owned(),
        log: folder.join("sleeper.log"),
        pid_file: folder.join("sleeper.json"),
    }
}

fn keeper(folder: &Path, argv: &[&str]) -> Keeper {
    Keeper::adopt(program(folder, argv), Path::new(env!("CARGO_BIN_EXE_hueshift")))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the launcher recorded, once it did.
fn recorded(folder: &Path) -> Identity {
    until("recorded", || Identity::read(&folder.join("sleeper.json")))
}

fn session_of(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
}

#[test]
fn a_program_leads_its_own_session_and_the_next_keeper_adopts_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = keeper(folder.path(), &["sleep", "600"]);
    assert!(matches!(first.look(), Some(Event::Started(_))));
    let identity = recorded(folder.path());
    assert_eq!(session_of(identity.pid), identity.pid.to_string());
    assert_eq!(
        (identity.argv.clone(), identity.revision.as_str()),
        (vec!["sleep".into(), "600".into()], "v1")
    );
    let mut second = keeper(folder.path(), &["sleep", "600"]);
    assert_eq!(second.running().map(|running| running.pid), Some(identity.pid));
    assert!(second.look().is_none(), "a living program was started again");
    second.stop(Duration::from_secs(5));
    first.look();
    assert!(!identity.lives());
}

#[test]
fn a_dead_program_is_told_and_started_again_after_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), &["sh", "-c", "exit 3"]);
    let mut waits = Vec::new();
    for _ in 0..3 {
        until("started", || matches!(keeper.look(), Some(Event::Started(_))).then_some(()));
        let (how, wait) = until("dead", || match keeper.look() {
            Some(Event::Died { how, wait }) => Some((how, wait)),
            _ => None,
        });
        assert!(how.contains('3'), "{how}");
        waits.push(wait);
    }
    assert!(waits.is_sorted() && waits.first() < waits.last(), "{waits:?}");
}

#[test]
fn a_stranger_with_a_recycled_pid_is_neither_adopted_nor_ended() {
    let folder = tempfile::tempdir().unwrap();
    // A dead program's record: its pid now belongs to somebody who was started at another time.
    // In a group of its own, as a program of ours would be: else a signal to its group could not reach it anyway.
    let mut command = std::process::Command::new("sleep");
    let mut stranger = Stranger(command.arg("600").process_group(0).spawn().unwrap());
    let mut starter = keeper(folder.path(), &["sleep", "600"]);
    starter.look();
    let mut identity = recorded(folder.path());
    starter.stop(Duration::from_secs(5));
    identity.pid = i32::try_from(stranger.0.id()).unwrap();
    identity.started -= 100;
    std::fs::write(folder.path().join("sleeper.json"), serde_json::to_vec(&identity).unwrap()).unwrap();
    assert!(keeper(folder.path(), &["sleep", "600"]).running().is_none());
    identity.end(Duration::from_millis(50), || {});
    stranger.0.kill().unwrap();
    // Of two signals the first ends it, and that must be ours.
    assert_eq!(stranger.0.wait().unwrap().signal(), Some(9), "a stranger was ended");
}

/// Ends with the test, also a failed one.
struct Stranger(std::process::Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
