//! What differs between homes: where facts come from and where changes go.
//!
//! The engine is the same on one machine and in a mesh. It sees the world through [`Observe`] and touches it
//! through [`Apply`]; neither decides anything.

use crate::api::BlueGreen;
use crate::view::{ReleaseRecord, ServiceView};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::planner::Move;
use hueshift_core::release::{Route, State};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The world outside the reports, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The services, the last good word of each. One that is missing here is none of ours any more.
    pub services: Arc<Vec<BlueGreen>>,
    /// Endpoints per service.
    pub endpoints: BTreeMap<String, PerColor<Endpoints>>,
    /// Routes that somebody else changed after our last write, per service.
    pub drifts: BTreeMap<String, Drift>,
    /// The Envoys that this home runs itself.
    pub proxies: Vec<OwnProxy>,
    /// Version of the mesh key that plans may name; `None`: not known now.
    pub key: Option<u8>,
    /// Whether everything was listed at least once.
    pub listed: bool,
    /// What a person should look at, one sentence each.
    pub problems: Vec<String>,
}

/// Endpoints of one color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// In the document.
    pub listed: u32,
    /// Of those, the ones that accept connections.
    pub up: u32,
    /// Whether what runs there is the document's revision, as far as this home starts it.
    pub current: bool,
}

/// A route that is not as we wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Grows with every change: the same drift is taken once.
    pub version: u64,
    /// What it says now, if that is readable.
    pub found: Option<Route>,
    /// Who changed it, as far as it is known.
    pub by: Option<String>,
}

/// An Envoy that this home runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnProxy {
    /// Its node id.
    pub name: String,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started again after dying.
    pub restarts: u32,
}

/// Where facts come from; the only place that reads clocks.
pub trait Observe: Send + 'static {
    /// The newest facts, if they changed since the last call; the first call always has some.
    fn seen(&mut self) -> Option<Seen>;
    /// What is remembered of a service that appears, and a number for one that never was. Asked when it is first
    /// seen; `None`: not read yet, so the service waits and is asked for again.
    fn remembered(&mut self, service: &str) -> Option<(Remembered, ServiceId)>;
    /// Ms on a clock that never jumps and goes on when we are restarted.
    fn now_ms(&self) -> u64;
    /// Unix ms, for people.
    fn wall_ms(&self) -> u64;
}

/// Where changes go. Each call is one durable write that may block; all may be repeated.
pub trait Apply: Send + Sync + 'static {
    /// The record of a finished release; a second one of the same number changes nothing.
    fn record(&self, record: &ReleaseRecord) -> Result<(), ApplyError>;
    /// What is remembered of a service.
    fn save(&self, service: &str, state: &State) -> Result<(), ApplyError>;
    /// What the proxies are told.
    fn route(&self, service: &str, route: &Route) -> Result<(), ApplyError>;
    /// The judge's checkpoint.
    fn checkpoint(&self, service: &str, bytes: &[u8]) -> Result<(), ApplyError>;
    /// Which color of a service may be restarted with the document's program: one without traffic.
    fn may_restart(&self, service: &str, color: Option<Color>);
    /// Builds the filter's VMs of these Envoys anew, because workers of theirs are silent; where one cannot be told
    /// alone, those of others with it. Sessions keep their colors, open requests go on.
    fn revive(&self, _proxies: &[String]) -> Result<(), ApplyError> {
        Ok(())
    }
    /// What happens, one line each; told when it is decided.
    fn moved(&self, service: &str, moves: &[(Move, String)]) {
        for (step, line) in moves {
            println!("{service} release {}: {line}", step.release);
        }
    }
    /// Whether [`Apply::tell`] is of any use here.
    fn listens(&self) -> bool {
        false
    }
    /// A service as people see it, when it may have changed: at most once a second each. Must not block.
    fn tell(&self, _view: ServiceView) {}
}

/// Why a write failed: a sentence for people, causes included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ApplyError(pub String);

/// What was remembered of one service when we started.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// Its state.
    pub state: Option<State>,
    /// The route as it is written, and whether it is exactly what we would write.
    pub route: Option<(Route, bool)>,
    /// Records of its releases, oldest first.
    pub records: Vec<ReleaseRecord>,
    /// The judge's checkpoint.
    pub checkpoint: Option<Vec<u8>>,
    /// What was set aside and other things that a person should know.
    pub problems: Vec<String>,
}

/// JSON with a version, so that a later version can tell what it reads.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Versioned<T> {
    /// Version of the format.
    pub version: u32,
    /// What it is about. Not flattened: that would turn the keys of maps into texts, and numbers as keys (as in the
    /// judge's checkpoint) would never be read back.
    pub value: T,
}

// === impl Endpoints ===

impl Endpoints {
    /// Whether requests find somebody there, and the right revision.
    pub fn accepts(&self) -> bool {
        self.current && self.listed > 0 && self.up >= self.listed
    }
}

// === impl Versioned ===

impl<T: Serialize> Versioned<T> {
    /// The bytes of the present version.
    pub fn bytes(value: T) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Versioned { version: 1, value })
    }
}

impl<T: DeserializeOwned> Versioned<T> {
    /// Reads the present version.
    pub fn read(bytes: &[u8]) -> Result<T, serde_json::Error> {
        let read: Versioned<T> = serde_json::from_slice(bytes)?;
        match read.version {
            1 => Ok(read.value),
            other => Err(serde::de::Error::custom(format!("version {other} is not 1"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn maps_with_numbers_as_keys_read_back() {
        let kept = BTreeMap::from([("epochs".to_owned(), BTreeMap::from([(1_u64, 2_u64)]))]);
        let bytes = Versioned::bytes(kept.clone()).unwrap();
        assert_eq!(Versioned::<BTreeMap<String, BTreeMap<u64, u64>>>::read(&bytes).unwrap(), kept);
    }

    #[test]
    fn another_version_is_refused() {
        assert!(Versioned::<u64>::read(br#"{"version":2,"value":1}"#).is_err());
    }
}
