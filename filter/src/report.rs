//! Reports out, replies in.
//!
//! One report is in flight at a time. A failed one costs nothing: what it carried is still unacknowledged and goes
//! out with the next. A reply may be anything (the controller's address may be wrong, or taken over): it is read
//! up to a bound, and all it can do is lower the candidate, lift a trip that we reported, and change settings
//! within sense.

use crate::flights::Booking;
use crate::host::{Host, Level};
use crate::problem::Problem;
use crate::service::{QUIET_AFTER_US, Settings};
use crate::shared::{self, SharedCap};
use crate::vec_map::VecMap;
use crate::vm::Vm;
use hueshift_core::contract::{
    LotteryReport, MAX_REPLY_BYTES, MAX_REPLY_ENTRIES, MAX_REPORT_BYTES, PlanReport, REPORT_IDLE_MS,
    REPORT_MS, REPORT_PATH, Reply, Report,
};

/// How long we wait for an answer.
const TIMEOUT_MS: u32 = 1000;
/// After this time an answer that never came is given up (its context may be gone).
const GIVE_UP_US: u64 = 3_000_000;
/// Bounds of the time between reports.
const REPORT_MS_RANGE: std::ops::RangeInclusive<u32> = 50..=60_000;

/// State of the conversation with the controller.
#[derive(Debug, Default)]
pub struct Reporter {
    /// Report with the next tick, whatever the interval says.
    pub urgent: bool,
    identity: Option<Identity>,
    seq: u64,
    term: Option<u64>,
    report_ms: u32,
    last_us: Option<u64>,
    /// When the report was sent whose answer is awaited.
    waiting_since_us: Option<u64>,
    /// What the last report promised about the next one, ms; 0: nothing.
    promised_ms: u32,
    /// Time since this VM was built, as ticks saw it pass.
    age_us: u64,
}

/// Who reports.
#[derive(Debug, Clone)]
struct Identity {
    proxy: String,
    vm: u64,
    incarnation: u64,
}

/// Requests in flight of one color in one lottery.
#[derive(Debug, Default)]
struct Gauge {
    in_flight: u32,
    oldest_us: u64,
}

// === impl Reporter ===

impl Reporter {
    /// Takes the interval of the plugin's configuration; a reply changes it.
    pub fn configure(&mut self, report_ms: u32) {
        self.report_ms = report_ms;
    }

    /// A tick came this long after the last one.
    pub fn grow_older(&mut self, passed_us: u64) {
        self.age_us = self.age_us.saturating_add(passed_us);
    }

    /// The time between reports.
    fn every_ms(&self, open: bool) -> u32 {
        match (open, self.report_ms) {
            (false, _) => REPORT_IDLE_MS,
            (true, 0) => REPORT_MS,
            (true, ms) => ms,
        }
    }

    fn is_due(&mut self, now_us: u64, open: bool) -> bool {
        if let Some(since_us) = self.waiting_since_us {
            if now_us.abs_diff(since_us) < GIVE_UP_US {
                return false;
            }
            self.waiting_since_us = None;
        }
        // What was promised is kept, also when the pace slows down.
        let every_ms = match self.promised_ms {
            0 => self.every_ms(open),
            promised => self.every_ms(open).min(promised),
        };
        // A tick comes a little early or late; half of one is near enough.
        let every_us = u64::from(every_ms) * 1000 - 10_000;
        self.urgent || self.last_us.is_none_or(|last_us| now_us.abs_diff(last_us) >= every_us)
    }

    fn identity(&mut self, host: &mut impl Host) -> Option<Identity> {
        if self.identity.is_none() {
            let (vm, incarnation) = shared::draw_vm(host).ok()?;
            let node = host.property(crate::host::property::NODE_ID).unwrap_or_default();
            let proxy = String::from_utf8_lossy(&node).into_owned();
            self.identity = Some(Identity { proxy, vm, incarnation });
        }
        self.identity.clone()
    }
}

// === impl Vm, reports ===

