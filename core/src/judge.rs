//! The judge: is the candidate worse than stable, and is it good enough to go on?
//!
//! One running score per test (an e-process): it starts at 1 and, while the candidate is healthy, no new data
//! raises it in expectation; so the chance that it ever reaches 1/alpha is at most alpha, however often we look.
//! The judge is a function of the rows it was given and their ticks: no clock, no randomness, no hash order. Live
//! judging and replay are this same code.
//!
//! What it deliberately does not do: decide what happens next (the planner), weigh tripped fuses ([`trips`]) or apply
//! the dead-candidate rule ([`dead`]); those are plain rules beside the tests.

pub mod analysis;
pub mod block;
pub mod certificate;
pub mod dead;
pub mod errors;
pub mod evidence;
pub mod line;
pub mod math;
pub mod one_sample;
pub mod ratio;
pub mod restarts;
pub mod row;
pub mod share;
pub mod slots;
pub mod srm;
pub mod tally;
pub mod trips;
pub mod verdict;

mod units;

pub use analysis::{Analysis, AnalysisError, Metric, Mode};
pub use certificate::{Requirement, Tolerance};
pub use evidence::Evidence;
pub use line::Line;
pub use row::{Row, Side};
pub use verdict::Verdict;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use block::{Block, Blocks, Stratum};
use certificate::Certificates;
use errors::ErrorsMetric;
use libm::log;
use line::{Counted, MetricLogs};
use one_sample::OneSample;
use ratio::{Errors, Ratio};
use restarts::{Restarts, Schedule, Scheme};
use serde::{Deserialize, Serialize};
use share::SecondErrors;
use tally::{Delta, Outcome, Tally};
use units::{Batch, Units};

/// The judge of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    analysis: Analysis,
    requirement: Requirement,
    t_ms: u64,
    tally: Tally,
    counted: Counted,
    blocks: Blocks,
    /// Errors per stratum since the last full second.
    #[serde(with = "block::pairs")]
    second: BTreeMap<Stratum, SecondErrors>,
    units: Units,
    errors: Option<ErrorsMetric>,
    slo: Option<Slo>,
    control: Control,
    certificates: Certificates,
    /// Completed requests by the bits of the configured split (0..=1: their order is that of the numbers).
    srm: BTreeMap<u64, (u64, u64)>,
    last: Scores,
    condemned: bool,
}

/// Everything a judge needs to go on after a restart of the controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    judge: Judge,
}

/// A checkpoint that another version wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCheckpoint(pub u32);

/// The candidate's error rate against a fixed ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Slo {
    test: OneSample,
    restarts: Restarts,
}

/// As many slots of stable as the candidate has, judged against the rest of stable: what this environment makes of
/// two equal halves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Control {
    test: Ratio,
    restarts: Restarts,
    noisy: bool,
}

/// What the last tick came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Scores {
    log_e: f64,
    metrics: MetricLogs,
    log_srm: f64,
    suspicious: bool,
}

const CHECKPOINT_VERSION: u32 = 1;

// === impl Judge ===

impl Judge {
    /// A judge at time 0. After lost state pass half of the last `alpha`.
    pub fn new(analysis: Analysis) -> Result<Judge, AnalysisError> {
        analysis.check()?;
        let requirement = Requirement { rho_max: analysis.rho_max, p_ceiling: analysis.p_ceiling };
        let schedule = Schedule {
            count: analysis.restarts,
            every_ms: analysis.restart_every_ms,
            v0: analysis.restart_v0,
            scheme: Scheme::Uniform,
        };
        let active = |metric| analysis.metrics.contains(&metric);
        let mut certificates = Certificates::new();
        certificates.follow(requirement);
        let mut judge = Judge {
            errors: active(Metric::Errors).then(|| ErrorsMetric::new(&analysis, schedule)),
            slo: analysis.slo_error_rate.filter(|_| active(Metric::Slo)).map(|p0| Slo::new(p0, schedule)),
            control: Control::new(schedule),
            certificates,
            requirement,
            t_ms: 0,
            tally: Tally::default(),
            counted: Counted::default(),
            blocks: Blocks::default(),
            second: BTreeMap::new(),
            units: Units::default(),
            srm: BTreeMap::new(),
            last: Scores::default(),
            condemned: false,
            analysis,
        };
        judge.score();
        Ok(judge)
    }

    /// Sets what the current step asks for; [`Judge::verdict`] and [`Judge::evidence`] follow it. The line does not:
    /// it must be the same in a replay, which knows no steps.
    pub fn require(&mut self, requirement: Requirement) {
        self.certificates.follow(requirement);
        self.requirement = requirement;
    }

