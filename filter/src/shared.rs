//! Values in Envoy's shared data: seen by all workers of a proxy, and outliving a VM.
//!
//! What the proxy offers is less than it seems: a compare-and-swap on a *missing* key always succeeds, so there is
//! no "create if absent". Hence the counter of VM numbers is created while the plugin is configured (Envoy does
//! that in its main thread first, before workers exist), and caps are written so that any order of two first
//! writers ends at the lower one: whoever finds less room than it wanted reads again. All plugins of a proxy
//! share one map and nothing is ever removed from it, so keys have our prefix and one is written per release that
//! was capped or tripped, not more.

use crate::host::{Host, SharedError};
use hueshift_core::contract::{CapPins, SHARED_PREFIX, ServiceId};
use hueshift_core::share::Bps;

/// Attempts of a compare-and-swap: each failure means that another worker succeeded.
const TRIES: u32 = 1000;

/// Upper bound of a release's candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedCap {
    /// Largest share.
    pub max: Bps,
    /// What becomes of pins to the candidate.
    pub pins: CapPins,
}

/// State of a release's fuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedTrip {
    /// Number of the last trip, from 1; 0: never tripped.
    pub number: u32,
    /// It is in force.
    pub tripped: bool,
    /// If it was lifted: for how many candidate requests.
    pub probe: u32,
}

/// The proxy would not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritten;

// === VM numbers ===

fn vm_key() -> String {
    format!("{SHARED_PREFIX}vm")
}

fn incarnation_key() -> String {
    format!("{SHARED_PREFIX}incarnation")
}

/// Creates the counter of VM numbers and the process's incarnation, unless they are there.
pub fn prepare(host: &mut impl Host) -> Result<(), NotWritten> {
    let now_ms = host.now_us() / 1000;
    for (key, value) in [(incarnation_key(), now_ms), (vm_key(), 0)] {
        if host.shared(&key).is_none() {
            host.set_shared(&key, &value.to_le_bytes(), 0).map_err(|_| NotWritten)?;
        }
    }
    Ok(())
}

