//! One watch per kind, for ever: what the API server tells, cut down to what is needed and handed on as [`News`].
//!
//! A watch that fails is tried again within about a second; until then the last picture stays.

use super::backoff::Soon;
use super::calls;
use super::cluster::{self, Document, Labels, Name, Policy, Told};
use super::sight::Refusal;
use crate::api::Release;
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PartialObjectMeta;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A watch is opened anew this often, so that a connection that died in silence is noticed, seconds.
const WATCH_SECONDS: u32 = 60;

/// What the watches and the reads tell.
pub(super) enum News {
    Namespaces(Told<Labels>),
    Policies(Told<Arc<Policy>>),
    BlueGreens(Told<Arc<Document>>),
    VirtualServices(Told<Arc<serde_json::Value>>),
    DestinationRules(Told<Arc<serde_json::Value>>),
    Deployments(Told<cluster::DeploymentFacts>),
    ReplicaSets(Told<cluster::ReplicaSetFacts>),
    Slices(Told<cluster::SliceFacts>),
    Pods(Told<cluster::PodFacts>),
    Services(Told<()>),
    Releases(Name, String, Result<Vec<Release>, Refusal>),
}

/// Begins all watches; they end with whoever listens.
pub(super) fn watch_all(client: &Client, to: &mpsc::Sender<News>) {
    let all = || client.clone();
    follow(
        Api::<PartialObjectMeta<Namespace>>::all(all()),
        |object| Some(cluster::labels(object)),
        News::Namespaces,
        to,
    );
    follow(calls::policies(client), |object| Some(cluster::policy(object)), News::Policies, to);
    follow(calls::blue_greens(client, None), |object| Some(cluster::document(object)), News::BlueGreens, to);
    follow(
        calls::virtual_services(client, None),
        |object| Some(cluster::whole(object)),
        News::VirtualServices,
        to,
    );
    follow(
        calls::destination_rules(client, None),
        |object| Some(cluster::whole(object)),
        News::DestinationRules,
        to,
    );
    follow(Api::<Deployment>::all(all()), |object| Some(cluster::deployment(&object)), News::Deployments, to);
    follow(
        Api::<PartialObjectMeta<ReplicaSet>>::all(all()),
        |object| cluster::replica_set(&object),
        News::ReplicaSets,
        to,
    );
    follow(Api::<EndpointSlice>::all(all()), |object| cluster::slice(&object), News::Slices, to);
    follow(Api::<Pod>::all(all()), |object| Some(cluster::pod(object)), News::Pods, to);
    follow(
        Api::<PartialObjectMeta<Service>>::all(all()),
        // That it exists is all that matters.
        |_| Some(()),
        News::Services,
        to,
    );
}

/// Watches one kind for ever; `keep` cuts an object down to what is needed.
fn follow<K, T>(api: Api<K>, keep: fn(K) -> Option<T>, tell: fn(Told<T>) -> News, to: &mpsc::Sender<News>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    T: Send + 'static,
{
    let to = to.clone();
    tokio::spawn(async move {
        // The default list is a quorum read: never older than what was written before it.
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let mut stream = std::pin::pin!(watcher::watcher(api, config));
        let mut pauses = Soon::default();
        while let Some(event) = stream.next().await {
            let told = match event {
                Ok(event) => {
                    pauses.reset();
                    told(event, keep)
                }
                Err(error) => Some(Told::Trouble(trouble(&error))),
            };
            let failed = matches!(told, Some(Told::Trouble(_)));
            if let Some(told) = told
                && to.send(tell(told)).await.is_err()
            {
                return;
            }
            if failed {
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
        }
    });
}

fn told<K: Resource, T>(event: Event<K>, keep: fn(K) -> Option<T>) -> Option<Told<T>> {
    Some(match event {
        Event::Init => Told::Begin,
        Event::InitDone => Told::End,
        Event::Delete(object) => Told::Gone(cluster::name_of(object.meta())),
        Event::InitApply(object) => {
            let name = cluster::name_of(object.meta());
            Told::Fill(name, keep(object)?)
        }
        Event::Apply(object) => {
            let name = cluster::name_of(object.meta());
            match keep(object) {
                Some(kept) => Told::Put(name, kept),
                None => Told::Gone(name),
            }
        }
    })
}

/// Why a watch failed, and what to do where that is known.
fn trouble(error: &watcher::Error) -> String {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return calls::words(error);
    };
    let remedy = match status.code {
        403 => "; `kubectl apply -k istio/base` gives the controller this right",
        404 => "; install what defines them: Istio, or for hueshift.dev `kubectl apply -k istio/base`",
        _ => "",
    };
    format!("{}{remedy}", status.message.trim_end())
}
