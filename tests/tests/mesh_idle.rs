//! A controller with nothing to do asks nothing: while all services are at rest, the API server's own audit log has
//! its lease and its watches and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::api::BlueGreen;
use hueshift::mesh::names;
use hueshift::view::View;
use hueshift_tests::clock::wait_for;
use hueshift_tests::cluster::install::{Where, install, is, log_tail};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::{programs, tests};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Services in one namespace.
const PER_NAMESPACE: usize = 10;
/// Nothing is at rest before this long without a call of another kind: statuses that only count are written seldom.
const REST: Duration = Duration::from_secs(12);

fn main() -> ExitCode {
    let parts = Parts { mesh: true, ..Parts::default() };
    suite::main(parts, tests![at_rest_nothing_is_asked_but_the_lease_and_the_watches])
}

async fn at_rest_nothing_is_asked_but_the_lease_and_the_watches(cluster: Arc<Cluster>) {
    let full = std::env::var_os("HUESHIFT_FULL").is_some();
    // The controller's watches last 60 s: each is opened anew in the window.
    let (services, window) =
        if full { (200, Duration::from_secs(300)) } else { (20, Duration::from_secs(65)) };
    install(&cluster, Where::Namespaces, &[]).await;
    for namespace in 0..services / PER_NAMESPACE {
        fill(&cluster, &format!("idle-{namespace}"));
    }
    let all: Api<BlueGreen> = Api::all(cluster.client.clone());
    wait_for("all services to be settled", Duration::from_secs(120), async || {
        let list = all.list(&ListParams::default()).await.ok()?;
        let ready =
            list.items.iter().filter_map(|one| one.status.as_ref()).filter(|status| is(status, "Ready"));
        (ready.count() == services).then_some(())
    })
    .await;
    let began = calls(&audit(&cluster, 0).await);
    let patched: usize =
        began.iter().filter(|(call, _)| call.starts_with("patch ")).map(|(_, count)| count).sum();
    assert!(patched >= services, "the audit log shows what the controller asks: {began:?}");

    let mut seen = (0, tokio::time::Instant::now());
    wait_for("the controller to come to rest", Duration::from_secs(120), async || {
        let other = others(&calls(&audit(&cluster, 0).await)).values().sum::<usize>();
        if other != seen.0 {
            seen = (other, tokio::time::Instant::now());
        }
        (seen.1.elapsed() >= REST).then_some(())
    })
    .await;

    let before = audit(&cluster, 0).await.len();
    let (memory, cpu) = process(&cluster);
    tokio::time::sleep(window).await;
    let during = calls(&audit(&cluster, before).await);
    let (memory_after, cpu_after) = process(&cluster);
    println!(
        "{services} services at rest for {} s: {during:?}; resident {memory} kB, afterwards {memory_after} kB; \
         {:.1} % of a core",
        window.as_secs(),
        (cpu_after - cpu) * 100.0 / window.as_secs_f64()
    );
    let other = others(&during);
    assert!(other.is_empty(), "at rest the controller asks {other:?}\n{}", log_tail(&cluster));
    let lease =
        during.iter().filter(|(call, _)| call.ends_with(" leases")).map(|(_, count)| count).sum::<usize>();
    assert!(lease >= 5, "the window was watched: {during:?}");
}

/// A namespace of services whose colors are told by labels and revisions: no pods, so that none of them is news.
fn fill(cluster: &Cluster, namespace: &str) {
    let labels = json!({names::ENABLED_LABEL: names::YES});
    let space =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    cluster.apply(&space.to_string());
    let overlay = programs::root().join("istio/overlays/namespace").display().to_string();
    cluster.kubectl(&["apply", "--namespace", namespace, "-k", &overlay]);
    let items: Vec<Value> =
        (0..PER_NAMESPACE).flat_map(|number| service(namespace, &format!("model-{number}"))).collect();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

fn service(namespace: &str, name: &str) -> [Value; 3] {
    let object = |api: &str, kind: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let color = |color: &str| json!({"labels": {"app": name, "color": color}, "revision": "v1"});
    let route = json!({"name": "primary", "route": [{"destination": {"host": name, "subset": "blue"}}]});
    [
        object("v1", "Service", json!({"ports": [{"name": "http", "port": 80}]})),
        object(
            "networking.istio.io/v1",
            "VirtualService",
            json!({"hosts": [format!("{name}.example")], "http": [route]}),
        ),
        object(
            "hueshift.dev/v1alpha1",
            "BlueGreen",
            json!({"service": name, "colors": {"blue": color("blue"), "green": color("green")}}),
        ),
    ]
}

/// The audit log's lines after the first `skip`: what the controller's account asked, by answer.
async fn audit(cluster: &Cluster, skip: usize) -> Vec<Value> {
    let log = cluster.api.lock().await.audit_log();
    let text = std::fs::read_to_string(log).unwrap();
    // The last line may still be in the making.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().skip(skip).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often each verb was asked of each resource.
fn calls(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for line in lines {
        let text = |path: &str| line.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
            (resource, _) if resource.is_empty() => text("/requestURI"),
            (resource, of) if of.is_empty() => resource,
            (resource, of) => format!("{resource}/{of}"),
        };
        *calls.entry(format!("{} {resource}", text("/verb"))).or_default() += 1;
    }
    calls
}

/// Those that are neither a watch nor about the lease.
fn others(calls: &BTreeMap<String, usize>) -> BTreeMap<&str, usize> {
    let is_other =
        |call: &str| !call.starts_with("watch ") && !matches!(call, "get leases" | "update leases");
    calls.iter().filter(|(call, _)| is_other(call)).map(|(call, count)| (call.as_str(), *count)).collect()
}

/// Resident memory in kB and processor time in seconds of the controller.
fn process(cluster: &Cluster) -> (u64, f64) {
    let view = cluster.kubectl(&["get", "--raw", &names::status_proxy_path(names::NAMESPACE)]);
    let view: View = serde_json::from_str(&view).unwrap();
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", view.pid)).unwrap_or_default();
    let (status, stat) = (file("status"), file("stat"));
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    // After the name, which ends with the last parenthesis: user and system time are fields 14 and 15, in 1/100 s.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum::<f64>();
    (resident, ticks / 100.0)
}
