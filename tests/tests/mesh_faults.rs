//! Releases in the mesh while a part of it is away, and on a VirtualService that uses everything Istio has: what was
//! promised holds all the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::view::End;
use hueshift_core::color::Color;
use hueshift_tests::clock::{between, now_ns, wait_for};
use hueshift_tests::cluster::churn::{self, Churn};
use hueshift_tests::cluster::gateway::Proxy;
use hueshift_tests::cluster::install::{Where, install};
use hueshift_tests::cluster::shop::{FOREIGN, SERVICE, Setup, Shop};
use hueshift_tests::cluster::{Cluster, Parts, audit, suite};
use hueshift_tests::model::{self, Faults};
use hueshift_tests::tests;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let parts = Parts { mesh: true, ..Parts::default() };
    suite::main(
        parts,
        tests![
            without_istiod_a_bad_revision_is_taken_off_all_the_same,
            without_the_api_server_it_is_taken_off_and_the_routes_follow_once_on_its_return,
            in_a_busy_mesh_adoption_costs_no_request,
            twelve_routes_are_as_before_after_a_rollback_and_differ_by_the_subset_after_a_promotion,
        ],
    )
}

/// Ten percent until something happens.
fn by_hand() -> Value {
    json!({"release": {"steps": [{"share": "10%", "minTime": "50m"}]}})
}

/// The same without the fuse inside Envoy: only the controller's replies can help.
fn by_replies() -> Value {
    let mut spec = by_hand();
    spec["analysis"] = json!({"fuse": {"enabled": false}});
    spec
}

/// All but what every write changes.
fn comparable(virtual_service: &Value) -> Value {
    let mut object = virtual_service.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields" | "generation"));
    object
}

/// How many requests a proxy took since then under the routes of a rollback.
fn under_the_rollback(shop: &Shop, since: u64) -> usize {
    let lines = shop.proxies.iter().flat_map(|proxy| proxy.access(since, now_ns()));
    lines.filter(|access| access.line.contains(".px.")).count()
}

async fn without_istiod_a_bad_revision_is_taken_off_all_the_same(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[]).await;
    let mut shop = Shop::open(&cluster, "no-istiod", Setup { gateways: 2, ..Setup::default() }).await;
    shop.adopt(&[], by_replies()).await;
    let running = shop.load(400, 200.0).start();
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;

    cluster.stop_istiod().await;
    let stopped = now_ns();
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    shop.wait_quiet(Color::Green, Duration::from_secs(2), Duration::from_secs(20)).await;
    let rescue = shop.rescue(Color::Green, "g2").expect("bad answers");
    println!("istiod away: first bad answer → last request {:?}, {} bad answers", rescue.time, rescue.bad);
    assert_eq!(under_the_rollback(&shop, stopped), 0, "no new routes came");
    wait_for("the rollback's routes, which nobody serves", Duration::from_secs(20), async || {
        let written = audit::route_writes(&cluster, &shop.namespace);
        written.iter().any(|call| call.done() && call.answered > rescue.first_bad).then_some(())
    })
    .await;

    cluster.start_istiod().await;
    let record = shop.wait_end(1, Duration::from_secs(60)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    shop.was_rolled_back();
    let findings = shop.findings(&running.stop().await);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
    for proxy in &mut shop.proxies {
        proxy.assert_well().await;
    }
}

