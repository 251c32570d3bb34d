//! What all requests and ticks of one worker share, and the tick itself.
//!
//! One value per VM, not per plugin context: a change of the plugin's configuration makes a new context beside the
//! old one, whose requests still end in it, and a second instance of the plugin may be a context of the same VM.
//! The newest configuration holds; any living context may tick, and one that comes too soon does nothing.

use crate::books::{Entry, Opened};
use crate::config::Config;
use crate::flights::{Booking, Flight, FlightId, Flights};
use crate::host::{Host, Level, property};
use crate::metrics::Metrics;
use crate::plans::{Planned, Plans};
use crate::problem::{Problem, Problems};
use crate::report::Reporter;
use crate::service::{Service, Settings};
use crate::shared;
use crate::vec_map::VecMap;
use hueshift_core::color::Color;
use hueshift_core::contract::{COLOR_HEADER, ServiceId};
use hueshift_core::keys;
use hueshift_core::lottery::{ServiceKey, draw};
use hueshift_core::outcome::{Counts, Outcome};
use hueshift_core::route_plan::RoutePlan;
use hueshift_core::share::Bps;

/// Most (service, release) pairs that a worker keeps.
pub const MAX_SERVICES: usize = 64;
/// Time between ticks while a release is open: a cap that one worker received holds in all after this.
pub const TICK_OPEN_MS: u32 = 50;
/// Time between ticks otherwise.
pub const TICK_IDLE_MS: u32 = 1000;
/// A tick later than this by its own fault (a blocked worker, a jump of the clock) makes nobody older.
const LATE_US: u64 = 500_000;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// It drew a color and is in the books.
    Booked(FlightId),
    /// It drew a color but is not counted (a bound was reached).
    Steered,
    /// It is left alone.
    Untouched,
}

/// State of one worker.
#[derive(Debug, Default)]
pub struct Vm {
    /// The last configuration that could be used.
    pub config: Option<Config>,
    /// The newest one could not.
    pub misconfigured: bool,
    /// Requests in flight.
    pub flights: Flights,
    /// What went wrong.
    pub problems: Problems,
    /// Services by id and release.
    pub services: VecMap<(ServiceId, u32), Service>,
    /// Settings that the controller gave, by service.
    pub settings: VecMap<ServiceId, Settings>,
    /// Reports and replies.
    pub reporter: Reporter,
    plans: Plans,
    metrics: Metrics,
    /// The time between ticks that is wanted, and what each context was told.
    tick_ms: u32,
    told_ms: VecMap<u32, u32>,
    last_tick_us: Option<u64>,
    /// Requests without any key that ever were: their key.
    keyless: u64,
}

// === impl Vm ===

impl Vm {
    /// Takes a configuration. One that cannot be used (or has no keys) leaves the last good one in force, also one
    /// from before this VM was built; without any the filter is inert. It is never refused: that would cost every
    /// request an answer of Envoy's own, where going on costs nothing.
    pub fn configure(&mut self, context: u32, json: &[u8], host: &mut impl Host) {
        if shared::prepare(host).is_err() {
            self.problems.note(Problem::Shared);
        }
        let read = Config::parse(json);
        self.misconfigured = read.is_err();
        match read {
            Ok(Some(config)) => {
                if shared::keep_config(host, json).is_err() {
                    self.problems.note(Problem::Shared);
                }
                self.take(config);
                host.log(
                    Level::Info,
                    concat!("hueshift: filter ", env!("CARGO_PKG_VERSION"), " is configured"),
                );
            }
            Ok(None) => {
                let holds = self.go_on(host);
                host.log(Level::Info, &format!("hueshift: the plugin configuration has no keys: {holds}"));
            }
            Err(error) => {
                self.problems.note(Problem::Config);
                let holds = self.go_on(host);
                let line = format!("hueshift: the plugin configuration cannot be used: {error}; {holds}");
                host.log(Level::Error, &line);
            }
        }
        self.told_ms = VecMap::default();
        // A release may be open: its pace goes on.
        self.set_tick(context, if self.tick_ms == TICK_OPEN_MS { TICK_OPEN_MS } else { TICK_IDLE_MS }, host);
    }

