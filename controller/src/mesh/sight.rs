//! From the objects of a cluster to what the engine should know of one service. Pure: the whole translation, and
//! every reason for which a `BlueGreen` is not managed, is here.

use super::cluster::{self, Cluster, DeploymentFacts, Document, Labels, Name, version_of};
use crate::api::{BlueGreen, Spec};
use crate::home::Endpoints;
use crate::policy;
use crate::routes::{self, Hidden, Managed, Outcome, Subsets};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::release::Route;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// What pods of one revision of a Deployment have in common.
const HASH_LABEL: &str = "pod-template-hash";
/// Reason of a `BlueGreen` in a namespace that did not opt in.
pub const NOT_ENABLED: &str = "NamespaceNotEnabled";
/// Reason where the controller has no right to write.
pub const NOT_PERMITTED: &str = "NotPermitted";
/// The domain of the cluster's services.
const DOMAIN: &str = "cluster.local";

/// One service as it is.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Its object.
    pub name: Name,
    /// Its number.
    pub id: ServiceId,
    /// Its document with the workloads' revisions.
    pub document: Arc<BlueGreen>,
    /// Endpoints per color.
    pub endpoints: PerColor<Endpoints>,
    /// Which routes are ours; says nothing of what they should say.
    pub managed: Managed,
    /// Which subsets they need.
    pub subsets: Subsets,
    /// The VirtualService.
    pub virtual_service: Arc<Value>,
    /// The DestinationRules of the namespace that may matter.
    pub rules: Vec<Arc<Value>>,
    /// What hides the subsets from callers.
    pub hidden: Vec<Hidden>,
    /// What a `ReleasePolicy` does not allow; nothing is released while there is something.
    pub forbidden: Option<Refusal>,
}

/// Why a `BlueGreen` is not managed: its traffic stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: String,
    /// What is wrong, and what to do.
    pub text: String,
}

