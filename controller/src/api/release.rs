//! `Release`: the record of one release of a `BlueGreen`, named `<bluegreen>-<number>` and owned by it.

use super::{rules, schema};
use hueshift_core::color::Color;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known when a release opens; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "hueshift.dev",
    version = "v1alpha1",
    kind = "Release",
    plural = "releases",
    shortname = "rel",
    category = "hueshift",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    schema = "derived",
    doc = "The record of one release."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::release_facts()))]
pub struct ReleaseFacts {
    /// Name of the `BlueGreen`.
    #[schemars(schema_with = "schema::object_name")]
    pub blue_green: String,
    /// The release's number.
    pub number: u32,
    /// The color on trial.
    #[schemars(schema_with = "schema::color")]
    pub candidate: Color,
    /// What it runs.
    #[schemars(schema_with = "schema::revision")]
    pub revision: String,
    /// What the stable color runs.
    #[schemars(schema_with = "schema::revision")]
    pub stable_revision: String,
}

/// What became of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// How it ended: `promoted`, `rolled-back`, `superseded`; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub outcome: Option<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prose")]
    pub reason: Option<String>,
    /// When it began, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::moment")]
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::moment")]
    pub ended_at: Option<String>,
    /// The whole record, as `hueshift history -o json` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::kept")]
    pub record: Option<serde_json::Value>,
    /// The judge's checkpoint while the release is open, at most 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::checkpoint")]
    pub checkpoint: Option<String>,
}

// === impl Release ===

impl Release {
    /// The name of the object that records a release.
    pub fn name_of(blue_green: &str, number: u32) -> String {
        format!("{blue_green}-{number}")
    }
}

// === impl ReleaseStatus ===

impl ReleaseStatus {
    /// Longest checkpoint that the schema lets pass.
    pub const MAX_CHECKPOINT: usize = 64 * 1024;
}
