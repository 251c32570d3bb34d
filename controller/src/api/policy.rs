//! `ReleasePolicy`: what a platform team asks of every release in some namespaces. `crate::policy` applies it.

use super::{Advance, human_duration, percent, rules, schema};
use hueshift_core::share::Bps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bounds; an absent one asks nothing. Of several policies the most restrictive bound holds. A setting that a
/// BlueGreen leaves at its default takes the bound; one that is written beyond it stops releases there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "hueshift.dev",
    version = "v1alpha1",
    kind = "ReleasePolicy",
    plural = "releasepolicies",
    shortname = "rp",
    category = "hueshift",
    derive = "PartialEq",
    schema = "derived",
    doc = "What a platform team asks of every release in some namespaces."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::policy()))]
pub struct PolicySpec {
    /// Labels of the namespaces that it binds; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: Option<LabelSelector>,
    /// Largest chance of a false rollback per release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_alpha: Option<f64>,
    /// Largest chance of a false certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_beta: Option<f64>,
    /// Largest ratio of error rates that may count as acceptable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio_margin: Option<f64>,
    /// Largest error rate below which nothing is rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_error_floor: Option<f64>,
    /// Largest ratio of latencies that may count as acceptable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_tolerance: Option<f64>,
    /// Largest rise of the candidate's share in one step, the cutover included.
    #[serde(default, with = "percent::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::share")]
    pub largest_step: Option<Bps>,
    /// Smallest share that stays on the old color during the watch after cutover.
    #[serde(default, with = "percent::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::share")]
    pub min_holdback: Option<Bps>,
    /// Shortest watch after cutover.
    #[serde(default, with = "human_duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub min_soak: Option<Duration>,
    /// `certified`: steps may not advance in another way. `unsuspicious` asks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::advance")]
    pub advance: Option<Advance>,
    /// Proxies whose word on a release is never left out, by their mesh identity as in an AuthorizationPolicy:
    /// `cluster.local/ns/istio-system/sa/istio-ingressgateway`. It holds from the next release on. Without it no
    /// single proxy's word decides, which needs three of them of which none has most of the traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::principals")]
    pub trusted_principals: Vec<String>,
}
