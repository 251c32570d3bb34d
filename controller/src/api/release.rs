//! `Release`: the record of one release of a `BlueGreen`, named `<bluegreen>-<number>` and owned by it.

use hueshift_core::color::Color;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What is known when a release opens; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource)]
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
    schema = "disabled",
    doc = "The record of one release."
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFacts {
    /// Name of the `BlueGreen`.
    pub blue_green: String,
    /// The release's number.
    pub number: u32,
    /// The color on trial.
    pub candidate: Color,
    /// What it runs.
    pub revision: String,
    /// What the stable color runs.
    pub stable_revision: String,
}

/// What became of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// How it ended: `promoted`, `rolled-back`, `superseded`; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The whole record ([`crate::view::ReleaseRecord`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<serde_json::Value>,
    /// The judge's checkpoint while the release is open; at most [`ReleaseStatus::MAX_CHECKPOINT`] bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
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
