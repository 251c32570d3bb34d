//! Installing as the manual says, against a real API server that enforces the rights: what is granted is enough, and
//! no more is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use http_body_util::Full;
use hueshift::view::View;
use hueshift_core::contract::{PluginConfig, REPORT_PATH};
use hueshift_tests::clock::wait_for;
use hueshift_tests::cluster::api::{ADMIN, User};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::http::ask_with;
use hueshift_tests::{programs, tests};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::time::Duration;

const CONTROLLER: &str = "--as=system:serviceaccount:hueshift-system:hueshift";
const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let tenant = User { name: "tenant".to_owned(), groups: vec!["tenants".to_owned()] };
    let parts = Parts { users: vec![tenant], mesh: true, ..Parts::default() };
    suite::main(
        parts,
        tests![
            every_overlay_applies_and_nothing_is_left_of_it_after_its_deletion,
            the_controller_may_write_only_where_somebody_let_it,
            a_report_is_taken_from_whoever_may_speak_for_its_proxy,
            a_namespace_that_opts_in_gets_its_plugin_and_loses_it_when_it_opts_out,
            verbs_reach_the_controller_through_the_api_server_or_tell_what_the_objects_say,
        ],
    )
}

fn istio(what: &str) -> String {
    programs::root().join("istio").join(what).display().to_string()
}

/// The demo overlay, with the module of this build.
fn install(cluster: &Cluster) {
    let folder = cluster.folder().join("demo");
    std::fs::create_dir_all(&folder).unwrap();
    let module = format!("file://{}", programs::filter().display());
    let patch = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "hueshift", "namespace": "hueshift-system"},
        "spec": {"template": {"spec": {"containers": [
            {"name": "hueshift", "env": [{"name": "HUESHIFT_PLUGIN_URL", "value": module}]},
        ]}}},
    });
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [relative(&folder, &programs::root().join("istio/overlays/demo"))],
        "patches": [{"patch": patch.to_string()}],
    });
    std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    cluster.kubectl(&["apply", "--server-side", "-k", &folder.display().to_string()]);
    cluster.kubectl(&["-n", "hueshift-system", "rollout", "status", "deployment/hueshift", "--timeout=180s"]);
}

/// Deletes what an overlay brought, once all of it has begun to work.
///
/// A kind that is deleted while the API server still fills its first cache of it can stay: the server's cleanup fails
/// once, tries again with what it read before, takes the conflict for somebody else's change and forgets about it
/// until its next full pass, five minutes later (kubernetes v1.36, `crd_finalizer.go`). A list fills that cache; the
/// deadline outlasts the pass.
fn uninstall(cluster: &Cluster, folder: &str) {
    for kind in ["bluegreens", "releases", "releasepolicies"] {
        let name = format!("crd/{kind}.hueshift.dev");
        cluster.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=180s"]);
        cluster.kubectl(&["get", &format!("{kind}.hueshift.dev"), "-A"]);
    }
    cluster.kubectl(&["delete", "-k", folder, "--timeout=400s"]);
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to) = (from.canonicalize().unwrap(), to.canonicalize().unwrap());
    let up = from.components().skip(1).map(|_| Path::new(".."));
    up.chain(to.components().skip(1).map(|part| Path::new(part.as_os_str()))).collect()
}

/// A namespace; `let_in` by the overlay that lets the controller write.
fn namespace(cluster: &Cluster, name: &str, let_in: bool) {
    cluster.kubectl(&["create", "namespace", name]);
    if let_in {
        cluster.kubectl(&["apply", "--namespace", name, "-k", &istio("overlays/namespace")]);
    }
    cluster.kubectl(&["label", "namespace", name, "hueshift.dev/enabled=true"]);
}

fn get(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let words = ["-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json"];
    serde_json::from_str(&cluster.kubectl(&words)).ok()
}

fn controller_log(cluster: &Cluster) -> String {
    let pods = std::fs::read_dir(cluster.folder().join("pods")).unwrap().flatten();
    pods.filter(|entry| entry.file_name().to_string_lossy().starts_with("hueshift-system"))
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default())
        .collect()
}

