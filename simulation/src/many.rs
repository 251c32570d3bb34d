//! Thousands of releases on all cores, and what is counted of them.

use super::{Outcome, Rule, Setting, run};
use hueshift_core::judge::Metric;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Counts over many releases of one setting.
#[derive(Debug, Clone)]
pub struct Count {
    /// The setting's name.
    pub name: &'static str,
    /// What was judged.
    pub judged: Vec<Metric>,
    /// One per run, in the order of their seeds.
    pub outcomes: Vec<Outcome>,
    /// When the fault began, ms.
    pub from_ms: u64,
}

/// Times, rising.
#[derive(Debug, Clone, PartialEq)]
pub struct Delays {
    ms: Vec<u64>,
}

/// Runs `runs` releases, seeds `seed`, `seed` + 1, …; each gets a rule of its own. The result does not depend on the
/// number of cores.
pub fn run_many<R: Rule>(setting: &Setting, seed: u64, runs: u64, rule: impl Fn() -> R + Sync) -> Count {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut mine = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= runs {
                return mine;
            }
            mine.push((at, run(setting, seed + at, &mut rule())));
        }
    };
    let mut all: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run panicked")).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    Count {
        name: setting.name,
        judged: setting.analysis.metrics.clone(),
        outcomes: all.into_iter().map(|(_, outcome)| outcome).collect(),
        from_ms: setting.fault.map_or(0, |fault| fault.from_ms),
    }
}

/// The most events of `runs` that are still in line with a chance of `p`: beyond it lie less than 0.1 %.
pub fn most_in(runs: u64, p: f64) -> u64 {
    let n = runs as f64;
    let (mut term, mut sum, mut k) = ((n * (1.0 - p).ln()).exp(), 0.0, 0);
    while k < runs {
        sum += term;
        if sum >= 0.999 {
            break;
        }
        term *= (n - k as f64) / (k + 1) as f64 * p / (1.0 - p);
        k += 1;
    }
    k
}

// === impl Count ===

impl Count {
    /// How many runs.
    pub fn runs(&self) -> u64 {
        self.outcomes.len() as u64
    }

    /// Rolled back, at any time.
    pub fn rollbacks(&self) -> u64 {
        self.count(|outcome| outcome.rollback_ms.is_some())
    }

    /// Rolled back before the fault began.
    pub fn early(&self) -> u64 {
        self.count(|outcome| outcome.rollback_ms.is_some_and(|at| at <= self.from_ms))
    }

    /// In which this metric alone ever reached 1/alpha.
    pub fn fired(&self, metric: Metric) -> u64 {
        self.count(|outcome| outcome.fired.contains(&metric))
    }

    /// Promoted.
    pub fn promoted(&self) -> u64 {
        self.count(|outcome| outcome.promoted_ms.is_some())
    }

    /// From the fault to the rollback.
    pub fn delays(&self) -> Delays {
        Delays::of(self.outcomes.iter().filter_map(|o| o.rollback_ms?.checked_sub(self.from_ms)))
    }

    /// From the start to the last certificate.
    pub fn promotions(&self) -> Delays {
        Delays::of(self.outcomes.iter().filter_map(|outcome| outcome.promoted_ms))
    }

    /// Mean number of bad answers from the fault on.
    pub fn mean_bad(&self) -> f64 {
        mean(self.outcomes.iter().map(|outcome| outcome.bad))
    }

    /// Mean number of candidate requests from the fault on.
    pub fn mean_requests(&self) -> f64 {
        mean(self.outcomes.iter().map(|outcome| outcome.candidate_requests))
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|outcome| of(outcome)).count() as u64
    }
}

// === impl Delays ===

impl Delays {
    fn of(ms: impl Iterator<Item = u64>) -> Self {
        let mut ms: Vec<u64> = ms.collect();
        ms.sort_unstable();
        Delays { ms }
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.ms.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ms.is_empty()
    }

    /// Mean, s.
    pub fn mean_s(&self) -> f64 {
        mean(self.ms.iter().copied()) / 1_000.0
    }

    /// The time that this part of them does not exceed, s.
    pub fn quantile_s(&self, part: f64) -> f64 {
        let at = ((self.ms.len() as f64 * part).ceil() as usize).saturating_sub(1);
        self.ms.get(at).map_or(f64::NAN, |ms| *ms as f64 / 1_000.0)
    }
}

fn mean(values: impl Iterator<Item = u64>) -> f64 {
    let (sum, n) = values.fold((0u64, 0u64), |(sum, n), value| (sum + value, n + 1));
    if n == 0 { f64::NAN } else { sum as f64 / n as f64 }
}
