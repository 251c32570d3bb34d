//! The objects (`hueshift.dev/v1alpha1`), one shape of `BlueGreen` for both homes.
//!
//! These are wire types: they say what may be written, with every default in one place. `document.rs` reads
//! them from YAML and checks what a type cannot say, naming file, line and field; in a cluster the API server
//! does that with the schemas made here (`schema.rs`, `crds.rs`).
//!
//! Unknown fields are skipped when an object is read from a cluster, where a newer schema may know more than we
//! do: one such object must not make us blind to all. Who writes one by hand is told by the API server or by
//! `document.rs`.

mod crds;
mod policy;
mod quantity;
mod release;
mod rules;
mod schema;
mod status;

pub use self::crds::crds;
pub use self::policy::{PolicySpec, ReleasePolicy};
pub use self::quantity::{human_duration, percent};
pub use self::release::{Release, ReleaseFacts, ReleaseStatus};
pub use self::status::{
    BlueGreenStatus, Order, OrderAnswer, OrderVerb, Proxies, StatusProblem, StatusWaiting,
};

use hueshift_core::color::PerColor;
use hueshift_core::share::Bps;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// `apiVersion` of every object.
pub const API_VERSION: &str = "hueshift.dev/v1alpha1";
/// `kind` of the only object that the standalone home reads.
pub const KIND: &str = "BlueGreen";

/// What is wished of one service. Exactly one of `listen` and `service` is set: it says which home serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "hueshift.dev",
    version = "v1alpha1",
    kind = "BlueGreen",
    plural = "bluegreens",
    shortname = "bg",
    category = "hueshift",
    namespaced,
    status = "BlueGreenStatus",
    derive = "PartialEq",
    schema = "derived",
    doc = "One service that is released blue/green."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
pub struct Spec {
    /// Standalone: address and port on which Envoy serves this service, e.g. `127.0.0.1:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub listen: Option<String>,
    /// Mesh: name of the Service, in the same namespace, whose requests are split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::service_name")]
    pub service: Option<String>,
    /// The two environments.
    #[schemars(with = "schema::Colors")]
    pub colors: PerColor<ColorSpec>,
    /// Mesh: which routes are managed.
    #[serde(default, skip_serializing_if = "RoutingSpec::is_default")]
    pub routing: RoutingSpec,
    /// What a conversation is.
    #[serde(default)]
    pub session: SessionSpec,
    /// How a release proceeds.
    #[serde(default)]
    pub release: ReleaseSpec,
    /// How it is judged.
    #[serde(default)]
    pub analysis: AnalysisSpec,
}

/// One color.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::color()))]
pub struct ColorSpec {
    /// Standalone: addresses `IP:port` of the model servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::endpoints")]
    pub endpoints: Vec<String>,
    /// What runs there, in the owner's words; a change of the standby's revision starts a release. In a mesh it
    /// may be left out (empty): the home fills in the workload's pod template hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::revision")]
    pub revision: String,
    /// Standalone: start this program (argv, no shell) and keep it running; it inherits `HUESHIFT_COLOR` and
    /// `HUESHIFT_REVISION`. Absent: the color is started by someone else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,
    /// Mesh: what runs this color.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Mesh: the labels that tell this color's pods from the other's; empty: the workload's own selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
}

/// An object of the same namespace that runs the pods of one color.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::workload()))]
pub struct Workload {
    /// Its API.
    #[serde(default = "Workload::default_api_version")]
    #[schemars(schema_with = "schema::api_version")]
    pub api_version: String,
    /// Its kind.
    #[serde(default = "Workload::default_kind")]
    #[schemars(schema_with = "schema::word")]
    pub kind: String,
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// Mesh: which routes are managed, and where the colors are defined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoutingSpec {
    /// The VirtualService; absent: named like the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub virtual_service: Option<String>,
    /// Names of its http routes that are managed; empty: all that send requests to the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::routes")]
    pub routes: Vec<String>,
    /// The DestinationRule that defines the colors as subsets; absent: the one of the service's host, or our own
    /// if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub destination_rule: Option<String>,
}

/// What a conversation is and whether it may move.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::session()))]
pub struct SessionSpec {
    /// Where the session key is found, first present wins; none: every request draws for itself.
    #[serde(default)]
    #[schemars(schema_with = "schema::session_keys")]
    pub keys: Vec<KeySpec>,
    /// `move` (default): sessions follow the lottery. `keep` needs pins.
    #[serde(default)]
    #[schemars(schema_with = "schema::session_mode")]
    pub mode: SessionMode,
}

/// Exactly one of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySpec {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// What happens to running sessions when the share changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionMode {
    /// Sessions follow the lottery: at most one change per release.
    #[default]
    Move,
    /// Sessions stay on the color on which they started.
    Keep,
}

