//! What the controller says of a `BlueGreen` in its status: for people, for programs, and for its own memory.
//!
//! Everything but `state` is told, not remembered: it is made anew from the facts (`mesh/status.rs`) and never read
//! back to decide anything.

use super::schema;
use hueshift_core::color::Color;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status of a `BlueGreen`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BlueGreenStatus {
    /// The generation of the document that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the release stands, e.g. `Idle` or `Progressing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub phase: Option<String>,
    /// The stable color.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::color")]
    pub live_color: Option<Color>,
    /// The candidate's share, e.g. `5%`; absent when no release is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub share: Option<String>,
    /// Number of the open release, or of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<u32>,
    /// The newest plan's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What the judge says of the open release, or how the last one ended: `continue`, `hold`, `certified`,
    /// `rollback`; `promoted`, `rolled-back`, `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub verdict: Option<String>,
    /// The candidate's requests and errors in the open release, or in the last one: `1204/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub sample: Option<String>,
    /// What that rests on, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prose")]
    pub evidence: Option<String>,
    /// Why the release does not go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::waiting_on")]
    pub waiting_on: Vec<StatusWaiting>,
    /// Who enforces the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Proxies>,
    /// What keeps it from being managed, or should be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::problems")]
    pub problems: Vec<StatusProblem>,
    /// For programs; see `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The newest order and what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderAnswer>,
    /// The controller that wrote last: terms only grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The controller's memory; not for people, and not to be edited.
    // `hueshift_core::release::State`, read leniently: one that does not read back is a lost state, not an unreadable
    // object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::kept")]
    pub state: Option<serde_json::Value>,
}

/// One reason why a release does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusWaiting {
    /// For programs: a word that never changes its meaning.
    #[schemars(schema_with = "schema::word")]
    pub reason: String,
    /// For people.
    #[schemars(schema_with = "schema::line")]
    pub text: String,
}

/// The Envoys that know the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    /// Those that enforce the newest plan.
    pub enforcing: u32,
    /// Those that sent requests of this service since it was written.
    pub with_traffic: u32,
    /// Those without traffic of it.
    pub idle: u32,
}

/// One thing that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusProblem {
    /// For programs: CamelCase, never changes its meaning.
    #[schemars(schema_with = "schema::word")]
    pub reason: String,
    /// What is wrong and what to do.
    #[schemars(schema_with = "schema::prose")]
    pub text: String,
}

/// A person's order, as written into the annotation [`crate::mesh::names::ORDER_ANNOTATION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Drawn at random by who orders: an order is carried out once.
    pub id: String,
    /// What is wished.
    pub verb: OrderVerb,
    /// `release`: also a revision that was rolled back before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// What a person may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderVerb {
    /// Start a release.
    Release,
    /// Go on without what is awaited.
    Promote,
    /// Stop the ramp.
    Pause,
    /// Go on with it.
    Resume,
    /// Everything back to stable.
    Abort,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderAnswer {
    /// The order's id.
    #[schemars(schema_with = "schema::word")]
    pub id: String,
    /// Whether it is carried out.
    pub accepted: bool,
    /// What happens now, or why nothing does.
    #[schemars(schema_with = "schema::prose")]
    pub text: String,
}
