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

    fn is_due(&mut self, now_us: u64, open: bool) -> bool {
        if let Some(since_us) = self.waiting_since_us {
            if now_us.abs_diff(since_us) < GIVE_UP_US {
                return false;
            }
            self.waiting_since_us = None;
        }
        let every_ms = match (open, self.report_ms) {
            (false, _) => REPORT_IDLE_MS,
            (true, 0) => REPORT_MS,
            (true, ms) => ms,
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
        if !wanted || !self.reporter.is_due(now_us, open) {
            return;
        }
        let Some(config) = &self.config else { return };
        let cluster = config.cluster.clone();
        let Some(identity) = self.reporter.identity(host) else {
            self.problems.note(Problem::Shared);
            return;
        };
        self.reporter.seq += 1;
        self.reporter.last_us = Some(now_us);
        let report = Report {
            proxy: identity.proxy,
            vm: identity.vm,
            incarnation: identity.incarnation,
            seq: self.reporter.seq,
            plans: self.rows(now_us),
            problems: self.problems.to_wire(),
        };
        let sent = serde_json::to_vec(&report)
            .map_err(drop)
            .and_then(|body| host.post(&cluster, REPORT_PATH, &body, TIMEOUT_MS).map_err(drop));
        match sent {
            Ok(()) => {
                self.reporter.urgent = false;
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
        // The parser refuses nesting deeper than 128 by itself; the size is bounded above.
        match serde_json::from_slice::<Reply>(&body) {
            Ok(reply) => self.obey(&reply, host),
            Err(_) => self.problems.note(Problem::Reply),
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
            let settings = Settings { fuse: params.fuse, hang_ms: params.hang_ms };
            let mut known = false;
            let mut sound = params.hang_ms > 0;
            if sound {
                for service in self.services.values_mut().filter(|service| service.key.0 == params.id) {
                    known = true;
                    sound &= service.set(settings);
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
const MAX_ROW_BYTES: usize = 80 * 1024;

/// About the bytes that a row takes, never less.
fn row_bytes(row: &LotteryReport) -> usize {
    let tally = |tally: &hueshift_core::contract::Tally| {
        400 + 40 * tally.outcomes.len() + 28 * (tally.first_byte.len() + tally.total.len())
    };
    let slots = 6 * (row.error_slots.len() + row.done_slots.len());
    200 + tally(&row.tallies.blue) + tally(&row.tallies.green) + slots
}