/// How a release proceeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::release()))]
pub struct ReleaseSpec {
    /// Shares of the candidate, rising; the cutover follows the last.
    #[schemars(schema_with = "schema::steps")]
    pub steps: Vec<StepSpec>,
    /// When a step advances.
    #[schemars(schema_with = "schema::advance")]
    pub advance: Advance,
    /// The watch after cutover.
    pub soak: SoakSpec,
    /// How long requests on the old color may finish after the soak.
    #[serde(with = "human_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub drain_deadline: Duration,
    /// How long a step may stay without a verdict.
    #[serde(with = "human_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub deadline: Duration,
    /// What happens at that deadline.
    #[schemars(schema_with = "schema::on_inconclusive")]
    pub on_inconclusive: OnInconclusive,
}

/// One step of the ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::step()))]
pub struct StepSpec {
    /// The candidate's share, `"5%"`.
    #[serde(with = "percent")]
    #[schemars(schema_with = "schema::share")]
    pub share: Bps,
    /// Shortest time at this share.
    #[serde(default, with = "human_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub min_time: Duration,
    /// `advance: unsuspicious` only: fewest candidate requests at this share.
    #[serde(default)]
    pub min_requests: u64,
}

/// When a step advances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advance {
    /// When its evidence certifies the candidate.
    #[default]
    Certified,
    /// When its minimum time and sample passed without suspicion.
    Unsuspicious,
}

/// The watch after cutover: a concurrent control stays on the old color.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::soak()))]
pub struct SoakSpec {
    /// Share that stays on the old color, `"5%"`.
    #[serde(with = "percent")]
    #[schemars(schema_with = "schema::share")]
    pub holdback: Bps,
    /// What a `ReleasePolicy` keeps back at least, also when the candidate is proved; documents cannot say it.
    #[serde(skip)]
    pub least_holdback: Bps,
    /// How long.
    #[serde(with = "human_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub time: Duration,
}

/// What a step's deadline does without a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInconclusive {
    /// Wait for a person.
    #[default]
    Hold,
    /// Go on as if certified.
    Promote,
    /// Back to stable.
    Rollback,
}

/// How a release is judged; the defaults fit most services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::analysis()))]
pub struct AnalysisSpec {
    /// Chance of a false rollback per release, 0 < alpha <= 0.1.
    pub alpha: f64,
    /// Chance of a false certificate, 0 < beta <= 0.2.
    pub beta: f64,
    /// Ratio of error rates that is still acceptable, >= 1.
    pub ratio_margin: f64,
    /// Error rate below which nothing is rolled back, 0 < floor <= 0.1.
    pub error_floor: f64,
    /// Whether steps may also be certified by an absolute error rate (5 %, 2 %, 1 % by share).
    pub absolute_certificate: bool,
    /// Where answers carry what the model says; absent: predictions are not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionsSpec>,
    /// What else is counted and judged like errors; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomSpec>,
    /// How latencies are compared.
    pub latency: LatencySpec,
    /// An error rate that the candidate may not exceed, whatever stable's is; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloSpec>,
    /// Who is always believed, as a `ReleasePolicy` names them; documents cannot say it.
    #[serde(skip)]
    pub trusted_principals: Vec<String>,
    /// The fuse inside each Envoy.
    pub fuse: FuseSpec,
}

/// Where answers carry what the model says, and how much it may differ from stable's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::predictions()))]
pub struct PredictionsSpec {
    /// Response header with one number, as JSON writes it. A successful answer that has another text there, or a
    /// number outside of min..=max, counts as an error; one without the header says nothing.
    #[schemars(schema_with = "schema::word")]
    pub header: String,
    /// Least prediction.
    #[serde(default = "PredictionsSpec::default_min")]
    pub min: f64,
    /// Largest prediction.
    #[serde(default = "PredictionsSpec::default_max")]
    pub max: f64,
    /// Bins of equal width between them, 2..=64.
    #[serde(default = "PredictionsSpec::default_bins")]
    pub bins: u16,
    /// `effect` (default): a new model may differ, but not by much. `equality`: it is the same model, any shift is a
    /// fault.
    #[serde(default)]
    #[schemars(schema_with = "schema::predictions_mode")]
    pub mode: PredictionsMode,
}

/// Answers that are no failures, but that a release should not bring more of: events. They are judged as errors are,
/// against stable's, with the same margin and floor; they certify nothing. Without session keys all events
/// of a second are one draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::custom()))]
pub struct CustomSpec {
    /// What people call them: 1 to 32 letters, digits or dashes, a letter first.
    #[serde(default = "CustomSpec::default_name")]
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// Whether answers that blame the client are events: 4xx, and such gRPC codes.
    #[serde(default)]
    pub client_errors: bool,
    /// So are answers that carry this response header, whatever its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub header: Option<String>,
}

/// How much longer the candidate may take than stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::latency()))]
pub struct LatencySpec {
    /// Ratio of latencies that is still acceptable, 1..=4. It is taken down to a whole power of 2^(1/16), 4 %.
    pub tolerance: f64,
    /// How long after each raise of the share latencies do not count, of both colors, 0s..=10m: caches are cold then.
    /// Failures always count.
    #[serde(with = "human_duration")]
    #[schemars(schema_with = "schema::duration")]
    pub warmup: Duration,
}

