//! Releases on Kubernetes and Istio, installed as a user does it: how good and bad revisions end, what sessions and
//! the user's VirtualService see of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::view::{Cause, End};
use hueshift_core::color::{Color, PerColor};
use hueshift_tests::client::{self, Load};
use hueshift_tests::cluster::install::{Where, install, is};
use hueshift_tests::cluster::shop::{SERVICE, Setup, Shop};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::model::Faults;
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
            a_healthy_revision_takes_over_and_costs_no_request,
            a_bad_revision_is_taken_off_and_leaves_no_trace_in_the_routes,
        ],
    )
}

/// Steps go on by order only.
fn by_hand(percent: u32) -> Value {
    json!({"release": {"steps": [{"share": format!("{percent}%"), "minTime": "50m"}]}})
}

/// The same sessions over both protocols would meet two lotteries' worth of order at the proxy: each has its own.
fn both(shop: &Shop, sessions: u32, rate: f64) -> [Load; 2] {
    let one = shop.load(sessions, rate / 2.0);
    let mut two = shop.load(sessions, rate / 2.0);
    (two.http2, two.first_session) = (true, sessions);
    [one, two]
}

/// All but what every write changes.
fn comparable(virtual_service: &Value) -> Value {
    let mut object = virtual_service.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields" | "generation"));
    object
}

async fn a_healthy_revision_takes_over_and_costs_no_request(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[]).await;
    let full = std::env::var_os("HUESHIFT_FULL").is_some();
    let setup = Setup { replicas: PerColor { blue: 2, green: 2 }, gateways: 2, ..Setup::default() };
    let mut shop = Shop::open(&cluster, "healthy", setup).await;
    shop.adopt(&[5, 50], json!(null)).await;
    let before = shop.virtual_service().await;
    let seconds = if full { 300 } else { 20 };
    let stream = tokio::spawn({
        let target = shop.target;
        async move { client::stream(target, "models.example", 99_999, seconds).await }
    });
    let [one, two] = both(&shop, 2_000, 600.0).map(Load::start);
    shop.roll_out(Color::Green, "g2", None).await;
    let record = shop.wait_end(1, Duration::from_secs(120)).await;
    assert_eq!((record.end, record.cause), (End::Promoted, None), "{record:?}");
    let status = shop.status().await;
    assert_eq!(status.live_color, Some(Color::Green));
    assert!(is(&status, "Succeeded") && is(&status, "Ready"), "{:?}", status.conditions);
    let (events, cut) = stream.await.unwrap();
    assert_eq!((events, cut), (seconds as usize + 1, None), "the stream is served to its end");
    let log = [one.stop().await, two.stop().await].concat();
    let findings = shop.findings(&log);
    println!("{} requests, {} sessions moved", findings.sent, findings.moved);
    assert_eq!((findings.lost, findings.bad), (0, 0), "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
    assert!(log.iter().filter(|sent| sent.color == Some(Color::Green)).count() > 100);

    let mut expected = comparable(&before);
    for route in expected["spec"]["http"].as_array_mut().unwrap() {
        assert_eq!(route["route"][0]["destination"]["subset"], "blue", "adopted: {route}");
        route["route"][0]["destination"]["subset"] = json!("green");
    }
    assert_eq!(
        comparable(&shop.virtual_service().await),
        expected,
        "short again, and only the subset differs"
    );
    for proxy in &mut shop.proxies {
        proxy.assert_well().await;
    }
}

async fn a_bad_revision_is_taken_off_and_leaves_no_trace_in_the_routes(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[]).await;
    let mut shop = Shop::open(&cluster, "bad", Setup::default()).await;
    shop.adopt(&[], by_hand(10)).await;
    let before = shop.virtual_service().await;
    let [one, two] = both(&shop, 300, 200.0).map(Load::start);
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    let record = shop.wait_end(1, Duration::from_secs(30)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    assert!(matches!(record.cause, Some(Cause::Errors | Cause::Fuse | Cause::Dead)), "{record:?}");
    shop.was_rolled_back();
    shop.wait_quiet(Color::Green, Duration::from_secs(1), Duration::from_secs(10)).await;
    let rescue = shop.rescue(Color::Green, "g2").expect("bad answers");
    println!("first bad answer → last request: {:?}, {} bad answers", rescue.time, rescue.bad);
    let findings = shop.findings(&[one.stop().await, two.stop().await].concat());
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
    assert_eq!(comparable(&shop.virtual_service().await), comparable(&before));
    assert_eq!(shop.releases().await, 1, "one record");
    let status = shop.status().await;
    assert!(is(&status, "RolledBack"), "{:?}", status.conditions);
    let explain = shop.hueshift(&["explain", SERVICE]);
    assert!(explain.status.success(), "{}", String::from_utf8_lossy(&explain.stderr));
}
