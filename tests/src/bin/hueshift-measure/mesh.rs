//! A hard failure in the mesh, with a real API server, istiod and Envoy: from the candidate's first bad answer to its
//! last request, to the VirtualService written, and to the routes served.
//!
//! The first time is read off the candidate's own log, the second off the API server's audit log, the third off
//! Envoy's access log; nothing is asked of the controller.

use crate::distribution;
use clap::ValueEnum;
use hueshift::view::End;
use hueshift_core::color::Color;
use hueshift_simulation::chance::Chance;
use hueshift_tests::clock::{between, now_ns};
use hueshift_tests::cluster::churn::{self, Churn};
use hueshift_tests::cluster::install::{Where, install};
use hueshift_tests::cluster::shop::{Setup, Shop};
use hueshift_tests::cluster::{Cluster, Parts, audit};
use hueshift_tests::model::Faults;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// What is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Everything, in a quiet mesh.
    Quiet,
    /// Everything, while somebody edits 50 other VirtualServices a second.
    Busy,
    /// The routes alone, in a quiet mesh: no fuse, no caps in the replies.
    Push,
}

#[derive(Default)]
struct Tally {
    last: Vec<Duration>,
    written: Vec<Duration>,
    served: Vec<Duration>,
    bad: usize,
    lost: usize,
    causeless: usize,
    missing: u32,
}

/// All ways, or one.
pub async fn measure(runs: u32, only: Option<Way>) {
    println!("a candidate with 10 % of 200 requests/s turns to 100 % errors, {}", machine());
    let parts = Parts { mesh: true, ..Parts::default() };
    let cluster = Arc::new(Cluster::start(parts).await);
    churn::prepare(&cluster);
    let wants = |way| only.is_none_or(|only| only == way);
    let mut table = Vec::new();
    if wants(Way::Quiet) || wants(Way::Busy) {
        install(&cluster, Where::MeshWide, &[]).await;
        let mut shop = Shop::open(&cluster, "measure", Setup::default()).await;
        shop.adopt(&[], steps()).await;
        let ways: Vec<Way> = [Way::Quiet, Way::Busy].into_iter().filter(|way| wants(*way)).collect();
        let mut tallies: Vec<(Way, Tally)> = ways.iter().map(|way| (*way, Tally::default())).collect();
        // In turns, so that both meet the same machine.
        let mut release = 0;
        for run in 1..=runs {
            for (way, tally) in &mut tallies {
                release += 1;
                one(&mut shop, *way, run, release, tally).await;
            }
        }
        table.extend(tallies);
    }
    if wants(Way::Push) {
        install(&cluster, Where::MeshWide, &[("HUESHIFT_WITHOUT_CAPS", "true")]).await;
        let mut shop = Shop::open(&cluster, "push", Setup::default()).await;
        let mut spec = steps();
        spec["analysis"] = json!({"fuse": {"enabled": false}});
        shop.adopt(&[], spec).await;
        let mut tally = Tally::default();
        for run in 1..=runs {
            one(&mut shop, Way::Push, run, run, &mut tally).await;
        }
        table.push((Way::Push, tally));
    }
    println!("\nfrom the first bad answer; {}\n\n{}", machine(), distribution::heads());
    for (way, tally) in table {
        println!("{}", distribution::line(&format!("{way:?}: last request"), &tally.last));
        println!("{}", distribution::line(&format!("{way:?}: written"), &tally.written));
        println!("{}", distribution::line(&format!("{way:?}: served"), &tally.served));
        let mean = tally.bad as f64 / tally.last.len().max(1) as f64;
        let Tally { lost, causeless, missing, .. } = tally;
        println!(
            "  {mean:.1} bad answers a run, {lost} lost, {causeless} causeless, {missing} runs not stopped\n"
        );
    }
}

/// The candidate stays at 10 % until something happens.
fn steps() -> Value {
    json!({"release": {"steps": [{"share": "10%", "minTime": "50m"}]}})
}

async fn one(shop: &mut Shop, way: Way, run: u32, release: u32, tally: &mut Tally) {
    let mut chance = Chance::new(u64::from(release) ^ way as u64);
    let revision = format!("g{}", release + 1);
    shop.stories.clear();
    let mut load = shop.load(400, 200.0);
    (load.poisson, load.seed) = (true, u64::from(release));
    let running = load.start();
    shop.roll_out(Color::Green, &revision, None).await;
    shop.wait_share(10, Duration::from_secs(60)).await;
    let churn = (way == Way::Busy).then(|| Churn::start(&shop.cluster, 50));
    // The fault begins at any moment between two reports; in a busy mesh the debounce is open since seconds.
    tokio::time::sleep(Duration::from_secs_f64(2.0 + chance.unit())).await;
    shop.set_faults(Color::Green, &Faults::errors(1.0)).await;
    shop.wait_quiet(Color::Green, Duration::from_secs(2), Duration::from_secs(60)).await;
    let edits = match churn {
        Some(churn) => format!(", {:.0} edits/s", churn.stop()),
        None => String::new(),
    };
    let record = shop.wait_end(release, Duration::from_secs(60)).await;
    shop.was_rolled_back();
    let findings = shop.findings(&running.stop().await);
    tally.lost += findings.lost;
    tally.causeless += findings.causeless.len();
    findings.lost_examples.iter().for_each(|example| println!("  lost: {example}"));
    let Some(rescue) = shop.rescue(Color::Green, &revision).filter(|_| record.end == End::RolledBack) else {
        println!("{way:?} {run:>3} not stopped: {record:?}");
        tally.missing += 1;
        return;
    };
    let from = rescue.first_bad;
    let writes = audit::route_writes(&shop.cluster, &shop.namespace);
    let written = writes.iter().find(|call| call.done() && call.answered >= from).map(|call| call.answered);
    let condemned = |line: &str| line.contains(&format!(".r{release}.")) && line.contains(".px.");
    let accesses = shop.proxies.iter().flat_map(|proxy| proxy.access(from, now_ns()));
    let served = accesses.filter(|access| condemned(&access.line)).map(|access| access.came).min();
    let since = |time: Option<u64>| time.map(|time| between(from, time));
    let (written, served) = (since(written), since(served));
    let ms =
        |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("{} ms", time.as_millis()));
    println!(
        "{way:?} {run:>3}: last request after {}, written after {}, served after {}, {} bad answers, {:?}{edits}",
        ms(Some(rescue.time)),
        ms(written),
        ms(served),
        rescue.bad,
        record.cause
    );
    tally.last.push(rescue.time);
    tally.written.extend(written);
    tally.served.extend(served);
    tally.bad += rescue.bad;
}

/// What the figures depend on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg");
    let minute = load.split(' ').next().unwrap_or("unknown");
    format!("{}, load average {minute}", model.map_or("unknown processor", |(_, name)| name))
}