impl Vm {
    /// Sends a report if one is due.
    pub(crate) fn report(&mut self, now_us: u64, open: bool, host: &mut impl Host) {
        let used = |seen_us: u64| now_us.abs_diff(seen_us) < 60 * QUIET_AFTER_US;
        let wanted = self.services.values().any(|service| used(service.seen_us) || !service.books.settled());
        // The last report before a long quiet takes its promise back.
        if !(wanted || self.reporter.promised_ms > 0) || !self.reporter.is_due(now_us, open) {
            return;
        }
        let Some(config) = &self.config else { return };
        let cluster = config.cluster.clone();
        let Some(identity) = self.reporter.identity(host) else {
            self.problems.note(Problem::Shared);
            return;
        };
        self.problems.note_many(Problem::Config, u64::from(self.misconfigured));
        self.reporter.seq += 1;
        self.reporter.last_us = Some(now_us);
        let next_ms = if wanted { self.reporter.every_ms(open) } else { 0 };
        let report = Report {
            proxy: identity.proxy,
            vm: identity.vm,
            incarnation: identity.incarnation,
            seq: self.reporter.seq,
            age_ms: self.reporter.age_us / 1000,
            next_ms,
            plans: self.rows(now_us),
            problems: self.problems.to_wire(),
        };
        let sent = serde_json::to_vec(&report)
            .map_err(drop)
            .and_then(|body| host.post(&cluster, REPORT_PATH, &body, TIMEOUT_MS).map_err(drop));
        match sent {
            Ok(()) => {
                self.reporter.urgent = false;
                self.reporter.promised_ms = next_ms;
                self.reporter.waiting_since_us = Some(now_us);
            }
            Err(()) => {
                // Tried again at the usual pace; the books are still due.
                self.reporter.urgent = false;
                self.problems.note(Problem::Report);
            }
        }
    }

