//! The judge: is the candidate worse than stable, and is it good enough to go on?
//!
//! One running score per test (an e-process): it starts at 1 and, while the candidate is healthy, no new data
//! raises it in expectation; so the chance that it ever reaches 1/alpha is at most alpha, however often we look.
//! The judge is a function of the rows it was given and their ticks: no clock, no randomness, no hash order. Live
//! judging and replay are this same code.
//!
//! What it deliberately does not do: decide what happens next ([`crate`]'s planner), apply the fuse's trips
//! ([`trips`]) or the dead-candidate rule ([`dead`]); those are plain rules beside the tests.

pub mod analysis;
pub mod certificate;
pub mod dead;
pub mod evidence;
pub mod line;
pub mod row;
pub mod trips;
pub mod verdict;

pub use analysis::{Analysis, AnalysisError, Metric, Mode};
pub use certificate::{Requirement, Tolerance};
pub use evidence::Evidence;
pub use line::Line;
pub use row::{Row, Side};
pub use verdict::Verdict;

use serde::{Deserialize, Serialize};

/// The judge of one release.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judge {
    analysis: Analysis,
    requirement: Requirement,
    t_ms: u64,
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

const CHECKPOINT_VERSION: u32 = 1;

// === impl Judge ===

impl Judge {
    /// A judge at time 0. Without a checkpoint after lost state pass half of the last `alpha`.
    pub fn new(analysis: Analysis) -> Result<Judge, AnalysisError> {
        analysis.check()?;
        let requirement = Requirement { rho_max: analysis.rho_max, p_ceiling: analysis.p_ceiling };
        Ok(Judge { analysis, requirement, t_ms: 0 })
    }

    /// Sets what the current step asks for; [`Judge::verdict`] and [`Judge::evidence`] follow it, the line does not.
    pub fn require(&mut self, requirement: Requirement) {
        self.requirement = requirement;
    }

    /// Takes the rows of a tick, in the order of their arrival. `t_ms` counts from the start of the analysis, is
    /// above 0 and grows from call to call.
    pub fn tick(&mut self, t_ms: u64, rows: &[Row]) -> Line {
        self.t_ms = t_ms;
        let _ = rows;
        Line {
            t_ms,
            verdict: Verdict::Continue,
            log_e: 0.0,
            metrics: line::MetricLogs::default(),
            log_srm: 0.0,
            noisy: false,
            certified: alloc::vec::Vec::new(),
            rows: line::RowCounts::default(),
            counted: line::Counted::default(),
        }
    }

    /// The verdict after the last tick, `certified` as the current step asks for it.
    pub fn verdict(&self) -> Verdict {
        Verdict::decide(verdict::Signs { condemned: false, suspicious: false, certified: false })
    }

    /// The parameters.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The state in numbers for people.
    pub fn evidence(&self) -> Evidence {
        let progress = evidence::Progress {
            bound: self.requirement.rho_max,
            log_e: 0.0,
            highest: 0.0,
            certified_at: 3.0,
        };
        Evidence {
            t_ms: self.t_ms,
            verdict: self.verdict(),
            log_e: 0.0,
            metrics: line::MetricLogs::default(),
            rollback_at: -libm::log(self.analysis.alpha),
            hold_at: libm::log(self.analysis.hold_at),
            counted: line::Counted::default(),
            stable_rate: None,
            candidate_rate: None,
            candidate_slots: evidence::Slots::default(),
            ratio: progress,
            ceiling: None,
            noisy: false,
            log_srm: 0.0,
        }
    }

    /// The state to keep. Take the intake's checkpoint at the same moment.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { version: CHECKPOINT_VERSION, judge: self.clone() }
    }

    /// Goes on from a checkpoint: the first row of a key counts what happened since.
    pub fn restore(checkpoint: Checkpoint) -> Result<Judge, UnknownCheckpoint> {
        if checkpoint.version == CHECKPOINT_VERSION {
            Ok(checkpoint.judge)
        } else {
            Err(UnknownCheckpoint(checkpoint.version))
        }
    }
}

// === impl UnknownCheckpoint ===

impl core::fmt::Display for UnknownCheckpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "checkpoint version {} is not {CHECKPOINT_VERSION}", self.0)
    }
}

impl core::error::Error for UnknownCheckpoint {}
