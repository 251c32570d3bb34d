//! Asking the controller of a cluster, with nothing but the API server between.
//!
//! Reads go through its service proxy to the controller's read-only status, so that no port needs to be opened and
//! the cluster's own rights decide; whoever may not, and everybody while the controller is away, gets what the
//! objects last said (`remembered`). Orders are an annotation of the BlueGreen: whoever may edit it may give them.
//! The controller answers in its status, within [`ANSWER_WITHIN`].

use super::remembered;
use crate::api::{BlueGreen, Order, OrderVerb, Release};
use crate::control::{Accepted, Command, Request, TIMEOUT};
use crate::mesh::names::{self, FIELD_MANAGER, ORDER_ANNOTATION};
use crate::view::{ReleaseRecord, View};
use clap::Args;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Name under which `kubectl hueshift` finds us.
const PLUGIN: &str = "kubectl-hueshift";
/// How long an order may stay unanswered: the first routes of a service keep its other writes waiting for as long as
/// istiod may hold a push back (11 s as installed).
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Time between two looks for its answer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// As kubectl has them; any of them means a cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "In a cluster")]
pub(super) struct Flags {
    /// The namespace of the services [default: the context's].
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Services of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, or ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A cluster, and which of its services.
pub(super) struct Cluster {
    client: Client,
    /// None: all.
    namespace: Option<String>,
    /// Where the controller is.
    home: String,
    server: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No cluster is configured.
    #[error("no cluster is configured: {0}; name a kubeconfig with --kubeconfig FILE or KUBECONFIG")]
    Config(String),
    /// The API server does not answer.
    #[error("the API server at {server} does not answer: {why}; traffic goes on")]
    ApiServer {
        /// Its address.
        server: String,
        /// What happened.
        why: String,
    },
    /// It refused.
    #[error("the API server refused: {0}")]
    Refused(String),
    /// It knows none of our objects.
    #[error("the cluster knows no BlueGreens; install Hueshift with `kubectl apply -k istio/base`")]
    NotInstalled,
    /// The controller does not answer.
    #[error(
        "the controller in {namespace} does not answer: {why}; see `kubectl -n {namespace} get pods`: traffic goes on"
    )]
    Away {
        /// Its namespace.
        namespace: String,
        /// What the API server says.
        why: String,
    },
    /// One may not read the live status.
    #[error("you may not read the live status: ask for the Role hueshift-live-view in {0}")]
    NotLive(String),
    /// It answered something else.
    #[error("the controller's answer is not understood ({0}); is it of another version?")]
    Garbled(String),
    /// The service that is meant is not clear.
    #[error("{0}")]
    Which(String),
    /// The controller said no.
    #[error("{0}")]
    Declined(String),
    /// It said nothing.
    #[error("{0}")]
    NoAnswer(String),
}

/// Whether we run as kubectl's plugin.
pub(super) fn called_by_kubectl() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_stem().is_some_and(|name| name == PLUGIN))
}

// === impl Flags ===

impl Flags {
    /// Whether a cluster is meant.
    pub(super) fn given(&self) -> bool {
        self.namespace.is_some() || self.all_namespaces || self.context.is_some() || self.kubeconfig.is_some()
    }
}

// === impl Error ===

impl Error {
    /// Whether the objects can still be asked.
    pub(super) fn leaves_objects(&self) -> bool {
        matches!(self, Error::Away { .. } | Error::NotLive(_) | Error::Garbled(_))
    }

