//! The mesh home's side of [`Observe`]: watches of the cluster, turned into what the engine sees.
//!
//! One task owns the picture ([`Cluster`]); each watch (`watches`) only tells it. While a watch fails the last picture
//! stays: an API server that is away changes nothing that is in force.

use super::cluster::{Cluster, Document, Name};
use super::memory;
use super::plugins;
use super::shared::{Shared, Subject, Written};
use super::sight::{self, Refusal, Sight, refusal};
use super::watches::{self, News};
use crate::api::{BlueGreen, Order, Release};
use crate::control::{Command, Request};
use crate::engine::Input;
use crate::home::{Drift, Observe, Remembered, Seen};
use crate::routes::Hidden;
use hueshift_core::color::PerColor;
use hueshift_core::contract::ServiceId;
use hueshift_core::release::State;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

/// Before a read that failed is tried again.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// News that come together are looked at together.
const GATHER: Duration = Duration::from_millis(10);

/// The clock of the mesh home: Unix time when the process began, and from then on one that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began_ms: u64,
    began: Instant,
}

/// The engine's end.
pub struct Window {
    newest: watch::Receiver<Seen>,
    first: bool,
    shared: Arc<Shared>,
    clock: Clock,
}

/// What happens to `BlueGreen`s beside the engine.
pub trait Beside: Send + Sync + 'static {
    /// A `BlueGreen` should be watched over from now on: its term and its finalizer are written before anything else.
    fn begin(&self, document: &Document) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// It is about to be deleted.
    fn farewell(&self, name: Name, document: Arc<Document>);
}

/// Turns the picture into what the engine sees.
struct Eyes<B> {
    cluster: Cluster,
    shared: Arc<Shared>,
    client: Client,
    beside: Arc<B>,
    to_engine: mpsc::Sender<Input>,
    to_self: mpsc::Sender<News>,
    to: watch::Sender<Seen>,
    /// Revisions seen last, for workloads that are away for a moment.
    revisions: BTreeMap<String, PerColor<String>>,
    /// Services that are handed over.
    handed: BTreeMap<String, Handed>,
    /// Reads under way: the key and the object's uid.
    reading: BTreeMap<String, String>,
    /// What was read, until it can be handed over.
    ready: BTreeMap<String, (String, Vec<Release>)>,
    leaving: BTreeSet<String>,
    drifts: u64,
    /// What the plugins tell: the mesh key that plans may name.
    plugins: watch::Receiver<plugins::Told>,
}

struct Handed {
    sight: Arc<Sight>,
    drift: Option<Drift>,
    /// What the drift was found in.
    mark: u64,
    ordered: Option<String>,
}

