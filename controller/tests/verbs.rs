//! The verbs as a shell sees them: the real program against a canned controller on a real Unix socket.
//!
//! What pages look like is tested beside their renderers; here it is exit codes, streams, and what is sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hueshift::control::{self, Accepted, Command, Refused, Request};
use hueshift::view::{Cause, End, Phase, View, Waiting};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;

/// A controller that shows a view and takes commands.
struct Canned {
    state: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    view: Mutex<View>,
    /// What becomes of the view once it was looked at this often.
    later: Mutex<(u32, Option<View>)>,
    asked: Mutex<Vec<Request>>,
    answer: Mutex<Result<Accepted, Refused>>,
}

impl Canned {
    async fn start() -> Canned {
        let view: View = serde_json::from_str(include_str!("views/two-services.json")).unwrap();
        let shared = Arc::new(Shared {
            view: Mutex::new(view),
            later: Mutex::default(),
            asked: Mutex::default(),
            answer: Mutex::new(Ok(Accepted {
                service: "price".into(),
                release: 7,
                text: "release 7 tries v2 on green".into(),
            })),
        });
        let state = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(state.path().join(control::SOCKET)).unwrap();
        let app = Router::new()
            .route(control::STATUS_PATH, get(status))
            .route(control::COMMAND_PATH, post(command))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Canned { state, shared }
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.shared.view.lock().unwrap());
    }

    fn change_after(&self, looks: u32, change: impl FnOnce(&mut View)) {
        let mut changed = self.shared.view.lock().unwrap().clone();
        change(&mut changed);
        *self.shared.later.lock().unwrap() = (looks, Some(changed));
    }

    async fn run(&self, args: &[&str]) -> Output {
        hueshift(self.state.path(), args).await
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<View> {
    let mut view = shared.view.lock().unwrap();
    let mut later = shared.later.lock().unwrap();
    match later.0.checked_sub(1) {
        Some(left) => later.0 = left,
        None => *view = later.1.take().unwrap_or(view.clone()),
    }
    Json(view.clone())
}

async fn command(State(shared): State<Arc<Shared>>, Json(request): Json<Request>) -> Response {
    shared.asked.lock().unwrap().push(request);
    match shared.answer.lock().unwrap().clone() {
        Ok(accepted) => Json(accepted).into_response(),
        Err(refused) => (StatusCode::CONFLICT, Json(refused)).into_response(),
    }
}

async fn hueshift(state: &Path, args: &[&str]) -> Output {
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_hueshift"))
        .args(args)
        .env("HUESHIFT_STATE", state)
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_secs(30), run).await.expect("the verb ends").unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn without_a_controller_every_verb_says_how_to_start_one() {
    let nobody = tempfile::tempdir().unwrap();
    for verb in ["status", "watch", "explain", "history", "release", "promote", "pause", "resume", "abort"] {
        let output = hueshift(nobody.path(), &[verb]).await;
        assert_eq!(output.status.code(), Some(1), "{verb}");
        let expected = format!(
            "error: no controller is running for {}; start one with `hueshift up FILE.yaml`, or name its state directory with --state DIR or HUESHIFT_STATE, or with --namespace that of a cluster\n",
            nobody.path().display()
        );
        assert_eq!(err(&output), expected, "{verb}");
        assert_eq!(out(&output), "", "{verb}");
    }
}

#[tokio::test]
async fn commands_are_sent_as_asked_and_answered_in_one_line() {
    let canned = Canned::start().await;
    for (args, command) in [
        (vec!["release", "price", "--force"], Command::Release { force: true }),
        (vec!["release", "price"], Command::Release { force: false }),
        (vec!["promote", "price"], Command::Promote),
        (vec!["pause", "price"], Command::Pause),
        (vec!["resume", "price"], Command::Resume),
        (vec!["abort", "price"], Command::Abort),
    ] {
        let output = canned.run(&args).await;
        assert_eq!(
            (output.status.code(), out(&output).as_str()),
            (Some(0), "price: release 7 tries v2 on green\n")
        );
        let asked = canned.shared.asked.lock().unwrap().pop();
        assert_eq!(asked, Some(Request { service: Some("price".into()), command }));
    }
}

#[tokio::test]
async fn a_refusal_names_its_remedy() {
    let canned = Canned::start().await;
    *canned.shared.answer.lock().unwrap() = Err(Refused {
        error: "v2 was rolled back before".into(),
        remedy: "use --force to try it again".into(),
    });
    let output = canned.run(&["release", "price"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "error: v2 was rolled back before; use --force to try it again\n");
}

#[tokio::test]
async fn json_and_yaml_carry_the_whole_view() {
    let canned = Canned::start().await;
    let expected = canned.shared.view.lock().unwrap().clone();
    let json: View =
        serde_json::from_slice(&canned.run(&["status", "--output", "json"]).await.stdout).unwrap();
    assert_eq!(json, expected);
    let yaml: View = serde_saphyr::from_str(&out(&canned.run(&["status", "-o", "yaml"]).await)).unwrap();
    assert_eq!(yaml, expected);
    let one: View =
        serde_json::from_slice(&canned.run(&["status", "chat", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(one.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["chat"]);
}

#[tokio::test]
async fn a_service_must_be_named_where_there_are_several() {
    let canned = Canned::start().await;
    let output = canned.run(&["explain"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(err(&output), "error: models.yaml holds several services; name one of price, chat\n");
    let output = canned.run(&["status", "prize"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(err(&output), "error: there is no service `prize`; name one of price, chat\n");
}

#[tokio::test]
async fn the_exit_code_of_a_wait_tells_how_the_release_ended() {
    for (end, cause, code) in [
        (End::Promoted, None, 0),
        (End::RolledBack, Some(Cause::Errors), 3),
        (End::Superseded, Some(Cause::Superseded), 6),
    ] {
        let canned = Canned::start().await;
        canned.change_after(3, |view| {
            let mut record = view.services[1].history[1].clone();
            (record.service, record.release, record.end, record.cause) = ("price".into(), 7, end, cause);
            view.services[0].history.push(record);
            view.services[0].phase = Phase::Idle;
        });
        let output = canned.run(&["release", "price", "--wait"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert!(err(&output).contains("release 7 of price: m8 "), "{}", err(&output));
    }
}

#[tokio::test]
async fn a_wait_ends_when_only_a_person_can_go_on_or_the_time_is_over() {
    let canned = Canned::start().await;
    let output = canned.run(&["status", "price", "--wait", "--timeout", "300ms"]).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(
        err(&output).ends_with("error: not decided within 300ms; it goes on, see `hueshift explain`\n"),
        "{}",
        err(&output)
    );
    canned.change(|view| {
        view.services[0].waiting_on =
            vec![Waiting { reason: "person".into(), text: "a person: the deadline passed".into() }];
    });
    let output = canned.run(&["status", "price", "--wait"]).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(
        err(&output)
            .contains("release 7 of price is held at 5 %: it waits for a person: the deadline passed"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn watch_without_a_terminal_prints_a_line_per_change_and_no_escapes() {
    let canned = Canned::start().await;
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_hueshift"))
        .args(["watch", "price"])
        .env("HUESHIFT_STATE", canned.state.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap()
    };
    let first = next().await;
    assert!(first.ends_with("price · release 7 · Progressing 1/3 · 5 % to green · errors 0.56 % vs 0.5 % · continue · waits for evidence: about 40 more candidate sessions"), "{first}");
    canned.change(|view| view.services[0].paused = true);
    let second = next().await;
    assert!(second.contains("Progressing 1/3, paused") && !second.contains('\x1b'), "{second}");
}

#[tokio::test]
async fn a_document_is_told_wrong_with_exit_code_2_and_right_with_its_ramp() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    let good = "apiVersion: hueshift.dev/v1alpha1\nkind: BlueGreen\nmetadata: {name: fresh}\nspec:\n  listen: 127.0.0.1:8080\n  colors:\n    blue: {endpoints: [\"127.0.0.1:9001\"], revision: v1}\n    green: {endpoints: [\"127.0.0.1:9002\"], revision: v2}\n  session: {keys: [{header: x-session-id}]}\n";
    std::fs::write(&file, good.replace("listen", "lisen")).unwrap();
    let path = file.display().to_string();
    let output = hueshift(folder.path(), &["lint", &path]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        format!(
            "{path}:5:3: spec.listen: is missing; add `listen: 127.0.0.1:8080` (one machine) or `service: my-model` (a mesh)\n{path}:5:3: spec.lisen: is not a known field; did you mean `listen`?\n"
        )
    );
    std::fs::write(&file, good).unwrap();
    let output = hueshift(folder.path(), &["lint", &path, "--requests-per-second", "200"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("        STEP  SHARE  SESSIONS  TIME"), "{}", out(&output));
    let output = hueshift(folder.path(), &["lint", "/no/such.yaml"]).await;
    assert_eq!(
        (output.status.code(), err(&output).as_str()),
        (Some(2), "error: cannot read /no/such.yaml: No such file or directory (os error 2)\n")
    );
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let output = tokio::process::Command::new("sh")
        .args([
            "-c",
            "{ \"$0\" completions bash; echo \"code $?\" >&2; } | head -n 1",
            env!("CARGO_BIN_EXE_hueshift"),
        ])
        .output()
        .await
        .unwrap();
    assert_eq!(err(&output), "code 0\n");
}

#[tokio::test]
async fn history_outlives_the_controller() {
    let canned = Canned::start().await;
    let record = canned.shared.view.lock().unwrap().services[1].history[1].clone();
    let folder = canned.state.path().join("history/chat");
    std::fs::create_dir_all(&folder).unwrap();
    let versioned = hueshift::home::Versioned { version: 1, value: record.clone() };
    std::fs::write(folder.join("0000000003.json"), serde_json::to_vec(&versioned).unwrap()).unwrap();
    std::fs::write(folder.join("0000000004.json"), "torn").unwrap();
    std::fs::remove_file(canned.state.path().join(control::SOCKET)).unwrap();
    let output = canned.run(&["history", "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(0));
    let read: Vec<hueshift::view::ReleaseRecord> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read, [record]);
    assert!(err(&output).contains("0000000004.json cannot be read"), "{}", err(&output));
    assert!(out(&canned.run(&["history", "price"]).await).contains("no release has ended yet"));
}

#[tokio::test]
async fn up_tells_a_wrong_document_like_lint_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    std::fs::write(&file, "apiVersion: hueshift.dev/v1alpha1\nkind: BlueGreen\n").unwrap();
    let path = file.display().to_string();
    let expected = format!(
        "{path}:1:1: metadata: is missing; add `metadata: {{name: my-model}}`\n{path}:1:1: spec: is missing; add `spec: {{…}}`\n"
    );
    for verb in ["up", "lint"] {
        let output = hueshift(folder.path(), &[verb, &path]).await;
        assert_eq!((output.status.code(), err(&output)), (Some(2), expected.clone()), "{verb}");
    }
    let output = hueshift(folder.path(), &["up", "/no/such.yaml"]).await;
    let missing = "error: cannot read /no/such.yaml: No such file or directory (os error 2)\n";
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), missing));
}
