//! The errors metric: a bad ratio *and* a bad level, in the unit of chance that fits the routing.
//!
//! The minimum of the two is valid because either null hypothesis alone bounds it.

use super::analysis::{Analysis, Mode};
use super::one_sample::{self, OneSample};
use super::ratio::{self, Errors, Ratio};
use super::restarts::{Restarts, Schedule};
use super::share::{self, SecondErrors};
use serde::{Deserialize, Serialize};

/// The tests behind the metric. Only those that the mode can ever read are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorsMetric {
    rho0: f64,
    ratio_test: Ratio,
    /// The unit of the mode: requests of blocks, or slots; `None` in mode robust.
    ratio: Option<Restarts>,
    /// Seconds; `None` in mode sessions.
    share: Option<Restarts>,
    floor_test: OneSample,
    floor: Restarts,
}

// === impl ErrorsMetric ===

impl ErrorsMetric {
    /// From the parameters, in the unit of `mode`, with their restarts.
    pub fn new(analysis: &Analysis, mode: Mode, schedule: Schedule) -> Self {
        ErrorsMetric {
            rho0: analysis.rho0,
            ratio_test: Ratio::worse_than(analysis.rho0),
            ratio: (mode != Mode::Robust).then(|| Restarts::equal(schedule, ratio::ALTERNATIVES)),
            share: (mode != Mode::Sessions).then(|| Restarts::equal(schedule, share::LAMBDAS.len())),
            floor_test: OneSample::above(analysis.error_floor),
            floor: Restarts::equal(schedule, one_sample::ALTERNATIVES),
        }
    }

    /// Its processes.
    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Restarts> {
        self.ratio.iter_mut().chain(&mut self.share).chain([&mut self.floor])
    }

    /// The candidate's requests of a tick, for the floor.
    pub fn add_requests(&mut self, t_ms: u64, n: u64, errors: u64) {
        if n > 0 {
            let mut sums = [0.0; one_sample::ALTERNATIVES];
            self.floor_test.add(n, errors, &mut sums);
            self.floor.add(t_ms, &sums);
        }
    }

    /// Whether slots are the unit.
    pub fn counts_slots(&self) -> bool {
        self.share.is_none()
    }

    /// All batches of slots of a tick, in the order of their strata.
    pub fn add_errors(&mut self, t_ms: u64, of: impl Iterator<Item = Errors>) {
        if let Some(ratio) = &mut self.ratio {
            let mut sums = [0.0; ratio::ALTERNATIVES];
            of.for_each(|errors| self.ratio_test.add(errors, &mut sums));
            ratio.add(t_ms, &sums);
        }
    }

    /// The increments of all blocks of a tick, in the order of their strata.
    pub fn add_increments<'a>(
        &mut self,
        t_ms: u64,
        of: impl Iterator<Item = &'a [f64; ratio::ALTERNATIVES]>,
    ) {
        if let Some(ratio) = &mut self.ratio {
            let mut sums = [0.0; ratio::ALTERNATIVES];
            of.for_each(|increments| sums.iter_mut().zip(increments).for_each(|(sum, more)| *sum += more));
            ratio.add(t_ms, &sums);
        }
    }

    /// The strata of a second that is over.
    pub fn add_second(&mut self, t_ms: u64, strata: impl Iterator<Item = SecondErrors>) {
        if let Some(share) = &mut self.share {
            share.add(t_ms, &share::increments(self.rho0, strata));
        }
    }

    /// The evidence; with a noisy control requests are no longer believed to be single draws.
    pub fn log_e(&self, noisy: bool) -> f64 {
        let ratio = match (&self.ratio, &self.share) {
            (Some(_), Some(share)) if noisy => share.log_e(),
            (Some(ratio), _) => ratio.log_e(),
            (None, Some(share)) => share.log_e(),
            (None, None) => 0.0,
        };
        ratio.min(self.floor.log_e())
    }
}
