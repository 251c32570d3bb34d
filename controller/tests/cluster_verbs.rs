//! The verbs against a cluster, as a shell sees them: the real program, a canned API server, and behind it a canned
//! controller or none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hueshift::mesh::names::{NAMESPACE, ORDER_ANNOTATION, status_proxy_path};
use hueshift::view::View;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const BLUEGREENS: &str = "/apis/hueshift.dev/v1alpha1/namespaces/shop/bluegreens";

/// What the API server knows, and how its controller answers.
struct Canned {
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Answer of the controller's status by the service proxy.
    live: Mutex<Option<Result<View, u16>>>,
    /// Objects by path.
    objects: Mutex<BTreeMap<String, Value>>,
    /// What the controller says to an order; none: nothing.
    answer: Mutex<Option<(bool, &'static str)>>,
    /// What the objects become once they were looked at this often.
    later: Mutex<(u32, BTreeMap<String, Value>)>,
    /// Orders that were written, oldest first.
    orders: Mutex<Vec<Value>>,
}

impl Canned {
    async fn start() -> Canned {
        let mut view: View = serde_json::from_str(include_str!("views/two-services.json")).unwrap();
        view.services[0].name = "shop/price".into();
        view.services[1].name = "labs/chat".into();
        let record = view.services[1].history[1].clone();
        let shared = Arc::new(Shared::default());
        *shared.live.lock().unwrap() = Some(Ok(view));
        shared.objects.lock().unwrap().extend([
            (format!("{BLUEGREENS}/price"), blue_green()),
            (BLUEGREENS.to_owned(), list("BlueGreenList", &[blue_green()])),
            (
                BLUEGREENS.replace("bluegreens", "releases"),
                list("ReleaseList", &[release(&serde_json::to_value(record).unwrap())]),
            ),
        ]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(serve).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
                {"name": "labs", "context": {"cluster": "c", "user": "u", "namespace": "labs"}},
            ],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        symlink(env!("CARGO_BIN_EXE_hueshift"), folder.path().join("kubectl-hueshift")).unwrap();
        Canned { folder, shared }
    }

    fn answers(&self, live: Result<View, u16>) {
        *self.shared.live.lock().unwrap() = Some(live);
    }

    /// As `kubectl hueshift …` starts it.
    async fn kubectl(&self, args: &[&str]) -> Output {
        run(self.folder.path().join("kubectl-hueshift"), &self.folder, args).await
    }

    async fn hueshift(&self, args: &[&str]) -> Output {
        run(env!("CARGO_BIN_EXE_hueshift").into(), &self.folder, args).await
    }
}

async fn run(program: PathBuf, folder: &TempDir, args: &[&str]) -> Output {
    let run = tokio::process::Command::new(program)
        .args(args)
        .current_dir(folder.path())
        .env("KUBECONFIG", folder.path().join("kubeconfig"))
        .env_remove("HUESHIFT_STATE")
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("the verb ends").unwrap()
}

fn blue_green() -> Value {
    json!({
        "apiVersion": "hueshift.dev/v1alpha1", "kind": "BlueGreen",
        "metadata": {"name": "price", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"service": "price", "colors": {"blue": {}, "green": {}}},
        "status": {"phase": "Progressing", "liveColor": "blue", "share": "5%", "release": 7,
                   "verdict": "continue", "waitingOn": [{"reason": "evidence", "text": "evidence"}]},
    })
}

fn release(record: &Value) -> Value {
    json!({
        "apiVersion": "hueshift.dev/v1alpha1", "kind": "Release",
        "metadata": {"name": "price-3", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"blueGreen": "price", "number": 3, "candidate": "green", "revision": "m8", "stableRevision": "m7"},
        "status": {"outcome": "rolled-back", "record": record},
    })
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "hueshift.dev/v1alpha1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items})
}

fn refused(code: u16, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
                        "reason": "Refused", "code": code, "metadata": {}});
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

