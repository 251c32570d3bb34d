//! The cluster of the tests itself: what the tests against it take for granted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift_core::color::{Color, PerColor};
use hueshift_tests::clock::{now_ns, wait_for};
use hueshift_tests::cluster::api::User;
use hueshift_tests::cluster::shop::{SERVICE, Setup, Shop};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::tests;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let guest = User { name: "guest".to_owned(), groups: vec!["guests".to_owned()] };
    let parts = Parts { users: vec![guest], mesh: true, ..Parts::default() };
    suite::main(
        parts,
        tests![
            a_user_without_a_role_may_nothing,
            a_user_may_what_her_role_says,
            a_weight_written_by_hand_reaches_traffic_and_costs_no_request,
            a_container_that_ends_is_started_again,
        ],
    )
}

async fn a_user_without_a_role_may_nothing(cluster: Arc<Cluster>) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_of("guest").await, "default");
    let refused = maps.list(&Default::default()).await.unwrap_err().to_string();
    assert!(refused.contains("forbidden") && refused.contains("guest"), "{refused}");
}

async fn a_user_may_what_her_role_says(cluster: Arc<Cluster>) {
    cluster.kubectl(&["create", "namespace", "rbac"]);
    cluster.kubectl(&["-n", "rbac", "create", "role", "reader", "--verb=list", "--resource=configmaps"]);
    cluster.kubectl(&["-n", "rbac", "create", "rolebinding", "reader", "--role=reader", "--group=guests"]);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_of("guest").await, "rbac");
    // Rights are in force once the API server's own watch has brought them.
    wait_for("the role to be in force", Duration::from_secs(20), async || {
        maps.list(&Default::default()).await.ok()
    })
    .await;
    let refused = maps.delete("anything", &Default::default()).await.unwrap_err().to_string();
    assert!(refused.contains("cannot delete"), "{refused}");
}

async fn a_weight_written_by_hand_reaches_traffic_and_costs_no_request(cluster: Arc<Cluster>) {
    let replicas = PerColor { blue: 2, green: 1 };
    let setup = Setup { replicas, gateways: 2, ..Setup::default() };
    let mut shop = Shop::open(&cluster, "by-hand", setup).await;
    let host = format!("{SERVICE}.by-hand.svc.cluster.local");
    let subset = |name: &str| json!({"name": name, "labels": {"color": name}});
    cluster.apply(
        &json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": SERVICE, "namespace": "by-hand"},
            "spec": {"host": host, "subsets": [subset("blue"), subset("green")]},
        })
        .to_string(),
    );
    let clusters = Color::BOTH.map(|color| format!("outbound|8080|{color}|{host}"));
    for proxy in &shop.proxies {
        proxy.wait_clusters(&clusters).await;
    }
    let to = |name: &str| json!([{"destination": {"host": host, "subset": name, "port": {"number": 8080}}}]);
    let write = async |color: Color| {
        let patch = json!([{"op": "replace", "path": "/spec/http/0/route", "value": to(color.as_str())}]);
        let patch = Patch::<()>::Json(serde_json::from_value(patch).unwrap());
        shop.virtual_services().patch(SERVICE, &PatchParams::default(), &patch).await.unwrap();
        let written = now_ns();
        shop.wait_quiet(color.other(), Duration::from_millis(500), Duration::from_secs(30)).await;
        written
    };
    let mut two = shop.load(50, 100.0);
    two.http2 = true;
    let (one, two) = (shop.load(50, 100.0).start(), two.start());
    for color in [Color::Green, Color::Blue] {
        let written = write(color).await;
        let last = shop.served_by(color.other()).last().unwrap().at;
        println!(
            "{color} written → the other's last request: {} ms",
            last.saturating_sub(written) / 1_000_000
        );
    }
    let log = [one.stop().await, two.stop().await].concat();
    let findings = shop.findings(&log);
    assert!(log.len() > 100);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    // Ten of the gateway's own readiness per replica come on top.
    assert!(shop.served().len() >= log.len(), "what was answered stands in a model's log");
    for proxy in &mut shop.proxies {
        proxy.assert_well().await;
        let answers = proxy.stats("http.outbound").await;
        let some = answers.lines().any(|line| line.contains("downstream_rq_2xx") && !line.ends_with(": 0"));
        assert!(some, "each replica takes part: {answers}");
    }
}

async fn a_container_that_ends_is_started_again(cluster: Arc<Cluster>) {
    let shop = Shop::open(&cluster, "restarts", Setup::default()).await;
    let (pod, _) = shop.pods(Color::Blue).await.remove(0);
    let kubelet = cluster.kubelet.as_ref().unwrap();
    let before = kubelet.processes("restarts", &pod);
    hueshift_tests::process::signal(before[0], rustix::process::Signal::KILL);
    let pods: Api<Pod> = shop.api();
    wait_for("a restarted container", Duration::from_secs(20), async || {
        let status = pods.get(&pod).await.ok()?.status?.container_statuses?.remove(0);
        (status.restart_count == 1 && status.ready).then_some(())
    })
    .await;
    assert_ne!(kubelet.processes("restarts", &pod), before);
    shop.scale(Color::Blue, 0).await;
    wait_for("the pod's process to end", Duration::from_secs(20), async || {
        kubelet.processes("restarts", &pod).is_empty().then_some(())
    })
    .await;
}
