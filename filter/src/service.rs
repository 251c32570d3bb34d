//! One service in one release, as a worker knows it: the newest epoch seen, what bounds the candidate, the fuse, the
//! books.
//!
//! The limit in force is `min(route, cap, fuse)`. Nothing here can raise it above the route's.

use crate::books::Books;
use crate::host::Host;
use crate::problem::{Problem, Problems};
use crate::shared::{self, SharedCap, SharedTrip};
use hueshift_core::color::Color;
use hueshift_core::contract::{FuseParams, PredictionParams, ServiceId};
use hueshift_core::fuse::Fuse;
use hueshift_core::route_plan::RoutePlan;
use hueshift_core::share::Bps;

/// After this time without a request the release counts as quiet: reports slow down until the next one.
pub const QUIET_AFTER_US: u64 = 60_000_000;
/// After this time without a request shared data is read again before the next one is steered.
const STALE_AFTER_US: u64 = 2_000_000;

/// Settings of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The local fuse.
    pub fuse: Option<FuseParams>,
    /// Age without a byte from upstream from which a request counts as hung.
    pub hang_ms: u64,
    /// Where answers carry a prediction.
    pub predictions: Option<PredictionParams>,
    /// Whether answers that blame the client are events.
    pub client_errors: bool,
    /// So are answers with this header; empty: none.
    pub event_header: String,
}

/// A service in a release.
#[derive(Debug)]
pub struct Service {
    /// Which.
    pub key: (ServiceId, u32),
    /// Newest epoch seen.
    pub epoch: u64,
    /// Its limit.
    pub limit: Bps,
    /// Its stable color.
    pub stable: Color,
    /// When a request last carried its plan.
    pub seen_us: u64,
    /// Settings in force.
    pub settings: Settings,
    /// Counters.
    pub books: Books,
    cap: Option<SharedCap>,
    trip: SharedTrip,
    fuse: Fuse,
}

// === impl Service ===

impl Service {
    /// At first sight of a release. Caps and trips of other workers hold from the first request on.
    pub fn new(plan: &RoutePlan, settings: Settings, host: &mut impl Host) -> Service {
        let mut service = Service {
            key: (plan.id, plan.release),
            epoch: plan.epoch,
            limit: plan.limit,
            stable: plan.stable,
            seen_us: host.now_us(),
            fuse: Fuse::new(plan.stable.other(), settings.fuse.as_ref()),
            settings,
            books: Books::default(),
            cap: None,
            trip: SharedTrip::default(),
        };
        service.read_shared(host);
        service
    }

    /// A request carries this plan. True if the epoch is news.
    pub fn sight(&mut self, plan: &RoutePlan, now_us: u64, host: &mut impl Host) -> bool {
        if now_us.abs_diff(self.seen_us) > STALE_AFTER_US {
            self.read_shared(host);
        }
        self.seen_us = now_us;
        let news = plan.epoch > self.epoch;
        if news {
            self.epoch = plan.epoch;
            self.limit = plan.limit;
            if plan.stable != self.stable {
                self.stable = plan.stable;
                self.fuse = Fuse::new(plan.stable.other(), self.settings.fuse.as_ref());
            }
        }
        news
    }

    /// Two colors are open, and requests come.
    pub fn is_open(&self, now_us: u64) -> bool {
        self.limit > Bps::ZERO && now_us.abs_diff(self.seen_us) < QUIET_AFTER_US
    }

    /// The limit that a request under `plan` draws with.
    pub fn limit_in_force(&self, plan: &RoutePlan) -> Bps {
        if self.trip.tripped {
            return Bps::ZERO;
        }
        self.cap.map_or(plan.limit, |cap| plan.limit.min(cap.max))
    }

    /// Number of the trip in force; 0: none.
    pub fn tripped(&self) -> u32 {
        if self.trip.tripped { self.trip.number } else { 0 }
    }

    /// Takes over what other workers wrote.
    pub fn read_shared(&mut self, host: &mut impl Host) {
        if let Some(cap) = shared::cap(host, self.key) {
            self.take_cap(cap);
        }
        self.take_trip(shared::trip(host, self.key));
    }

    /// Lowers the candidate here and for all workers.
    pub fn lower(&mut self, cap: SharedCap, host: &mut impl Host, problems: &mut Problems) {
        // Here first: a refusal to write must not keep this worker from obeying.
        self.take_cap(cap);
        if shared::lower_cap(host, self.key, cap).is_err() {
            problems.note(Problem::Shared);
        }
    }

    fn take_cap(&mut self, cap: SharedCap) {
        self.cap = Some(self.cap.map_or(cap, |before| before.lower(cap)));
    }

    /// Takes an outcome; true if the fuse tripped by it.
    pub fn observe(
        &mut self,
        color: Color,
        slot: u16,
        error: bool,
        host: &mut impl Host,
        problems: &mut Problems,
    ) -> bool {
        if !self.fuse.observe(color, slot, error) || self.trip.tripped {
            return false;
        }
        let trip = |before: SharedTrip| {
            let number = before.number.saturating_add(1);
            (!before.tripped).then_some(SharedTrip { number, tripped: true, probe: 0 })
        };
        let tripped = shared::change_trip(host, self.key, trip).unwrap_or_else(|_| {
            problems.note(Problem::Shared);
            SharedTrip { number: self.trip.number.saturating_add(1), tripped: true, probe: 0 }
        });
        self.take_trip(tripped);
        true
    }

    /// The controller lifts a trip. Any other number than that of the trip in force means: not this one.
    pub fn rearm(&mut self, number: u32, probe: u32, host: &mut impl Host, problems: &mut Problems) {
        let lift = |before: SharedTrip| {
            let meant = before.tripped && before.number == number;
            meant.then_some(SharedTrip { number, tripped: false, probe })
        };
        match shared::change_trip(host, self.key, lift) {
            Ok(trip) => self.take_trip(trip),
            Err(_) => problems.note(Problem::Shared),
        }
    }

    fn take_trip(&mut self, trip: SharedTrip) {
        // Shared data can lag behind only if it could not be written: then our own trip stays.
        if trip == self.trip || trip.number < self.trip.number {
            return;
        }
        self.trip = trip;
        self.fuse.restart(trip.probe);
    }

    /// New settings; false if the fuse's make no sense (then the old ones stay).
    pub fn set(&mut self, settings: Settings) -> bool {
        if settings == self.settings {
            return true;
        }
        let sound = self.fuse.set_params(settings.fuse.as_ref());
        let fuse = if sound { settings.fuse } else { self.settings.fuse };
        self.settings = Settings { fuse, ..settings };
        sound
    }
}