/// A ceiling on the candidate's errors, judged without a control. It also fires in an incident that both colors share,
/// so it is off unless somebody writes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::slo()))]
pub struct SloSpec {
    /// Failures per request, 0 < rate <= 0.5. A failing session counts once.
    pub error_rate: f64,
}

/// How predictions are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictionsMode {
    /// Only a large distance of the two distributions condemns.
    #[default]
    Effect,
    /// Any difference beyond chance condemns.
    Equality,
}

/// The fuse inside each Envoy: it trips without the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::fuse()))]
pub struct FuseSpec {
    /// Off leaves only the controller's judge.
    pub enabled: bool,
    /// Error rate that is still healthy, 0 < p0 < 0.5.
    pub healthy_error_rate: f64,
    /// ln of the mean requests between false trips, 5..=60.
    pub height: f64,
}

impl Default for ReleaseSpec {
    fn default() -> Self {
        let step = |bps| StepSpec {
            share: Bps::new(bps).unwrap_or(Bps::ZERO),
            min_time: Duration::ZERO,
            min_requests: 0,
        };
        ReleaseSpec {
            steps: vec![step(500), step(2_500), step(5_000)],
            advance: Advance::default(),
            soak: SoakSpec::default(),
            drain_deadline: Duration::from_secs(300),
            deadline: Duration::from_secs(3_600),
            on_inconclusive: OnInconclusive::default(),
        }
    }
}

impl Default for SoakSpec {
    fn default() -> Self {
        SoakSpec {
            holdback: Bps::new(500).unwrap_or(Bps::ZERO),
            least_holdback: Bps::ZERO,
            time: Duration::from_secs(300),
        }
    }
}

impl Default for AnalysisSpec {
    fn default() -> Self {
        AnalysisSpec {
            alpha: 0.01,
            beta: 0.05,
            ratio_margin: 1.25,
            error_floor: 0.001,
            absolute_certificate: true,
            predictions: None,
            custom: None,
            latency: LatencySpec::default(),
            slo: None,
            trusted_principals: Vec::new(),
            fuse: FuseSpec::default(),
        }
    }
}

impl Default for LatencySpec {
    fn default() -> Self {
        LatencySpec { tolerance: 1.19, warmup: Duration::ZERO }
    }
}

impl Default for FuseSpec {
    fn default() -> Self {
        FuseSpec { enabled: true, healthy_error_rate: 0.02, height: 24.0 }
    }
}

// === impl BlueGreen ===

impl BlueGreen {
    /// Its name; empty if nobody gave it one.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace; none on one machine.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    /// The one name under which everything about this service is kept: `name`, or `namespace/name`.
    pub fn key(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{namespace}/{}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// Standalone: where Envoy serves it; empty in a mesh.
    pub fn listen(&self) -> &str {
        self.spec.listen.as_deref().unwrap_or_default()
    }

    /// Where requests reach it, for people: its address, or its Service.
    pub fn serves(&self) -> String {
        match (&self.spec.service, self.namespace()) {
            (Some(service), Some(namespace)) => format!("{service}.{namespace}"),
            (Some(service), None) => service.clone(),
            (None, _) => self.listen().to_owned(),
        }
    }

    /// Mesh: the VirtualService whose routes are managed; none on one machine.
    pub fn virtual_service(&self) -> Option<&str> {
        self.spec.routing.virtual_service.as_deref().or(self.spec.service.as_deref())
    }
}

// === impl CustomSpec ===

impl CustomSpec {
    /// What they are called where nobody gave them a name.
    pub fn default_name() -> String {
        "events".to_owned()
    }
}

// === impl PredictionsSpec ===

impl PredictionsSpec {
    /// Probabilities in twenty bins.
    pub fn of(header: impl Into<String>) -> Self {
        PredictionsSpec {
            header: header.into(),
            min: Self::default_min(),
            max: Self::default_max(),
            bins: Self::default_bins(),
            mode: PredictionsMode::default(),
        }
    }

    fn default_min() -> f64 {
        0.0
    }

    fn default_max() -> f64 {
        1.0
    }

    fn default_bins() -> u16 {
        20
    }
}

// === impl Workload ===

impl Workload {
    /// A Deployment.
    pub fn deployment(name: impl Into<String>) -> Workload {
        Workload {
            api_version: Workload::default_api_version(),
            kind: Workload::default_kind(),
            name: name.into(),
        }
    }

    fn default_api_version() -> String {
        "apps/v1".to_owned()
    }

    fn default_kind() -> String {
        "Deployment".to_owned()
    }
}

// === impl RoutingSpec ===

impl RoutingSpec {
    fn is_default(&self) -> bool {
        *self == RoutingSpec::default()
    }
}
