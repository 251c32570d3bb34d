//! Things that die under traffic: the controller, Envoy, the state on disk. Traffic must not notice more than it has
//! to, and nobody may come back with a higher share than before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::api::Advance;
use hueshift::control::Command;
use hueshift::view::{End, Phase};
use hueshift_core::color::Color;
use hueshift_tests::clock::{between, now_ns, wait_for};
use hueshift_tests::model::Faults;
use hueshift_tests::process;
use hueshift_tests::raw::Wire;
use hueshift_tests::stage::{SERVICE, Stage, by_hand};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fuse_alone_stops_a_bad_candidate_and_the_rollback_is_recorded_once() {
    let mut stage = Stage::start("killed", &[10], by_hand).await;
    let load = stage.load(300, 200.0).start();
    stage.release("g2");
    stage.wait_share(10).await;
    let envoy = stage.home.envoy_id().await.expect("Envoy runs");

    stage.home.kill_controller();
    stage.models.green.set(Faults::errors(1.0));
    stage.wait_quiet(Duration::from_secs(2), Duration::from_secs(30)).await;
    let rescue = stage.rescue("g2").expect("bad answers");
    println!("fuse alone: {:?}, {} bad answers", rescue.time, rescue.bad);

    stage.home.up().await;
    let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(10)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    stage.was_rolled_back();
    assert_eq!(stage.home.envoy_id().await, Some(envoy), "Envoy is the same process");

    // Durable: yet another controller knows of it, and has nothing to add.
    stage.home.kill_controller();
    stage.home.up().await;
    let view = stage.home.service(SERVICE).await;
    assert_eq!(view.history.len(), 1, "{:?}", view.history);
    assert_eq!((view.phase, view.live), (Phase::Idle, Color::Blue));
    assert_eq!(stage.home.envoy_id().await, Some(envoy));
    let findings = stage.findings(&load.stop().await);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_controller_goes_on_where_it_stood() {
    let mut stage = Stage::start("resumed", &[10, 50], by_hand).await;
    let load = stage.load(300, 200.0).start();
    stage.release("g2");
    stage.wait_share(10).await;
    let (envoy, before) = (stage.home.envoy_id().await, stage.home.service(SERVICE).await);
    stage.home.kill_controller();
    stage.home.up().await;
    stage.wait_share(10).await;
    let after = stage.home.service(SERVICE).await;
    assert_eq!((after.release, after.phase, after.live), (before.release, Phase::Progressing, Color::Blue));
    assert_eq!(after.plan.epoch, before.plan.epoch, "nothing changed, so no new epoch");
    let log = stage.home.log_tail();
    assert!(!log.contains("begins anew"), "the judge goes on from its checkpoint: {log}");
    assert_eq!(stage.home.envoy_id().await, envoy, "Envoy is the same process");
    let findings = stage.findings(&load.stop().await);
    assert_eq!((findings.lost, findings.causeless.len()), (0, 0), "{:?}", findings.lost_examples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_envoy_is_noticed_and_restarted_and_the_release_survives() {
    let mut stage = Stage::start("envoy", &[10], by_hand).await;
    let load = stage.load(300, 100.0).start();
    stage.release("g2");
    stage.wait_share(10).await;
    let first = stage.home.envoy_id().await.expect("Envoy runs");
    process::signal(first, Signal::KILL);
    let second = wait_for("another Envoy", Duration::from_secs(20), async || {
        stage.home.envoy_id().await.filter(|id| *id != first)
    })
    .await;
    let answered = load.glance();
    wait_for("answers again", Duration::from_secs(20), async || {
        let now = load.glance();
        (now.blue > answered.blue + 50 && now.green > answered.green).then_some(())
    })
    .await;
    stage.wait_share(10).await;
    let view = stage.home.view().await;
    assert!(view.proxies[0].restarts >= 1 && view.proxies[0].pid == Some(second), "{:?}", view.proxies);
    assert_eq!((view.services[0].phase, view.services[0].release), (Phase::Progressing, 1));
    let findings = stage.findings(&load.stop().await);
    println!("lost with Envoy: {}", findings.lost);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "the new Envoy draws as the old one did");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_state_file_is_set_aside_and_means_stable() {
    let mut stage = Stage::start("corrupt", &[25], by_hand).await;
    let load = stage.load(300, 200.0).start();
    stage.release("g2");
    stage.wait_share(25).await;
    stage.home.kill_controller();
    let files = files_in(&stage.home.state().join("state"));
    assert!(!files.is_empty(), "there is state to damage");
    for file in &files {
        let half = std::fs::read(file).unwrap();
        std::fs::write(file, &half[..half.len() / 2]).unwrap();
    }
    stage.home.up().await;
    stage.wait_quiet(Duration::from_secs(1), Duration::from_secs(15)).await;
    let view = stage.home.view().await;
    assert_eq!(view.services[0].live, Color::Blue);
    assert_eq!(view.services[0].plan.limit.get(), 0, "unknown state never goes on with a ramp");
    let told = [view.problems.clone(), view.services[0].problems.clone()].concat().join("\n")
        + &stage.home.log_tail();
    let damaged =
        files.iter().any(|file| told.contains(&file.file_name().unwrap().to_string_lossy().into_owned()));
    assert!(damaged, "the damage is told, with the file's name:\n{told}");
    let kept = files_in(&stage.home.state().join("state"));
    assert!(kept.len() > files.len(), "the damaged file is kept aside: {kept:?}");
    assert_eq!(load.glance().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_leaves_traffic_on_stable() {
    let mut stage = Stage::start("ctrlc", &[25], by_hand).await;
    let load = stage.load(300, 200.0).start();
    stage.release("g2");
    stage.wait_share(25).await;
    stage.home.interrupt();
    stage.wait_quiet(Duration::from_secs(1), Duration::from_secs(15)).await;
    let sent = load.glance().sent;
    wait_for("a hundred more answers", Duration::from_secs(10), async || {
        (load.glance().sent > sent + 100).then_some(())
    })
    .await;
    assert_eq!(load.glance().lost, 0, "Envoy serves on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_what_and_what_to_do() {
    let mut stage = Stage::start("usage", &[25], |_| {}).await;
    stage.home.interrupt();
    let envoy = hueshift_tests::programs::envoy();
    let filter = hueshift_tests::programs::filter();
    let run = |state: &str, envoy: PathBuf, file: PathBuf| {
        let mut command = stage.home.command("up");
        command.arg(file).arg("--state").arg(stage.workplace.join(state)).arg("--filter").arg(&filter);
        let output = command.arg("--envoy").arg(envoy).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert_eq!(text.matches(&last).count(), 1, "no cause twice:\n{text}");
        (output.status.code(), text)
    };
    let (code, text) = run("a", stage.workplace.join("no-envoy"), stage.home.file());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("no-envoy") && text.contains("cargo wasm tools"), "{text}");

    let listen = stage.home.listen(SERVICE);
    let (code, text) = run("b", envoy.clone(), stage.home.file());
    assert_eq!(code, Some(1), "Envoy of the first home still serves there: {text}");
    assert!(text.contains(&listen.to_string()), "{text}");

    let mut half = std::fs::read(&filter).unwrap();
    half.truncate(half.len() / 2);
    let cut = stage.workplace.join("cut.wasm");
    std::fs::write(&cut, half).unwrap();
    let mut command = stage.home.command("up");
    command.arg(stage.home.file()).arg("--filter").arg(&cut).arg("--envoy").arg(&envoy);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cut.wasm") && text.contains("cargo wasm build"), "{text}");

    let wrong = stage.workplace.join("wrong.yaml");
    let good = std::fs::read_to_string(stage.home.file()).unwrap();
    std::fs::write(&wrong, good.replace("listen:", "lisen:")).unwrap();
    let (code, text) = run("c", envoy, wrong);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("wrong.yaml") && text.contains("lisen"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_envoy_cannot_load_costs_no_request() {
    let folder = hueshift_tests::workplace::Workplace::new("empty-module");
    let module = folder.join("empty.wasm");
    // A module by its shape, with nothing in it that Envoy could run.
    std::fs::write(&module, b"\0asm\x01\0\0\0\x01\x01\0").unwrap();
    let mut stage = Stage::on("unloadable", &[25], 2, None, module, by_hand).await;
    let log = stage.load(50, 200.0).requests(400).finish().await;
    let findings = stage.findings(&log);
    assert_eq!((findings.lost, stage.models.green.seen()), (0, 0), "{:?}", findings.lost_examples);

    stage.home.interrupt();
    stage.home.module = hueshift_tests::programs::filter();
    stage.home.up().await;
    let load = stage.load(300, 200.0).start();
    stage.release("g2");
    stage.wait_share(25).await;
    let findings = stage.findings(&load.stop().await);
    assert_eq!(findings.lost, 0, "the module came later, to the same Envoy: {:?}", findings.lost_examples);
}

/// The color of each of a thousand sessions, on connections to every worker; fails if two workers disagree.
async fn thousand_keys(at: SocketAddr) -> Vec<Color> {
    let mut colors: Vec<Option<Color>> = vec![None; 1_000];
    for wire in 0..12 {
        let mut wire_at = Wire::open(at).await;
        for (session, color) in (0..).zip(&mut colors) {
            let answer = wire_at.session(session).await;
            let seen = answer.color.unwrap_or_else(|| panic!("session {session}: {answer:?}"));
            assert_eq!(*color.get_or_insert(seen), seen, "session {session} on connection {wire}");
        }
    }
    colors.into_iter().flatten().collect()
}

/// A slow session on each of many connections, so that every worker has something to report.
fn trickle(at: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut wires = Vec::new();
        for _ in 0..12 {
            wires.push(Wire::open(at).await);
        }
        for session in 5_000.. {
            for wire in &mut wires {
                // Whatever comes back: one of these may be open on the worker that dies.
                let _ = wire.session(session).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_filter_died_is_named_holds_the_ramp_and_is_revived() {
    let module = hueshift_tests::programs::trap_filter();
    let mut stage = Stage::on("silent", &[10, 50], 2, None, module, |document| {
        document.spec.release.advance = Advance::Unsuspicious;
        document.spec.release.steps[0].min_time = Duration::from_secs(4);
        document.spec.release.steps[1].min_time = Duration::from_secs(3_000);
    })
    .await;
    let at = stage.home.listen(SERVICE);
    let trickle = trickle(at);
    stage.release("g2");
    stage.wait_share(10).await;
    stage.home.order(SERVICE, Command::Pause).await;
    let before = thousand_keys(at).await;
    let load = stage.load(1_000, 100.0).start();
    wait_for("requests of the load", Duration::from_secs(10), async || {
        (load.glance().sent > 20).then_some(())
    })
    .await;

    let mut doomed = Wire::open(at).await;
    let killed = now_ns();
    assert_eq!(doomed.get("/v1/quote", b"x-hueshift-trap: 1\r\n").await.status, 503, "its VM is dead");
    let dead = now_ns();
    let mut held = 0;
    let mut named = None;
    // As long as it is silent the share stays, however long its minimum time is over.
    let silent = async || {
        let view = stage.home.service(SERVICE).await;
        let told = view.waiting_on.iter().find(|reason| reason.reason == "silent-worker").cloned();
        (told, view)
    };
    let patience = Duration::from_secs(40);
    wait_for("the worker to be named, and revived", patience, async || {
        let (told, view) = silent().await;
        match (told, named) {
            (Some(told), None) => {
                named = Some(now_ns());
                stage.home.order(SERVICE, Command::Resume).await;
                assert!(told.text.contains("worker") && told.text.contains("envoy-0"), "{told:?}");
                assert!(view.problems.iter().any(|text| text.contains("silent")), "{:?}", view.problems);
            }
            (Some(_), Some(_)) => {
                assert_eq!(view.plan.limit.get(), 1_000);
                held += 1;
            }
            (None, Some(_)) => return Some(()),
            (None, None) => {}
        }
        None
    })
    .await;
    let after = between(killed, named.expect("named"));
    println!("named after {after:?}, revived after {:?}", between(killed, now_ns()));
    assert!(held > 0, "it was held, and not only named");
    stage.wait_share(50).await;

    let now = thousand_keys(at).await;
    let moved_back =
        before.iter().zip(&now).filter(|(before, now)| **before == Color::Green && **now == Color::Blue);
    assert_eq!(moved_back.count(), 0, "the rebuilt VMs draw as the old ones did");
    trickle.abort();
    let log = load.stop().await;
    let lost: Vec<_> = log.iter().filter(|event| event.lost()).collect();
    println!("lost with the worker: {}", lost.len());
    // However slow: lost is what was open when it died, and nothing that was sent after its death was known.
    let innocent = lost.iter().find(|event| !(event.sent <= dead && event.done >= killed));
    assert_eq!(innocent, None, "only what was open on that worker is lost");
    // Every answer that the client got is in a server's log, and no other request is.
    let served = stage.served().iter().filter(|event| event.session < 1_000).count();
    assert!(served >= log.len() - lost.len(), "{served} of {}", log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_color_header_steers_nobody_where_the_filter_is_dead() {
    let module = hueshift_tests::programs::trap_filter();
    let mut stage = Stage::on("forged", &[10], 1, None, module, by_hand).await;
    stage.release("g2");
    let load = stage.load(100, 100.0).start();
    stage.wait_share(10).await;
    let mut wire = Wire::open(stage.home.listen(SERVICE)).await;
    assert_eq!(wire.get("/v1/quote", b"x-hueshift-trap: 1\r\n").await.status, 503);
    let mut green = 0;
    for _ in 0..400 {
        let answer = wire.get("/v1/quote", b"x-hueshift-color: green\r\n").await;
        assert_eq!(answer.status, 200, "the filter fails open");
        green += u32::from(answer.color == Some(Color::Green));
    }
    // By weight 40 are expected, with a standard deviation of 6; by header it would be 400.
    assert!((4..100).contains(&green), "{green} of 400");
    drop(load);
}

fn files_in(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the state folder");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}
