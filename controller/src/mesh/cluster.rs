//! The cluster as last seen: what the watches told, cut down to what is needed. Pure; nothing here talks to an API.

use super::names;
use crate::api::{BlueGreen, ReleasePolicy};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, ObjectMeta, PartialObjectMeta};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace (empty for objects without one) and name.
pub type Name = (String, String);
/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Name of the mesh's root namespace, as it was set; empty: none.
    pub root: String,
    /// Labels of namespaces: which opted in, and which policies bind them.
    pub namespaces: Store<Labels>,
    /// What platform teams ask.
    pub policies: Store<Arc<Policy>>,
    /// Our documents.
    pub blue_greens: Store<Arc<Document>>,
    /// Routes.
    pub virtual_services: Store<Arc<Value>>,
    /// Subsets.
    pub destination_rules: Store<Arc<Value>>,
    /// Workloads.
    pub deployments: Store<DeploymentFacts>,
    /// Revisions of workloads.
    pub replica_sets: Store<ReplicaSetFacts>,
    /// Ready pods of services.
    pub slices: Store<SliceFacts>,
    /// Which color a pod has, and who speaks for it.
    pub pods: Store<PodFacts>,
    /// Which services exist.
    pub services: Store<()>,
}

/// Objects of one kind, by name.
#[derive(Debug)]
pub struct Store<T> {
    objects: BTreeMap<Name, T>,
    filling: Option<BTreeMap<Name, T>>,
    /// Whether there was a complete list.
    pub synced: bool,
    /// Why there is none, or why the last watch ended.
    pub trouble: Option<String>,
}

/// What a watch tells.
#[derive(Debug)]
pub enum Told<T> {
    /// A new or changed object.
    Put(Name, T),
    /// One that is gone.
    Gone(Name),
    /// A list begins.
    Begin,
    /// One object of the list.
    Fill(Name, T),
    /// The list is complete: what was not in it is gone.
    End,
    /// The watch failed; it is tried again.
    Trouble(String),
}

/// A `BlueGreen` as the API server holds it.
#[derive(Debug, Clone)]
pub struct Document {
    /// The object; `Err`: one that we cannot read, and why.
    pub object: Result<BlueGreen, String>,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status as it stands there.
    pub status: Value,
}

/// A `ReleasePolicy`; `Err`: one that we cannot read, and why. Then nobody knows what it asks, or of whom.
pub type Policy = Result<ReleasePolicy, String>;

/// What matters of a Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Its uid, which its ReplicaSets name.
    pub uid: String,
    /// Wished pods.
    pub replicas: u32,
    /// Whether its controller has seen its newest form.
    pub observed: bool,
    /// `spec.selector.matchLabels`.
    pub selector: Labels,
}

/// What matters of a ReplicaSet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaSetFacts {
    /// Uid of the Deployment that owns it.
    pub owner: String,
    /// The Deployment's count of its revisions.
    pub revision: u64,
    /// Its pod template hash.
    pub hash: String,
}

/// What matters of a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its labels.
    pub labels: Labels,
    /// Its service account.
    pub account: String,
}

/// What matters of an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceFacts {
    /// Its service.
    pub service: String,
    /// Names of its ready pods.
    pub ready: Vec<String>,
}

// === impl Told ===

impl<T> Told<T> {
    /// The one object that it is about; `None`: a list.
    pub fn about(&self) -> Option<&Name> {
        match self {
            Told::Put(name, _) | Told::Gone(name) => Some(name),
            Told::Begin | Told::Fill(..) | Told::End | Told::Trouble(_) => None,
        }
    }
}

// === impl Store ===

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store { objects: BTreeMap::new(), filling: None, synced: false, trouble: None }
    }
}

