//! Calls to the API server: bounded in time, errors in words.

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use std::future::Future;
use std::time::Duration;

/// Longest that one call may take: a server under load still answers within it.
const CALL: Duration = Duration::from_secs(10);

/// Why a call had no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server refused it.
    #[error("{}", .0.message)]
    Refused(Box<kube::core::Status>),
    /// No answer in time.
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    Silent,
    /// No connection, or an answer that is none.
    #[error("{0}")]
    Broken(String),
}

/// Makes a call.
///
/// # Errors
/// Why it has no result.
pub async fn call<T>(future: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL, future).await {
        Err(_) => Err(CallError::Silent),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> CallError {
        match error {
            kube::Error::Api(status) => CallError::Refused(status),
            other => CallError::Broken(words(&other)),
        }
    }
}

impl CallError {
    /// The object was changed meanwhile, or a `test` of a patch did not hold.
    pub fn is_conflict(&self) -> bool {
        // A `test` that does not hold is answered as "the server rejected our request".
        matches!(self, CallError::Refused(status)
            if status.code == 409 && status.reason != "AlreadyExists" || status.code == 422 && status.message.contains("test"))
    }

    /// There is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, CallError::Refused(status) if status.code == 404)
    }

    /// It exists already.
    pub fn exists(&self) -> bool {
        matches!(self, CallError::Refused(status) if status.code == 409 && status.reason == "AlreadyExists")
    }

    /// We may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, CallError::Refused(status) if status.code == 403)
    }

    /// With what to do where that is known.
    pub fn told(&self, what: &str, namespace: &str) -> String {
        if self.is_forbidden() {
            format!(
                "{what}: {self}; give the controller its rights in this namespace: `kubectl apply --namespace \
                 {namespace} -k istio/overlays/namespace`"
            )
        } else {
            format!("{what}: {self}")
        }
    }
}

/// An error and its causes, each once.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// VirtualServices of a namespace; none: of all.
pub fn virtual_services(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    istio(client, namespace, "VirtualService", "virtualservices")
}

/// DestinationRules.
pub fn destination_rules(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    istio(client, namespace, "DestinationRule", "destinationrules")
}

/// `BlueGreen`s, untyped: one that we cannot read must not make us blind to the others.
pub fn blue_greens(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: super::names::GROUP.to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: crate::api::API_VERSION.to_owned(),
        kind: crate::api::KIND.to_owned(),
        plural: "bluegreens".to_owned(),
    };
    api(client, namespace, &resource)
}

/// `ReleasePolicy`s, untyped for the same reason.
pub fn policies(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: super::names::GROUP.to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: crate::api::API_VERSION.to_owned(),
        kind: "ReleasePolicy".to_owned(),
        plural: "releasepolicies".to_owned(),
    };
    api(client, None, &resource)
}

fn istio(client: &Client, namespace: Option<&str>, kind: &str, plural: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "networking.istio.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "networking.istio.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    api(client, namespace, &resource)
}

fn api(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}