    /// What has to be said about each service, as much as fits; the services take turns at being first.
    fn rows(&mut self, now_us: u64) -> Vec<PlanReport> {
        let gauges = self.gauges(now_us);
        let seq = self.reporter.seq;
        let mut keys: Vec<_> = self.services.iter().map(|(key, _)| key).collect();
        let turn = usize::try_from(seq).unwrap_or_default().checked_rem(keys.len()).unwrap_or_default();
        keys.rotate_left(turn);
        let mut left = MAX_REPORT_BYTES * 3 / 4;
        let mut plans = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(service) = self.services.get_mut(&key) else { continue };
            let mut lotteries = Vec::new();
            for number in service.books.due() {
                if left < MAX_ROW_BYTES {
                    break;
                }
                let Some(mut row) = service.books.row(number, seq) else { continue };
                for color in hueshift_core::color::Color::BOTH {
                    let booking = Booking { service: key, lottery: number, color };
                    let tally = row.tallies.get_mut(color);
                    if let Some(gauge) = gauges.get(&booking) {
                        tally.in_flight = gauge.in_flight;
                        tally.oldest_ms = gauge.oldest_us / 1000;
                    }
                }
                left = left.saturating_sub(row_bytes(&row));
                lotteries.push(row);
            }
            plans.push(PlanReport {
                id: key.0,
                release: key.1,
                epoch: service.epoch,
                tripped: service.tripped(),
                lotteries,
            });
        }
        plans
    }

    fn gauges(&self, now_us: u64) -> VecMap<Booking, Gauge> {
        let mut gauges: VecMap<Booking, Gauge> = VecMap::default();
        for flight in self.flights.iter() {
            let Some(gauge) = gauges.or_default(flight.booking) else { continue };
            gauge.in_flight += 1;
            gauge.oldest_us = gauge.oldest_us.max(now_us.saturating_sub(flight.last_byte_us));
        }
        gauges
    }

    /// The answer to a report, or that there is none (`ok` false).
    pub fn on_answer(&mut self, ok: bool, body_size: usize, host: &mut impl Host) {
        self.reporter.waiting_since_us = None;
        if !ok || host.call_status().as_deref() != Some(b"200") {
            self.problems.note(Problem::Report);
            return;
        }
        if body_size > MAX_REPLY_BYTES {
            self.problems.note(Problem::Reply);
            return;
        }
        let body = host.call_body(MAX_REPLY_BYTES).unwrap_or_default();
        // The parser skips unknown fields without recursion and refuses nesting deeper than 128 elsewhere; the size
        // is bounded above. It would also take an array for a struct.
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        match serde_json::from_slice::<Reply>(&body) {
            Ok(reply) if is_object => self.obey(&reply, host),
            _ => self.problems.note(Problem::Reply),
        }
    }

    fn obey(&mut self, reply: &Reply, host: &mut impl Host) {
        // Caps first: they are what may not wait.
        for cap in reply.caps.iter().take(MAX_REPLY_ENTRIES) {
            if let Some(service) = self.services.get_mut(&(cap.id, cap.release)) {
                service.lower(SharedCap { max: cap.max, pins: cap.pins }, host, &mut self.problems);
            }
        }
        for rearm in reply.rearm.iter().take(MAX_REPLY_ENTRIES) {
            if let Some(service) = self.services.get_mut(&(rearm.id, rearm.release)) {
                service.rearm(rearm.trip, rearm.probe, host, &mut self.problems);
            }
        }
        for params in reply.params.iter().take(MAX_REPLY_ENTRIES) {
            let settings = Settings {
                fuse: params.fuse,
                hang_ms: params.hang_ms,
                predictions: params.predictions.clone(),
                client_errors: params.client_errors,
                event_header: params.event_header.clone(),
            };
            let mut known = false;
            let mut sound = params.hang_ms > 0 && params.predictions.as_ref().is_none_or(|p| p.is_sound());
            if sound {
                for service in self.services.values_mut().filter(|service| service.key.0 == params.id) {
                    known = true;
                    sound &= service.set(settings.clone());
                }
            }
            if !sound {
                self.problems.note(Problem::Reply);
            } else if known {
                self.settings.insert(params.id, settings);
            }
        }
        self.settings.retain(|id, _| self.services.iter().any(|((known, _), _)| known == *id));
        if reply.report_ms != 0 {
            self.reporter.report_ms = reply.report_ms.clamp(*REPORT_MS_RANGE.start(), *REPORT_MS_RANGE.end());
        }
        match self.reporter.term.replace(reply.term) {
            Some(term) if term != reply.term => {
                host.log(Level::Info, &format!("hueshift: the controller's term is {} now", reply.term));
                self.services.values_mut().for_each(|service| service.books.forget_acks());
            }
            _ => {
                let ack = reply.ack.min(self.reporter.seq);
                self.services.values_mut().for_each(|service| service.books.acked(ack));
            }
        }
    }
}

/// Most bytes of one row: full histograms of both colors and as many slots as a row carries.
const MAX_ROW_BYTES: usize = 122 * 1024;

/// About the bytes that a row takes, never less.
fn row_bytes(row: &LotteryReport) -> usize {
    let tally = |tally: &hueshift_core::contract::Tally| {
        let buckets = tally.first_byte.len() + tally.total.len() + tally.predictions.len();
        400 + 40 * tally.outcomes.len() + 28 * buckets
    };
    let firsts = 11 * row.first_times.len() + 8 * row.first_predictions.len();
    let slots = 6 * (row.error_slots.len() + row.done_slots.len() + row.event_slots.len());
    200 + tally(&row.tallies.blue) + tally(&row.tallies.green) + slots + firsts
}

#[cfg(test)]
mod tests {
    use super::{MAX_ROW_BYTES, row_bytes};
    use crate::books::MAX_SLOTS_PER_ROW;
    use crate::fake_host::{Rig, route};
    use crate::host::Host;
    use crate::problem::Problem;
    use crate::shared::{self, SharedTrip};
    use crate::vm::Vm;
    use hueshift_core::color::Color;
    use hueshift_core::contract::{LotteryReport, PREDICTION_BINS, Report, ServiceId, TIME_BUCKETS};
    use hueshift_core::outcome::Outcome;

    const ID: &str = "0123456789abcdef";

