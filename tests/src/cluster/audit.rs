//! What the controller asked of the API server, by the server's own audit log.

use super::Cluster;
use serde::Deserialize;

/// One request of the controller that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `get`, `patch`, …
    pub verb: String,
    /// Plural of the kind, with the subresource after a slash.
    pub resource: String,
    /// Namespace of the object; empty: none.
    pub namespace: String,
    /// Name of the object; empty: none.
    pub name: String,
    /// Status of the answer.
    pub code: u16,
    /// When it came, Unix ns.
    pub came: u64,
    /// When it was answered, Unix ns.
    pub answered: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    stage: String,
    request_received_timestamp: jiff::Timestamp,
    stage_timestamp: jiff::Timestamp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// All answered requests so far, in the order of their answers. A last line that is being written is left out.
pub fn calls(cluster: &Cluster) -> Vec<Call> {
    let text = std::fs::read_to_string(cluster.folder().join("audit.log")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut calls: Vec<Call> =
        lines.filter(|line| line.stage == "ResponseComplete").map(Call::from).collect();
    calls.sort_by_key(|call| call.answered);
    calls
}

/// Those of them that wrote a VirtualService of a namespace, or tried to.
pub fn route_writes(cluster: &Cluster, namespace: &str) -> Vec<Call> {
    let mut calls = calls(cluster);
    calls.retain(|call| {
        call.resource == "virtualservices"
            && call.namespace == namespace
            && matches!(call.verb.as_str(), "patch" | "update" | "create")
    });
    calls
}

// === impl Call ===

impl Call {
    /// Whether it had its effect.
    pub fn done(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl From<Line> for Call {
    fn from(line: Line) -> Call {
        let ObjectRef { resource, subresource, namespace, name } = line.object_ref;
        let unix = |time: jiff::Timestamp| u64::try_from(time.as_nanosecond()).unwrap_or(0);
        Call {
            verb: line.verb,
            resource: if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") },
            namespace,
            name,
            code: line.response_status.code,
            came: unix(line.request_received_timestamp),
            answered: unix(line.stage_timestamp),
        }
    }
}
