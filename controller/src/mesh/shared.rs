//! What the watching side and the writing side both know: a few small tables behind one lock each.

use super::cluster::{Name, Told, version_of};
use super::principal::Pods;
use super::sight::{Refusal, Sight};
use crate::control::{Accepted, Refused};
use crate::home::Remembered;
use crate::view::ServiceView;
use hueshift_core::contract::ServiceId;
use hueshift_core::release::{Route, State};
use kube::api::ObjectMeta;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Services by key.
pub type ByKey<T> = BTreeMap<String, T>;

/// The tables. A lock is held for a look or a change of a table, never across a call.
#[derive(Debug, Default)]
pub struct Shared {
    /// How each service looked last.
    pub sights: Table<Arc<Sight>>,
    /// What its routes said after our last write.
    pub written: Table<Written>,
    /// What is remembered of services that the engine has not taken yet.
    pub memories: Table<(Remembered, ServiceId)>,
    /// Services that the engine has taken.
    pub taken: Table<()>,
    /// Orders under way: the order's id, and where its answer comes.
    pub orders: Table<(String, oneshot::Receiver<Result<Accepted, Refused>>)>,
    /// The state that was saved last.
    pub states: Table<State>,
    /// Statuses as they stand in the cluster.
    pub statuses: Table<Status>,
    /// Why a `BlueGreen` is not managed, or not as it should be.
    pub refusals: Table<Refusal>,
    /// Writes that were refused for want of rights.
    pub denied: Table<Refusal>,
    /// The newest view of each service.
    pub views: Table<ServiceView>,
    /// Objects that we wrote, so that nothing is decided from an older view: VirtualServices.
    pub virtual_services: Own,
    /// Likewise, DestinationRules.
    pub destination_rules: Own,
    /// One write of routes at a time per service.
    pub routers: Table<Arc<tokio::sync::Mutex<()>>>,
    /// One write of state and records at a time, beside those of routes: a rollback does not wait for them.
    pub savers: Table<Arc<tokio::sync::Mutex<()>>>,
    /// What statuses are about.
    pub subjects: Table<Subject>,
    /// Services whose status may say something else now.
    pub untold: Table<()>,
    /// There are such.
    pub to_tell: Notify,
    /// The engine took a service.
    pub was_taken: Notify,
    /// Which pods there are: for whom a report may speak.
    pub pods: Pods,
}

/// A status as it stands in the cluster.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Version of the object that has it.
    pub version: u64,
    /// Null: there is none yet.
    pub value: Arc<Value>,
}

/// What the status of a `BlueGreen` is about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Generation of the document that was looked at.
    pub generation: Option<i64>,
    /// Its uid.
    pub uid: Option<String>,
    /// When its status was last told.
    pub told: Option<tokio::time::Instant>,
}

/// One table.
#[derive(Debug)]
pub struct Table<T>(Mutex<ByKey<T>>);

/// What the routes of a service said after a write, and the version that it made.
#[derive(Debug, Clone)]
pub struct Written {
    /// What was written.
    pub route: Route,
    /// Version of the VirtualService since.
    pub version: u64,
}

/// The newest form of objects that we wrote ourselves.
#[derive(Debug, Default)]
pub struct Own(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<Name, Arc<Value>>,
    /// Those that were there when the list that comes in now began.
    before: BTreeMap<Name, Arc<Value>>,
}

// === impl Table ===

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Mutex::default())
    }
}

impl<T> Table<T> {
    /// The table; for one look or change.
    pub fn lock(&self) -> MutexGuard<'_, ByKey<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry out.
    pub fn remove(&self, key: &str) -> Option<T> {
        self.lock().remove(key)
    }

    /// Puts an entry in.
    pub fn put(&self, key: &str, value: T) -> Option<T> {
        self.lock().insert(key.to_owned(), value)
    }

    /// Whether there is one.
    pub fn has(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }
}

impl<T: Clone + Default> Table<T> {
    /// An entry, made if it is not there.
    pub fn of(&self, key: &str) -> T {
        self.lock().entry(key.to_owned()).or_default().clone()
    }
}

impl<T: Clone> Table<T> {
    /// A copy of an entry.
    pub fn get(&self, key: &str) -> Option<T> {
        self.lock().get(key).cloned()
    }
}

// === impl Own ===

impl Own {
    /// Keeps an object that a write returned, if it is newer.
    pub fn keep(&self, name: &Name, object: Arc<Value>) {
        let kept = &mut self.lock().objects;
        let newer = kept.get(name).is_none_or(|old| version_of(old) <= version_of(&object));
        if newer {
            kept.insert(name.clone(), object);
        }
    }

    /// The newer one of what a watch told and what we wrote.
    pub fn newest(&self, name: &Name, seen: &Arc<Value>) -> Arc<Value> {
        let kept = &mut self.lock().objects;
        match kept.get(name) {
            Some(ours) if version_of(ours) > version_of(seen) => ours.clone(),
            Some(_) => {
                kept.remove(name);
                seen.clone()
            }
            None => seen.clone(),
        }
    }

    /// A list that began after our write and does not have it is the truth: the cluster was set back, or somebody
    /// deleted the object. What we wrote while the list came in stays.
    pub fn listed<T>(&self, told: &Told<T>) {
        let mut kept = self.lock();
        match told {
            Told::Begin => kept.before = kept.objects.clone(),
            Told::End => {
                let before = std::mem::take(&mut kept.before);
                kept.objects
                    .retain(|name, object| before.get(name).is_none_or(|old| !Arc::ptr_eq(old, object)));
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Shared ===

impl Shared {
    /// Keeps a status, if it is newer than the one that is known.
    pub fn keep_status(&self, key: &str, object: &ObjectMeta, value: &Value) {
        let version =
            object.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        let mut statuses = self.statuses.lock();
        if statuses.get(key).is_none_or(|known| known.version <= version) {
            statuses.insert(key.to_owned(), Status { version, value: Arc::new(value.clone()) });
        }
    }

    /// Keeps a status that was read directly after a write failed: it is the truth even if it is older, as in a
    /// cluster that was set back.
    pub fn set_status(&self, key: &str, object: &ObjectMeta, value: &Value) {
        self.statuses.remove(key);
        self.keep_status(key, object, value);
    }

    /// Its status may say something else now.
    pub fn touch(&self, key: &str) {
        self.untold.put(key, ());
        self.to_tell.notify_one();
    }

    /// Likewise, all.
    pub fn touch_all(&self) {
        let keys: Vec<String> = self.subjects.lock().keys().cloned().collect();
        keys.iter().for_each(|key| self.touch(key));
    }

    /// Forgets a service.
    pub fn forget(&self, key: &str) {
        self.sights.remove(key);
        self.written.remove(key);
        self.memories.remove(key);
        self.taken.remove(key);
        self.orders.remove(key);
        self.states.remove(key);
        self.statuses.remove(key);
        self.refusals.remove(key);
        self.denied.remove(key);
        self.views.remove(key);
        self.subjects.remove(key);
    }
}