impl<T> Store<T> {
    /// Takes what a watch tells, and says which objects may be others now.
    pub fn take(&mut self, told: Told<T>) -> Vec<Name> {
        match told {
            Told::Put(name, object) => {
                self.trouble = None;
                self.objects.insert(name.clone(), object);
                vec![name]
            }
            Told::Gone(name) => {
                self.objects.remove(&name);
                vec![name]
            }
            Told::Begin => {
                self.filling = Some(BTreeMap::new());
                Vec::new()
            }
            Told::Fill(name, object) => {
                self.filling.get_or_insert_default().insert(name, object);
                Vec::new()
            }
            Told::End => {
                let new = self.filling.take().unwrap_or_default();
                let old = std::mem::replace(&mut self.objects, new);
                self.synced = true;
                self.trouble = None;
                let mut names: Vec<Name> = self.objects.keys().cloned().collect();
                names.extend(old.into_keys().filter(|name| !self.objects.contains_key(name)));
                names
            }
            Told::Trouble(text) => {
                self.trouble = Some(text);
                Vec::new()
            }
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        // BTreeMap wants the whole key; names are short.
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All of a namespace, by name.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a T)> {
        self.objects
            .range((namespace.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == namespace)
            .map(|((_, name), object)| (name.as_str(), object))
    }

    /// All.
    pub fn all(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.objects.iter()
    }
}

// === impl Cluster ===

impl Cluster {
    /// Nothing is seen yet of a mesh with this root namespace.
    pub fn of(root: &str) -> Cluster {
        Cluster { root: root.to_owned(), ..Cluster::default() }
    }

    /// What is still missing before anything may be decided, and why.
    pub fn missing(&self) -> Vec<String> {
        let kinds = [
            ("namespaces", self.namespaces.synced, &self.namespaces.trouble),
            ("releasepolicies.hueshift.dev", self.policies.synced, &self.policies.trouble),
            ("bluegreens.hueshift.dev", self.blue_greens.synced, &self.blue_greens.trouble),
            (
                "virtualservices.networking.istio.io",
                self.virtual_services.synced,
                &self.virtual_services.trouble,
            ),
            (
                "destinationrules.networking.istio.io",
                self.destination_rules.synced,
                &self.destination_rules.trouble,
            ),
            ("deployments", self.deployments.synced, &self.deployments.trouble),
            ("replicasets", self.replica_sets.synced, &self.replica_sets.trouble),
            ("endpointslices", self.slices.synced, &self.slices.trouble),
            ("pods", self.pods.synced, &self.pods.trouble),
            ("services", self.services.synced, &self.services.trouble),
        ];
        let unsynced = kinds.into_iter().filter(|(_, synced, _)| !synced);
        unsynced
            .map(|(kind, _, trouble)| match trouble {
                Some(why) => format!("cannot list {kind}: {why}"),
                None => format!("{kind} are not listed yet"),
            })
            .collect()
    }
}

/// The name of an object.
pub fn name_of(metadata: &ObjectMeta) -> Name {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// `resourceVersion` as a number: the API promises since 1.35 that it grows.
pub fn version_of(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

/// Whether a namespace with these labels opted in.
pub fn opted_in(namespace: &Labels) -> bool {
    namespace.get(names::ENABLED_LABEL).is_some_and(|value| value == names::YES)
}

/// A `ReleasePolicy`; one that cannot be read must not make us blind to the others.
pub fn policy(object: DynamicObject) -> Arc<Policy> {
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    Arc::new(read.map_err(|error| error.to_string()))
}

/// A `BlueGreen`; one that cannot be read must not make us blind to the others.
pub fn document(object: DynamicObject) -> Arc<Document> {
    let metadata = object.metadata.clone();
    let status = object.data.get("status").cloned().unwrap_or(Value::Null);
    let read = serde_json::to_value(object).and_then(|mut value| {
        // Our own memory is read on its own: a state that does not read back is a lost state.
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        serde_json::from_value(value)
    });
    Arc::new(Document { object: read.map_err(|error| error.to_string()), metadata, status })
}

/// An object whose fields we hand on as they are.
pub fn whole(object: DynamicObject) -> Arc<Value> {
    Arc::new(serde_json::to_value(object).unwrap_or(Value::Null))
}

/// What matters of a Deployment.
pub fn deployment(object: &Deployment) -> DeploymentFacts {
    let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
    let seen = status.and_then(|status| status.observed_generation);
    DeploymentFacts {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        replicas: spec.and_then(|spec| spec.replicas).map_or(1, |count| u32::try_from(count).unwrap_or(0)),
        observed: seen >= object.metadata.generation,
        selector: spec.and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default(),
    }
}

/// What matters of a ReplicaSet.
pub fn replica_set(object: &PartialObjectMeta<ReplicaSet>) -> Option<ReplicaSetFacts> {
    let metadata = &object.metadata;
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Deployment")?;
    let revision = metadata.annotations.as_ref()?.get("deployment.kubernetes.io/revision")?;
    Some(ReplicaSetFacts {
        owner: owner.uid.clone(),
        revision: revision.parse().ok()?,
        hash: metadata.labels.as_ref()?.get("pod-template-hash")?.clone(),
    })
}

/// What matters of an EndpointSlice.
pub fn slice(object: &EndpointSlice) -> Option<SliceFacts> {
    let service = object.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
    let ready = object
        .endpoints
        .iter()
        .flatten()
        // Absent means unknown, which readers must take for ready.
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|known| known.ready) != Some(false))
        .filter_map(|endpoint| endpoint.target_ref.as_ref())
        .filter(|target| target.kind.as_deref() == Some("Pod"))
        .filter_map(|target| target.name.clone())
        .collect();
    Some(SliceFacts { service, ready })
}

/// Labels of an object.
pub fn labels<K: kube::Resource>(object: PartialObjectMeta<K>) -> Labels {
    object.metadata.labels.unwrap_or_default()
}

/// What matters of a Pod.
pub fn pod(object: Pod) -> PodFacts {
    let account = object.spec.and_then(|spec| spec.service_account_name).filter(|name| !name.is_empty());
    PodFacts {
        labels: object.metadata.labels.unwrap_or_default(),
        // What the API server writes for a pod that names none.
        account: account.unwrap_or_else(|| "default".to_owned()),
    }
}