    #[test]
    fn a_row_takes_no_more_bytes_than_it_is_counted_for() {
        let counts = |n: u16| (0..n).map(|place| (place, 1 << 40)).collect();
        let full = hueshift_core::contract::Tally {
            started: 1 << 40,
            completed: 1 << 40,
            errors: 1 << 40,
            outcomes: Outcome::ALL.iter().map(|outcome| (outcome.name().to_owned(), 1 << 40)).collect(),
            first_byte: counts(256),
            total: counts(256),
            predictions: counts(64),
            ..Default::default()
        };
        let slots = || (0u16..).take(MAX_SLOTS_PER_ROW).map(|slot| 9_999 - slot).collect::<Vec<u16>>();
        let row = LotteryReport {
            tallies: hueshift_core::color::PerColor { blue: full.clone(), green: full },
            error_slots: slots().into_iter().chain(slots()).collect(),
            done_slots: slots(),
            event_slots: slots(),
            first_times: vec![(9_999 * TIME_BUCKETS + 415) * TIME_BUCKETS + 415; MAX_SLOTS_PER_ROW],
            first_predictions: vec![9_999 * PREDICTION_BINS + 63; MAX_SLOTS_PER_ROW],
            ..LotteryReport::default()
        };
        let written = serde_json::to_vec(&row).unwrap().len();
        assert!(
            written <= row_bytes(&row) && row_bytes(&row) <= MAX_ROW_BYTES,
            "{written}, {}",
            row_bytes(&row)
        );
        // The entries by themselves, without the room that histograms leave.
        let entries = LotteryReport { first_times: row.first_times.clone(), ..LotteryReport::default() };
        let (none, some) = (LotteryReport::default(), serde_json::to_vec(&entries).unwrap().len());
        assert!(
            some - serde_json::to_vec(&none).unwrap().len() <= row_bytes(&entries) - row_bytes(&none) + 20
        );
    }

    fn key(release: u32) -> (ServiceId, u32) {
        (ServiceId::parse(ID).unwrap(), release)
    }

    fn cap(release: u32, max: u16) -> String {
        format!(
            r#"{{"term":1,"ack":0,"report_ms":250,"caps":[{{"id":"{ID}","release":{release},"max":{max},"pins":"void"}}]}}"#
        )
    }

    fn green_of_100(rig: &mut Rig, route: &str) -> usize {
        (0..100).filter(|n| rig.request(route, &format!("u{n}"), "200") == Some(Color::Green)).count()
    }

    fn rows(report: &Report) -> Vec<&LotteryReport> {
        report.plans.iter().flat_map(|plan| &plan.lotteries).collect()
    }