/// Looks at one service. `known`: revisions that were seen before, for workloads that are away for a moment.
///
/// # Errors
/// Why it is not managed, or not as it should be.
pub fn look(
    cluster: &Cluster,
    name: &Name,
    document: &Document,
    known: &PerColor<String>,
) -> Result<Sight, Refusal> {
    let (namespace, _) = name;
    let wanted = readable(document)?;
    if !namespace_opted_in(cluster, namespace) {
        return Err(refusal(
            NOT_ENABLED,
            format!(
                "namespace {namespace} has not opted in: `kubectl label namespace {namespace} {}={}`",
                super::names::ENABLED_LABEL,
                super::names::YES
            ),
        ));
    }
    let Some(service) = wanted.spec.service.clone() else {
        return Err(refusal(
            "NoService",
            "spec.service is missing: name the Service whose requests are split".to_owned(),
        ));
    };
    if cluster.services.get(namespace, &service).is_none() {
        return Err(refusal(
            "ServiceNotFound",
            format!(
                "there is no Service {service} in namespace {namespace}: create it, or correct spec.service"
            ),
        ));
    }
    claims(cluster, name, wanted, &document.metadata.creation_timestamp)?;
    let workloads = PerColor {
        blue: workload(cluster, namespace, wanted, Color::Blue)?,
        green: workload(cluster, namespace, wanted, Color::Green)?,
    };
    let revisions = PerColor::from_fn(|color| {
        let given = &wanted.spec.colors.get(color).revision;
        let newest = workloads.get(color).revision.clone();
        match (given.is_empty(), newest) {
            (false, _) => given.clone(),
            (true, Some(newest)) => newest,
            (true, None) => known.get(color).clone(),
        }
    });
    let id = service_id(document);
    let vs_name = wanted.virtual_service().unwrap_or(&service).to_owned();
    let Some(virtual_service) = cluster.virtual_services.get(namespace, &vs_name) else {
        return Err(refusal(
            "VirtualServiceNotFound",
            format!(
                "there is no VirtualService {vs_name} in namespace {namespace}: create it, or name another one in \
                 spec.routing.virtualService"
            ),
        ));
    };
    let mut document = wanted.clone();
    let forbidden = match settled(cluster, namespace, wanted) {
        Ok(spec) => {
            document.spec = spec;
            None
        }
        Err(refusal) => Some(refusal),
    };
    for color in Color::BOTH {
        document.spec.colors.get_mut(color).revision.clone_from(revisions.get(color));
    }
    let managed = Managed {
        id,
        namespace: namespace.clone(),
        service: service.clone(),
        domain: DOMAIN.to_owned(),
        routes: wanted.spec.routing.routes.clone(),
        subsets: PerColor::from_fn(|color| color.as_str().to_owned()),
        route: Route { stable: Color::Blue, plan: None },
    };
    let named = wanted.spec.routing.destination_rule.as_deref();
    let ours = format!("hueshift-{}", name.1);
    let matters = |rule_name: &str, rule: &Value| {
        let host = rule.pointer("/spec/host").and_then(Value::as_str).unwrap_or_default();
        managed.is_service(host) || host.starts_with('*') || named == Some(rule_name) || rule_name == ours
    };
    let rules = cluster.destination_rules.of(namespace).filter(|(name, rule)| matters(name, rule));
    let rules: Vec<Arc<Value>> = rules.map(|(_, rule)| rule.clone()).collect();
    let of_root = cluster.destination_rules.of(&cluster.root).map(|(_, rule)| &**rule);
    let subsets = Subsets {
        blue_green: name.1.clone(),
        rule: wanted.spec.routing.destination_rule.clone(),
        labels: PerColor::from_fn(|color| workloads.get(color).labels.clone()),
        mesh_policy: routes::mesh_policy(of_root, &managed, &cluster.root),
    };
    let everywhere = cluster.destination_rules.all().map(|((of, _), rule)| (of.as_str(), &**rule));
    let own = routes::chosen_rule(rules.iter().map(|rule| &**rule), &managed, &subsets);
    let hidden = routes::hidden(everywhere, own, virtual_service, &managed, &subsets, &cluster.root);
    Ok(Sight {
        name: name.clone(),
        id,
        document: Arc::new(document),
        endpoints: PerColor::from_fn(|color| {
            endpoints(cluster, namespace, &service, workloads.get(color), &revisions, color)
        }),
        managed,
        subsets,
        virtual_service: virtual_service.clone(),
        rules,
        hidden,
        forbidden,
    })
}

/// The document, if we can read it.
pub fn readable(document: &Document) -> Result<&BlueGreen, Refusal> {
    document.object.as_ref().map_err(|why| {
        refusal("Unreadable", format!("this version of the controller cannot read the object: {why}"))
    })
}

/// The number of a service: the first 16 hex digits of its uid.
pub fn service_id(document: &Document) -> ServiceId {
    let uid = document.metadata.uid.as_deref().unwrap_or_default();
    let digits: Vec<u8> = uid
        .bytes()
        .filter_map(|byte| char::from(byte).to_digit(16))
        .filter_map(|d| u8::try_from(d).ok())
        .collect();
    let mut bytes = [0; 8];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |sum, digit| sum * 16 + digit);
    }
    ServiceId::from_bytes(bytes)
}

/// A refusal.
pub fn refusal(reason: &str, text: String) -> Refusal {
    Refusal { reason: reason.to_owned(), text }
}

impl Sight {
    /// Whether routes and subsets can be written at all, and what the routes say now.
    ///
    /// # Errors
    /// Why they cannot.
    pub fn check(&self, route: &Route) -> Result<routes::Found, Refusal> {
        let found = routes::read(&self.virtual_service, &self.managed.with(route.clone()));
        if let Some(error) = &found.refused {
            return Err(refusal(error.reason.as_str(), error.to_string()));
        }
        match self.rule_outcome() {
            Outcome::Conflict(conflict) => Err(refusal(conflict.reason.as_str(), conflict.to_string())),
            _ => Ok(found),
        }
    }