async fn without_the_api_server_it_is_taken_off_and_the_routes_follow_once_on_its_return(
    cluster: Arc<Cluster>,
) {
    install(&cluster, Where::MeshWide, &[]).await;
    let mut shop = Shop::open(&cluster, "no-api", Setup { gateways: 2, ..Setup::default() }).await;
    shop.adopt(&[], by_replies()).await;
    let before = shop.virtual_service().await;
    let running = shop.load(400, 200.0).start();
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    let pods = shop.pods(Color::Green).await;

    cluster.stop_api().await;
    let stopped = now_ns();
    model::set_faults(pods.iter().map(|(_, address)| *address), &Faults::errors(1.0)).await;
    shop.wait_quiet(Color::Green, Duration::from_secs(2), Duration::from_secs(20)).await;
    let rescue = shop.rescue(Color::Green, "g2").expect("bad answers");
    println!("API server away: first bad answer → last request {:?}, {} bad", rescue.time, rescue.bad);
    assert_eq!(under_the_rollback(&shop, stopped), 0, "no new routes came");

    cluster.start_api().await;
    let written = || {
        let mut writes = audit::route_writes(&cluster, "no-api");
        writes.retain(|call| call.answered > stopped);
        writes
    };
    let first = wait_for("the rollback's routes", Duration::from_secs(20), async || {
        written().into_iter().find(audit::Call::done)
    })
    .await;
    let calls = audit::calls(&cluster);
    let returned = calls.iter().map(|call| call.answered).find(|answered| *answered > stopped).unwrap();
    println!("its first answer → VirtualService written: {:?}", between(returned, first.answered));
    let record = shop.wait_end(1, Duration::from_secs(120)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    shop.was_rolled_back();
    // Once the routes of the rollback, once the short ones when traffic is under them. No other attempt went amiss but
    // those that came before the server was ready: 403 until it has read who may do what, 5xx until its store answers.
    let writes = written();
    let (done, refused): (Vec<_>, Vec<_>) = writes.iter().partition(|call| call.done());
    assert_eq!(done.len(), 2, "{writes:?}");
    let too_early = |call: &audit::Call| call.answered <= first.answered && matches!(call.code, 403 | 500..);
    assert!(refused.into_iter().all(too_early), "{writes:?}");
    assert_eq!(shop.releases().await, 1, "one record");
    assert_eq!(comparable(&shop.virtual_service().await), comparable(&before));
    let findings = shop.findings(&running.stop().await);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
}

async fn in_a_busy_mesh_adoption_costs_no_request(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[("HUESHIFT_DEBOUNCE_MAX", "11")]).await;
    churn::prepare(&cluster);
    let shop = Shop::open(&cluster, "busy", Setup { gateways: 2, ..Setup::default() }).await;
    let running = shop.load(400, 200.0).start();
    let churn = Churn::start(&cluster, 50);
    shop.adopt(&[], by_hand()).await;
    // Routes that name a subset are served.
    let began = now_ns();
    wait_for("the adopted routes to be served", Duration::from_secs(60), async || {
        let lines = |proxy: &Proxy| proxy.access(began, now_ns());
        let named = |proxy| lines(proxy).iter().any(|access| access.line.contains("|blue|"));
        shop.proxies.iter().all(named).then_some(())
    })
    .await;
    println!("{:.0} edits/s", churn.stop());
    let findings = shop.findings(&running.stop().await);
    assert_eq!(findings.lost, 0, "{:#?}", findings.lost_examples);
}

async fn twelve_routes_are_as_before_after_a_rollback_and_differ_by_the_subset_after_a_promotion(
    cluster: Arc<Cluster>,
) {
    install(&cluster, Where::MeshWide, &[]).await;
    let mut shop = Shop::open(&cluster, "twelve", Setup::default()).await;
    shop.apply_everything();
    shop.adopt(&[], by_hand()).await;
    let before = shop.virtual_service().await;
    let routes = before["spec"]["http"].as_array().unwrap();
    assert_eq!(routes.len(), 12);
    for route in routes.iter().filter(|route| !FOREIGN.iter().any(|name| route["name"] == *name)) {
        assert_eq!(route["route"][0]["destination"]["subset"], "blue", "adopted: {route}");
    }
    let running = shop.load(400, 200.0).start();

    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    let during = shop.virtual_service().await;
    assert_ne!(comparable(&during), comparable(&before));
    for name in FOREIGN {
        let its = |object: &Value| {
            let routes = object["spec"]["http"].as_array().unwrap().clone();
            routes.into_iter().find(|route| route["name"] == name).unwrap()
        };
        assert_eq!(its(&during), its(&before), "not ours");
    }
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    let record = shop.wait_end(1, Duration::from_secs(60)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    shop.was_rolled_back();
    assert_eq!(comparable(&shop.virtual_service().await), comparable(&before), "after a rollback");

    shop.roll_out(Color::Green, "g3", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    shop.order("promote");
    let record = shop.wait_end(2, Duration::from_secs(60)).await;
    assert_eq!(record.end, End::Promoted, "{record:?}");
    let mut expected = comparable(&before);
    for route in expected["spec"]["http"].as_array_mut().unwrap() {
        if !FOREIGN.iter().any(|name| route["name"] == *name) {
            route["route"][0]["destination"]["subset"] = json!("green");
        }
    }
    assert_eq!(comparable(&shop.virtual_service().await), expected, "after a promotion");
    let findings = shop.findings(&running.stop().await);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    for proxy in &mut shop.proxies {
        proxy.assert_well().await;
    }
    let explain = shop.hueshift(&["explain", SERVICE]);
    assert!(explain.status.success(), "{}", String::from_utf8_lossy(&explain.stderr));
}
