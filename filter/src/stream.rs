//! One request, from its headers to its end.
//!
//! Host calls that return bytes: the route name; with two colors open all request headers at once; at the end
//! *either* the gRPC status *or* `:status` (read in the log phase, where response headers can be read again), so
//! two or three in all. More only where something went wrong: the response flags when no response came or it did
//! not end properly, the content type of a response without body that claims a gRPC status.
//! Request headers are never read after their phase: the proxy has dropped them by then.

use crate::flights::FlightId;
use crate::host::{Host, property};
use crate::vm::{Assigned, Vm};
use hueshift_core::outcome::{Ending, Outcome};

/// State of one request.
#[derive(Debug, Default)]
pub enum Stream {
    /// Not ours: no plan in its route, or not yet known.
    #[default]
    Inert,
    /// It drew a color and is in the books.
    Flying {
        /// Its place.
        flight: FlightId,
        /// Response headers were seen.
        answered: bool,
        /// The response was seen to its end.
        finished: bool,
        /// gRPC status.
        grpc: Option<u32>,
    },
}

// === impl Stream ===

impl Stream {
    /// Request headers: draws the color.
    pub fn on_request_headers(&mut self, vm: &mut Vm, host: &mut impl Host) {
        // A request whose headers come twice (a filter before us started it anew) is still one request.
        if let (Stream::Inert, Assigned::Booked(flight)) = (&self, vm.assign(host)) {
            *self = Stream::Flying { flight, answered: false, finished: false, grpc: None };
        }
    }

