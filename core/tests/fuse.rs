//! The fuse by simulation with fixed seeds: how often it takes a candidate off that is as well as stable, and how
//! soon one that is not. What it does request by request is tested beside its code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::color::Color;
use hueshift_core::contract::FuseParams;
use hueshift_core::fuse::Fuse;

const PARAMS: FuseParams = FuseParams { p0: 0.02, h: 24.0 };

/// SplitMix64: good enough for coins, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < p
    }
}

/// A world: the candidate's share, and error rates of (stable, candidate) before and after request 1,000.
struct World {
    share: f64,
    before: (f64, f64),
    after: (f64, f64),
}

/// Requests of both colors from the fault to the trip; `None`: it did not trip within `length`.
fn trip(world: &World, length: u64, seed: u64) -> Option<u64> {
    let mut chance = Chance(seed);
    let mut fuse = Fuse::new(Color::Green, Some(&PARAMS));
    for n in 0..1_000 + length {
        let (stable, candidate) = if n < 1_000 { world.before } else { world.after };
        let green = chance.coin(world.share);
        let error = chance.coin(if green { candidate } else { stable });
        let slot = (chance.next() % 10_000) as u16;
        if fuse.observe(if green { Color::Green } else { Color::Blue }, slot, error) {
            return Some((n + 1).saturating_sub(1_000));
        }
    }
    None
}

/// Of `runs` seeds: the share that tripped, and the mean requests until then.
fn trips(world: &World, length: u64, runs: u64) -> (f64, f64) {
    let tripped: Vec<u64> = (1..=runs).filter_map(|seed| trip(world, length, seed * 7_919)).collect();
    let mean = tripped.iter().sum::<u64>() as f64 / (tripped.len() as f64).max(1.0);
    (tripped.len() as f64 / runs as f64, mean)
}

const SHARES: [f64; 6] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95];

#[test]
fn a_shared_fault_rarely_trips_at_any_share() {
    println!("share of 400 shared faults of 3,000 requests that trip, by error rate:");
    for share in SHARES {
        let rates = [0.1, 0.3, 0.6, 1.0].map(|rate| {
            let world = World { share, before: (0.002, 0.002), after: (rate, rate) };
            trips(&world, 3_000, 400).0
        });
        println!("share {share}: {rates:?}");
        assert!(rates.iter().all(|rate| *rate <= 0.05), "share {share}: {rates:?}");
    }
}

#[test]
fn a_healthy_pair_never_trips() {
    for share in SHARES {
        let world = World { share, before: (0.02, 0.02), after: (0.02, 0.02) };
        assert_eq!(trips(&world, 50_000, 10).0, 0.0, "share {share}");
    }
}

#[test]
fn a_candidate_that_fails_hard_is_off_soon_at_every_share() {
    println!("mean requests of both colors from the fault to the trip, candidate failing 100 % and 50 %:");
    for share in SHARES {
        let [all, half] = [1.0, 0.5]
            .map(|rate| trips(&World { share, before: (0.005, 0.005), after: (0.005, rate) }, 20_000, 200));
        println!("share {share}: {:.0}, {:.0}", all.1, half.1);
        assert_eq!((all.0, half.0), (1.0, 1.0), "share {share}: all trip");
        // Eight candidate outcomes; where stable is rare a few of its own.
        assert!(all.1 <= 9.0 / share + 4.0 / (1.0 - share), "share {share}: {}", all.1);
        assert!(half.1 <= 25.0 / share + 15.0 / (1.0 - share), "share {share}: {}", half.1);
    }
}
