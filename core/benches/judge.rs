//! What judging costs: `cargo bench -p hueshift-core`.
//!
//! The product's own judge (sessions, three windows of time, no single witness) over 200 strata: per report through the
//! intake, per tick that brings rows, per tick that brings none, and the part of one core that 10,000 reports a second
//! take at the live tick of 10 ms. Nothing here fails; a change of a figure is for people to see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // no shipped code

use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{LotteryReport, PlanReport, Report, ServiceId, TIME_BUCKETS, Tally};
use hueshift_core::intake::Intake;
use hueshift_core::judge::{Analysis, Judge};
use hueshift_core::share::Bps;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const TICK_MS: u64 = 10;
/// Reports per tick at 10,000 a second.
const REPORTS_PER_TICK: u64 = 100;
const WORKERS: u64 = 4;
const ID: ServiceId = ServiceId::from_bytes([7; 8]);

/// How the 200 strata come about.
struct Fleet {
    name: &'static str,
    proxies: u64,
    lotteries: u64,
    trusted: bool,
    analysis: Analysis,
}

/// One worker's counters.
#[derive(Clone, Default)]
struct Worker {
    seq: u64,
    tallies: PerColor<Tally>,
}

/// Time spent, and how often.
#[derive(Default)]
struct Cost {
    spent: Duration,
    times: u64,
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let seconds = if std::env::args().any(|argument| argument == "--bench") { 30 } else { 1 };
    let fleets = [
        ("200 Envoys, 1 lottery", 200, 1, false, Analysis::live()),
        ("50 Envoys, 4 lotteries", 50, 4, false, Analysis::live()),
        ("12 Envoys, 1 lottery", 12, 1, false, Analysis::live()),
        ("200 Envoys, all trusted", 200, 1, true, Analysis::live()),
        ("200 Envoys, a lottery per request", 200, 1, false, Analysis::live_per_request()),
    ];
    println!("{:34} {:>10} {:>10} {:>10} {:>12}", "", "ns/report", "ns/tick", "ns/quiet", "core at 10k/s");
    for (name, proxies, lotteries, trusted, analysis) in fleets {
        println!("{}", Fleet { name, proxies, lotteries, trusted, analysis }.run(seconds));
    }
}

impl Fleet {
    fn run(mut self, seconds: u64) -> String {
        if self.trusted {
            self.analysis.trusted = (0..self.proxies).map(proxy_name).collect();
        }
        let mut judge = Judge::new(self.analysis.clone()).unwrap();
        let mut intake = Intake::default();
        let mut workers = vec![Worker::default(); usize::try_from(self.proxies * WORKERS).unwrap()];
        let mut chance = Chance(1);
        let (mut take, mut tick, mut quiet) = (Cost::default(), Cost::default(), Cost::default());
        let mut next = 0u64;
        for t_ms in (TICK_MS..=seconds * 1_000).step_by(usize::try_from(TICK_MS).unwrap()) {
            // Later lotteries begin one after the other; the older ones go on.
            let lotteries = (t_ms * self.lotteries / (seconds * 1_000) + 1).min(self.lotteries);
            let reports: Vec<Report> = (next..next + REPORTS_PER_TICK)
                .map(|n| {
                    let number = n % (self.proxies * WORKERS);
                    let worker = &mut workers[usize::try_from(number).unwrap()];
                    worker.report(number, n % lotteries, &mut chance)
                })
                .collect();
            next += REPORTS_PER_TICK;
            let rows = take.of(REPORTS_PER_TICK, || {
                reports.iter().for_each(|report| _ = intake.take(report, t_ms));
                intake.rows(ID, 1, Color::Blue)
            });
            tick.of(1, || judge.tick(t_ms, &rows));
            quiet.of(1, || judge.tick(t_ms + 1, &[]));
        }
        let spent = take.spent + tick.spent;
        let part = spent.as_secs_f64() / seconds as f64;
        format!(
            "{:34} {:>10} {:>10} {:>10} {:>11.1} %",
            self.name,
            take.each(),
            tick.each(),
            quiet.each(),
            100.0 * part
        )
    }
}

impl Worker {
    /// Five requests since the last report; one in two hundred fails.
    fn report(&mut self, number: u64, lottery: u64, chance: &mut Chance) -> Report {
        self.seq += 1;
        let limit = 500u16;
        let (mut errors, mut done, mut times) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for _ in 0..5 {
            let slot = u16::try_from(chance.below(10_000)).unwrap();
            let color = if slot < limit { Color::Green } else { Color::Blue };
            let tally = self.tallies.get_mut(color);
            tally.started += 1;
            tally.completed += 1;
            if chance.below(200) == 0 {
                tally.errors += 1;
                errors.insert(slot);
            } else {
                let bucket = 250 + u16::try_from(chance.below(40)).unwrap();
                *tally.first_byte.entry(bucket).or_default() += 1;
                *tally.total.entry(bucket + 16).or_default() += 1;
                let first_byte = u32::from(slot) * TIME_BUCKETS + u32::from(bucket);
                times.insert(first_byte * TIME_BUCKETS + u32::from(bucket) + 16);
            }
            if color == Color::Green {
                done.insert(slot);
            }
        }
        let books = LotteryReport {
            epoch: lottery + 1,
            limit: Bps::new(limit).unwrap(),
            tallies: self.tallies.clone(),
            error_slots: errors.into_iter().collect(),
            done_slots: done.into_iter().collect(),
            first_times: times.into_iter().collect(),
            first_predictions: Vec::new(),
            event_slots: Vec::new(),
        };
        let plan = PlanReport { id: ID, release: 1, epoch: lottery + 1, tripped: 0, lotteries: vec![books] };
        let proxy = proxy_name(number / WORKERS);
        let vm = number % WORKERS + 1;
        Report { proxy, vm, incarnation: 1, seq: self.seq, plans: vec![plan], ..Report::default() }
    }
}

impl Cost {
    fn of<T>(&mut self, times: u64, work: impl FnOnce() -> T) -> T {
        let begun = on_cpu();
        let result = std::hint::black_box(work());
        self.spent += on_cpu().saturating_sub(begun);
        self.times += times;
        result
    }

    fn each(&self) -> u128 {
        self.spent.as_nanos() / u128::from(self.times.max(1))
    }
}

/// A generator of numbers that need not be good.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Time that this thread was on a processor, so that a busy machine does not change the figures; elsewhere than on Linux
/// the clock's.
fn on_cpu() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let ns = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = ns.and_then(|text| text.split(' ').next()?.parse().ok());
    ns.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn proxy_name(number: u64) -> String {
    format!("gateway-{number:03}")
}