    /// Takes the rows of a tick, in the order of their arrival. `t_ms` counts from the start of the analysis, is
    /// above 0 and grows from call to call.
    pub fn tick(&mut self, t_ms: u64, rows: &[Row]) -> Line {
        self.t_ms = t_ms;
        // Most live ticks bring nothing; a restart alone changes no evidence.
        if rows.is_empty() && self.second.is_empty() && !self.blocks.any_closes(t_ms, &self.analysis) {
            return self.line();
        }
        let batch = self.take(t_ms, rows);
        self.judge_rates(t_ms, &batch);
        self.judge_slots(t_ms, &batch);
        self.judge_blocks(t_ms);
        self.judge_second(t_ms);
        self.certificates.mark();
        self.score();
        self.line()
    }

    /// The verdict after the last tick, `certified` as the current step asks for it.
    pub fn verdict(&self) -> Verdict {
        self.verdict_for(self.requirement)
    }

    /// The parameters.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The state in numbers for people.
    pub fn evidence(&self) -> Evidence {
        let Analysis { alpha, beta, hold_at, .. } = self.analysis;
        let Counted { blue_requests, blue_errors, green_requests, green_errors } = self.counted;
        Evidence {
            t_ms: self.t_ms,
            verdict: self.verdict(),
            log_e: self.last.log_e,
            metrics: self.last.metrics,
            rollback_at: log(1.0 / alpha),
            hold_at: log(hold_at),
            counted: self.counted,
            stable_rate: evidence::Interval::of(blue_errors, blue_requests, alpha),
            candidate_rate: evidence::Interval::of(green_errors, green_requests, alpha),
            candidate_slots: self.units.candidate_slots(),
            ratio: self.certificates.ratio(self.requirement, beta),
            ceiling: self.certificates.ceiling(self.requirement, beta),
            noisy: self.control.noisy,
            log_srm: self.last.log_srm,
        }
    }