/// Draws this VM's number, and reads the incarnation. No two VMs of a process draw the same.
pub fn draw_vm(host: &mut impl Host) -> Result<(u64, u64), NotWritten> {
    let incarnation =
        host.shared(&incarnation_key()).and_then(|(value, _)| number(&value)).ok_or(NotWritten)?;
    for _ in 0..TRIES {
        let (value, cas) = host.shared(&vm_key()).ok_or(NotWritten)?;
        let next = number(&value).ok_or(NotWritten)?.saturating_add(1);
        match host.set_shared(&vm_key(), &next.to_le_bytes(), cas) {
            Ok(()) => return Ok((next, incarnation)),
            Err(SharedError::Changed) => {}
            Err(SharedError::Refused) => break,
        }
    }
    Err(NotWritten)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

// === the last good configuration ===

fn config_key() -> String {
    format!("{SHARED_PREFIX}config")
}

/// Keeps a configuration that could be used. It holds the mesh keys, as Envoy's own configuration does: whoever can
/// read the one can read the other.
pub fn keep_config(host: &mut impl Host, json: &[u8]) -> Result<(), NotWritten> {
    if config(host).as_deref() == Some(json) {
        return Ok(());
    }
    host.set_shared(&config_key(), json, 0).map_err(|_| NotWritten)
}

/// The last configuration that any worker could use.
pub fn config(host: &mut impl Host) -> Option<Vec<u8>> {
    host.shared(&config_key()).map(|(json, _)| json)
}

// === caps and trips ===

fn cap_key(service: (ServiceId, u32)) -> String {
    format!("{SHARED_PREFIX}cap.{}.{}", service.0, service.1)
}

fn trip_key(service: (ServiceId, u32)) -> String {
    format!("{SHARED_PREFIX}trip.{}.{}", service.0, service.1)
}

/// The cap in force.
pub fn cap(host: &mut impl Host, service: (ServiceId, u32)) -> Option<SharedCap> {
    host.shared(&cap_key(service)).and_then(|(value, _)| SharedCap::read(&value))
}

/// Lowers the cap, never raises it; returns what is in force then.
pub fn lower_cap(
    host: &mut impl Host,
    service: (ServiceId, u32),
    cap: SharedCap,
) -> Result<SharedCap, NotWritten> {
    let key = cap_key(service);
    for _ in 0..TRIES {
        let (before, cas) = match host.shared(&key) {
            Some((value, cas)) => (SharedCap::read(&value), cas),
            None => (None, 0),
        };
        let lowered = before.map_or(cap, |before| before.lower(cap));
        if before == Some(lowered) {
            return Ok(lowered);
        }
        match host.set_shared(&key, &lowered.write(), cas) {
            // Two first writers may overwrite each other: look once more, and go on until it holds.
            Ok(()) if cas == 0 => {}
            Ok(()) => return Ok(lowered),
            Err(SharedError::Changed) => {}
            Err(SharedError::Refused) => break,
        }
    }
    Err(NotWritten)
}

/// The fuse's state.
pub fn trip(host: &mut impl Host, service: (ServiceId, u32)) -> SharedTrip {
    let value = host.shared(&trip_key(service));
    value.and_then(|(value, _)| SharedTrip::read(&value)).unwrap_or_default()
}

/// Changes the fuse's state by a rule that is asked again if another worker was faster; returns what is in force.
/// The rule answers `None` to leave it as it is.
pub fn change_trip(
    host: &mut impl Host,
    service: (ServiceId, u32),
    rule: impl Fn(SharedTrip) -> Option<SharedTrip>,
) -> Result<SharedTrip, NotWritten> {
    let key = trip_key(service);
    for _ in 0..TRIES {
        let found = host.shared(&key);
        let cas = found.as_ref().map_or(0, |(_, cas)| *cas);
        let before = found.and_then(|(value, _)| SharedTrip::read(&value)).unwrap_or_default();
        let Some(after) = rule(before) else { return Ok(before) };
        match host.set_shared(&key, &after.write(), cas) {
            Ok(()) => return Ok(after),
            Err(SharedError::Changed) => {}
            Err(SharedError::Refused) => break,
        }
    }
    Err(NotWritten)
}

// === impl SharedCap ===

impl SharedCap {
    /// The stricter of both, each part for itself.
    pub fn lower(self, other: SharedCap) -> SharedCap {
        let void = self.pins == CapPins::Void || other.pins == CapPins::Void;
        let pins = if void { CapPins::Void } else { CapPins::Keep };
        SharedCap { max: self.max.min(other.max), pins }
    }

    fn write(self) -> [u8; 3] {
        let [low, high] = self.max.get().to_le_bytes();
        [low, high, u8::from(self.pins == CapPins::Void)]
    }

    fn read(bytes: &[u8]) -> Option<SharedCap> {
        let [low, high, void] = bytes else { return None };
        let max = Bps::new(u16::from_le_bytes([*low, *high])).ok()?;
        Some(SharedCap { max, pins: if *void == 0 { CapPins::Keep } else { CapPins::Void } })
    }
}

// === impl SharedTrip ===

impl SharedTrip {
    fn write(self) -> [u8; 9] {
        let [a, b, c, d] = self.number.to_le_bytes();
        let [e, f, g, h] = self.probe.to_le_bytes();
        [a, b, c, d, u8::from(self.tripped), e, f, g, h]
    }

    fn read(bytes: &[u8]) -> Option<SharedTrip> {
        let [a, b, c, d, tripped, e, f, g, h] = bytes else { return None };
        Some(SharedTrip {
            number: u32::from_le_bytes([*a, *b, *c, *d]),
            tripped: *tripped != 0,
            probe: u32::from_le_bytes([*e, *f, *g, *h]),
        })
    }
}