    /// What the DestinationRules need.
    pub fn rule_outcome(&self) -> Outcome {
        let rules: Vec<Value> = self.rules.iter().map(|rule| (**rule).clone()).collect();
        routes::destination_rule(&rules, &self.managed, &self.subsets)
    }

    /// The color that a service which was never managed starts with: what its routes name, else one that answers.
    ///
    /// # Errors
    /// No color could take the traffic.
    pub fn first_live(&self, found: Option<Color>) -> Result<Color, Refusal> {
        let up = |color: &Color| self.endpoints.get(*color).up > 0;
        found.or_else(|| Color::BOTH.into_iter().find(up)).ok_or_else(|| {
            refusal(
                "NoReadyEndpoints",
                format!(
                    "neither color of Service {} has a ready pod: traffic is not steered to nobody; start one of the \
                     workloads",
                    self.managed.service
                ),
            )
        })
    }

    /// The object, as others name their owner.
    pub fn owner(&self) -> Option<OwnerReference> {
        Some(OwnerReference {
            api_version: crate::api::API_VERSION.to_owned(),
            kind: crate::api::KIND.to_owned(),
            name: self.name.1.clone(),
            uid: self.document.metadata.uid.clone()?,
            controller: Some(true),
            block_owner_deletion: None,
        })
    }

    /// Name of the VirtualService.
    pub fn virtual_service_name(&self) -> &str {
        self.virtual_service.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Changes with routes and subsets.
    pub fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.subsets.mesh_policy.as_ref().map(Value::to_string).hash(&mut hasher);
        let rules = self.rules.iter().filter_map(|rule| version_of(rule)).chain([hasher.finish()]);
        rules.fold(self.route_version(), |mark, version| mark.rotate_left(7) ^ version)
    }

    /// Version of the VirtualService.
    pub fn route_version(&self) -> u64 {
        version_of(&self.virtual_service).unwrap_or(0)
    }
}

fn namespace_opted_in(cluster: &Cluster, namespace: &str) -> bool {
    cluster.namespaces.get("", namespace).is_some_and(cluster::opted_in)
}

/// The settings that hold under the policies, or what they do not allow.
fn settled(cluster: &Cluster, namespace: &str, wanted: &BlueGreen) -> Result<Spec, Refusal> {
    let mut policies = Vec::new();
    for ((_, name), policy) in cluster.policies.all() {
        match &**policy {
            Ok(policy) => policies.push(policy.clone()),
            Err(why) => {
                return Err(refusal(
                    "UnreadablePolicy",
                    format!(
                        "ReleasePolicy {name} cannot be read ({why}), so nobody knows what it asks: correct or delete \
                         it, or run the controller that it was written for"
                    ),
                ));
            }
        }
    }
    let labels = cluster.namespaces.get("", namespace).cloned().unwrap_or_default();
    policy::apply(&policies, &labels, &wanted.spec).map_err(|violations| {
        let told: Vec<String> = violations.iter().map(ToString::to_string).collect();
        refusal("PolicyViolation", told.join(". "))
    })
}

/// Of two that want the same the older one has it.
fn claims(
    cluster: &Cluster,
    name: &Name,
    wanted: &BlueGreen,
    created: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
) -> Result<(), Refusal> {
    let spec = &wanted.spec;
    for (other_name, other) in cluster.blue_greens.of(&name.0) {
        let Ok(theirs) = &other.object else { continue };
        let older = (&other.metadata.creation_timestamp, other_name) < (created, name.1.as_str());
        if other_name == name.1 || !older {
            continue;
        }
        let same_service = theirs.spec.service == spec.service;
        let same_object = theirs.virtual_service() == wanted.virtual_service();
        let shared = spec.routing.routes.iter().find(|route| theirs.spec.routing.routes.contains(route));
        let claimed = match shared {
            _ if same_service => format!("Service {}", spec.service.as_deref().unwrap_or_default()),
            Some(route) if same_object => format!("http route {route}"),
            _ => continue,
        };
        return Err(refusal(
            "ClaimedByAnother",
            format!(
                "BlueGreen {other_name} manages {claimed} already, and is older: delete one of the two, or give them \
                 different routes"
            ),
        ));
    }
    Ok(())
}