    /// Response headers.
    pub fn on_response_headers(&mut self, end_of_stream: bool, vm: &mut Vm, host: &mut impl Host) {
        let Stream::Flying { flight, answered, finished, grpc } = self else { return };
        *answered = true;
        *finished = end_of_stream;
        let now_us = host.now_us();
        if let Some(flight) = vm.flights.get_mut(*flight) {
            flight.first_byte_us.get_or_insert(now_us);
            flight.last_byte_us = now_us;
        }
        // A gRPC failure without messages is headers only. Asking for an absent header returns no bytes.
        if end_of_stream
            && let Some(code) = host.response_header("grpc-status")
            && host.response_header("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
        {
            *grpc = Some(grpc_code(&code));
        }
    }

    /// A piece of the response's body.
    pub fn on_response_body(&mut self, end_of_stream: bool, vm: &mut Vm, host: &mut impl Host) {
        let Stream::Flying { flight, finished, .. } = self else { return };
        *finished |= end_of_stream;
        if let Some(flight) = vm.flights.get_mut(*flight) {
            flight.last_byte_us = host.now_us();
        }
    }

    /// Response trailers: only gRPC puts its status there.
    pub fn on_response_trailers(&mut self, host: &mut impl Host) {
        let Stream::Flying { finished, grpc, .. } = self else { return };
        *finished = true;
        if let Some(code) = host.response_trailer("grpc-status") {
            *grpc = Some(grpc_code(&code));
        }
    }

    /// The end, in the log phase: every request has exactly one.
    pub fn on_end(&mut self, vm: &mut Vm, host: &mut impl Host) {
        let Stream::Flying { flight, answered, finished, grpc } = std::mem::take(self) else { return };
        let status = if answered && grpc.is_none() {
            host.response_header(":status").and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok())
        } else {
            None
        };
        let flags = if finished || grpc.is_some() {
            0
        } else {
            let flags = host.property(property::RESPONSE_FLAGS);
            flags.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        vm.land(flight, Outcome::classify(&Ending { status, grpc, finished, flags }), host);
    }

    /// The stream goes away; one that was never logged leaves no trace behind but its count.
    pub fn on_gone(&mut self, vm: &mut Vm, host: &mut impl Host) {
        if let Stream::Flying { flight, .. } = std::mem::take(self) {
            vm.land(flight, Outcome::Unknown, host);
        }
    }
}

/// A code that is no number means `UNKNOWN`, as gRPC clients take it.
fn grpc_code(text: &[u8]) -> u32 {
    const UNKNOWN: u32 = 2;
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use crate::fake_host::{Rig, route};
    use crate::host::property;
    use crate::problem::Problem;
    use crate::stream::Stream;
    use hueshift_core::color::Color;
    use hueshift_core::contract::Tally;

    /// The only lottery's counters, both colors' outcomes by name.
    fn tallies(rig: &mut Rig) -> (Tally, Tally) {
        rig.host.posts.clear();
        rig.vm.reporter.urgent = true;
        rig.pass_ms(4_000);
        let report = rig.reports().remove(0);
        let mut tallies = report.plans.into_iter().flat_map(|plan| plan.lotteries).map(|row| row.tallies);
        let found = tallies.next().unwrap();
        (found.blue, found.green)
    }

    #[test]
    fn byte_returning_calls_are_two_with_one_color_open_and_three_in_a_release() {
        for (limit, allowed) in [(0, 2), (500, 3), (10_000, 3)] {
            let mut rig = Rig::new();
            let route = route(1, 1, limit);
            rig.request(&route, "first", "200");
            rig.pass_ms(4_000);
            for status in ["200", "404", "500"] {
                let before = rig.host.byte_calls;
                rig.request(&route, "second", status);
                assert_eq!(rig.host.byte_calls - before, allowed, "limit {limit}, status {status}");
            }
        }
    }

    #[test]
    fn byte_returning_calls_stay_within_the_budget_for_grpc_too() {
        let mut rig = Rig::new();
        let route = route(1, 1, 500);
        rig.request(&route, "first", "200");
        for (code, errors) in [("0", 0), ("14", 1)] {
            let before = rig.host.byte_calls;
            let mut stream = rig.start(&route, "second");
            rig.host.response_headers.insert(":status".to_owned(), b"200".to_vec());
            stream.on_response_headers(false, &mut rig.vm, &mut rig.host);
            stream.on_response_body(false, &mut rig.vm, &mut rig.host);
            rig.host.response_trailers.insert("grpc-status".to_owned(), code.as_bytes().to_vec());
            stream.on_response_trailers(&mut rig.host);
            stream.on_end(&mut rig.vm, &mut rig.host);
            assert_eq!(rig.host.byte_calls - before, 3);
            let (blue, green) = tallies(&mut rig);
            assert_eq!(blue.errors + green.errors, errors);
        }
    }

    #[test]
    fn broken_ends_may_cost_one_or_two_calls_more() {
        let mut rig = Rig::new();
        let route = route(1, 1, 0);
        rig.request(&route, "first", "200");
        let before = rig.host.byte_calls;
        let mut stream = rig.start(&route, "reset before an answer");
        rig.host.properties.insert(property::RESPONSE_FLAGS.to_owned(), 0x10u64.to_le_bytes().to_vec());
        stream.on_end(&mut rig.vm, &mut rig.host);
        assert_eq!(rig.host.byte_calls - before, 2);
        let before = rig.host.byte_calls;
        let mut stream = rig.start(&route, "cut off within the answer");
        rig.host.response_headers.insert(":status".to_owned(), b"200".to_vec());
        stream.on_response_headers(false, &mut rig.vm, &mut rig.host);
        rig.host.properties.insert(property::RESPONSE_FLAGS.to_owned(), 0x40u64.to_le_bytes().to_vec());
        stream.on_end(&mut rig.vm, &mut rig.host);
        assert_eq!(rig.host.byte_calls - before, 3);
        let (blue, _) = tallies(&mut rig);
        assert_eq!((blue.outcomes["reset"], blue.outcomes["truncated"], blue.errors), (1, 1, 2));
    }

    #[test]
    fn a_client_that_went_away_counts_for_neither_color() {
        let mut rig = Rig::new();
        // Nor is it an event, whatever the answer said so far: there would be more of them than answers.
        rig.request(&route(1, 1, 0), "u", "200");
        rig.reply(
            r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":1000,"event_header":"x-fallback"}]}"#,
        );
        let mut stream = rig.start(&route(1, 1, 0), "u");
        rig.host.response_headers.insert("x-fallback".to_owned(), b"1".to_vec());
        rig.answer(&mut stream, "200");
        let mut stream = rig.start(&route(1, 1, 0), "u");
        rig.host.response_headers.insert("x-fallback".to_owned(), b"1".to_vec());
        rig.host.properties.insert(property::RESPONSE_FLAGS.to_owned(), 0x4000u64.to_le_bytes().to_vec());
        stream.on_end(&mut rig.vm, &mut rig.host);
        let (blue, green) = tallies(&mut rig);
        assert_eq!((blue.started, blue.completed, blue.outcomes["client_gone"], green.started), (3, 2, 1, 0));
        assert_eq!(blue.events, 1);
    }

    #[test]
    fn a_grpc_status_in_headers_counts_only_if_the_response_is_grpc() {
        for (kind, errors) in [("application/grpc+proto", 1), ("application/json", 0)] {
            let mut rig = Rig::new();
            let mut stream = rig.start(&route(1, 1, 0), "u");
            for (name, value) in [(":status", "200"), ("grpc-status", "13"), ("content-type", kind)] {
                rig.host.response_headers.insert(name.to_owned(), value.as_bytes().to_vec());
            }
            stream.on_response_headers(true, &mut rig.vm, &mut rig.host);
            stream.on_end(&mut rig.vm, &mut rig.host);
            assert_eq!(tallies(&mut rig).0.errors, errors, "{kind}");
        }
    }

    #[test]
    fn a_request_is_counted_once_whatever_callbacks_follow() {
        let mut rig = Rig::new();
        let mut stream = rig.start(&route(1, 1, 10_000), "u");
        stream.on_request_headers(&mut rig.vm, &mut rig.host);
        rig.answer(&mut stream, "200");
        rig.answer(&mut stream, "500");
        let mut unlogged = rig.start(&route(1, 1, 10_000), "v");
        unlogged.on_gone(&mut rig.vm, &mut rig.host);
        unlogged.on_end(&mut rig.vm, &mut rig.host);
        let (_, green) = tallies(&mut rig);
        assert_eq!((green.started, green.completed, green.errors, green.in_flight), (2, 1, 0, 0));
        assert_eq!(green.outcomes["unknown"], 1);
    }

    #[test]
    fn a_stream_that_was_never_started_ends_without_a_trace() {
        let mut rig = Rig::new();
        let mut stream = Stream::default();
        rig.answer(&mut stream, "200");
        assert_eq!(rig.host.byte_calls, 0);
    }

    #[test]
    fn a_second_instance_stays_inert() {
        let mut first = Rig::new();
        let mut second = Rig::new();
        let mut stream = first.start(&route(1, 1, 5000), "u");
        let color = first.host.color();
        std::mem::swap(&mut first.host, &mut second.host);
        let mut other = Stream::default();
        other.on_request_headers(&mut second.vm, &mut second.host);
        assert!(matches!(other, Stream::Inert));
        assert_eq!(second.host.color(), color);
        assert_eq!(second.problem(Problem::SecondInstance), 1);
        std::mem::swap(&mut first.host, &mut second.host);
        first.answer(&mut stream, "200");
        assert_eq!(first.problem(Problem::SecondInstance), 0);
        assert!(matches!(first.request(&route(1, 1, 5000), "u", "200"), Some(Color::Blue | Color::Green)));
    }
}
