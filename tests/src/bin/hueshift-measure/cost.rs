//! What the filter costs: CPU time of one Envoy per request, on listeners without it, with it where no plan is, with
//! one color open and in a release. All four take turns in one run, so that a busy machine slows them alike.

use hueshift_core::color::{Color, PerColor};
use hueshift_tests::envoy::{Envoy, Plan, Routes, Service, Setup};
use hueshift_tests::model::{Kind, Model};
use hueshift_tests::raw::Wire;
use hueshift_tests::sink::Sink;
use hueshift_tests::workplace::Workplace;
use std::fs;
use std::net::SocketAddr;

/// Requests of one listener in a round, over so many connections.
const REQUESTS: u32 = 4_000;
const WIRES: u32 = 4;
/// Headers beside host and session: what a gateway sees of an ordinary client.
const HEADERS: u32 = 13;

/// Prints microseconds per request.
pub async fn measure(rounds: u32) {
    let workplace = Workplace::new("cost");
    let blue = Model::anywhere(Kind::Pricing, Color::Blue, "b1", 1).await;
    let green = Model::anywhere(Kind::Pricing, Color::Green, "g1", 2).await;
    let endpoints = PerColor { blue: blue.address(), green: green.address() };
    let sink = Sink::start().await;
    let plain = Routes { name: "shop".to_owned(), green: 5_000, pins: false };
    let open = Plan { limit: 5_000, ..Plan::FIVE };
    let one = Plan { id: "00c0ffee00c0ffef", limit: 0, ..Plan::FIVE };
    let cases = [
        ("without the filter", plain.clone(), false),
        ("no plan in the route", plain, true),
        ("one color open", Routes { pins: false, ..one.routes() }, true),
        ("in a release", open.routes(), true),
    ];
    let service = |(n, (_, routes, filtered)): (usize, &(&str, Routes, bool))| Service {
        name: format!("service-{n}"),
        endpoints,
        routes: routes.clone(),
        filtered: *filtered,
    };
    let mut setup = Setup::new(endpoints, sink.address(), cases[0].1.clone());
    setup.workers = 1;
    setup.services = cases.iter().enumerate().map(service).collect();
    let mut envoy = Envoy::start(workplace.path(), setup).await;
    let (id, listeners) = (envoy.process.id(), envoy.listeners.clone());
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        for n in 0..cases.len() {
            // Who is first changes from round to round.
            let at = (n + round as usize) % cases.len();
            let before = cpu_ns(id);
            run(listeners[at]).await;
            let cost = (cpu_ns(id) - before) as f64 / 1e3 / f64::from(REQUESTS);
            // The first round warms up.
            if round > 0 {
                costs[at].push(cost);
            }
        }
    }
    envoy.assert_filter_alive().await;
    println!(
        "Envoy's CPU time per request, {rounds} rounds of {REQUESTS} requests each, {HEADERS} headers\n"
    );
    println!("{:<22} {:>10} {:>10} {:>10} {:>8}", "", "median µs", "least µs", "filter µs", "ratio");
    let bare = median(&mut costs[0]);
    for ((name, ..), costs) in cases.iter().zip(&mut costs) {
        let (middle, least) = (median(costs), costs[0]);
        println!("{name:<22} {middle:>10.1} {least:>10.1} {:>10.1} {:>8.3}", middle - bare, middle / bare);
    }
}

async fn run(to: SocketAddr) {
    let mut tasks = tokio::task::JoinSet::new();
    for wire in 0..WIRES {
        tasks.spawn(async move {
            let extra: String = (0..HEADERS).map(|n| format!("x-header-{n}: some value {n}\r\n")).collect();
            let mut connection = Wire::open(to).await;
            for n in 0..REQUESTS / WIRES {
                let headers = format!("{extra}x-session-id: {}\r\n", wire * 10_000 + n % 1_000);
                assert_eq!(connection.get("/v1/quote", headers.as_bytes()).await.status, 200);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a load");
    }
}

/// CPU time that all threads of a process have used.
fn cpu_ns(id: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("Envoy's threads");
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(of).sum()
}

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
