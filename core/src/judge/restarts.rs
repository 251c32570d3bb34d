//! A process that starts anew every few seconds, so that a late fault is found as fast as an early one.
//!
//! While the candidate is healthy a single process only loses; a mixture over its starts is again an e-process, so
//! alpha still holds for the whole release. The mixture is kept as one number per alternative: at a restart the new
//! row's weight is added, at a tick every row gains the same increment, so the rows need not be kept apart.

use super::math::{log_add_exp, lse};
use alloc::vec;
use alloc::vec::Vec;
use core::f64::consts::PI;
use libm::log;
use serde::{Deserialize, Serialize};

/// When a process restarts and what each start weighs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Restarts after row 0; 0: row 0 has all the weight.
    pub count: u32,
    /// Time between them, ms, above 0.
    pub every_ms: u64,
    /// Weight of row 0.
    pub v0: f64,
    /// How the rest is shared.
    pub scheme: Scheme,
}

/// How the weight that row 0 leaves is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Evenly over a known number of restarts.
    Uniform,
    /// As 1/i², for a horizon that nobody knows.
    InverseSquare,
}

/// The mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved")]
pub struct Restarts {
    schedule: Schedule,
    ln_prior: Vec<f64>,
    /// Per alternative: ln of the weighted sum over the rows that have started.
    sums: Vec<f64>,
    started: u32,
    /// Weight of the rows that have not started; each counts as E = 1.
    waiting: f64,
    /// The evidence. It is asked for at every tick by hundreds of cases, and few of them have news.
    #[serde(skip)]
    log_e: f64,
}

/// What a checkpoint keeps.
#[derive(Deserialize)]
struct Saved {
    schedule: Schedule,
    ln_prior: Vec<f64>,
    sums: Vec<f64>,
    started: u32,
    waiting: f64,
}

// === impl Schedule ===

impl Schedule {
    /// Weight of restart `i`, from 1.
    fn weight(&self, i: u32) -> f64 {
        let rest = 1.0 - self.v0;
        match self.scheme {
            Scheme::Uniform => rest / f64::from(self.count.max(1)),
            Scheme::InverseSquare => rest * 6.0 / (PI * f64::from(i) * PI * f64::from(i)),
        }
    }

    /// Weight that has not started after `started` restarts.
    fn waiting(&self, started: u32) -> f64 {
        match self.scheme {
            _ if self.count == 0 => 0.0,
            Scheme::Uniform => f64::from(self.count.saturating_sub(started)) * self.weight(1),
            Scheme::InverseSquare => {
                let begun: f64 = (1..=started).map(|i| self.weight(i)).sum();
                (1.0 - self.v0 - begun).max(0.0)
            }
        }
    }
}

// === impl Restarts ===

impl Restarts {
    /// A mixture with these prior weights of the alternatives.
    pub fn new(schedule: Schedule, prior: &[f64]) -> Self {
        let first = if schedule.count == 0 { 1.0 } else { schedule.v0 };
        Restarts::from(Saved {
            schedule,
            ln_prior: prior.iter().map(|p| log(*p)).collect(),
            sums: vec![log(first); prior.len()],
            started: 0,
            waiting: schedule.waiting(0),
        })
    }

    /// A mixture with `alternatives` of equal weight.
    pub fn equal(schedule: Schedule, alternatives: usize) -> Self {
        Restarts::new(schedule, &vec![1.0 / alternatives as f64; alternatives])
    }

    /// How many alternatives.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is no alternative.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Forgets the rows that have started. What is left is less than it was, hence still valid: the rows to come.
    pub fn forget_started(&mut self) {
        self.sums.fill(f64::NEG_INFINITY);
        self.log_e = self.mixed();
    }

    /// One increment per alternative at `t_ms` > 0; restart `i` takes part iff `t_ms > i * every_ms`.
    pub fn add(&mut self, t_ms: u64, increments: &[f64]) {
        let due = t_ms.saturating_sub(1).checked_div(self.schedule.every_ms).unwrap_or(0);
        let due = u32::try_from(due).unwrap_or(u32::MAX).min(self.schedule.count);
        if due > self.started {
            let weight: f64 = (self.started + 1..=due).map(|i| self.schedule.weight(i)).sum();
            let ln_weight = log(weight);
            for sum in &mut self.sums {
                *sum = log_add_exp(*sum, ln_weight);
            }
            self.started = due;
            self.waiting = self.schedule.waiting(due);
        } else if increments.iter().all(|increment| *increment == 0.0) {
            return;
        }
        for (sum, increment) in self.sums.iter_mut().zip(increments) {
            *sum += increment;
        }
        self.log_e = self.mixed();
    }

    /// The evidence.
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    fn mixed(&self) -> f64 {
        let waiting = (self.waiting > 0.0).then(|| log(self.waiting));
        lse(self.sums.iter().zip(&self.ln_prior).map(|(sum, prior)| sum + prior).chain(waiting))
    }
}

impl From<Saved> for Restarts {
    fn from(Saved { schedule, ln_prior, sums, started, waiting }: Saved) -> Self {
        let restarts = Restarts { schedule, ln_prior, sums, started, waiting, log_e: 0.0 };
        Restarts { log_e: restarts.mixed(), ..restarts }
    }
}
