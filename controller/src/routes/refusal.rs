//! What the rewrite cannot express: place, reason and remedy, as one sentence for people and one word for machines.

use hueshift_core::contract::ServiceId;
use std::fmt;

/// Why a VirtualService is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// The object and the route in it.
    pub place: String,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The object is not shaped as a VirtualService.
    Malformed(String),
    /// No http route points at the service.
    NothingPoints(String),
    /// A route that the BlueGreen names does not exist.
    NoSuchRoute(String),
    /// A named route does not send anything to the service.
    PointsElsewhere(String),
    /// The host is neither the service's short name nor its full one: as it is, as it should be.
    HalfHost(String, String),
    /// A `tcp` or `tls` route points at the service.
    NotHttp(&'static str),
    /// The route only delegates.
    Delegate,
    /// The route answers by itself (`redirect`, `directResponse`).
    NoDestination(&'static str),
    /// The route splits traffic between the service and another one.
    OtherService(String),
    /// The route names a subset that is not a color's.
    OwnSubset(String),
    /// The route splits traffic between subsets by itself.
    OwnSplit,
    /// The route matches on the color header.
    ReservedHeader,
    /// A match name carries the plan of another BlueGreen.
    Claimed(ServiceId),
    /// The match name with the plan is too long.
    NameTooLong {
        /// Its length.
        chars: usize,
        /// The most that is read.
        most: usize,
    },
    /// A catch-all in a delegate: the match that it would need can contradict the root's.
    DelegateCatchAll,
}

// === impl Reason ===

impl Reason {
    /// The reason of a condition.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Malformed(_) => "MalformedRoute",
            Reason::NothingPoints(_) => "NoRouteToService",
            Reason::NoSuchRoute(_) => "RouteNotFound",
            Reason::PointsElsewhere(_) => "RouteToOtherService",
            Reason::HalfHost(..) => "IncompleteHost",
            Reason::NotHttp(_) => "NotHTTP",
            Reason::Delegate => "DelegateRoute",
            Reason::NoDestination(_) => "RouteWithoutDestination",
            Reason::OtherService(_) => "SplitWithOtherService",
            Reason::OwnSubset(_) => "ForeignSubset",
            Reason::OwnSplit => "ForeignSplit",
            Reason::ReservedHeader => "ReservedHeader",
            Reason::Claimed(_) => "ClaimedByAnother",
            Reason::NameTooLong { .. } => "MatchNameTooLong",
            Reason::DelegateCatchAll => "DelegateWithoutMatch",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Malformed(what) => {
                write!(f, "{what}; write it as Istio's documentation of VirtualService says")
            }
            Reason::NothingPoints(host) => write!(
                f,
                "no http route has the destination {host}; add one, or name the right VirtualService in spec.routing.virtualService"
            ),
            Reason::NoSuchRoute(name) => write!(
                f,
                "there is no http route named `{name}`, which spec.routing.routes of the BlueGreen lists; name a route so, or take it off the list"
            ),
            Reason::PointsElsewhere(host) => write!(
                f,
                "spec.routing.routes of the BlueGreen lists it, but it has no destination {host}; point it there, or take it off the list"
            ),
            Reason::HalfHost(half, full) => write!(
                f,
                "istiod does not complete the host {half}, so this destination leads nowhere; write {full}, or the name without dots"
            ),
            Reason::NotHttp(kind) => write!(
                f,
                "a {kind} route points at the service, and colors need http routes; move that port to an http route, or list the managed http routes in spec.routing.routes so that this one stays as it is"
            ),
            Reason::Delegate => f.write_str(
                "it has no destination and delegates; name the VirtualService to which it delegates in spec.routing.virtualService",
            ),
            Reason::NoDestination(field) => write!(
                f,
                "it answers with `{field}` and has no destination; take it off spec.routing.routes"
            ),
            Reason::OtherService(host) => write!(
                f,
                "it splits traffic between the service and {host}, so the two colors' shares would not be what they say; give the service a route of its own"
            ),
            Reason::OwnSubset(subset) => write!(
                f,
                "its destination names subset `{subset}`, which is no color's and would be lost; remove the subset, or leave this route out of spec.routing.routes"
            ),
            Reason::OwnSplit => f.write_str(
                "it splits the service's traffic by itself, which a release would overwrite; leave one destination, or leave this route out of spec.routing.routes",
            ),
            Reason::ReservedHeader => write!(
                f,
                "it matches on {}, which Hueshift sets itself; match on a header of your own",
                hueshift_core::contract::COLOR_HEADER
            ),
            Reason::Claimed(id) => write!(
                f,
                "its match name carries a plan of another BlueGreen (id {id}); let only one BlueGreen manage it, or cut that plan off the name if its BlueGreen is gone"
            ),
            Reason::NameTooLong { chars, most } => write!(
                f,
                "its match name would have {chars} characters with the plan, and the proxies read {most}; shorten the name, or use fewer or shorter session keys"
            ),
            Reason::DelegateCatchAll => f.write_str(
                "it has no match in a VirtualService without hosts (a delegate), and istiod drops such a route when the match that carries the plan contradicts the root's; give it a match, such as the root's own",
            ),
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for RouteError {}