    /// Whether waiting does not mend it.
    pub(super) fn final_word(&self) -> bool {
        !matches!(self, Error::Away { .. } | Error::ApiServer { .. })
    }

    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Config(_) | Error::Which(_) => 2,
            _ => 1,
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Reads the kubeconfig as kubectl does; says nothing to the cluster yet.
    pub(super) async fn connect(flags: &Flags, service: Option<&str>) -> Result<Cluster, Error> {
        let config = config(flags).await?;
        let home = std::env::var(names::NAMESPACE_ENV).ok().filter(|name| !name.is_empty());
        let named =
            service.and_then(|service| service.split_once('/')).map(|(namespace, _)| namespace.to_owned());
        let namespace = match (named, flags.all_namespaces) {
            (Some(namespace), _) => Some(namespace),
            (None, true) => None,
            (None, false) => {
                Some(flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone()))
            }
        };
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| Error::Config(error.to_string()))?;
        Ok(Cluster { client, namespace, home: home.unwrap_or_else(|| names::NAMESPACE.to_owned()), server })
    }

    /// What the controller says; for who may not read that, what the objects say.
    pub(super) async fn status(&self) -> Result<View, Error> {
        match self.live().await {
            Err(error @ Error::NotLive(_)) => self.remembered(&error).await,
            answer => answer,
        }
    }

    async fn live(&self) -> Result<View, Error> {
        let request = hyper::Request::get(names::status_proxy_path(&self.home)).body(Vec::new());
        let request = request.map_err(|error| Error::Garbled(error.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request_text(request)).await;
        let away = |why: String| Error::Away { namespace: self.home.clone(), why };
        let text = match answer {
            Err(_) => return Err(away(format!("nothing came within {} s", TIMEOUT.as_secs()))),
            Ok(Err(kube::Error::Api(status))) => {
                return Err(match status.code {
                    401 => Error::Refused(status.message),
                    403 => Error::NotLive(self.home.clone()),
                    _ => away(status.message),
                });
            }
            Ok(answer) => answer.map_err(|error| self.unreachable(&error))?,
        };
        let mut view: View =
            serde_json::from_str(&text).map_err(|error| Error::Garbled(error.to_string()))?;
        if let Some(namespace) = &self.namespace {
            let here = |name: &str| name.split_once('/').is_none_or(|(of, _)| of == namespace);
            view.services.retain(|service| here(&service.name));
        }
        view.file = self.place();
        Ok(view)
    }

    /// What the objects last said, and why not more.
    pub(super) async fn remembered(&self, why: &Error) -> Result<View, Error> {
        let blue_greens = self.list::<BlueGreen>().await?;
        let releases = self.list::<Release>().await?;
        let mut view = remembered::view(&blue_greens, &releases, self.place(), now_ms());
        view.problems.push(format!("{why}. This is what the objects say"));
        Ok(view)
    }

    /// Ended releases.
    pub(super) async fn history(
        &self,
        service: Option<&str>,
    ) -> Result<Vec<ReleaseRecord>, super::ask::Unanswered> {
        let releases = self.list::<Release>().await.map_err(super::ask::Unanswered::Cluster)?;
        let mut records = remembered::records(&releases);
        if let Some(service) = service {
            records.retain(|record| {
                record.service == service
                    || record.service.split_once('/').is_some_and(|(_, short)| short == service)
            });
        }
        Ok(records)
    }

    /// Writes the order and waits for its answer.
    pub(super) async fn order(&self, request: &Request) -> Result<Accepted, Error> {
        let (namespace, name) = self.which(request.service.as_deref()).await?;
        let api: Api<BlueGreen> = Api::namespaced(self.client.clone(), &namespace);
        let order = order(request.command).map_err(|error| Error::Refused(error.to_string()))?;
        let text = serde_json::to_string(&order).map_err(|error| Error::Garbled(error.to_string()))?;
        let patch = json!({"metadata": {"annotations": {ORDER_ANNOTATION: text}}});
        let params =
            PatchParams { field_manager: Some(format!("{FIELD_MANAGER}-cli")), ..PatchParams::default() };
        self.ask(api.patch_metadata(&name, &params, &Patch::Merge(&patch))).await.map_err(
            |error| match error {
                Error::NotInstalled => Error::Which(format!(
                    "there is no BlueGreen {namespace}/{name}; see `kubectl get bluegreens -A`"
                )),
                other => other,
            },
        )?;
        let begin = Instant::now();
        loop {
            // A look that fails is made again: the order stands.
            if let Ok(now) = self.ask(api.get(&name)).await
                && let Some(status) = now.status
                && let Some(answer) = status.order.filter(|answer| answer.id == order.id)
            {
                let service = format!("{namespace}/{name}");
                return if answer.accepted {
                    Ok(Accepted { service, release: status.release.unwrap_or(0), text: answer.text })
                } else {
                    Err(Error::Declined(answer.text))
                };
            }
            if begin.elapsed() >= ANSWER_WITHIN {
                return Err(self.unanswered(&api, &namespace, &name, &order, &text).await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What stops a release stays ordered; what would go on with it is taken back, lest it happen when nobody expects
    /// it any more.
    async fn unanswered(
        &self,
        api: &Api<BlueGreen>,
        namespace: &str,
        name: &str,
        order: &Order,
        text: &str,
    ) -> Error {
        let waited = format!("the controller did not answer within {} s", ANSWER_WITHIN.as_secs());
        let see = format!("see `kubectl -n {} get pods`", self.home);
        let pointer = format!("/metadata/annotations/{}", ORDER_ANNOTATION.replace('/', "~1"));
        if !matches!(order.verb, OrderVerb::Abort | OrderVerb::Pause) {
            let patch = json!([
                {"op": "test", "path": pointer, "value": text},
                {"op": "remove", "path": pointer},
            ]);
            let patch: Result<json_patch::Patch, _> = serde_json::from_value(patch);
            if let Ok(patch) = patch
                && self.ask(api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch))).await.is_ok()
            {
                return Error::NoAnswer(format!("{waited}, so the order was taken back; {see}"));
            }
        }
        Error::NoAnswer(format!(
            "{waited}; the order stands and is carried out when it is back: {see}, or take it back with \
             `kubectl -n {namespace} annotate bluegreen {name} {ORDER_ANNOTATION}-`"
        ))
    }

    /// The BlueGreen that is meant.
    async fn which(&self, service: Option<&str>) -> Result<(String, String), Error> {
        let all = self.place();
        if let (Some(service), Some(namespace)) = (service, &self.namespace) {
            let name = service.split_once('/').map_or(service, |(_, name)| name);
            return Ok((namespace.clone(), name.to_owned()));
        }
        let mut found: Vec<(String, String)> = self
            .list::<BlueGreen>()
            .await?
            .into_iter()
            .map(|object| (object.namespace().unwrap_or_default().to_owned(), object.name_any()))
            .collect();
        if let Some(service) = service {
            found.retain(|(_, name)| name == service);
        }
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Error::Which(match service {
                Some(service) => format!("there is no BlueGreen `{service}` in {all}"),
                None => format!("there is no BlueGreen in {all}; choose another namespace with --namespace"),
            })),
            several => Err(Error::Which(format!(
                "there are several in {all}; name one of {}",
                several
                    .iter()
                    .map(|(namespace, name)| format!("{namespace}/{name}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    async fn list<K>(&self) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        Ok(self.ask(api.list(&ListParams::default())).await?.items)
    }

    /// One call, with an end and a sentence.
    async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Error::NotInstalled),
            Ok(Err(kube::Error::Api(status))) => Err(Error::Refused(status.message)),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(Error::ApiServer {
                server: self.server.clone(),
                why: format!("nothing came within {} s", TIMEOUT.as_secs()),
            }),
        }
    }

    fn unreachable(&self, error: &kube::Error) -> Error {
        // The innermost cause is the one that helps: "connection refused".
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Error::ApiServer { server: self.server.clone(), why: cause.to_string() }
    }

    fn place(&self) -> String {
        self.namespace.as_ref().map_or_else(|| "the cluster".to_owned(), |name| format!("namespace {name}"))
    }
}

async fn config(flags: &Flags) -> Result<Config, Error> {
    let options = KubeConfigOptions { context: flags.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match &flags.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| Error::Config(error.to_string()))?;
            Config::from_custom_kubeconfig(file, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    }
    // In a pod there is no file, and the pod's own account is meant.
    .or_else(|error| match (&flags.kubeconfig, &flags.context) {
        (None, None) => Config::incluster().map_err(|_| error),
        _ => Err(error),
    })
    .map_err(|error| Error::Config(error.to_string()))?;
    config.connect_timeout = Some(TIMEOUT);
    // "No endpoints" is the answer that we want to hear at once; whoever waits asks again anyway.
    config.default_retry = false;
    Ok(config)
}

fn order(command: Command) -> std::io::Result<Order> {
    let id = crate::random::bytes::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let (verb, force) = match command {
        Command::Release { force } => (OrderVerb::Release, force),
        Command::Promote => (OrderVerb::Promote, false),
        Command::Pause => (OrderVerb::Pause, false),
        Command::Resume => (OrderVerb::Resume, false),
        Command::Abort => (OrderVerb::Abort, false),
    };
    Ok(Order { id, verb, force })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
