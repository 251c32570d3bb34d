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
use hueshift_tests::clock::{between, now_ns, wait_for};
use hueshift_tests::cluster::install::{Where, install, install_module, is};
use hueshift_tests::cluster::kubelet::NODE;
use hueshift_tests::cluster::shop::{SERVICE, Setup, Shop};
use hueshift_tests::cluster::told::{self, TOLD};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::model::Faults;
use hueshift_tests::raw::Wire;
use hueshift_tests::{programs, tests};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
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
            a_rollback_waits_for_no_pod_of_stable,
            a_worker_whose_filter_died_is_named_holds_the_ramp_and_is_revived,
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

/// Nobody between client and model sends a request again.
async fn assert_no_retries(shop: &Shop) {
    let object = shop.virtual_service().await;
    for route in object["spec"]["http"].as_array().unwrap() {
        assert_eq!(route["retries"]["attempts"], 0, "{route}");
    }
    for proxy in &shop.proxies {
        let stats = proxy.stats("upstream_rq_retry").await;
        let some = stats.lines().find(|line| line.contains("outbound") && !line.ends_with(": 0"));
        assert_eq!(some, None);
    }
}

/// All but what every write changes.
fn comparable(virtual_service: &Value) -> Value {
    let mut object = virtual_service.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields" | "generation"));
    object
}

async fn a_healthy_revision_takes_over_and_costs_no_request(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[TOLD]).await;
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
    let time = between(log.iter().map(|sent| sent.sent).min().unwrap(), now_ns()).as_secs_f64();
    println!(
        "{} requests, {:.0} a second, {} sessions moved; a stream of {seconds} s",
        findings.sent,
        findings.sent as f64 / time,
        findings.moved
    );
    assert_eq!((findings.lost, findings.bad), (0, 0), "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
    assert_eq!(shop.contradictions(&log, &record).await, Vec::<String>::new());
    assert_no_retries(&shop).await;
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
    install(&cluster, Where::MeshWide, &[TOLD]).await;
    let mut shop = Shop::open(&cluster, "bad", Setup::default()).await;
    shop.adopt(&[], by_hand(10)).await;
    let before = shop.virtual_service().await;
    let sessions = 100;
    let [one, two] = both(&shop, sessions, 200.0).map(Load::start);
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    // Every session comes twice more: one that is drawn anew each time would be seen.
    let rounds = one.glance().sent + 2 * u64::from(sessions);
    wait_for("two rounds of all sessions", Duration::from_secs(60), async || {
        (one.glance().sent >= rounds).then_some(())
    })
    .await;
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    let record = shop.wait_end(1, Duration::from_secs(30)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    assert!(matches!(record.cause, Some(Cause::Errors | Cause::Fuse | Cause::Dead)), "{record:?}");
    shop.was_rolled_back();
    shop.wait_quiet(Color::Green, Duration::from_secs(1), Duration::from_secs(10)).await;
    let rescue = shop.rescue(Color::Green, "g2").expect("bad answers");
    println!("first bad answer → last request: {:?}, {} bad answers", rescue.time, rescue.bad);
    let log = [one.stop().await, two.stop().await].concat();
    let findings = shop.findings(&log);
    assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
    assert_eq!(shop.contradictions(&log, &record).await, Vec::<String>::new());
    assert_no_retries(&shop).await;
    assert_eq!(comparable(&shop.virtual_service().await), comparable(&before));
    assert_eq!(shop.releases().await, 1, "one record");
    let status = shop.status().await;
    assert!(is(&status, "RolledBack"), "{:?}", status.conditions);
    let explain = shop.hueshift(&["explain", SERVICE]);
    assert!(explain.status.success(), "{}", String::from_utf8_lossy(&explain.stderr));
}

/// A node that takes no pods, until this is dropped.
struct Cordon<'a>(&'a Cluster);

impl<'a> Cordon<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        cluster.kubectl(&["cordon", NODE]);
        Cordon(cluster)
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_kubectl("admin", &["uncordon", NODE], "");
    }
}