// === impl Clock ===

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), began: Instant::now() }
    }

    /// Ms.
    pub fn now_ms(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_ms.saturating_add(since)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

// === impl Window ===

impl Window {
    /// What the engine sees, for others.
    pub fn newest(&self) -> watch::Receiver<Seen> {
        self.newest.clone()
    }
}

impl Observe for Window {
    fn seen(&mut self) -> Option<Seen> {
        if self.first || self.newest.has_changed().unwrap_or(false) {
            self.first = false;
            return Some(self.newest.borrow_and_update().clone());
        }
        None
    }

    fn remembered(&mut self, service: &str) -> Option<(Remembered, ServiceId)> {
        let memory = self.shared.memories.remove(service)?;
        self.shared.taken.put(service, ());
        self.shared.was_taken.notify_one();
        Some(memory)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn wall_ms(&self) -> u64 {
        super::super::standalone::lookout::wall_ms()
    }
}

/// Begins to watch. The window is for the engine; the task ends with the process.
pub fn begin<B: Beside>(
    client: Client,
    shared: Arc<Shared>,
    beside: Arc<B>,
    cluster: Cluster,
    clock: Clock,
    to_engine: mpsc::Sender<Input>,
    plugins: watch::Receiver<plugins::Told>,
) -> Window {
    let (to_self, news) = mpsc::channel(4_096);
    let (to, newest) = watch::channel(Seen::default());
    watches::watch_all(&client, &to_self);
    let eyes = Eyes {
        cluster,
        shared: shared.clone(),
        client,
        beside,
        to_engine,
        to_self,
        to,
        revisions: BTreeMap::new(),
        handed: BTreeMap::new(),
        reading: BTreeMap::new(),
        ready: BTreeMap::new(),
        leaving: BTreeSet::new(),
        drifts: 0,
        plugins,
    };
    tokio::spawn(eyes.run(news));
    Window { newest, first: true, shared, clock }
}

// === impl Eyes ===

impl<B: Beside> Eyes<B> {
    async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let shared = self.shared.clone();
        let mut again = BTreeSet::new();
        let mut blind = true;
        loop {
            let mut dirty = std::mem::take(&mut again);
            // Who is blind waits for news.
            let wait = if blind || dirty.is_empty() { Duration::from_secs(3_600) } else { GATHER * 2 };
            tokio::select! {
                told = news.recv() => match told {
                    Some(told) => {
                        self.take(told, &mut dirty);
                        // What belongs together often comes together.
                        tokio::time::sleep(GATHER).await;
                    }
                    None => return,
                },
                () = shared.was_taken.notified() => self.pass_on_orders().await,
                Ok(()) = self.plugins.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok(told) = news.try_recv() {
                self.take(told, &mut dirty);
            }
            let missing = self.cluster.missing();
            blind = !missing.is_empty();
            if missing.is_empty() {
                again = self.look_at(&dirty);
            } else {
                self.refuse_all(&missing);
                again = dirty;
            }
            self.publish(missing).await;
            self.pass_on_orders().await;
        }
    }

    fn take(&mut self, news: News, dirty: &mut BTreeSet<Name>) {
        let cluster = &mut self.cluster;
        let names = match news {
            News::Namespaces(told) => {
                let names = cluster.namespaces.take(told);
                names.into_iter().map(|(_, name)| (name, String::new())).collect()
            }
            News::Policies(told) => {
                if !cluster.policies.take(told).is_empty() {
                    dirty.extend(cluster.blue_greens.all().map(|(name, _)| name.clone()));
                }
                Vec::new()
            }
            News::BlueGreens(told) => {
                let names = cluster.blue_greens.take(told);
                dirty.extend(names.iter().cloned());
                names
            }
            News::VirtualServices(told) => {
                self.shared.virtual_services.listed(&told);
                cluster.virtual_services.take(told)
            }
            News::DestinationRules(told) => {
                self.shared.destination_rules.listed(&told);
                let one = told.about().cloned();
                let find = |cluster: &Cluster| {
                    cluster.destination_rules.get(&one.as_ref()?.0, &one.as_ref()?.1).cloned()
                };
                let before = find(cluster);
                let names = cluster.destination_rules.take(told);
                let after = find(cluster);
                match (one, names.is_empty()) {
                    (Some(_), _) => self.note_rules(&[before, after], dirty),
                    // A list: whatever changed.
                    (None, false) => dirty.extend(cluster.blue_greens.all().map(|(name, _)| name.clone())),
                    (None, true) => {}
                }
                names
            }
            News::Deployments(told) => cluster.deployments.take(told),
            News::ReplicaSets(told) => cluster.replica_sets.take(told),
            News::Slices(told) => cluster.slices.take(told),
            News::Pods(told) => {
                let names = cluster.pods.take(told);
                self.shared.pods.follow(&cluster.pods, &names);
                names
            }
            News::Services(told) => cluster.services.take(told),
            News::Releases(name, uid, read) => {
                self.take_releases(&name, &uid, read);
                dirty.insert(name);
                Vec::new()
            }
        };
        let mut namespaces: Vec<String> = names.into_iter().map(|(namespace, _)| namespace).collect();
        namespaces.dedup();
        for namespace in namespaces {
            let all = self.cluster.blue_greens.of(&namespace);
            dirty.extend(all.map(|(name, _)| (namespace.clone(), name.to_owned())));
        }
    }

    /// Nothing is decided before everything was listed once; people are told what is missing.
    fn refuse_all(&mut self, missing: &[String]) {
        let Some(why) = missing.iter().find(|why| why.starts_with("cannot")) else { return };
        let all: Vec<_> = self.cluster.blue_greens.all().map(|(name, of)| (key(name), of.clone())).collect();
        for (key, document) in all {
            self.note_subject(&key, &document);
            self.shared.keep_status(&key, &document.metadata, &document.status);
            self.refuse(&key, refusal("CannotWatch", why.clone()));
        }
    }

    fn refuse(&self, key: &str, refusal: Refusal) {
        let before = self.shared.refusals.put(key, refusal.clone());
        if before.as_ref() != Some(&refusal) {
            tracing::warn!(blue_green = key, reason = refusal.reason, "{}", refusal.text);
            self.shared.touch(key);
        }
    }

    /// Looks at what may have changed; gives back what must be looked at again soon.
    fn look_at(&mut self, dirty: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut again = BTreeSet::new();
        for name in dirty {
            let key = key(name);
            let Some(document) = self.cluster.blue_greens.get(&name.0, &name.1).cloned() else {
                self.forget(&key);
                continue;
            };
            if document.metadata.deletion_timestamp.is_some() {
                self.look_once_more(name, &key, &document);
                self.say_farewell(name, &key, document);
                continue;
            }
            self.leaving.remove(&key);
            self.note_subject(&key, &document);
            self.shared.keep_status(&key, &document.metadata, &document.status);
            let known = self.known_revisions(&key, &document);
            match sight::look(&self.cluster, name, &document, &known) {
                Ok(sight) => {
                    let sight = Arc::new(self.newest(sight));
                    self.revisions.insert(
                        key.clone(),
                        PerColor::from_fn(|color| sight.document.spec.colors.get(color).revision.clone()),
                    );
                    self.note_hidden(&key, &sight);
                    self.shared.sights.put(&key, sight.clone());
                    if self.take_sight(&key, sight, &document) {
                        again.insert(name.clone());
                    }
                }
                Err(refusal) => {
                    if refusal.reason == sight::NOT_ENABLED && !self.is_open(&key) {
                        self.handed.remove(&key);
                        self.shared.taken.remove(&key);
                        self.shared.written.remove(&key);
                    }
                    self.refuse(&key, refusal);
                }
            }
        }
        again
    }

    /// One that was deleted while nobody looked must still be seen, for its routes to be given back.
    fn look_once_more(&self, name: &Name, key: &str, document: &Document) {
        if self.shared.sights.get(key).is_some() {
            return;
        }
        let known = self.known_revisions(key, document);
        match sight::look(&self.cluster, name, document, &known) {
            Ok(sight) => {
                self.shared.sights.put(key, Arc::new(self.newest(sight)));
            }
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    fn note_subject(&self, key: &str, document: &Document) {
        let (generation, uid) = (document.metadata.generation, document.metadata.uid.clone());
        let mut subjects = self.shared.subjects.lock();
        let subject = subjects.entry(key.to_owned()).or_default();
        if (subject.generation, &subject.uid) != (generation, &uid) {
            *subject = Subject { generation, uid, told: None };
            drop(subjects);
            self.shared.touch(key);
        }
    }

    /// With what we wrote ourselves, where the watch has not told it yet.
    fn newest(&self, mut sight: Sight) -> Sight {
        let name = (sight.name.0.clone(), sight.virtual_service_name().to_owned());
        sight.virtual_service = self.shared.virtual_services.newest(&name, &sight.virtual_service);
        for rule in &mut sight.rules {
            let of = rule.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or_default();
            let name = (sight.name.0.clone(), of.to_owned());
            *rule = self.shared.destination_rules.newest(&name, rule);
        }
        sight
    }

    /// Says whether it must be looked at again soon.
    fn take_sight(&mut self, key: &str, sight: Arc<Sight>, document: &Arc<Document>) -> bool {
        let open = self.is_open(key);
        if let Some(handed) = self.handed.get_mut(key) {
            // A write is under way: whether the routes are as written is known when it ended.
            let router = self.shared.routers.of(key);
            let Ok(_idle) = router.try_lock() else { return true };
            let mark = sight.mark();
            let forbidden = sight.forbidden.clone();
            let sight =
                if forbidden.is_some() { keep_what_was_allowed(&sight, &handed.sight, open) } else { sight };
            let refused = match self.shared.written.get(key) {
                Some(written) if mark != handed.mark => match look_for_drift(&sight, &written) {
                    Ok(found) => {
                        self.drifts += u64::from(found.is_some());
                        handed.drift = found.map(|drift| Drift { version: self.drifts, ..drift });
                        None
                    }
                    Err(refusal) => Some(refusal),
                },
                _ => None,
            };
            handed.mark = mark;
            handed.sight = sight;
            match refused.or(forbidden) {
                Some(refusal) => self.refuse(key, refusal),
                None => self.settle(key),
            }
            return false;
        }
        if let Some(forbidden) = sight.forbidden.clone().filter(|_| !is_open_in(&document.status)) {
            self.refuse(key, forbidden);
            return false;
        }
        let uid = document.metadata.uid.clone().unwrap_or_default();
        if let Some((_, releases)) = self.ready.get(key).filter(|(of, _)| *of == uid).cloned() {
            self.hand_over(key, sight, document, &releases);
        } else if self.reading.get(key) != Some(&uid) {
            self.reading.insert(key.to_owned(), uid.clone());
            self.read(sight.name.clone(), uid, document.clone());
        }
        false
    }

    /// A rule, as it was and as it is, also concerns services of other namespaces.
    fn note_rules(&self, rule: &[Option<Arc<serde_json::Value>>; 2], dirty: &mut BTreeSet<Name>) {
        for (name, _) in self.cluster.blue_greens.all() {
            let Some(sight) = self.shared.sights.get(&key(name)) else { continue };
            let host = sight.managed.host();
            if rule.iter().flatten().any(|rule| crate::routes::concerns(rule, &host)) {
                dirty.insert(name.clone());
            }
        }
    }

    /// What hides the subsets is told, whatever else there is to say.
    fn note_hidden(&self, key: &str, sight: &Sight) {
        let before = self.shared.sights.get(key);
        if before.as_ref().map_or(&[][..], |before| &before.hidden) == sight.hidden {
            return;
        }
        for hidden in &sight.hidden {
            tracing::warn!(blue_green = key, reason = Hidden::REASON, "{hidden}");
        }
        self.shared.touch(key);
    }

    fn settle(&self, key: &str) {
        if self.shared.refusals.remove(key).is_some() {
            self.shared.touch(key);
        }
    }

    /// Reads what is remembered; the answer comes as news.
    fn read(&self, name: Name, uid: String, document: Arc<Document>) {
        let (client, beside, to) = (self.client.clone(), self.beside.clone(), self.to_self.clone());
        tokio::spawn(async move {
            let read = match beside.begin(&document).await {
                Ok(()) => memory::releases(&client, &name.0, &name.1)
                    .await
                    .map_err(|error| refusal("CannotRead", format!("cannot list its Releases: {error}"))),
                Err(refusal) => Err(refusal),
            };
            if read.is_err() {
                tokio::time::sleep(READ_AGAIN).await;
            }
            let _ = to.send(News::Releases(name, uid, read)).await;
        });
    }

    fn take_releases(&mut self, name: &Name, uid: &str, read: Result<Vec<Release>, Refusal>) {
        let key = key(name);
        if self.reading.get(&key).map(String::as_str) != Some(uid) {
            return;
        }
        self.reading.remove(&key);
        match read {
            Ok(releases) => {
                self.ready.insert(key, (uid.to_owned(), releases));
            }
            Err(refusal) => self.refuse(&key, refusal),
        }
    }

    /// Everything is read: the engine may have it, unless it cannot be managed.
    fn hand_over(&mut self, key: &str, sight: Arc<Sight>, document: &Document, releases: &[Release]) {
        match memory::remembered(&sight, document, releases) {
            Ok(remembered) => {
                if let Some((route, _)) = &remembered.route {
                    let version = sight.route_version();
                    self.shared.written.put(key, Written { route: route.clone(), version });
                }
                if let Some(state) = &remembered.state {
                    self.shared.states.put(key, state.clone());
                }
                self.shared.memories.put(key, (remembered, sight.id));
                self.ready.remove(key);
                let mark = sight.mark();
                self.handed.insert(key.to_owned(), Handed { sight, drift: None, mark, ordered: None });
                self.settle(key);
            }
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    fn known_revisions(&self, key: &str, document: &Document) -> PerColor<String> {
        if let Some(known) = self.revisions.get(key) {
            return known.clone();
        }
        let state = memory::state(&document.status).0;
        state.map(|state| state.revisions).unwrap_or_default()
    }

    fn is_open(&self, key: &str) -> bool {
        self.shared.states.get(key).is_some_and(|state: State| state.phase.is_open())
    }

    fn say_farewell(&mut self, name: &Name, key: &str, document: Arc<Document>) {
        let ours =
            document.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == super::FINALIZER);
        self.handed.remove(key);
        self.reading.remove(key);
        self.shared.memories.remove(key);
        self.shared.taken.remove(key);
        if ours && self.leaving.insert(key.to_owned()) {
            self.beside.farewell(name.clone(), document);
        }
    }

    fn forget(&mut self, key: &str) {
        self.handed.remove(key);
        self.reading.remove(key);
        self.ready.remove(key);
        self.revisions.remove(key);
        self.leaving.remove(key);
        self.shared.forget(key);
    }

    async fn publish(&mut self, missing: Vec<String>) {
        let before = self.to.borrow().clone();
        let documents = || self.handed.values().map(|handed| &*handed.sight.document);
        let services = if before.services.iter().eq(documents()) {
            before.services.clone()
        } else {
            Arc::new(documents().cloned().collect::<Vec<BlueGreen>>())
        };
        let endpoints = self.handed.iter().map(|(key, handed)| (key.clone(), handed.sight.endpoints));
        let drifts =
            self.handed.iter().filter_map(|(key, handed)| Some((key.clone(), handed.drift.clone()?)));
        let seen = Seen {
            services,
            endpoints: endpoints.collect(),
            drifts: drifts.collect(),
            proxies: Vec::new(),
            key: self.plugins.borrow_and_update().key,
            listed: missing.is_empty(),
            problems: missing,
        };
        if seen != before {
            self.to.send_replace(seen);
            let _ = self.to_engine.send(Input::Look).await;
        }
    }

    /// Orders in annotations, each once, and only when the engine knows the service.
    async fn pass_on_orders(&mut self) {
        let mut orders = Vec::new();
        for (key, handed) in &mut self.handed {
            let (namespace, name) = &handed.sight.name;
            let Some(document) = self.cluster.blue_greens.get(namespace, name) else { continue };
            let annotations = document.metadata.annotations.as_ref();
            let Some(text) = annotations.and_then(|all| all.get(super::names::ORDER_ANNOTATION)) else {
                continue;
            };
            if !self.shared.taken.has(key) || handed.ordered.as_ref() == Some(text) {
                continue;
            }
            handed.ordered = Some(text.clone());
            let order: Order = match serde_json::from_str(text) {
                Ok(order) => order,
                Err(error) => {
                    tracing::warn!(blue_green = %key, "the order in its annotation is not understood: {error}");
                    continue;
                }
            };
            let answered = document.status.pointer("/order/id").and_then(serde_json::Value::as_str);
            if answered != Some(order.id.as_str()) {
                orders.push((key.clone(), order));
            }
        }
        for (key, order) in orders {
            let (to, answer) = oneshot::channel();
            let command = command(&order);
            self.shared.orders.put(&key, (order.id, answer));
            let request = Request { service: Some(key), command };
            let _ = self.to_engine.send(Input::Command(request, to)).await;
        }
    }
}

/// Under a policy that does not allow what the document says now: the settings that were allowed last. A release that
/// is open goes on with them, or back; none is begun, since at rest the newest revision is not seen.
fn keep_what_was_allowed(now: &Sight, before: &Sight, open: bool) -> Arc<Sight> {
    if !open {
        return Arc::new(Sight {
            document: before.document.clone(),
            endpoints: before.endpoints,
            ..now.clone()
        });
    }
    let mut document = (*now.document).clone();
    let colors = document.spec.colors;
    document.spec = before.document.spec.clone();
    document.spec.colors = colors;
    Arc::new(Sight { document: Arc::new(document), ..now.clone() })
}

fn is_open_in(status: &serde_json::Value) -> bool {
    memory::state(status).0.is_some_and(|state| state.phase.is_open())
}

/// What others did to routes and subsets since our last write. Its version is still to be given.
fn look_for_drift(sight: &Sight, written: &Written) -> Result<Option<Drift>, Refusal> {
    let found = sight.check(&written.route)?;
    // Another version, not only a newer one: a cluster that was set back has an older one.
    let changed = sight.route_version() != written.version && !found.exact;
    let subsets = sight.rule_outcome() != crate::routes::Outcome::Unchanged;
    if !changed && !subsets {
        return Ok(None);
    }
    for drift in &found.drift {
        tracing::warn!(blue_green = %key(&sight.name), "{drift}");
    }
    let by = if changed { last_writer(&sight.virtual_service) } else { None };
    Ok(Some(Drift { version: 0, found: found.route, by }))
}

/// The field manager that wrote last, ours left out.
fn last_writer(object: &serde_json::Value) -> Option<String> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let text = |entry: &serde_json::Value, field: &str| Some(entry.get(field)?.as_str()?.to_owned());
    let others = entries.iter().filter_map(|entry| Some((text(entry, "time"), text(entry, "manager")?)));
    others.filter(|(_, manager)| manager != super::names::FIELD_MANAGER).max().map(|(_, manager)| manager)
}

fn command(order: &Order) -> Command {
    use crate::api::OrderVerb;
    match order.verb {
        OrderVerb::Release => Command::Release { force: order.force },
        OrderVerb::Promote => Command::Promote,
        OrderVerb::Pause => Command::Pause,
        OrderVerb::Resume => Command::Resume,
        OrderVerb::Abort => Command::Abort,
    }
}

/// The key of a service.
pub fn key((namespace, name): &Name) -> String {
    format!("{namespace}/{name}")
}
