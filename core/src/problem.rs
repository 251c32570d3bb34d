//! What can go wrong inside the filter, by kind: counted there, told in reports, shown here to people.
//!
//! A problem never changes a request's fate beyond what is written at its kind.

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

// === impl Problem ===

impl Problem {
    /// All kinds, in order.
    pub const ALL: [Problem; 16] = [
        Problem::Config,
        Problem::Inert,
        Problem::BadPlan,
        Problem::UnknownParts,
        Problem::UnknownKey,
        Problem::Headers,
        Problem::ColorRefused,
        Problem::FlightsFull,
        Problem::LotteryDropped,
        Problem::LotteryGone,
        Problem::ServiceDropped,
        Problem::Report,
        Problem::Reply,
        Problem::Shared,
        Problem::SecondInstance,
        Problem::Metric,
    ];

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

    /// The kind of that name; `None`: another version's.
    pub fn named(name: &str) -> Option<Problem> {
        Problem::ALL.into_iter().find(|problem| problem.name() == name)
    }

    /// What a person should know and do; `None`: nothing beyond the count.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Problem::Config => Some(
                "its newest plugin configuration cannot be used and the last good one goes on; the proxy's log says \
                 what is wrong (search for `hueshift:`)",
            ),
            Problem::SecondInstance => Some(
                "two instances of the plugin are in one filter chain and the second one does nothing; attach exactly \
                 one (no plugin of a namespace beside a mesh-wide one)",
            ),
            Problem::UnknownKey => Some(
                "its plugin configuration lacks the mesh key that the routes name, so everybody goes to stable",
            ),
            Problem::BadPlan => Some("a route name has our mark but no readable plan, and is left alone"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_found_by_it() {
        for problem in Problem::ALL {
            assert_eq!(Problem::named(problem.name()), Some(problem));
        }
        assert_eq!(Problem::named("later"), None);
    }
}