    #[test]
    fn a_report_goes_out_at_first_sight_then_at_the_interval_news_or_not() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 500), "u", "200");
        rig.pass_ms(50);
        let first = rig.reports().remove(0);
        assert_eq!((first.proxy.as_str(), first.vm, first.seq), ("gw-1", 1, 1));
        assert_eq!((first.incarnation, first.plans[0].epoch), (1_700_000_000_000, 1));
        for seq in 2..6 {
            rig.reply(&format!(r#"{{"term":1,"ack":{}}}"#, seq - 1));
            rig.pass_ms(250);
            let reports = rig.reports();
            assert_eq!((reports.len(), reports[0].seq), (1, seq));
            assert!(rows(&reports[0]).is_empty(), "all is acknowledged");
        }
        rig.reply("{}");
        rig.request(&route(1, 2, 500), "u", "200");
        rig.pass_ms(50);
        assert_eq!(rig.reports()[0].plans[0].epoch, 2, "a new epoch is reported at once");
    }

    #[test]
    fn with_one_color_open_reports_are_slow() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 0), "u", "200");
        rig.pass_ms(1000);
        assert_eq!(rig.reports().len(), 1);
        rig.reply("{}");
        rig.pass_ms(8000);
        assert_eq!(rig.reports().len(), 0);
        rig.pass_ms(2000);
        assert_eq!(rig.reports().len(), 1);
    }

    #[test]
    fn what_a_report_promises_about_the_next_one_is_kept_also_when_the_pace_slows() {
        let mut rig = Rig::new();
        let mut promise = 0;
        let mut promises = Vec::new();
        rig.request(&route(1, 1, 500), "u", "200");
        let mut waited = 0;
        // An hour and more: a release, then quiet, then nobody knows of it.
        for _ in 0..8_000 {
            let tick_ms = u64::from(rig.host.tick_ms);
            rig.pass_ms(tick_ms);
            waited += tick_ms;
            for report in rig.reports() {
                assert!(
                    promise == 0 || waited <= u64::from(promise) + tick_ms,
                    "{waited} ms, promised {promise}"
                );
                (promise, waited) = (report.next_ms, 0);
                if promises.last() != Some(&promise) {
                    promises.push(promise);
                }
                rig.reply(&format!(r#"{{"term":1,"ack":{}}}"#, report.seq));
            }
        }
        assert_eq!(promises, [250, 10_000, 0]);
    }

    #[test]
    fn a_report_tells_how_old_its_vm_is() {
        let mut rig = Rig::new();
        rig.pass_ms(30_000);
        rig.request(&route(1, 1, 500), "u", "200");
        rig.pass_ms(1_000);
        let age_ms = rig.reports()[0].age_ms;
        assert!((29_000..=31_000).contains(&age_ms), "{age_ms}");
    }

    #[test]
    fn an_unanswered_report_is_waited_for_and_its_news_is_sent_again() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 5000), "u", "500");
        rig.pass_ms(2000);
        let reports = rig.reports();
        assert_eq!(reports.len(), 1, "one in flight at a time");
        rig.vm.on_answer(false, 0, &mut rig.host);
        rig.pass_ms(300);
        let again = rig.reports().remove(0);
        assert_eq!((again.seq, rows(&again)), (2, rows(&reports[0])));
        assert_eq!(rig.problem(Problem::Report), 1);
        rig.pass_ms(4000);
        assert!(!rig.reports().is_empty(), "an answer that never comes is given up");
    }

    #[test]
    fn what_is_acked_is_not_sent_again_until_the_term_changes() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 10_000), "u", "500");
        rig.pass_ms(50);
        let first = rig.reports().remove(0);
        assert_eq!(rows(&first)[0].error_slots.len(), 1);
        rig.reply(r#"{"term":1,"ack":1}"#);
        rig.pass_ms(250);
        assert!(rows(&rig.reports()[0]).is_empty());
        rig.reply(r#"{"term":2,"ack":2}"#);
        rig.pass_ms(250);
        assert_eq!(rows(&rig.reports()[0]), rows(&first));
        rig.reply(r#"{"term":2,"ack":1}"#);
        rig.pass_ms(250);
        assert_eq!(rows(&rig.reports()[0]), rows(&first), "an ack of an older report covers nothing newer");
    }

    #[test]
    fn a_cap_stops_the_candidate_of_its_release_only() {
        let mut rig = Rig::new();
        assert!(green_of_100(&mut rig, &route(1, 1, 5000)) > 20);
        rig.reply(&cap(1, 0));
        assert_eq!(green_of_100(&mut rig, &route(1, 1, 5000)), 0);
        assert_eq!(green_of_100(&mut rig, &route(1, 2, 10_000)), 0, "a later epoch does not lift it");
        assert!(green_of_100(&mut rig, &route(2, 3, 5000)) > 20, "the next release is free");
        rig.reply(&cap(9, 0));
        assert!(green_of_100(&mut rig, &route(2, 3, 5000)) > 20, "a cap of a release never seen");
    }

    #[test]
    fn no_reply_raises_the_candidate() {
        let mut rig = Rig::new();
        let before = green_of_100(&mut rig, &route(1, 1, 2000));
        rig.reply(&cap(1, 10_000));
        assert_eq!(green_of_100(&mut rig, &route(1, 1, 2000)), before);
        rig.reply(&cap(1, 500));
        let lower = green_of_100(&mut rig, &route(1, 1, 2000));
        assert!(lower < before);
        for hostile in [cap(1, 10_000), cap(1, 9000), cap(1, 501)] {
            rig.reply(&hostile.replace("void", "keep"));
            assert_eq!(green_of_100(&mut rig, &route(1, 1, 2000)), lower);
        }
    }

    #[test]
    fn a_cap_reaches_the_other_workers_within_a_tick_and_outlives_a_vm() {
        let mut rig = Rig::new();
        let route = route(1, 1, 5000);
        rig.request(&route, "u", "200");
        let mut other = Vm::default();
        std::mem::swap(&mut rig.vm, &mut other);
        let json = format!(r#"{{"cluster":"ctl","keys":[{{"version":1,"hex":"{}"}}]}}"#, "ab".repeat(32));
        rig.vm.configure(1, json.as_bytes(), &mut rig.host);
        assert!(green_of_100(&mut rig, &route) > 20);
        std::mem::swap(&mut rig.vm, &mut other);
        rig.reply(&cap(1, 0));
        std::mem::swap(&mut rig.vm, &mut other);
        rig.pass_ms(50);
        assert_eq!(green_of_100(&mut rig, &route), 0, "the other worker");
        rig.vm = Vm::default();
        rig.vm.configure(1, json.as_bytes(), &mut rig.host);
        assert_eq!(green_of_100(&mut rig, &route), 0, "a rebuilt one, from its first request on");
        rig.pass_ms(100);
        let vms: Vec<u64> = rig.reports().iter().map(|report| report.vm).collect();
        assert_eq!(vms.last(), Some(&2), "a rebuilt VM draws a new number: {vms:?}");
    }

    #[test]
    fn the_fuse_trips_for_all_workers_and_is_reported_at_once() {
        let mut rig = Rig::new();
        let route = route(1, 1, 10_000);
        rig.pass_ms(50);
        for n in 0..7 {
            rig.request(&route, &format!("u{n}"), "503");
        }
        rig.pass_ms(50);
        rig.reply("{}");
        rig.reports();
        assert_eq!(rig.request(&route, "u7", "503"), Some(Color::Green));
        assert_eq!(rig.request(&route, "u8", "200"), Some(Color::Blue), "tripped by the eighth");
        rig.pass_ms(50);
        assert_eq!(rig.reports()[0].plans[0].tripped, 1);
        assert_eq!(shared::trip(&mut rig.host, key(1)), SharedTrip { number: 1, tripped: true, probe: 0 });
        rig.pass_ms(60_000);
        assert_eq!(green_of_100(&mut rig, &route), 0, "latched");
    }

    #[test]
    fn only_the_number_of_the_trip_in_force_rearms_and_a_cap_still_holds() {
        let mut rig = Rig::new();
        let route = route(1, 1, 10_000);
        (0..8).for_each(|n| _ = rig.request(&route, &format!("u{n}"), "503"));
        let rearm = |trip: u32| {
            format!(r#"{{"term":1,"rearm":[{{"id":"{ID}","release":1,"trip":{trip},"probe":3}}]}}"#)
        };
        rig.reply(&rearm(2));
        rig.reply(&rearm(0));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Blue));
        rig.reply(&rearm(1));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Green));
        (0..12).for_each(|n| _ = rig.request(&route, &format!("v{n}"), "503"));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Blue));
        assert_eq!(shared::trip(&mut rig.host, key(1)).number, 2);
        rig.reply(&rearm(1));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Blue), "a repeated reply lifts nothing");
        rig.reply(&cap(1, 0));
        rig.reply(&rearm(2));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Blue));
    }

    #[test]
    fn one_failing_session_or_a_failing_stable_color_trips_nothing() {
        let mut rig = Rig::new();
        let route = route(1, 1, 5000);
        (0..100).for_each(|_| _ = rig.request(&route, "the one", "500"));
        (0..400).for_each(|n| _ = rig.request(&route, &format!("u{n}"), "500"));
        assert!(green_of_100(&mut rig, &route) > 20);
    }

    #[test]
    fn hostile_replies_change_nothing_and_are_counted() {
        let mut rig = Rig::new();
        let route = route(1, 1, 2000);
        let before = green_of_100(&mut rig, &route);
        let deep = format!(r#"{{"x":{}"#, "[".repeat(60_000));
        let closed = format!(r#"{{"x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let huge = format!(r#"{{"x":"{}"}}"#, "a".repeat(70_000));
        let padded = format!("{}{}", cap(1, 0), " ".repeat(70_000));
        let hostile = [
            "",
            "null",
            "[]",
            "{",
            r#"{"term":-1}"#,
            r#"{"term":1e99}"#,
            r#"{"ack":"1"}"#,
            r#"{"caps":{}}"#,
            r#"{"caps":[{"id":"0123456789abcdef","release":1,"max":10001,"pins":"void"}]}"#,
            r#"{"caps":[{"id":"x","release":1,"max":0,"pins":"void"}]}"#,
            r#"{"rearm":[1]}"#,
            r#"{"params":[{"id":"0123456789abcdef","fuse":{"p0":9,"h":24},"hang_ms":5}]}"#,
            r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":0}]}"#,
            &deep,
            &huge,
            &padded,
        ];
        rig.reply(&closed);
        for reply in hostile {
            rig.reply(reply);
        }
        assert_eq!(rig.problem(Problem::Reply), hostile.len() as u64);
        rig.host.call_status = Some(b"503".to_vec());
        rig.vm.on_answer(true, 2, &mut rig.host);
        rig.host.call_status = None;
        rig.vm.on_answer(true, 2, &mut rig.host);
        assert_eq!(rig.problem(Problem::Report), 2);
        assert_eq!(green_of_100(&mut rig, &route), before);
    }

    #[test]
    fn the_reports_interval_is_taken_within_bounds() {
        let mut rig = Rig::new();
        rig.request(&route(1, 1, 500), "u", "200");
        rig.pass_ms(50);
        rig.reply(r#"{"report_ms":1}"#);
        rig.reports();
        rig.pass_ms(50);
        assert_eq!(rig.reports().len(), 1, "50 ms is the least");
        rig.reply(r#"{"report_ms":1000}"#);
        rig.pass_ms(50);
        assert_eq!(rig.reports().len(), 1, "what was promised is kept");
        rig.reply("{}");
        rig.pass_ms(900);
        assert!(rig.reports().is_empty());
        rig.pass_ms(200);
        assert_eq!(rig.reports().len(), 1);
    }

    #[test]
    fn settings_switch_the_fuse_off() {
        let mut rig = Rig::new();
        let route = route(1, 1, 10_000);
        rig.request(&route, "u", "200");
        rig.reply(r#"{"params":[{"id":"0123456789abcdef","fuse":null,"hang_ms":1000}]}"#);
        (0..100).for_each(|n| _ = rig.request(&route, &format!("u{n}"), "503"));
        assert_eq!(rig.request(&route, "u", "200"), Some(Color::Green));
    }

    #[test]
    fn no_two_workers_draw_the_same_number() {
        let mut rig = Rig::bare();
        shared::prepare(&mut rig.host).unwrap();
        let first = rig.host.shared("hueshift.incarnation");
        rig.host.now_us += 1;
        shared::prepare(&mut rig.host).unwrap();
        assert_eq!(rig.host.shared("hueshift.incarnation"), first, "a second configuration changes nothing");
        let drawn: Vec<u64> = (0..100).map(|_| shared::draw_vm(&mut rig.host).unwrap().0).collect();
        assert!(drawn.iter().copied().eq(1..=100));
    }

    #[test]
    fn an_old_release_is_reported_until_the_leader_knows_all_of_it() {
        let mut rig = Rig::new();
        let mut late = rig.start(&route(1, 1, 5000), "u");
        rig.request(&route(2, 2, 5000), "u", "200");
        rig.pass_ms(50);
        assert_eq!(rig.reports()[0].plans.len(), 2);
        rig.reply(r#"{"term":1,"ack":1}"#);
        rig.answer(&mut late, "200");
        rig.pass_ms(250);
        let report = rig.reports().remove(0);
        assert!(rows(&report).iter().any(|row| row.epoch == 1));
        rig.reply(r#"{"term":1,"ack":2}"#);
        rig.pass_ms(250);
        assert_eq!(rig.reports()[0].plans.len(), 1);
    }
}