    /// The state to keep. Take the intake's checkpoint at the same moment.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut judge = self.clone();
        judge.tally.forget_histograms();
        Checkpoint { version: CHECKPOINT_VERSION, judge }
    }

    /// Goes on from a checkpoint: the first row of a key counts what happened since.
    pub fn restore(checkpoint: Checkpoint) -> Result<Judge, UnknownCheckpoint> {
        if checkpoint.version == CHECKPOINT_VERSION {
            Ok(checkpoint.judge)
        } else {
            Err(UnknownCheckpoint(checkpoint.version))
        }
    }

    fn take(&mut self, t_ms: u64, rows: &[Row]) -> Batch {
        let mut batch = Batch::default();
        for row in rows {
            if let Outcome::Accepted(delta) = self.tally.take(row) {
                self.count(row, &delta);
                batch.add(row, &delta, self.analysis.mode);
                self.blocks.add(t_ms, (row.proxy.clone(), row.epoch), row.split, &delta);
            }
        }
        batch
    }

    fn count(&mut self, row: &Row, delta: &Delta) {
        let (blue, green) = (&delta.blue, &delta.green);
        let counted = &mut self.counted;
        for (sum, more) in [
            (&mut counted.blue_requests, blue.requests),
            (&mut counted.blue_errors, blue.errors),
            (&mut counted.green_requests, green.requests),
            (&mut counted.green_errors, green.errors),
        ] {
            *sum = sum.saturating_add(more);
        }
        if self.analysis.srm {
            // -0.0 is 0.0, but not its bits.
            let (candidate, stable) = self.srm.entry((row.split + 0.0).to_bits()).or_default();
            *candidate = candidate.saturating_add(green.requests);
            *stable = stable.saturating_add(blue.requests);
        }
        if self.analysis.mode != Mode::Sessions && green.errors.saturating_add(blue.errors) > 0 {
            let stratum = (row.proxy.clone(), row.epoch);
            let none = SecondErrors { split: row.split, candidate: 0, stable: 0 };
            let second = self.second.entry(stratum).or_insert(none);
            second.candidate = second.candidate.saturating_add(green.errors);
            second.stable = second.stable.saturating_add(blue.errors);
        }
    }

    /// Tests of a rate need no pairing and take every difference at once.
    fn judge_rates(&mut self, t_ms: u64, batch: &Batch) {
        if let Some(errors) = &mut self.errors {
            errors.add_requests(t_ms, batch.requests, batch.errors);
        }
        if let Some(slo) = &mut self.slo {
            slo.add(t_ms, batch.requests, batch.errors);
        }
    }

    /// Session unit: each lottery slot once, at its first error; strata in their order.
    fn judge_slots(&mut self, t_ms: u64, batch: &Batch) {
        let errors = self.units.take(batch);
        let (n, bad) = self.units.totals();
        self.certificates.set_units(n, bad);
        if self.analysis.mode == Mode::Sessions {
            errors.iter().for_each(|errors| self.certificates.add(*errors));
            if let Some(metric) = &mut self.errors {
                metric.add_errors(t_ms, errors.into_iter());
            }
        }
    }

    /// Tests of two samples take whole blocks, strata in their order.
    fn judge_blocks(&mut self, t_ms: u64) {
        let blocks: Vec<Block> =
            self.blocks.close(t_ms, &self.analysis).into_iter().map(|(_, b)| b).collect();
        self.control.add(t_ms, &blocks);
        if self.analysis.mode != Mode::Sessions {
            let split_mode = self.analysis.split_mode;
            let errors = blocks.iter().map(|block| Errors {
                share: block.share(split_mode),
                candidate: block.green.errors,
                stable: block.blue.errors,
            });
            errors.clone().for_each(|errors| self.certificates.add(errors));
            if let Some(metric) = &mut self.errors {
                metric.add_errors(t_ms, errors);
            }
        }
    }

    fn judge_second(&mut self, t_ms: u64) {
        if t_ms.is_multiple_of(1_000) {
            if let Some(errors) = &mut self.errors {
                errors.add_second(t_ms, self.second.values().copied());
            }
            self.second.clear();
        }
    }

    fn score(&mut self) {
        let analysis = &self.analysis;
        self.control.noisy |= self.control.restarts.log_e() >= log(analysis.noisy_at);
        let metrics = MetricLogs {
            errors: self.errors.as_ref().map(|errors| errors.log_e(self.control.noisy)),
            slo: self.slo.as_ref().map(|slo| slo.restarts.log_e()),
            ..MetricLogs::default()
        };
        let log_e = metrics.combine(analysis);
        let groups = self.srm.iter();
        let log_srm = groups.fold(0.0, |sum, (split, (candidate, stable))| {
            sum + srm::log_e(srm::STRENGTH, f64::from_bits(*split), *candidate, *stable)
        });
        let zone = verdict::zone(log_e, analysis.alpha, analysis.hold_at);
        let suspicious = zone != Verdict::Continue
            || (analysis.srm && log_srm >= log(1.0 / analysis.alpha_srm))
            || self.control.noisy;
        self.condemned |= zone == Verdict::Rollback;
        self.last = Scores { log_e, metrics, log_srm, suspicious };
    }

    fn verdict_for(&self, requirement: Requirement) -> Verdict {
        Verdict::decide(verdict::Signs {
            condemned: self.condemned,
            suspicious: self.last.suspicious,
            certified: self.certificates.hold(requirement, self.analysis.beta),
        })
    }

    fn line(&self) -> Line {
        let asked = Requirement { rho_max: self.analysis.rho_max, p_ceiling: self.analysis.p_ceiling };
        Line {
            t_ms: self.t_ms,
            verdict: self.verdict_for(asked),
            log_e: self.last.log_e,
            metrics: self.last.metrics,
            log_srm: self.last.log_srm,
            noisy: self.control.noisy,
            certified: self.certificates.certified(asked.threshold(self.analysis.beta)),
            rows: self.tally.counts(),
            counted: self.counted,
        }
    }
}

// === impl Slo ===

impl Slo {
    fn new(p0: f64, schedule: Schedule) -> Self {
        Slo { test: OneSample::above(p0), restarts: Restarts::equal(schedule, one_sample::ALTERNATIVES) }
    }

    fn add(&mut self, t_ms: u64, n: u64, errors: u64) {
        if n > 0 {
            let mut sums = [0.0; one_sample::ALTERNATIVES];
            self.test.add(n, errors, &mut sums);
            self.restarts.add(t_ms, &sums);
        }
    }
}

// === impl Control ===

impl Control {
    fn new(schedule: Schedule) -> Self {
        Control {
            test: Ratio::worse_than(1.0),
            restarts: Restarts::equal(schedule, ratio::ALTERNATIVES),
            noisy: false,
        }
    }

    fn add(&mut self, t_ms: u64, blocks: &[Block]) {
        let mut sums = [0.0; ratio::ALTERNATIVES];
        for Block { blue, control, .. } in blocks {
            let rest = blue.n.saturating_sub(control.n);
            let errors =
                Errors::realised(control.n, rest, control.errors, blue.errors.saturating_sub(control.errors));
            self.test.add(errors, &mut sums);
        }
        self.restarts.add(t_ms, &sums);
    }
}

// === impl UnknownCheckpoint ===

impl core::fmt::Display for UnknownCheckpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "checkpoint version {} is not {CHECKPOINT_VERSION}", self.0)
    }
}

impl core::error::Error for UnknownCheckpoint {}
