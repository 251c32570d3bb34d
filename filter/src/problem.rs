//! What can go wrong inside the filter, by kind. A problem never changes a request's fate beyond what is written
//! here; it is counted, reported and shown as an Envoy statistic.

use crate::vec_map::VecMap;
use std::collections::BTreeMap;

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The newest plugin configuration cannot be used: the last good one goes on. Counted again with each report.
    Config,
    /// A request came while there is no usable configuration at all: it is left alone.
    Inert,
    /// A route name has our marker but no readable plan: the request is left alone.
    BadPlan,
    /// A plan has parts of a newer version: they are skipped.
    UnknownParts,
    /// A plan names a mesh key that the configuration lacks: everybody goes to stable.
    UnknownKey,
    /// The request headers could not be read: this request goes to stable.
    Headers,
    /// The proxy refused to set the color header: the route's weights decide, nothing is booked.
    ColorRefused,
    /// More requests in flight than are watched: steered, not booked.
    FlightsFull,
    /// An old lottery was dropped before it was acknowledged, to make room.
    LotteryDropped,
    /// A lottery that had been dropped came back: steered, not booked.
    LotteryGone,
    /// A service was dropped to make room for one that is in use.
    ServiceDropped,
    /// A report could not be sent, or got no proper answer in time.
    Report,
    /// A reply could not be read, or holds senseless settings: it changes nothing.
    Reply,
    /// Shared data could not be written.
    Shared,
    /// Another instance of the filter works on the stream already: this one stays inert.
    SecondInstance,
    /// A statistic could not be defined.
    Metric,
}

/// Counts by kind.
#[derive(Debug, Default)]
pub struct Problems {
    counts: VecMap<Problem, u64>,
}

// === impl Problem ===

impl Problem {
    /// The name in reports and statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Problem::Config => "config",
            Problem::Inert => "inert",
            Problem::BadPlan => "bad_plan",
            Problem::UnknownParts => "unknown_parts",
            Problem::UnknownKey => "unknown_key",
            Problem::Headers => "headers",
            Problem::ColorRefused => "color_refused",
            Problem::FlightsFull => "flights_full",
            Problem::LotteryDropped => "lottery_dropped",
            Problem::LotteryGone => "lottery_gone",
            Problem::ServiceDropped => "service_dropped",
            Problem::Report => "report",
            Problem::Reply => "reply",
            Problem::Shared => "shared",
            Problem::SecondInstance => "second_instance",
            Problem::Metric => "metric",
        }
    }
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