fn hueshift(cluster: &Cluster, user: &str, words: &[&str]) -> Output {
    Command::new(programs::hueshift())
        .args(words)
        .env("KUBECONFIG", cluster.kubeconfig(user))
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn every_overlay_applies_and_nothing_is_left_of_it_after_its_deletion(cluster: Arc<Cluster>) {
    for overlay in ["base", "overlays/mesh-wide", "overlays/gateway", "overlays/demo"] {
        let folder = istio(overlay);
        // Neither a field that the API server does not know nor one that it corrects.
        cluster.kubectl(&["apply", "--server-side", "--validate=strict", "-k", &folder]);
        uninstall(&cluster, &folder);
        let left = cluster.kubectl(&[
            "get",
            "crd,clusterrole,clusterrolebinding,namespace,wasmplugin,rolebinding",
            "-A",
            "-o",
            "name",
        ]);
        assert!(!left.contains("hueshift"), "{overlay}: {left}");
    }
}

async fn the_controller_may_write_only_where_somebody_let_it(cluster: Arc<Cluster>) {
    cluster.kubectl(&["apply", "--server-side", "-k", &istio("overlays/gateway")]);
    cluster.kubectl(&["create", "namespace", "mine"]);
    cluster.kubectl(&["apply", "--namespace", "mine", "-k", &istio("overlays/namespace")]);
    let may = |namespace: &str, verb: &str, what: &str| {
        let words = ["auth", "can-i", verb, what, "-n", namespace, CONTROLLER];
        cluster.try_kubectl(ADMIN, &words, "").status.success()
    };
    for (verb, what) in [
        ("patch", "virtualservices.networking.istio.io"),
        ("create", "destinationrules.networking.istio.io"),
        ("delete", "wasmplugins.extensions.istio.io"),
        ("create", "releases.hueshift.dev"),
        ("create", "events.events.k8s.io"),
    ] {
        let right = format!("{verb} {what} in its own");
        wait_for(&right, SOON, async || may("mine", verb, what).then_some(())).await;
        assert!(!may("default", verb, what), "{verb} {what} elsewhere");
    }
    wait_for("its plugin in the root namespace", SOON, async || {
        may("istio-system", "patch", "wasmplugins.extensions.istio.io/hueshift").then_some(())
    })
    .await;
    for (namespace, verb, what) in [
        ("istio-system", "patch", "wasmplugins.extensions.istio.io/another"),
        ("istio-system", "delete", "wasmplugins.extensions.istio.io/hueshift"),
        ("hueshift-system", "get", "secrets/another"),
        ("hueshift-system", "list", "secrets"),
        ("mine", "get", "secrets"),
        ("mine", "delete", "virtualservices.networking.istio.io"),
        ("mine", "patch", "deployments.apps"),
        ("mine", "create", "pods"),
        ("mine", "create", "rolebindings.rbac.authorization.k8s.io"),
    ] {
        assert!(!may(namespace, verb, what), "{verb} {what} in {namespace}");
    }
    // What adds itself to `edit` and `view`: who may edit a namespace may give orders in it, who may view it may not.
    cluster.kubectl(&[
        "-n",
        "mine",
        "create",
        "rolebinding",
        "e",
        "--clusterrole=hueshift-edit",
        "--user=editor",
    ]);
    cluster.kubectl(&[
        "-n",
        "mine",
        "create",
        "rolebinding",
        "v",
        "--clusterrole=hueshift-view",
        "--user=viewer",
    ]);
    let as_user = |user: &str, verb: &str| {
        let user = format!("--as={user}");
        let words = ["auth", "can-i", verb, "bluegreens.hueshift.dev", "-n", "mine", &user];
        cluster.try_kubectl(ADMIN, &words, "").status.success()
    };
    wait_for("the bindings are in force", SOON, async || as_user("editor", "patch").then_some(())).await;
    wait_for("the bindings are in force", SOON, async || as_user("viewer", "list").then_some(())).await;
    assert!(!as_user("viewer", "patch"));
}

/// Goes on with what the test before installed. There is no mTLS here, so the header is what Istio's proxy would write.
async fn a_report_is_taken_from_whoever_may_speak_for_its_proxy(cluster: Arc<Cluster>) {
    cluster.kubectl(&["apply", "--server-side", "-k", &istio("overlays/gateway")]);
    cluster.kubectl(&["-n", "hueshift-system", "rollout", "status", "deployment/hueshift", "--timeout=180s"]);
    let pods = cluster.kubectl(&["-n", "hueshift-system", "get", "pods", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pod =
        pods["items"].as_array().unwrap().iter().find(|pod| pod["status"]["podIP"].is_string()).unwrap();
    let (name, ip) = (pod["metadata"]["name"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
    let address = format!("{ip}:9080").parse().unwrap();
    let report = async |by: Option<(&str, &str)>, of: &str| {
        let body = json!({"proxy": format!("router~10.0.0.1~{of}~svc.cluster.local"), "incarnation": 1, "vm": 1, "seq": 1});
        let mut request = Request::post(REPORT_PATH).header("host", "localhost");
        if let Some((namespace, account)) = by {
            let proven = format!("By=x;Hash=y;URI=spiffe://cluster.local/ns/{namespace}/sa/{account}");
            request = request.header("x-forwarded-client-cert", proven);
        }
        ask_with(address, request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await.unwrap()
    };
    let own = format!("{name}.hueshift-system");
    let (status, text) = report(None, &own).await;
    assert_eq!(status, 403, "{text}");
    let (status, text) = report(Some(("elsewhere", "hueshift")), &own).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("may not report for a proxy in namespace hueshift-system"), "{text}");
    let (status, text) = report(Some(("hueshift-system", "hueshift")), "invented.hueshift-system").await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("pod hueshift-system/invented, which does not exist"), "{text}");
    let (status, text) = report(Some(("hueshift-system", "default")), &own).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("which runs as hueshift"), "{text}");
    let (status, text) = report(Some(("hueshift-system", "hueshift")), &own).await;
    assert_eq!(status, 200, "{text}");
    uninstall(&cluster, &istio("overlays/gateway"));
}

async fn a_namespace_that_opts_in_gets_its_plugin_and_loses_it_when_it_opts_out(cluster: Arc<Cluster>) {
    install(&cluster);
    namespace(&cluster, "open", true);
    let plugin =
        wait_for("the namespace's plugin", SOON, async || get(&cluster, "open", "wasmplugin", "hueshift"))
            .await;
    let config: PluginConfig = serde_json::from_value(plugin["spec"]["pluginConfig"].clone()).unwrap();
    assert_eq!(config.cluster, "outbound|9080||hueshift-reports.hueshift-system.svc.cluster.local");
    let secret = get(&cluster, "hueshift-system", "secret", "hueshift-mesh-keys").unwrap();
    assert_eq!(secret["data"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1"]);
    assert_eq!((config.keys.len(), config.keys[0].version, config.keys[0].hex.len()), (1, 1, 64));

    // Where nobody let it write it says what is missing.
    namespace(&cluster, "closed", false);
    wait_for("a sentence about rights", SOON, async || {
        controller_log(&cluster).contains("may not write WasmPlugin closed/hueshift").then_some(())
    })
    .await;

    // Somebody takes the key away: it is put back, and what is theirs stays.
    let edit = json!({"spec": {"priority": 7, "pluginConfig": {"keys": []}}}).to_string();
    cluster.kubectl(&["-n", "open", "patch", "wasmplugin", "hueshift", "--type=merge", "-p", &edit]);
    let repaired = wait_for("the key is back", SOON, async || {
        let plugin = get(&cluster, "open", "wasmplugin", "hueshift")?;
        (plugin["spec"]["pluginConfig"]["keys"][0]["hex"] == config.keys[0].hex.as_str()).then_some(plugin)
    })
    .await;
    assert_eq!(repaired["spec"]["priority"], 7);

    // A mesh-wide one comes: it gets the keys first, and then the namespace's own goes.
    cluster.apply(
        &json!({
            "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
            "metadata": {"name": "hueshift", "namespace": "istio-system", "labels": {"hueshift.dev/plugin": "true"}},
            "spec": {"url": "file:///nowhere", "pluginName": "hueshift", "match": [{"mode": "CLIENT"}]},
        })
        .to_string(),
    );
    wait_for("a sentence about the other's rights", SOON, async || {
        controller_log(&cluster).contains("may not write WasmPlugin istio-system/hueshift").then_some(())
    })
    .await;
    assert!(get(&cluster, "open", "wasmplugin", "hueshift").is_some(), "it has no keys yet");
    cluster.kubectl(&[
        "-n",
        "istio-system",
        "create",
        "rolebinding",
        "hueshift-plugin",
        "--clusterrole=hueshift-plugin",
        "--serviceaccount=hueshift-system:hueshift",
    ]);
    wait_for("the namespace's own goes", SOON, async || {
        get(&cluster, "open", "wasmplugin", "hueshift").is_none().then_some(())
    })
    .await;
    let wide = get(&cluster, "istio-system", "wasmplugin", "hueshift").unwrap();
    assert_eq!(wide["spec"]["pluginConfig"]["keys"][0]["hex"], config.keys[0].hex.as_str());
    assert_eq!(wide["spec"]["url"], "file:///nowhere");
    cluster.kubectl(&["-n", "istio-system", "delete", "wasmplugin", "hueshift"]);
    wait_for("the namespace's own comes back", SOON, async || {
        get(&cluster, "open", "wasmplugin", "hueshift")
    })
    .await;

    cluster.kubectl(&["label", "namespace", "open", "hueshift.dev/enabled-"]);
    wait_for("the plugin goes", SOON, async || {
        get(&cluster, "open", "wasmplugin", "hueshift").is_none().then_some(())
    })
    .await;
}

async fn verbs_reach_the_controller_through_the_api_server_or_tell_what_the_objects_say(
    cluster: Arc<Cluster>,
) {
    install(&cluster);
    namespace(&cluster, "shop", true);
    cluster.kubectl(&["apply", "--namespace", "shop", "-k", &istio("examples/pricing")]);
    let live = wait_for("the service is seen", SOON, async || {
        let output = hueshift(&cluster, ADMIN, &["status", "-n", "shop", "-o", "json"]);
        let view: View = serde_json::from_slice(&output.stdout).ok()?;
        (view.live() && !view.services.is_empty()).then_some(view)
    })
    .await;
    assert_eq!(live.services[0].name, "shop/pricing");

    // Orders are answered between two writes, and the first routes wait for istiod's longest debounce.
    cluster.kubectl(&["-n", "shop", "wait", "--for=condition=Ready", "bluegreen/pricing", "--timeout=180s"]);
    // An order that makes no sense now is declined by the controller, in its words.
    let output = hueshift(&cluster, ADMIN, &["promote", "pricing", "-n", "shop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: no release is open"), "{}", text(&output.stderr));

    // Who may see the objects but not the live status.
    cluster.kubectl(&[
        "-n",
        "shop",
        "create",
        "rolebinding",
        "view",
        "--clusterrole=hueshift-view",
        "--group=tenants",
    ]);
    wait_for("the tenant may read", SOON, async || {
        let output = hueshift(&cluster, "tenant", &["status", "-n", "shop"]);
        text(&output.stdout).contains("shop/pricing").then_some(text(&output.stdout))
    })
    .await;
    let page = text(&hueshift(&cluster, "tenant", &["status", "-n", "shop"]).stdout);
    assert!(page.contains("ask for the Role hueshift-live-view"), "{page}");
    let output = hueshift(&cluster, "tenant", &["abort", "pricing", "-n", "shop"]);
    assert!(text(&output.stderr).contains("cannot patch resource"), "{}", text(&output.stderr));

    // The controller goes away.
    cluster.kubectl(&["-n", "hueshift-system", "scale", "deployment/hueshift", "--replicas=0"]);
    wait_for("the objects are told", SOON, async || {
        let page = text(&hueshift(&cluster, ADMIN, &["status", "-n", "shop"]).stdout);
        (page.contains("does not answer") && page.contains("shop/pricing")).then_some(())
    })
    .await;
}