    /// The last good configuration holds; says which that is.
    fn go_on(&mut self, host: &mut impl Host) -> &'static str {
        if self.config.is_none()
            && let Some(Ok(Some(config))) = shared::config(host).map(|json| Config::parse(&json))
        {
            self.take(config);
        }
        match self.config {
            Some(_) => "the last good one goes on",
            None => "the filter leaves all requests alone",
        }
    }

    fn take(&mut self, config: Config) {
        self.plans.clear();
        self.reporter.configure(config.report_ms);
        self.config = Some(config);
    }

    /// Request headers: finds the plan, draws the color and sets the header.
    pub fn assign(&mut self, host: &mut impl Host) -> Assigned {
        let Some(config) = &self.config else {
            self.problems.note(Problem::Inert);
            return Assigned::Untouched;
        };
        let Some(route_name) = host.property(property::ROUTE_NAME) else { return Assigned::Untouched };
        let Some(planned) = self.plans.find(route_name, config, &mut self.problems) else {
            return Assigned::Untouched;
        };
        // A mark on the stream is seen by every instance of the filter, also by one of another version in a VM of
        // its own; asking for a mark that is not there returns no bytes, and only managed routes come this far.
        if host.property(property::MARK).is_some() {
            self.problems.note(Problem::SecondInstance);
            return Assigned::Untouched;
        }
        let _ = host.set_property(property::MARK, b"1");

        let plan = &planned.plan;
        let now_us = host.now_us();
        let key = self.sight(plan, now_us, host);
        let Some(service) = self.services.get(&key) else { return Assigned::Untouched };
        let (limit, lottery_key) = match planned.key {
            Some(lottery_key) => (service.limit_in_force(plan), Some(lottery_key)),
            None => (Bps::ZERO, None),
        };
        let (color, slot) = match lottery_key.filter(|_| limit > Bps::ZERO) {
            Some(lottery_key) => self.draw(&planned, &lottery_key, limit, now_us, host),
            None => (plan.stable, None),
        };
        // Set in every case: a color that a client sent, or that an older plan left behind, must not steer.
        if host.set_request_header(COLOR_HEADER, color.as_str()).is_err() {
            self.problems.note(Problem::ColorRefused);
            return Assigned::Untouched;
        }
        self.book(plan, limit, color, slot, now_us)
    }

    /// The service of a plan, opened or brought up to date.
    fn sight(&mut self, plan: &RoutePlan, now_us: u64, host: &mut impl Host) -> (ServiceId, u32) {
        let key = (plan.id, plan.release);
        let news = match self.services.get_mut(&key) {
            Some(service) => service.sight(plan, now_us, host),
            None => {
                self.make_room();
                let settings = self.settings_of(plan.id);
                self.services.insert(key, Service::new(plan, settings, host));
                true
            }
        };
        if news {
            self.reporter.urgent = true;
            // Which context this request belongs to is not known here; each is told again at its next tick.
            self.told_ms = VecMap::default();
            self.tick_ms = TICK_OPEN_MS;
            host.tick_every(TICK_OPEN_MS);
        }
        key
    }

    fn settings_of(&self, id: ServiceId) -> Settings {
        if let Some(settings) = self.settings.get(&id) {
            return settings.clone();
        }
        let (fuse, hang_ms) =
            self.config.as_ref().map_or((None, u64::MAX), |config| (config.fuse, config.hang_ms));
        Settings { fuse, hang_ms, predictions: None, client_errors: false, event_header: String::new() }
    }

    /// The service that was unused for longest goes, with its books.
    fn make_room(&mut self) {
        if self.services.len() < MAX_SERVICES {
            return;
        }
        let oldest = self.services.values().min_by_key(|service| service.seen_us).map(|service| service.key);
        if let Some(service) = oldest.and_then(|key| self.services.remove(&key))
            && !service.books.settled()
        {
            self.problems.note(Problem::ServiceDropped);
        }
    }

    /// Draws with the session's key, else the request's.
    fn draw(
        &mut self,
        planned: &Planned,
        lottery_key: &ServiceKey,
        limit: Bps,
        now_us: u64,
        host: &mut impl Host,
    ) -> (Color, Option<u16>) {
        let plan = &planned.plan;
        let Some(raw) = host.request_headers() else {
            self.problems.note(Problem::Headers);
            return (plan.stable, None);
        };
        let found = keys::find(&raw, &plan.keys);
        if found.cut_short {
            self.problems.note(Problem::Headers);
            return (plan.stable, None);
        }
        let slot = match found.key.or(found.request_id) {
            Some(key) => lottery_key.slot(plan.release, key),
            None => {
                self.keyless = self.keyless.wrapping_add(1);
                let [once, when] = [self.keyless, now_us].map(u64::to_le_bytes);
                lottery_key.slot(plan.release, &[once, when].concat())
            }
        };
        (draw(slot, limit, plan.stable), Some(slot))
    }

    fn book(
        &mut self,
        plan: &RoutePlan,
        limit: Bps,
        color: Color,
        slot: Option<u16>,
        now_us: u64,
    ) -> Assigned {
        let key = (plan.id, plan.release);
        let Some(service) = self.services.get_mut(&key) else { return Assigned::Steered };
        let alone = plan.keys.is_empty();
        let lottery = match service.books.open(plan.epoch, limit, plan.stable, alone) {
            Opened::Ready(lottery) => lottery,
            Opened::Dropped(lottery) => {
                self.problems.note(Problem::LotteryDropped);
                lottery
            }
            Opened::Gone => {
                self.problems.note(Problem::LotteryGone);
                return Assigned::Steered;
            }
        };
        let booking = Booking { service: key, lottery, color };
        let flight = Flight {
            booking,
            slot,
            started_us: now_us,
            first_byte_us: None,
            last_byte_us: now_us,
            hung: false,
        };
        let Some(id) = self.flights.start(flight) else {
            self.problems.note(Problem::FlightsFull);
            return Assigned::Steered;
        };
        service.books.started(lottery, color, slot);
        Assigned::Booked(id)
    }

    /// A request ended.
    pub fn land(&mut self, id: FlightId, mut outcome: Outcome, host: &mut impl Host) {
        let Some(flight) = self.flights.end(id) else { return };
        let Booking { service: key, lottery, color } = flight.booking;
        if flight.hung {
            // It was counted as failed when it hung.
            if let Some(service) = self.services.get_mut(&key) {
                service.books.landed(lottery);
            }
            return;
        }
        let Some(service) = self.services.get_mut(&key) else { return };
        let mut prediction = None;
        if outcome == Outcome::Success
            && let Some(params) = &service.settings.predictions
            && let Some(text) = host.response_header(&params.header)
        {
            // The parser of the replies is at hand; another one would be a tenth of the module.
            prediction = serde_json::from_slice(&text).ok().and_then(|number| params.bin(number));
            if prediction.is_none() {
                outcome = Outcome::InvalidPrediction;
            }
        }
        let counts = outcome.counts_as();
        let Settings { client_errors, event_header, .. } = &service.settings;
        let event = (*client_errors && outcome == Outcome::ClientError)
            || (counts != Counts::Neither
                && !event_header.is_empty()
                && host.response_header(event_header).is_some());
        self.metrics.ended(key.0, color, counts == Counts::Error);
        let times_us = flight.first_byte_us.filter(|_| counts == Counts::Success).map(|first| {
            let since_start = |end: u64| end.saturating_sub(flight.started_us);
            (since_start(first), since_start(host.now_us()))
        });
        let entry = Entry { outcome, slot: flight.slot, times_us, prediction, event };
        service.books.ended(lottery, color, &entry);
        if counts != Counts::Neither {
            self.observe(key, color, flight.slot, counts == Counts::Error, host);
        }
    }

    /// Tells the fuse what became of a request.
    fn observe(
        &mut self,
        key: (ServiceId, u32),
        color: Color,
        slot: Option<u16>,
        error: bool,
        host: &mut impl Host,
    ) {
        if let (Some(slot), Some(service)) = (slot, self.services.get_mut(&key))
            && service.observe(color, slot, error, host, &mut self.problems)
        {
            self.reporter.urgent = true;
            let (id, release) = key;
            let trip = service.tripped();
            host.log(Level::Warn, &format!("hueshift: fuse of {id} tripped ({trip}) in release {release}"));
        }
    }

    /// A tick of the given plugin context.
    pub fn on_tick(&mut self, context: u32, host: &mut impl Host) {
        let now_us = host.now_us();
        let passed_us = self.last_tick_us.map_or(u64::MAX, |last_us| now_us.abs_diff(last_us));
        if passed_us < u64::from(TICK_OPEN_MS) * 1000 / 2 {
            return;
        }
        self.forgive_gap(now_us);
        let open: Vec<_> = self
            .services
            .values()
            .filter(|service| service.is_open(now_us))
            .map(|service| service.key)
            .collect();
        for key in &open {
            if let Some(service) = self.services.get_mut(key) {
                service.read_shared(host);
            }
        }
        self.find_hung(now_us, host);
        self.drop_superseded();
        self.services.values_mut().for_each(|service| service.books.renew(now_us));
        self.report(now_us, !open.is_empty(), host);
        self.metrics.flush(host, &mut self.problems);
        let busy = !open.is_empty() || self.reporter.urgent;
        self.set_tick(context, if busy { TICK_OPEN_MS } else { TICK_IDLE_MS }, host);
    }

    fn forgive_gap(&mut self, now_us: u64) {
        if let Some(last_us) = self.last_tick_us.replace(now_us) {
            self.reporter.grow_older(now_us.saturating_sub(last_us));
            let late_us = now_us.saturating_sub(last_us).saturating_sub(u64::from(self.tick_ms) * 1000);
            if late_us > LATE_US {
                self.flights.forgive(late_us);
            }
            if now_us < last_us {
                self.flights
                    .iter_mut()
                    .for_each(|flight| flight.last_byte_us = flight.last_byte_us.min(now_us));
            }
        }
    }

    /// Counts each request once as failed that the upstream has left without a byte for too long.
    fn find_hung(&mut self, now_us: u64, host: &mut impl Host) {
        let mut hung = Vec::new();
        for flight in self.flights.iter_mut().filter(|flight| !flight.hung) {
            let Some(service) = self.services.get_mut(&flight.booking.service) else { continue };
            let age_ms = now_us.saturating_sub(flight.last_byte_us) / 1000;
            if age_ms >= service.settings.hang_ms {
                flight.hung = true;
                service.books.hung(flight.booking.lottery, flight.booking.color, flight.slot);
                hung.push((flight.booking, flight.slot));
            }
        }
        for (Booking { service: key, color, .. }, slot) in hung {
            self.metrics.ended(key.0, color, true);
            self.observe(key, color, slot, true, host);
        }
    }

    /// A release that a newer one of the same service follows goes once the leader knows all of it.
    fn drop_superseded(&mut self) {
        let keys: Vec<_> = self.services.iter().map(|(key, _)| key).collect();
        let superseded =
            |key: &(ServiceId, u32)| keys.iter().any(|other| other.0 == key.0 && other.1 > key.1);
        self.services.retain(|key, service| !superseded(key) || !service.books.settled());
    }

    fn set_tick(&mut self, context: u32, ms: u32, host: &mut impl Host) {
        self.tick_ms = ms;
        if self.told_ms.get(&context) != Some(&ms) {
            self.told_ms.insert(context, ms);
            host.tick_every(ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_host::{Rig, route};
    use crate::service::QUIET_AFTER_US;
    use hueshift_core::contract::Tally;
    use std::collections::BTreeMap;

    fn colors(rig: &mut Rig, route: &str) -> Vec<Option<Color>> {
        (0..400).map(|n| rig.request(route, &format!("u{n}"), "200")).collect()
    }

    #[test]
    fn sessions_keep_their_color_and_raising_the_limit_moves_only_stable_ones() {
        let mut rig = Rig::new();
        let before = colors(&mut rig, &route(1, 1, 2000));
        assert_eq!(before, colors(&mut rig, &route(1, 1, 2000)));
        assert_eq!(before, colors(&mut Rig::new(), &route(1, 7, 2000)), "all workers and epochs agree");
        let after = colors(&mut rig, &route(1, 2, 4000));
        let greens = |colors: &[Option<Color>]| colors.iter().filter(|c| **c == Some(Color::Green)).count();
        assert!((50..110).contains(&greens(&before)) && (120..200).contains(&greens(&after)));
        assert!(before.iter().zip(&after).all(|(b, a)| *b != Some(Color::Green) || b == a));
        assert_ne!(before, colors(&mut rig, &route(2, 3, 2000)), "each release draws anew");
    }

    #[test]
    fn a_route_without_a_plan_is_left_alone() {
        let mut rig = Rig::new();
        for name in ["default", "", "theirs.hs2.x", "hs1.zz", "route.hs1.0123456789abcdef.r1"] {
            rig.start_with(name, &[("x-hueshift-color", "green"), ("x-user", "u")]);
            assert_eq!(rig.host.color().as_deref(), Some("green"), "{name}");
        }
        assert_eq!(rig.problem(Problem::BadPlan), 3);
        rig.pass_ms(20_000);
        assert!(rig.reports().is_empty(), "nothing seen, nothing to say");
        let mut bare = Rig::bare();
        assert_eq!(bare.request(&route(1, 1, 5000), "u", "200"), None, "not configured: inert");
    }

    #[test]
    fn a_color_that_a_client_sends_is_replaced() {
        let mut rig = Rig::new();
        for limit in [0, 1, 10_000] {
            for sent in ["green", "blue", "x"] {
                let headers =
                    [("x-user", "u"), ("X-Hueshift-Color", sent), ("x-hueshift-color", sent), ("a", "b")];
                rig.start_with(&route(1, 1, limit), &headers);
                let expected = if limit == 10_000 { "green" } else { "blue" };
                assert_eq!(rig.host.color().as_deref(), Some(expected), "limit {limit}, sent {sent}");
            }
        }
    }

    #[test]
    fn without_a_key_the_request_id_draws() {
        let mut rig = Rig::new();
        let mut draw = |headers: &[(&str, &str)]| {
            rig.start_with(&route(1, 1, 5000), headers);
            rig.host.color()
        };
        assert_eq!(draw(&[("x-user", "same")]), draw(&[("x-request-id", "other"), ("x-user", "same")]));
        assert_eq!(draw(&[("x-user", "same")]), draw(&[("x-request-id", "same")]));
        let drawn: Vec<_> = (0..64).map(|_| draw(&[])).collect();
        assert!(drawn.iter().any(|color| *color != drawn[0]), "no key at all: still a lottery");
    }

    #[test]
    fn where_requests_draw_for_themselves_a_part_of_stable_is_the_control() {
        let counted = |keys: &str| {
            let mut rig = Rig::new();
            let route = format!("hs1.0123456789abcdef.r1.e1.sb.l2000.pk.v1{keys}");
            (0..400).for_each(|n| _ = rig.request(&route, &format!("u{n}"), "500"));
            rig.pass_ms(50);
            rig.reports().remove(0).plans.remove(0).lotteries.remove(0).tallies
        };
        let alone = counted("");
        let control = alone.blue.control;
        assert!((50..110).contains(&control.started), "a fifth: {control:?}");
        assert_eq!((control.completed, control.errors), (control.started, control.started));
        assert!(alone.green.control.is_empty());
        assert!(counted(".kh-x-user").blue.control.is_empty(), "sessions that stick are no draws");
    }

    #[test]
    fn a_plan_with_an_unknown_mesh_key_sends_everybody_to_stable() {
        let mut rig = Rig::new();
        let unknown = route(1, 1, 10_000).replace(".v1.", ".v2.");
        assert_eq!(rig.request(&unknown, "u", "200"), Some(Color::Blue));
        assert_eq!(rig.problem(Problem::UnknownKey), 1);
    }

    #[test]
    fn unreadable_headers_and_refusals_never_hurt_a_request() {
        let mut rig = Rig::new();
        rig.host.headers_unreadable = true;
        assert_eq!(rig.request(&route(1, 1, 10_000), "u", "200"), Some(Color::Blue));
        assert_eq!(rig.problem(Problem::Headers), 1);
        rig.host.headers_unreadable = false;
        rig.host.refuse = true;
        assert_eq!(rig.request(&route(1, 1, 10_000), "u", "200"), None);
        rig.pass_ms(5_000);
        assert_eq!(rig.problem(Problem::ColorRefused), 1);
        assert!(rig.problem(Problem::Shared) > 0 && rig.problem(Problem::Metric) > 0);
    }

    #[test]
    fn strange_keys_draw_like_any_other() {
        let mut rig = Rig::new();
        let long = "k".repeat(8192);
        let route = route(1, 1, 5000);
        let first = rig.request(&route, &long, "200");
        assert_eq!(first, rig.request(&route, &long, "200"));
        let mut many: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), "v".into())).collect();
        many.push(("x-user".into(), long.clone()));
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        rig.start_with(&route, &many);
        assert_eq!(rig.host.color().as_deref(), first.map(Color::as_str));
        rig.host.request(&route, &[]);
        rig.host.request_headers.push((b"x-user".to_vec(), vec![0xff, 0xfe, 0]));
        rig.host.request_headers.push((vec![0xff], vec![0xff]));
        assert!(matches!(rig.vm.assign(&mut rig.host), Assigned::Booked(_)));
    }

    #[test]
    fn ticks_are_fast_while_a_release_is_open_and_slow_otherwise() {
        let mut rig = Rig::new();
        assert_eq!(rig.host.tick_ms, TICK_IDLE_MS);
        rig.request(&route(1, 1, 500), "u", "200");
        assert_eq!(rig.host.tick_ms, TICK_OPEN_MS, "at first sight");
        rig.pass_ms(30_000);
        assert_eq!(rig.host.tick_ms, TICK_OPEN_MS);
        rig.pass_ms(QUIET_AFTER_US / 1000);
        assert_eq!(rig.host.tick_ms, TICK_IDLE_MS, "nobody asks for it any more");
        rig.reply("{}");
        rig.request(&route(1, 2, 0), "u", "200");
        rig.pass_ms(100);
        assert_eq!(rig.host.tick_ms, TICK_IDLE_MS, "one color open");
    }

    #[test]
    fn a_silent_upstream_is_counted_once_as_hung_and_a_talking_one_never() {
        let mut rig = Rig::with(r#","hang_ms":2000"#);
        let route = route(1, 1, 10_000);
        let mut silent = rig.start(&route, "u");
        let mut talking = rig.start(&route, "v");
        talking.on_response_headers(false, &mut rig.vm, &mut rig.host);
        for _ in 0..10 {
            rig.pass_ms(1000);
            talking.on_response_body(false, &mut rig.vm, &mut rig.host);
            rig.reply("{}");
        }
        let green = rig.reports().pop().unwrap().plans.remove(0).lotteries.remove(0).tallies.green;
        assert_eq!((green.hung, green.in_flight, green.completed, green.errors), (1, 2, 1, 1));
        assert!(green.oldest_ms >= 8_500);
        rig.answer(&mut silent, "200");
        rig.answer(&mut talking, "200");
        rig.pass_ms(1000);
        let green = rig.reports().pop().unwrap().plans.remove(0).lotteries.remove(0).tallies.green;
        assert_eq!((green.hung, green.completed, green.errors, green.in_flight), (1, 2, 1, 0));
        assert_eq!(green.first_byte.values().sum::<u64>(), 1, "a hung request has no latency any more");
    }

    const PREDICTS: &str = r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":1000,
        "predictions":{"header":"x-prediction","min":0,"max":1,"bins":20}}]}"#;

    /// A whole request whose answer has this prediction.
    fn predicts(rig: &mut Rig, user: &str, status: &str, prediction: Option<&str>) {
        let mut stream = rig.start(&route(1, 1, 10_000), user);
        if let Some(prediction) = prediction {
            rig.host.response_headers.insert("x-prediction".to_owned(), prediction.as_bytes().to_vec());
        }
        rig.answer(&mut stream, status);
    }

    fn green(rig: &mut Rig) -> (Tally, Vec<u32>) {
        rig.pass_ms(1000);
        let row = rig.reports().pop().unwrap().plans.remove(0).lotteries.remove(0);
        (row.tallies.green, row.first_predictions)
    }

    #[test]
    fn predictions_are_counted_by_bin_and_each_session_tells_its_first() {
        let mut rig = Rig::new();
        predicts(&mut rig, "before anybody asked", "200", Some("0.5"));
        rig.reply(PREDICTS);
        for prediction in ["0.5", "0.99", "1", "0", "1e-3", " 0.07 "] {
            predicts(&mut rig, "u", "200", Some(prediction));
        }
        predicts(&mut rig, "says nothing", "200", None);
        predicts(&mut rig, "fails", "500", Some("0.5"));
        predicts(&mut rig, "asked wrongly", "404", Some("0.5"));
        let (tally, firsts) = green(&mut rig);
        assert_eq!(tally.predictions, BTreeMap::from([(0, 2), (1, 1), (10, 1), (19, 2)]));
        assert_eq!((tally.completed, tally.errors), (10, 1));
        assert_eq!(firsts.iter().map(|entry| entry % 64).collect::<Vec<_>>(), [10], "one session, one draw");
    }

    #[test]
    fn a_prediction_that_cannot_be_is_a_failure_of_the_answer() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 10_000), "u", "200");
        rig.reply(PREDICTS);
        let wrong = ["NaN", "inf", "-0.1", "1.01", "", "0.5, 0.6", "high", "0.5x", "1e999", "null", "[0.5]"];
        for prediction in wrong {
            predicts(&mut rig, "u", "200", Some(prediction));
        }
        let (tally, firsts) = green(&mut rig);
        assert_eq!(tally.outcomes["invalid_prediction"], wrong.len() as u64);
        assert_eq!((tally.errors, tally.predictions.len(), firsts.len()), (wrong.len() as u64, 0, 0));
        assert_eq!(tally.first_byte.values().sum::<u64>(), 1, "a failure has no latency");
    }

    #[test]
    fn a_reply_with_senseless_bins_changes_nothing_and_one_without_switches_predictions_off() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 10_000), "u", "200");
        rig.reply(PREDICTS);
        for (from, to) in [("20", "65"), ("20", "1"), ("\"max\":1", "\"max\":0"), ("x-prediction", "")] {
            rig.reply(&PREDICTS.replace(from, to));
        }
        assert_eq!(rig.problem(Problem::Reply), 4);
        predicts(&mut rig, "u", "200", Some("0.5"));
        rig.reply(r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":1000}]}"#);
        predicts(&mut rig, "u", "200", Some("0.5"));
        assert_eq!(green(&mut rig).0.predictions.values().sum::<u64>(), 1);
    }

    const EVENTS: &str = r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":1000,
        "client_errors":true,"event_header":"x-fallback"}]}"#;

    /// What was counted of these answers, a session each: status, and whether they carry the header.
    fn events(rig: &mut Rig, answers: &[(&str, bool)]) -> (Tally, Vec<u16>) {
        for (at, (status, fallback)) in answers.iter().enumerate() {
            let mut stream = rig.start(&route(1, 1, 10_000), &format!("u{at}"));
            if *fallback {
                rig.host.response_headers.insert("x-fallback".to_owned(), b"0".to_vec());
            } else {
                rig.host.response_headers.remove("x-fallback");
            }
            rig.answer(&mut stream, status);
        }
        rig.pass_ms(1000);
        let row = rig.reports().pop().unwrap().plans.remove(0).lotteries.remove(0);
        (row.tallies.green, row.event_slots)
    }

    #[test]
    fn what_was_asked_for_is_an_event_and_no_failure() {
        let answers =
            [("200", false), ("404", false), ("200", true), ("422", true), ("503", false), ("500", true)];
        let mut rig = Rig::new();
        let (tally, slots) = events(&mut rig, &answers);
        assert_eq!((tally.events, slots.len()), (0, 0), "nobody asked");
        rig.reply(EVENTS);
        let (tally, slots) = events(&mut rig, &answers);
        assert_eq!((tally.completed, tally.errors, tally.events, slots.len()), (12, 4, 4, 4));
        rig.reply(&EVENTS.replace("true", "false"));
        assert_eq!(events(&mut rig, &answers).0.events, 4 + 3, "the header alone");
        rig.reply(&EVENTS.replace("x-fallback", ""));
        assert_eq!(events(&mut rig, &answers).0.events, 7 + 2, "client errors alone");
    }

    #[test]
    fn hanging_requests_trip_the_fuse_as_failing_ones_do() {
        let mut rig = Rig::with(r#","hang_ms":2000"#);
        let route = route(1, 1, 10_000);
        let _open: Vec<_> = (0..8).map(|n| rig.start(&route, &format!("u{n}"))).collect();
        rig.pass_ms(1_900);
        assert_eq!(rig.request(&route, "v", "404"), Some(Color::Green));
        rig.pass_ms(300);
        rig.pass_ms(1_000);
        assert_eq!(
            rig.request(&route, "v", "200"),
            Some(Color::Blue),
            "nobody is sent into the void any more"
        );
    }

    #[test]
    fn a_late_tick_or_a_jumping_clock_makes_nobody_hang() {
        let mut rig = Rig::with(r#","hang_ms":2000"#);
        let _flight = rig.start(&route(1, 1, 10_000), "u");
        rig.pass_ms(500);
        rig.host.now_us += 3_600_000_000;
        rig.pass_ms(1000);
        rig.host.now_us -= 7_200_000_000;
        rig.pass_ms(500);
        rig.reply("{}");
        rig.pass_ms(500);
        let row = rig.reports().pop().unwrap().plans.remove(0).lotteries.remove(0);
        assert_eq!(row.tallies.green.hung, 0);
    }

    #[test]
    fn memory_stays_bounded_whatever_is_seen() {
        let mut rig = Rig::new();
        for service in 0..300u32 {
            let plan = format!("hs1.{service:016x}.r1.e1.sb.l5000.pk.v1");
            rig.request(&plan, "u", "200");
        }
        assert_eq!(rig.vm.services.len(), MAX_SERVICES);
        assert!(rig.problem(Problem::ServiceDropped) > 0);
        for epoch in 1..300 {
            rig.request(&route(1, epoch, 5000), "u", "200");
        }
        assert!(rig.problem(Problem::LotteryDropped) > 0);
        let _open: Vec<_> = (0..20_000).map(|_| rig.start(&route(1, 300, 5000), "u")).collect();
        assert!(rig.problem(Problem::FlightsFull) > 0);
        rig.pass_ms(1000);
        let body = &rig.host.posts[0].1;
        assert!(body.len() < hueshift_core::contract::MAX_REPORT_BYTES, "{}", body.len());
    }

    #[test]
    fn statistics_are_kept_by_color() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 10_000), "u", "500");
        rig.request(&route(1, 1, 10_000), "v", "200");
        rig.request("hs1.zz", "v", "200");
        rig.pass_ms(100);
        let name = |what: &str| format!("component.green.tag.0123456789abcdef;.hueshift_{what}");
        assert_eq!((rig.host.counter(&name("requests")), rig.host.counter(&name("errors"))), (2, 1));
        assert_eq!(rig.host.counter("component.bad_plan.hueshift_problems"), 1);
    }

    #[test]
    fn an_unusable_configuration_leaves_the_last_good_one_in_force() {
        let mut rig = Rig::new();
        for (context, json) in
            [(2, r#"{"cluster":"","keys":[{"version":1,"hex":"00"}]}"#), (3, "{"), (4, "{}")]
        {
            rig.vm.configure(context, json.as_bytes(), &mut rig.host);
            assert!(rig.request(&route(1, 1, 500), "u", "200").is_some(), "{json}");
        }
        assert_eq!(rig.problem(Problem::Config), 2, "no keys is no mistake");
        assert!(rig.host.lines.iter().any(|line| line.contains("cluster") && line.contains("goes on")));
        rig.vm.configure(1, b"{", &mut rig.host);
        rig.pass_ms(100);
        let first = rig.reports().remove(0).problems["config"];
        rig.reply("{}");
        rig.pass_ms(300);
        assert!(rig.reports().remove(0).problems["config"] > first, "it is said again as long as it lasts");
    }

    #[test]
    fn the_last_good_configuration_survives_the_vm() {
        let mut rig = Rig::new();
        let before = rig.request(&route(1, 1, 5000), "u", "200");
        for json in ["{", ""] {
            rig.vm = Vm::default();
            rig.vm.configure(7, json.as_bytes(), &mut rig.host);
            assert_eq!(rig.request(&route(1, 1, 5000), "u", "200"), before, "{json}");
            assert!(before.is_some());
        }
    }

    #[test]
    fn without_any_usable_configuration_every_request_is_left_alone_and_counted() {
        for json in ["", "{}", "{", r#"{"cluster":"c","keys":[]}"#] {
            let mut rig = Rig::bare();
            rig.vm.configure(1, json.as_bytes(), &mut rig.host);
            rig.start_with(&route(1, 1, 5000), &[("x-hueshift-color", "green")]);
            assert_eq!(rig.host.color().as_deref(), Some("green"), "{json}: untouched");
            rig.pass_ms(1000);
            assert_eq!(rig.host.counter("component.inert.hueshift_problems"), 1, "{json}");
            assert!(rig.reports().is_empty(), "there is nobody to report to");
        }
    }
}