async fn serve(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path();
    if path == status_proxy_path(NAMESPACE) {
        return match shared.live.lock().unwrap().clone().unwrap() {
            Ok(view) => Json(view).into_response(),
            Err(code) => refused(code, "no endpoints available"),
        };
    }
    let mut objects = shared.objects.lock().unwrap();
    if path == BLUEGREENS {
        let mut later = shared.later.lock().unwrap();
        match later.0.checked_sub(1) {
            Some(left) => later.0 = left,
            None => objects.append(&mut later.1),
        }
    }
    let Some(object) = objects.get_mut(path) else { return refused(404, "not found") };
    if method == Method::PATCH {
        let patch: Value = serde_json::from_slice(&body).unwrap();
        if patch.is_array() {
            json_patch::patch(object, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).unwrap();
        } else {
            json_patch::merge(object, &patch);
            let order = object["metadata"]["annotations"][ORDER_ANNOTATION].as_str().unwrap();
            let order: Value = serde_json::from_str(order).unwrap();
            if let Some((accepted, text)) = *shared.answer.lock().unwrap() {
                object["status"]["order"] = json!({"id": order["id"], "accepted": accepted, "text": text});
            }
            shared.orders.lock().unwrap().push(order);
        }
    }
    Json(object.clone()).into_response()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_cluster_is_asked_as_kubectls_plugin_or_with_one_of_its_flags_and_shows_the_namespace_that_is_meant()
 {
    let canned = Canned::start().await;
    let services = async |plugin: bool, args: &[&str]| {
        let args: Vec<&str> = ["status", "-o", "json"].iter().chain(args).copied().collect();
        let output = if plugin { canned.kubectl(&args).await } else { canned.hueshift(&args).await };
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        let view: View = serde_json::from_slice(&output.stdout).unwrap();
        view.services.into_iter().map(|service| service.name).collect::<Vec<_>>()
    };
    assert_eq!(services(true, &[]).await, ["shop/price"]);
    assert_eq!(services(false, &["-n", "labs"]).await, ["labs/chat"]);
    assert_eq!(services(false, &["--context", "labs"]).await, ["labs/chat"]);
    assert_eq!(services(true, &["-A"]).await, ["shop/price", "labs/chat"]);
    assert_eq!(services(true, &["labs/chat"]).await, ["labs/chat"]);
    assert_eq!(services(true, &["-A", "chat"]).await, ["labs/chat"]);
    let kubeconfig = canned.folder.path().join("kubeconfig");
    assert_eq!(services(false, &["--kubeconfig", kubeconfig.to_str().unwrap()]).await, ["shop/price"]);
    // Without any of them it is the folder, as ever.
    let output = canned.hueshift(&["status"]).await;
    assert!(err(&output).starts_with("error: no controller is running for .hueshift;"), "{}", err(&output));
    let output = canned.hueshift(&["status", "--state", "x", "-n", "shop"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(out(&canned.kubectl(&["status", "--help"]).await).contains("Usage: kubectl hueshift status"));
}

#[tokio::test]
async fn orders_are_written_once_each_and_answered_in_one_line() {
    let canned = Canned::start().await;
    *canned.shared.answer.lock().unwrap() = Some((true, "goes on to 25 %"));
    for (args, verb, force) in [
        (vec!["release", "price", "--force"], "release", true),
        (vec!["promote"], "promote", false),
        (vec!["pause", "shop/price"], "pause", false),
        (vec!["resume", "price"], "resume", false),
        (vec!["abort", "price"], "abort", false),
    ] {
        let output = canned.kubectl(&args).await;
        assert_eq!(
            (output.status.code(), out(&output).as_str()),
            (Some(0), "shop/price: goes on to 25 %\n"),
            "{}",
            err(&output)
        );
        let orders = std::mem::take(&mut *canned.shared.orders.lock().unwrap());
        assert_eq!((orders.len(), &orders[0]["verb"]), (1, &json!(verb)));
        assert_eq!(orders[0]["force"] == true, force);
        assert_eq!(orders[0]["id"].as_str().unwrap().len(), 16);
    }
    *canned.shared.answer.lock().unwrap() =
        Some((false, "no release is open; start one with `hueshift release`"));
    let output = canned.kubectl(&["promote", "price"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "error: no release is open; start one with `hueshift release`\n");
}

#[tokio::test]
async fn an_order_that_nobody_answers_stands_if_it_stops_a_release_and_else_is_taken_back() {
    let canned = Canned::start().await;
    let (abort, promote) = tokio::join!(canned.kubectl(&["abort", "price"]), async {
        let other = Canned::start().await;
        let output = other.kubectl(&["promote", "price"]).await;
        let objects = other.shared.objects.lock().unwrap();
        let annotations = objects[&format!("{BLUEGREENS}/price")]["metadata"]["annotations"].clone();
        (output, annotations)
    });
    assert_eq!(abort.status.code(), Some(1));
    assert!(err(&abort).contains("the order stands and is carried out when it is back"), "{}", err(&abort));
    assert!(err(&abort).contains("annotate bluegreen price hueshift.dev/order-"), "{}", err(&abort));
    let objects = canned.shared.objects.lock().unwrap();
    assert!(objects[&format!("{BLUEGREENS}/price")]["metadata"]["annotations"][ORDER_ANNOTATION].is_string());
    let (promote, annotations) = promote;
    assert!(err(&promote).contains("within 20 s, so the order was taken back"), "{}", err(&promote));
    assert_eq!(annotations, json!({}));
}

#[tokio::test]
async fn without_the_controller_or_the_right_to_ask_it_the_objects_are_told() {
    let canned = Canned::start().await;
    for (code, why) in [
        (503, "the controller in hueshift-system does not answer: no endpoints available"),
        (403, "you may not read the live status: ask for the Role hueshift-live-view in hueshift-system"),
    ] {
        canned.answers(Err(code));
        let output = canned.kubectl(&["status"]).await;
        let page = out(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(page.contains(why), "{page}");
        assert!(page.contains("shop/price Progressing 5 % blue ? green ?"), "{page}");
        assert!(page.ends_with("from the objects in the cluster"), "{page}");
        let page = out(&canned.kubectl(&["explain"]).await);
        assert!(page.contains("waits for   evidence") && !page.contains("nothing is judged"), "{page}");
    }
    let history: Value =
        serde_json::from_slice(&canned.kubectl(&["history", "price", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(
        (history[0]["service"].as_str(), history[0]["release"].as_u64()),
        (Some("shop/price"), Some(3))
    );
}

#[tokio::test]
async fn the_exit_code_of_a_wait_tells_how_the_release_ended_also_by_the_objects_alone() {
    let canned = Canned::start().await;
    canned.answers(Err(403));
    let releases = BLUEGREENS.replace("bluegreens", "releases");
    let mut record = canned.shared.objects.lock().unwrap()[&releases]["items"][0]["status"]["record"].clone();
    record["release"] = json!(7);
    let mut idle = blue_green();
    idle["status"]["phase"] = json!("Idle");
    *canned.shared.later.lock().unwrap() = (
        3,
        BTreeMap::from([
            (releases, list("ReleaseList", &[release(&record)])),
            (BLUEGREENS.to_owned(), list("BlueGreenList", &[idle])),
        ]),
    );
    let output = canned.kubectl(&["status", "price", "--wait"]).await;
    assert!(
        err(&output).starts_with("release 7 of shop/price: Progressing, 5 % to green\n"),
        "{}",
        err(&output)
    );
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
}

#[tokio::test]
async fn what_is_wrong_with_the_way_there_is_told_with_its_remedy() {
    let canned = Canned::start().await;
    let sentence = async |args: &[&str]| {
        let output = canned.kubectl(args).await;
        (output.status.code(), err(&output))
    };
    let (code, told) = sentence(&["status", "--context", "nowhere"]).await;
    assert_eq!(code, Some(2));
    assert!(told.contains("nowhere") && told.contains("--kubeconfig FILE"), "{told}");
    let (code, told) = sentence(&["promote", "prize"]).await;
    assert_eq!(code, Some(2));
    assert!(told.contains("there is no BlueGreen shop/prize; see `kubectl get bluegreens -A`"), "{told}");
    canned.answers(Err(404));
    canned.shared.objects.lock().unwrap().clear();
    let (code, told) = sentence(&["status"]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("knows no BlueGreens; install Hueshift"), "{told}");
    let dead = std::fs::read_to_string(canned.folder.path().join("kubeconfig")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server: Value = serde_json::from_str(&dead).unwrap();
    let server = server["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let dead = dead.replace(&server, &format!("http://127.0.0.1:{port}"));
    std::fs::write(canned.folder.path().join("kubeconfig"), dead).unwrap();
    let (code, told) = sentence(&["status"]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("does not answer: Connection refused"), "{told}");
}
