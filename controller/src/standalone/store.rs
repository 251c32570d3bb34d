//! Everything that is remembered on disk, and the standalone home's side of [`Apply`].
//!
//! One file per thing, each with a version, each replaced whole. A file that cannot be read is set aside and
//! reported; the engine then treats the state as lost, which means: stable color, hold.

use super::files::{self, Loaded, WriteError};
use super::layout::Layout;
use super::xds;
use crate::api::BlueGreen;
use crate::home::{Apply, ApplyError, Remembered, Versioned};
use crate::random;
use crate::text::visible;
use crate::view::ReleaseRecord;
use hueshift_core::color::Color;
use hueshift_core::contract::{MeshKey, ServiceId};
use hueshift_core::release::{Route, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Which color of each service may be restarted with the document's program.
pub type Restartable = Arc<Mutex<BTreeMap<String, Color>>>;

/// The directory as a place to write to.
pub struct Store {
    layout: Layout,
    restartable: Restartable,
}

/// The mesh keys, current first.
#[derive(Serialize, Deserialize)]
struct Keys {
    keys: Vec<MeshKey>,
}

// === impl Store ===

impl Store {
    /// Writes below `layout`.
    pub fn new(layout: Layout, restartable: Restartable) -> Store {
        Store { layout, restartable }
    }

    /// What an earlier process left of a service. `now` names files that are set aside.
    pub fn remember(&self, service: &BlueGreen, now: u64) -> io::Result<Remembered> {
        let name = service.name();
        let mut problems = Vec::new();
        let mut records: Vec<ReleaseRecord> = Vec::new();
        for path in record_files(&self.layout.history(name))? {
            records.extend(read(&path, now, &mut problems)?);
        }
        records.sort_by_key(|record| record.release);
        Ok(Remembered {
            state: read(&self.layout.state(name), now, &mut problems)?,
            route: route(&self.layout.routes(name), name)?,
            records,
            checkpoint: optional(fs::read(self.layout.checkpoint(name)))?,
            problems,
        })
    }

    /// The mesh keys; drawn once.
    pub fn mesh_keys(&self, now: u64) -> io::Result<(Vec<MeshKey>, Vec<String>)> {
        let path = self.layout.mesh_key();
        let mut problems = Vec::new();
        if let Some(Keys { keys }) = read(&path, now, &mut problems)? {
            if sound(&keys) {
                return Ok((keys, problems));
            }
            // The filter would refuse its whole configuration, and Envoy would then answer every request itself.
            problems.push(format!(
                "{} held no usable mesh key (one or two, 64 hex digits each, of different versions): a new one is drawn",
                path.display()
            ));
        }
        let hex = random::bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = vec![MeshKey { version: 1, hex }];
        let bytes = Versioned::bytes(Keys { keys: keys.clone() })?;
        files::replace(&path, &bytes).map_err(io::Error::other)?;
        Ok((keys, problems))
    }
}

/// What the filter's own check asks of keys.
fn sound(keys: &[MeshKey]) -> bool {
    let hex = |key: &MeshKey| key.hex.len() == 64 && key.hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let distinct = !matches!(keys, [one, other] if one.version == other.version);
    matches!(keys.len(), 1 | 2) && distinct && keys.iter().all(hex)
}

impl Apply for Store {
    fn record(&self, record: &ReleaseRecord) -> Result<(), ApplyError> {
        let folder = self.layout.history(&record.service);
        fs::create_dir_all(&folder).map_err(|source| WriteError { path: folder.clone(), source })?;
        let path = folder.join(format!("{:010}.json", record.release));
        files::write_once(&path, &bytes(record)?)?;
        Ok(())
    }

    fn save(&self, service: &str, state: &State) -> Result<(), ApplyError> {
        Ok(files::replace(&self.layout.state(service), &bytes(state)?)?)
    }

    fn route(&self, service: &str, route: &Route) -> Result<(), ApplyError> {
        let text = xds::routes(service, route).to_string();
        Ok(files::replace(&self.layout.routes(service), text.as_bytes())?)
    }

    fn checkpoint(&self, service: &str, bytes: &[u8]) -> Result<(), ApplyError> {
        Ok(files::replace(&self.layout.checkpoint(service), bytes)?)
    }

    /// One Envoy, so all workers of it.
    fn revive(&self, _proxies: &[String]) -> Result<(), ApplyError> {
        let path = self.layout.xds(xds::FILTER_FILE);
        let unreadable = |source| WriteError { path: path.clone(), source };
        let bytes = fs::read(&path).map_err(unreadable)?;
        let filter = serde_json::from_slice(&bytes).ok().and_then(xds::rebuilt);
        let filter =
            filter.ok_or_else(|| unreadable(io::Error::other("it is not as `hueshift up` writes it")))?;
        Ok(files::replace(&path, filter.to_string().as_bytes())?)
    }

    fn may_restart(&self, service: &str, color: Option<Color>) {
        let mut restartable = self.restartable.lock().unwrap_or_else(PoisonError::into_inner);
        match color {
            Some(color) => restartable.insert(service.to_owned(), color),
            None => restartable.remove(service),
        };
    }
}

/// A service number that nobody has.
pub fn fresh_id() -> io::Result<ServiceId> {
    Ok(ServiceId::from_bytes(random::bytes()?))
}

fn bytes<T: Serialize>(value: T) -> Result<Vec<u8>, ApplyError> {
    Versioned::bytes(value).map_err(|error| ApplyError(error.to_string()))
}

/// Reads a versioned file; one that cannot be read is set aside and becomes a problem for people.
fn read<T: DeserializeOwned>(path: &Path, now: u64, problems: &mut Vec<String>) -> io::Result<Option<T>> {
    match files::load::<Versioned<T>>(path, now)? {
        Loaded::Absent => Ok(None),
        Loaded::Value(read) => Ok(Some(read.value)),
        Loaded::SetAside { to, why } => {
            let text = format!(
                "{} cannot be read ({}); it was set aside as {}",
                path.display(),
                visible(&why),
                to.display()
            );
            tracing::error!("{text}");
            problems.push(text);
            Ok(None)
        }
    }
}

/// The route as it is written, and whether it is exactly what we would write.
fn route(path: &Path, service: &str) -> io::Result<Option<(Route, bool)>> {
    let Some(bytes) = optional(fs::read(path))? else { return Ok(None) };
    let Some(route) = xds::read_route(service, &bytes) else { return Ok(None) };
    let exact = xds::routes(service, &route).to_string().as_bytes() == bytes;
    Ok(Some((route, exact)))
}

fn record_files(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let Some(entries) = optional(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<WriteError> for ApplyError {
    fn from(error: WriteError) -> ApplyError {
        ApplyError(format!("{error}: {}", error.source))
    }
}
