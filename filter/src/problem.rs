//! What went wrong in this worker, by kind: counted, reported and shown as Envoy statistics.

use crate::vec_map::VecMap;
use std::collections::BTreeMap;

pub use hueshift_core::problem::Problem;

/// Counts by kind.
#[derive(Debug, Default)]
pub struct Problems {
    counts: VecMap<Problem, u64>,
}

// === impl Problems ===

impl Problems {
    /// Counts one.
    pub fn note(&mut self, problem: Problem) {
        self.note_many(problem, 1);
    }

    /// Counts several at once.
    pub fn note_many(&mut self, problem: Problem, count: u64) {
        if count > 0
            && let Some(total) = self.counts.or_default(problem)
        {
            *total += count;
        }
    }

    /// All counts so far.
    pub fn iter(&self) -> impl Iterator<Item = (Problem, u64)> + '_ {
        self.counts.iter().map(|(problem, count)| (problem, *count))
    }

    /// As they stand in a report.
    pub fn to_wire(&self) -> BTreeMap<String, u64> {
        // One by one: collecting would sort, which is code that nothing else here needs.
        let mut wire = BTreeMap::new();
        self.iter().for_each(|(problem, count)| _ = wire.insert(problem.name().to_owned(), count));
        wire
    }
}
