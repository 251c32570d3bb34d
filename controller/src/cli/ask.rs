//! Asking the controller, here or in a cluster, and telling what to do when nobody answers.

use super::cluster::{self, Cluster};
use super::{At, Failure};
use crate::control::{Accepted, Client, ClientError, Request};
use crate::text::visible;
use crate::view::{ServiceView, View};
use std::fmt;
use std::path::PathBuf;

/// Whom a verb asks.
pub(super) enum Asked {
    /// The controller of a state directory.
    Folder {
        /// The directory.
        state: PathBuf,
        /// Its controller.
        client: Client,
    },
    /// The one of a cluster.
    Cluster(Box<Cluster>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// From the controller of a state directory.
    Folder(ClientError),
    /// From the one of a cluster.
    Cluster(cluster::Error),
}

/// The service that was named, or the only one. In a cluster the namespace may be left out.
pub(super) fn pick<'v>(view: &'v View, name: Option<&str>) -> Result<&'v ServiceView, Failure> {
    let names = || {
        view.services.iter().map(|service| visible(&service.name).into_owned()).collect::<Vec<_>>().join(", ")
    };
    let file = visible(&view.file);
    let Some(name) = name else {
        return match view.services.as_slice() {
            [only] => Ok(only),
            [] => Err(Failure::usage(format!("{file} holds no service; add one"))),
            _ => Err(Failure::usage(format!("{file} holds several services; name one of {}", names()))),
        };
    };
    let short = |service: &&ServiceView| service.name.split_once('/').is_some_and(|(_, short)| short == name);
    let found: Vec<_> = match view.services.iter().find(|service| service.name == name) {
        Some(service) => vec![service],
        None => view.services.iter().filter(short).collect(),
    };
    match found.as_slice() {
        [service] => Ok(service),
        [] if view.services.is_empty() => {
            Err(Failure::usage(format!("there is no service `{}`; {file} holds none", visible(name))))
        }
        [] => {
            Err(Failure::usage(format!("there is no service `{}`; name one of {}", visible(name), names())))
        }
        several => Err(Failure::usage(format!(
            "`{}` is in several namespaces; name one of {}",
            visible(name),
            several.iter().map(|service| visible(&service.name).into_owned()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

// === impl Asked ===

impl Asked {
    /// Whom the flags mean; `service` may name its namespace.
    pub(super) async fn of(at: &At, service: Option<&str>) -> Result<Asked, Failure> {
        if at.state.is_none() && (at.cluster.given() || cluster::called_by_kubectl()) {
            let cluster = Cluster::connect(&at.cluster, service).await;
            return Ok(Asked::Cluster(Box::new(
                cluster.map_err(|error| Unanswered::Cluster(error).failure())?,
            )));
        }
        let variable =
            || std::env::var_os("HUESHIFT_STATE").filter(|state| !state.is_empty()).map(PathBuf::from);
        let state = at.state.clone().or_else(variable).unwrap_or_else(|| ".hueshift".into());
        Ok(Asked::Folder { client: Client::new(&state), state })
    }

    /// What the controller says now.
    pub(super) async fn status(&self) -> Result<View, Unanswered> {
        match self {
            Asked::Folder { client, .. } => client.status().await.map_err(Unanswered::Folder),
            Asked::Cluster(cluster) => cluster.status().await.map_err(Unanswered::Cluster),
        }
    }

    /// The same, or in a cluster what was last written down.
    pub(super) async fn view(&self) -> Result<View, Failure> {
        match (self.status().await, self) {
            (Err(Unanswered::Cluster(error)), Asked::Cluster(cluster)) if error.leaves_objects() => {
                cluster.remembered(&error).await.map_err(|error| Unanswered::Cluster(error).failure())
            }
            (answer, _) => answer.map_err(|unanswered| unanswered.failure()),
        }
    }

    /// Gives one order.
    pub(super) async fn command(&self, request: &Request) -> Result<Accepted, Unanswered> {
        match self {
            Asked::Folder { client, .. } => client.command(request).await.map_err(Unanswered::Folder),
            Asked::Cluster(cluster) => cluster.order(request).await.map_err(Unanswered::Cluster),
        }
    }
}

// === impl Unanswered ===

impl Unanswered {
    /// Whether waiting does not mend it.
    pub(super) fn final_word(&self) -> bool {
        match self {
            Unanswered::Folder(error) => matches!(error, ClientError::Refused(_)),
            Unanswered::Cluster(error) => error.final_word(),
        }
    }

    /// What a person does about it. The cause is told once.
    pub(super) fn failure(&self) -> Failure {
        let told = visible(&self.to_string()).into_owned();
        let error = match self {
            Unanswered::Folder(error) => error,
            Unanswered::Cluster(error) => return Failure { code: error.code(), ..Failure::error(told) },
        };
        Failure::error(match error {
            ClientError::NotRunning { .. } => format!(
                "{told}; start one with `hueshift up FILE.yaml`, or name its state directory with --state DIR or \
                 HUESHIFT_STATE, or with --namespace that of a cluster"
            ),
            ClientError::Unreachable { source, .. } => {
                format!("{told}: {source}; run this as the user who runs `hueshift up`")
            }
            ClientError::Silent { .. } => {
                format!("{told}; see its log, and restart it if it hangs: traffic goes on meanwhile")
            }
            ClientError::Garbled { .. } | ClientError::Refused(_) => told,
        })
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Folder(error) => error.fmt(f),
            Unanswered::Cluster(error) => error.fmt(f),
        }
    }
}
