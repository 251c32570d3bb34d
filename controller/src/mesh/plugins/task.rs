//! Watches namespaces and plugins, writes what was decided, tells what a person should look at.

use super::decide::{Decision, Namespace, Plugin, Seen, Write, decide};
use super::{KeysError, Problem, Reason, Settings, keys};
use crate::mesh::backoff::Soon;
use crate::mesh::names::{ENABLED_LABEL, FIELD_MANAGER, KEYS_SECRET, YES};
use futures_util::{Stream, StreamExt};
use hueshift_core::contract::MeshKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// After a failed write the whole is decided again.
const AGAIN: Duration = Duration::from_secs(5);

/// A filter fell silent although its proxy serves: ask for new VMs. Asking again while nothing changes is fine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revive {
    /// The proxy's namespace.
    pub namespace: String,
}

/// What the rest of the controller should know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What a person should look at.
    pub problems: Vec<Problem>,
    /// Version of the key that plans may name; absent until plugins were seen.
    pub key: Option<u8>,
}

/// Why there are no mesh keys.
#[derive(Debug, thiserror::Error)]
pub enum Keys {
    /// The Secret cannot be read or made.
    #[error("cannot read or make the Secret {namespace}/{KEYS_SECRET} with the mesh keys")]
    Api {
        /// Where.
        namespace: String,
        /// What the API server says.
        source: kube::Error,
    },
    /// It holds something else.
    #[error("the Secret {namespace}/{KEYS_SECRET} with the mesh keys is not usable: {error}")]
    Wrong {
        /// Where.
        namespace: String,
        /// What is wrong.
        error: KeysError,
    },
    /// No randomness.
    #[error("cannot draw a mesh key")]
    Random(#[source] std::io::Error),
}

/// The mesh keys of their Secret, which is made with a new key if it is not there.
pub async fn mesh_keys(client: &Client, namespace: &str) -> Result<Vec<MeshKey>, Keys> {
    let secrets: Api<v1::Secret> = Api::namespaced(client.clone(), namespace);
    let api = |source| Keys::Api { namespace: namespace.to_owned(), source };
    // A second look for the case that another process makes it between our read and our write.
    let secret = match secrets.get_opt(KEYS_SECRET).await.map_err(api)? {
        Some(secret) => secret,
        None => match secrets.create(&PostParams::default(), &drawn()?).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                secrets.get(KEYS_SECRET).await.map_err(api)?
            }
            other => other.map_err(api)?,
        },
    };
    let entries = secret.data.unwrap_or_default().into_iter().map(|(name, value)| (name, value.0)).collect();
    keys::parse(&entries).map_err(|error| Keys::Wrong { namespace: namespace.to_owned(), error })
}

fn drawn() -> Result<v1::Secret, Keys> {
    let key = keys::first(crate::random::bytes().map_err(Keys::Random)?);
    let mut secret = v1::Secret {
        data: Some(BTreeMap::from([(key.version.to_string(), ByteString(key.hex.into_bytes()))])),
        type_: Some("Opaque".to_owned()),
        ..v1::Secret::default()
    };
    secret.metadata.name = Some(KEYS_SECRET.to_owned());
    secret.metadata.labels =
        Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "hueshift".to_owned())]));
    Ok(secret)
}

/// Keeps the plugins right until `revive` is closed.
pub async fn run(
    client: Client,
    settings: Settings,
    mut revive: mpsc::Receiver<Revive>,
    told: watch::Sender<Told>,
) {
    let writer = Writer { client: client.clone() };
    let mut namespaces = Cache::new(Api::<PartialObjectMeta<v1::Namespace>>::all(client.clone()), ());
    let mut plugins = Cache::new(Api::all_with(client, &resource()), resource());
    let mut silent = BTreeSet::new();
    let mut again = None;
    loop {
        tokio::select! {
            () = namespaces.changed() => {}
            () = plugins.changed() => {}
            asked = revive.recv() => match asked {
                Some(asked) => _ = silent.insert(asked.namespace),
                None => return,
            },
            () = sleep_until(again) => {}
        }
        let lost: Vec<Problem> = namespaces.lost.iter().chain(&plugins.lost).cloned().collect();
        if !(namespaces.complete && plugins.complete) {
            tell(&told, Told { problems: lost, key: None });
            continue;
        }
        let seen = Seen {
            namespaces: namespaces.objects.values().map(namespace).collect(),
            plugins: plugins.objects.values().filter_map(plugin).collect(),
        };
        let Decision { writes, mut problems, key, revived } = decide(&seen, &settings, &silent, now_ms());
        // A request that came too early is made again by whoever still misses reports.
        silent.clear();
        if !revived.is_empty() {
            tracing::warn!("filters fell silent: new VMs by {}", revived.join(", "));
        }
        again = None;
        for write in &writes {
            match writer.write(write).await {
                // What we wrote is seen at once, so that nothing is decided from before it.
                Ok(Some(object)) => plugins.put(object),
                Ok(None) => {}
                Err(problem) => {
                    again = Some(tokio::time::Instant::now() + AGAIN);
                    problems.push(problem);
                }
            }
        }
        problems.extend(lost);
        tell(&told, Told { problems, key });
    }
}