async fn a_rollback_waits_for_no_pod_of_stable(cluster: Arc<Cluster>) {
    install(&cluster, Where::MeshWide, &[TOLD]).await;
    let setup = Setup { replicas: PerColor { blue: 3, green: 1 }, ..Setup::default() };
    let mut shop = Shop::open(&cluster, "thin", setup).await;
    shop.adopt(&[], by_hand(50)).await;
    let before = shop.virtual_service().await;
    let [one, two] = both(&shop, 300, 200.0).map(Load::start);
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(50, Duration::from_secs(30)).await;

    // The node takes no new pods, so what is lost stays lost.
    let cordon = Cordon::new(&cluster);
    let ready = async |shop: &Shop| {
        let stable = shop.view().await.colors.blue;
        (stable.endpoints_up, stable.endpoints)
    };
    assert_eq!(ready(&shop).await, (3, 3));
    for (pod, _) in &shop.pods(Color::Blue).await[..2] {
        cluster.kubectl(&["-n", "thin", "delete", "pod", pod, "--force", "--grace-period=0", "--wait=false"]);
    }
    wait_for("the controller to miss two pods", Duration::from_secs(20), async || {
        (ready(&shop).await == (1, 3)).then_some(())
    })
    .await;
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    let record = shop.wait_end(1, Duration::from_secs(30)).await;
    assert_eq!(record.end, End::RolledBack, "{record:?}");
    assert_eq!(comparable(&shop.virtual_service().await), comparable(&before));
    assert_eq!(ready(&shop).await, (1, 3), "cap and routes came before stable's pods");
    drop(cordon);

    shop.was_rolled_back();
    shop.wait_quiet(Color::Green, Duration::from_secs(1), Duration::from_secs(10)).await;
    let rescue = shop.rescue(Color::Green, "g2").expect("bad answers");
    let log = [one.stop().await, two.stop().await].concat();
    let findings = shop.findings(&log);
    println!(
        "with 1 of 3 pods of stable: first bad answer → last request {:?}, {} bad answers; {} lost with the pods",
        rescue.time, rescue.bad, findings.lost
    );
    assert_eq!(findings.causeless, Vec::<u32>::new(), "{:?}", findings.causeless_examples);
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

/// The colors of some sessions, all asked for at the worker of one connection.
async fn colors(wire: &mut Wire) -> Vec<Option<Color>> {
    let mut colors = Vec::new();
    for session in 10_000..10_200 {
        let answer = wire.session(session).await;
        assert_eq!(answer.status, 200);
        colors.push(answer.color);
    }
    colors
}

async fn a_worker_whose_filter_died_is_named_holds_the_ramp_and_is_revived(cluster: Arc<Cluster>) {
    install_module(&cluster, Where::MeshWide, &[TOLD], &programs::trap_filter()).await;
    let mut shop = Shop::open(&cluster, "trapped", Setup::default()).await;
    let steps = json!([{"share": "10%", "minTime": "4s"}, {"share": "50%", "minTime": "50m"}]);
    shop.adopt(&[], json!({"release": {"advance": "unsuspicious", "steps": steps}})).await;
    let trickle = trickle(shop.target);
    let load = shop.load(300, 100.0).start();
    shop.roll_out(Color::Green, "g2", None).await;
    shop.wait_share(10, Duration::from_secs(30)).await;
    shop.order("pause");

    // One connection stays with one worker, before its VM dies and after.
    let mut wire = Wire::open(shop.target).await;
    let before = colors(&mut wire).await;
    let vms_since = |time: u64| -> BTreeSet<u64> {
        let all = told::reports(&cluster).into_iter();
        all.filter(|told| told.at > time && told.report.proxy == shop.proxies[0].node)
            .map(|told| told.report.vm)
            .collect()
    };
    let old = vms_since(0);
    assert_eq!(old.len(), 2, "two workers report");
    let killed = now_ns();
    assert_eq!(wire.get("/v1/quote", b"x-hueshift-trap: 1\r\n").await.status, 503, "its VM is dead");
    let dead = now_ns();

    // As long as it is silent the share stays, however long its minimum time is over.
    let (mut named, mut held) = (None, 0);
    wait_for("the worker to be named, and revived", Duration::from_secs(60), async || {
        let view = shop.view().await;
        let told = view.waiting_on.iter().find(|waiting| waiting.reason == "silent-worker");
        match (told, named) {
            (Some(told), None) => {
                named = Some(now_ns());
                assert!(told.text.contains(&shop.proxies[0].node), "{told:?}");
                assert!(view.problems.iter().any(|text| text.contains("silent")), "{:?}", view.problems);
                shop.order("resume");
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
    let revived = now_ns();
    assert!(held > 0, "it was held, and not only named");
    shop.wait_share(50, Duration::from_secs(30)).await;
    let new = wait_for("both workers' new VMs to report", Duration::from_secs(20), async || {
        let new = vms_since(dead).difference(&old).copied().collect::<BTreeSet<u64>>();
        (new.len() >= old.len()).then_some(new)
    })
    .await;
    println!(
        "a worker's filter died: named after {:?}, new VMs {new:?} instead of {old:?} after {:?}",
        between(killed, named.expect("named")),
        between(killed, revived)
    );
    assert_eq!(new.len(), 2, "both workers' VMs are new, the dead one's too");
    // By weight alone two rounds of 200 sessions would not be equal, nor keep everybody who was on green there.
    let now = colors(&mut wire).await;
    assert_eq!(now, colors(&mut wire).await, "the worker whose VM died draws again");
    let back =
        before.iter().zip(&now).filter(|(before, now)| **before == Some(Color::Green) && before != now);
    assert_eq!(back.count(), 0, "and as the dead one did");

    trickle.abort();
    let log = load.stop().await;
    let findings = shop.findings(&log);
    let innocent = log.iter().find(|event| event.lost() && !(event.sent <= dead && event.done >= killed));
    println!("{} of {} requests lost with it", findings.lost, findings.sent);
    assert_eq!(innocent, None, "only what was open on that worker is lost");
    shop.order("abort");
}