/// What is known of one color's workload.
struct Found<'a> {
    deployment: Option<&'a DeploymentFacts>,
    labels: Labels,
    revision: Option<String>,
}

fn workload<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    wanted: &BlueGreen,
    color: Color,
) -> Result<Found<'a>, Refusal> {
    let spec = wanted.spec.colors.get(color);
    let Some(workload) = &spec.workload else {
        if spec.labels.is_empty() || spec.revision.is_empty() {
            return Err(refusal(
                "NoWorkload",
                format!(
                    "spec.colors.{color} names no workload: give it `workload`, or `labels` and `revision`"
                ),
            ));
        }
        return Ok(Found { deployment: None, labels: spec.labels.clone(), revision: None });
    };
    let is_deployment = workload.kind == "Deployment" && workload.api_version.starts_with("apps/");
    let deployment = if is_deployment { cluster.deployments.get(namespace, &workload.name) } else { None };
    let labels = match deployment {
        _ if !spec.labels.is_empty() => spec.labels.clone(),
        Some(deployment) => deployment.selector.clone(),
        None if is_deployment => {
            return Err(refusal(
                "WorkloadNotFound",
                format!(
                    "there is no Deployment {} in namespace {namespace}, which spec.colors.{color} names: create it \
                     (without replicas if it is not needed yet), or correct the name",
                    workload.name
                ),
            ));
        }
        None => {
            return Err(refusal(
                "UnknownWorkload",
                format!(
                    "{} {} of {} is no Deployment: tell its pods by spec.colors.{color}.labels and its revision by \
                     spec.colors.{color}.revision",
                    workload.kind, workload.name, workload.api_version
                ),
            ));
        }
    };
    let revision = deployment.and_then(|deployment| newest_hash(cluster, namespace, deployment));
    Ok(Found { deployment, labels, revision })
}

/// The pod template hash of a Deployment's newest ReplicaSet. One that its controller has not seen yet has the hash of
/// before, which is the truth about what runs.
fn newest_hash(cluster: &Cluster, namespace: &str, deployment: &DeploymentFacts) -> Option<String> {
    let owned = cluster.replica_sets.of(namespace).filter(|(_, set)| set.owner == deployment.uid);
    owned.max_by_key(|(_, set)| set.revision).map(|(_, set)| set.hash.clone())
}

fn endpoints(
    cluster: &Cluster,
    namespace: &str,
    service: &str,
    workload: &Found<'_>,
    revisions: &PerColor<String>,
    color: Color,
) -> Endpoints {
    let slices = cluster.slices.of(namespace).filter(|(_, slice)| slice.service == service);
    let ready = slices.flat_map(|(_, slice)| &slice.ready).filter_map(|pod| cluster.pods.get(namespace, pod));
    let ready = ready.map(|pod| &pod.labels);
    let of_color =
        ready.filter(|labels| workload.labels.iter().all(|(key, value)| labels.get(key) == Some(value)));
    let (mut all, mut newest) = (0_u32, 0_u32);
    for labels in of_color {
        all += 1;
        let hash = workload.revision.as_ref();
        newest += u32::from(hash.is_none() || labels.get(HASH_LABEL) == hash);
    }
    match workload.deployment {
        Some(deployment) => Endpoints {
            listed: deployment.replicas,
            up: newest,
            // Pods of an older revision would answer as well.
            current: deployment.observed && workload.revision.is_some() && all == newest,
        },
        None => Endpoints { listed: all, up: all, current: !revisions.get(color).is_empty() },
    }
}