fn tell(told: &watch::Sender<Told>, new: Told) {
    told.send_if_modified(|old| {
        for problem in new.problems.iter().filter(|problem| !old.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        let changed = *old != new;
        *old = new;
        changed
    });
}

fn resource() -> ApiResource {
    ApiResource {
        group: "extensions.istio.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "extensions.istio.io/v1alpha1".to_owned(),
        kind: "WasmPlugin".to_owned(),
        plural: "wasmplugins".to_owned(),
    }
}

fn namespace(object: &PartialObjectMeta<v1::Namespace>) -> Namespace {
    Namespace {
        name: object.name_any(),
        enabled: object.labels().get(ENABLED_LABEL).is_some_and(|value| value == YES),
        ending: object.metadata.deletion_timestamp.is_some(),
    }
}

fn plugin(object: &DynamicObject) -> Option<Plugin> {
    Plugin::read(&serde_json::to_value(object).ok()?)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

// --- Writing ---

struct Writer {
    client: Client,
}

impl Writer {
    /// What is there afterwards, if anything is.
    async fn write(&self, write: &Write) -> Result<Option<DynamicObject>, Problem> {
        let (Write::Apply { namespace, name, .. } | Write::Delete { namespace, name, .. }) = write;
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource());
        let done = match write {
            Write::Apply { body, .. } => {
                // Only fields that are ours are in it: whoever else wrote them gives way.
                let params = PatchParams::apply(FIELD_MANAGER).force();
                api.patch(name, &params, &Patch::Apply(body)).await.map(Some)
            }
            Write::Delete { uid, .. } => {
                let this = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
                match api.delete(name, &params).await {
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
                    other => other.map(|_| None),
                }
            }
        };
        done.map_err(|error| failed(&error, namespace, name))
    }
}

fn failed(error: &kube::Error, namespace: &str, name: &str) -> Problem {
    let (reason, text) = match error {
        kube::Error::Api(status) if status.code == 403 => (
            Reason::NotPermitted,
            format!(
                "the controller may not write WasmPlugin {namespace}/{name}: `kubectl apply --namespace {namespace} \
                 -k istio/overlays/namespace` lets it"
            ),
        ),
        kube::Error::Api(status) => (
            Reason::WriteFailed,
            format!("WasmPlugin {namespace}/{name} was not written: {}; it is tried again", status.message),
        ),
        other => (
            Reason::WriteFailed,
            format!("WasmPlugin {namespace}/{name} was not written: {other}; it is tried again"),
        ),
    };
    Problem { namespace: Some(namespace.to_owned()), reason, text }
}

// --- Watching ---

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, watcher::Error>> + Send>>;
type Id = (Option<String>, String);

/// All objects of one kind, as the watch tells them.
struct Cache<K> {
    events: Events<K>,
    objects: BTreeMap<Id, K>,
    /// A list that is still coming in.
    coming: BTreeMap<Id, K>,
    /// Whether the first list came in whole.
    complete: bool,
    /// Why nothing comes.
    lost: Option<Problem>,
    kind: String,
}

impl<K> Cache<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Clone,
{
    fn new(api: Api<K>, kind: K::DynamicType) -> Self {
        Cache {
            kind: K::plural(&kind).into_owned(),
            events: watcher(api, watcher::Config::default()).backoff(Soon::default()).boxed(),
            objects: BTreeMap::new(),
            coming: BTreeMap::new(),
            complete: false,
            lost: None,
        }
    }

    /// Until there is something new to decide upon.
    async fn changed(&mut self) {
        loop {
            let event = match self.events.next().await {
                Some(event) => event,
                None => std::future::pending().await,
            };
            match event {
                Ok(event) => {
                    if self.take(event) {
                        return;
                    }
                }
                Err(error) if self.lose(&error) => return,
                Err(error) => tracing::debug!("the watch of {} starts anew: {error}", self.kind),
            }
        }
    }

    /// Whether there is anything new.
    fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.coming.clear();
                return false;
            }
            Event::InitApply(object) => {
                self.coming.insert(id(&object), object);
                return false;
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.coming);
                self.complete = true;
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => _ = self.objects.remove(&id(&object)),
        }
        self.lost = None;
        true
    }

    fn put(&mut self, object: K) {
        self.objects.insert(id(&object), object);
    }

    /// Whether it is a failure that does not pass by itself and was not told yet.
    fn lose(&mut self, error: &watcher::Error) -> bool {
        let (watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
        else {
            return false;
        };
        let text = match status.code {
            404 => format!("the cluster knows no {}: install Istio, whose CRDs bring them", self.kind),
            403 => format!("the controller may not list {}: apply istio/base again", self.kind),
            _ => return false,
        };
        let new = self.lost.is_none();
        self.lost = Some(Problem { namespace: None, reason: Reason::NotSeen, text });
        new
    }
}

fn id<K: kube::Resource>(object: &K) -> Id {
    (object.meta().namespace.clone(), object.name_any())
}
