//! The colors as subsets of the service's host, in a DestinationRule: the user's if there is one, else ours.
//!
//! The host's own policies stay in force: the user's rule gets two subsets and an annotation that says which of them
//! are ours, nothing else. Ours has only subsets, unless the namespace has a rule for a wildcard host, or the mesh's root
//! namespace one that covers the host: a rule for the exact host hides those, so the traffic policy is copied.
//!
//! **When the BlueGreen is deleted the live subset stays**, in either rule, for as long as a VirtualService names it:
//! a subset that is named and missing answers 503. For the same reason our rule has no owner reference. The garbage
//! collector would take it away with the BlueGreen while routes still name its subset; owned by the VirtualService it
//! would go when that is deleted and made anew, after the new one named the subset. What can be left over is a small
//! rule that names itself in its annotation.

use super::Managed;
use super::entry::{destinations, subset};
use hueshift_core::color::{Color, PerColor};
use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, ReplaceOperation};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Which of a rule's subsets are ours, and whose.
const ANNOTATION: &str = "hueshift.dev/subsets";
const PREFIX: &str = "hueshift-";
/// The label of what we made ourselves.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const US: &str = "hueshift";

/// What the subsets must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subsets {
    /// Name of the BlueGreen; ours is called `hueshift-<name>`.
    pub blue_green: String,
    /// The user's rule, if `spec.routing.destinationRule` names it.
    pub rule: Option<String>,
    /// Labels that select each color's pods.
    pub labels: PerColor<BTreeMap<String, String>>,
    /// What the root namespace says of the host, which a rule of ours would hide ([`super::mesh_policy`]).
    pub mesh_policy: Option<Value>,
}

/// What to do so that both subsets exist.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Both are there.
    Unchanged,
    /// This rule gets our subsets: the whole object, for an update with its `resourceVersion`.
    Add(Value),
    /// There is none: create ours.
    Create(Value),
    /// It cannot be done without changing what the user wrote.
    Conflict(SubsetConflict),
}

/// What to do with a rule when its BlueGreen is deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Released {
    /// Nothing in it is ours.
    Unchanged,
    /// Update it to this.
    Keep(Value),
    /// Delete it: it is ours, and nothing names its subsets.
    Delete,
}

/// Why the subsets cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsetConflict {
    /// `namespace/name` of the rule.
    pub rule: String,
    /// What is wrong with it.
    pub reason: SubsetReason,
}

/// What is wrong with a DestinationRule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubsetReason {
    /// The rule that the BlueGreen names does not exist.
    NoSuchRule,
    /// It is about another host.
    OtherHost(String),
    /// It has a subset of a color's name with other labels.
    OtherLabels(String),
    /// It applies to some workloads only.
    ForSomeWorkloads,
    /// One pod can have the labels of both colors.
    NotApart,
    /// A color selects every pod of the service.
    NoLabels(Color),
}

/// The rule that holds the subsets, or will; `None`: one that is still to be made.
pub fn chosen_rule<'a>(
    mut rules: impl Iterator<Item = &'a Value>,
    managed: &Managed,
    wanted: &Subsets,
) -> Option<&'a Value> {
    match &wanted.rule {
        Some(named) => rules.find(|rule| name(rule) == named),
        None => rule_of(rules, managed, &format!("{PREFIX}{}", wanted.blue_green)),
    }
}

/// How the subsets come to exist, given all DestinationRules of the namespace.
pub fn destination_rule(rules: &[Value], managed: &Managed, wanted: &Subsets) -> Outcome {
    let ours = format!("{PREFIX}{}", wanted.blue_green);
    let conflict = |rule: &str, reason| {
        Outcome::Conflict(SubsetConflict { rule: format!("{}/{rule}", managed.namespace), reason })
    };
    if let Some(reason) = cannot_tell_apart(wanted) {
        return conflict(wanted.rule.as_deref().unwrap_or(&ours), reason);
    }
    let Some(rule) = chosen_rule(rules.iter(), managed, wanted) else {
        if let Some(named) = &wanted.rule {
            return conflict(named, SubsetReason::NoSuchRule);
        }
        let taken = rules.iter().find(|rule| name(rule) == ours);
        return match taken {
            Some(taken) => conflict(&ours, SubsetReason::OtherHost(host(taken).to_owned())),
            None => Outcome::Create(new_rule(&ours, rules, managed, wanted)),
        };
    };
    if !managed.is_service(host(rule)) {
        return conflict(name(rule), SubsetReason::OtherHost(host(rule).to_owned()));
    }
    if rule.pointer("/spec/workloadSelector").is_some_and(|selector| !selector.is_null()) {
        return conflict(name(rule), SubsetReason::ForSomeWorkloads);
    }
    match with_subsets(rule, rules, managed, wanted) {
        Ok(changed) if changed == *rule => Outcome::Unchanged,
        Ok(changed) => Outcome::Add(changed),
        Err(reason) => conflict(name(rule), reason),
    }
}

/// From a rule as it was read to what it must be: only what differs, and only onto that version of it, so that somebody
/// else's edit in between is refused instead of undone.
pub fn rule_patch(from: &Value, to: &Value) -> Patch {
    let mut patch = json_patch::diff(from, to);
    if let Some(version) = from.pointer("/metadata/resourceVersion") {
        let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
        patch.0.push(PatchOperation::Replace(ReplaceOperation { path, value: version.clone() }));
    }
    patch
}

/// A rule when its BlueGreen is deleted. `named`: which colors' subsets a VirtualService still names
/// ([`named_subsets`]); those stay.
pub fn released_destination_rule(
    rule: &Value,
    managed: &Managed,
    blue_green: &str,
    named: PerColor<bool>,
) -> Released {
    let ours = name(rule) == format!("{PREFIX}{blue_green}");
    let added = added(rule, blue_green);
    if added.is_empty() {
        return Released::Unchanged;
    }
    let goes = |subset: &str| {
        managed.color_of_subset(subset).is_some_and(|color| !*named.get(color))
            && added.iter().any(|added| added == subset)
    };
    let mut rule = rule.clone();
    if let Some(Value::Array(list)) = rule.pointer_mut("/spec/subsets") {
        list.retain(|entry| !entry.get("name").and_then(Value::as_str).is_some_and(goes));
        if ours && list.is_empty() {
            return Released::Delete;
        }
        if list.is_empty() {
            remove(&mut rule, "/spec", "subsets");
        }
    } else if ours {
        return Released::Delete;
    }
    remove(&mut rule, "/metadata/annotations", ANNOTATION);
    if rule.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
        remove(&mut rule, "/metadata", "annotations");
    }
    Released::Keep(rule)
}

/// Which colors' subsets any of these VirtualServices (of the service's namespace) names, in http, tcp and tls routes
/// and in mirrors.
pub fn named_subsets(virtual_services: &[Value], managed: &Managed) -> PerColor<bool> {
    let mut named = PerColor { blue: false, green: false };
    let kinds = ["http", "tcp", "tls"];
    for vs in virtual_services {
        let lists = kinds.iter().filter_map(|kind| vs.pointer(&format!("/spec/{kind}"))?.as_array());
        for route in lists.flatten() {
            let mirrors = route.get("mirrors").and_then(Value::as_array).into_iter().flatten();
            let mirrors = mirrors.filter_map(|mirror| mirror.get("destination")).chain(route.get("mirror"));
            let mirrors =
                mirrors.filter_map(|to| Some((to.get("host")?.as_str()?, to.get("subset")?.as_str()?)));
            let routed = destinations(route).filter_map(|(host, entry)| Some((host, subset(entry)?)));
            for (host, subset) in routed.chain(mirrors) {
                if let Some(color) = managed.color_of_subset(subset).filter(|_| managed.is_service(host)) {
                    *named.get_mut(color) = true;
                }
            }
        }
    }
    named
}

fn cannot_tell_apart(wanted: &Subsets) -> Option<SubsetReason> {
    let empty = Color::BOTH.into_iter().find(|color| wanted.labels.get(*color).is_empty());
    // Pods that carry the labels of both would serve both colors: some label must have a value of its own in each.
    let (blue, green) = (&wanted.labels.blue, &wanted.labels.green);
    let not_apart = !blue.iter().any(|(key, value)| green.get(key).is_some_and(|other| other != value));
    empty.map(SubsetReason::NoLabels).or_else(|| not_apart.then_some(SubsetReason::NotApart))
}

/// The rule of the exact host that istiod takes policies from: of several it merges, the oldest leads. Ours counts
/// only if there is no other.
fn rule_of<'a>(rules: impl Iterator<Item = &'a Value>, managed: &Managed, ours: &str) -> Option<&'a Value> {
    let exact = rules.filter(|rule| managed.is_service(host(rule)));
    let for_all = exact.filter(|rule| rule.pointer("/spec/workloadSelector").is_none_or(Value::is_null));
    for_all.min_by_key(|rule| {
        let created = rule.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or("9");
        (name(rule) == ours, created.to_owned(), name(rule).to_owned())
    })
}

fn with_subsets(
    rule: &Value,
    rules: &[Value],
    managed: &Managed,
    wanted: &Subsets,
) -> Result<Value, SubsetReason> {
    let mut changed = rule.clone();
    let mut added = added(rule, &wanted.blue_green);
    let by = rule.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED_BY));
    let ours = wanted.rule.is_none()
        && name(rule) == format!("{PREFIX}{}", wanted.blue_green)
        && by.and_then(Value::as_str) == Some(US);
    for color in Color::BOTH {
        let subset = managed.subsets.get(color);
        let mine = subset_of(subset, wanted.labels.get(color));
        let list = changed.pointer("/spec/subsets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let at = list.iter().position(|entry| entry.get("name").and_then(Value::as_str) == Some(subset));
        match at {
            Some(at) if list.get(at).and_then(|entry| entry.get("labels")) == mine.get("labels") => {}
            Some(at) if added.contains(subset) => {
                // Ours, and the workload's labels changed.
                if let Some(labels) = changed.pointer_mut(&format!("/spec/subsets/{at}/labels")) {
                    *labels = json!(wanted.labels.get(color));
                }
            }
            Some(_) => return Err(SubsetReason::OtherLabels(subset.clone())),
            None => {
                if let Some(Value::Object(spec)) = changed.pointer_mut("/spec") {
                    match spec.get_mut("subsets") {
                        Some(Value::Array(list)) => list.push(mine),
                        _ => {
                            spec.insert("subsets".to_owned(), json!([mine]));
                        }
                    }
                }
                if !added.contains(subset) {
                    added.push(subset.clone());
                }
            }
        }
    }
    if ours {
        match hidden_policy(rules, managed, wanted) {
            Some(policy) => set(&mut changed, "/spec", "trafficPolicy", policy),
            None => remove(&mut changed, "/spec", "trafficPolicy"),
        }
    }
    if !added.is_empty() {
        annotate(&mut changed, &wanted.blue_green, &added);
    }
    Ok(changed)
}

fn new_rule(name: &str, rules: &[Value], managed: &Managed, wanted: &Subsets) -> Value {
    let names = Color::BOTH.map(|color| managed.subsets.get(color).clone());
    let subsets = Color::BOTH.map(|color| subset_of(managed.subsets.get(color), wanted.labels.get(color)));
    let mut rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {
            "name": name,
            "namespace": managed.namespace,
            "labels": {MANAGED_BY: US},
        },
        "spec": {"host": managed.host(), "subsets": subsets},
    });
    if let Some(policy) = hidden_policy(rules, managed, wanted) {
        set(&mut rule, "/spec", "trafficPolicy", policy);
    }
    annotate(&mut rule, &wanted.blue_green, &names);
    rule
}

/// What a rule for the exact host hides: the traffic policy of the most specific wildcard rule of the namespace, or
/// without one the root namespace's.
fn hidden_policy(rules: &[Value], managed: &Managed, wanted: &Subsets) -> Option<Value> {
    let full = managed.host();
    let covers = |rule: &&Value| host(rule).strip_prefix('*').is_some_and(|suffix| full.ends_with(suffix));
    match rules.iter().filter(covers).max_by_key(|rule| host(rule).len()) {
        Some(longest) => longest.pointer("/spec/trafficPolicy").cloned(),
        None => wanted.mesh_policy.clone(),
    }
}

pub(super) fn subset_of(name: &str, labels: &BTreeMap<String, String>) -> Value {
    json!({"name": name, "labels": labels})
}

/// The subsets that we added to a rule: `<bluegreen>: blue, green`.
fn added(rule: &Value, blue_green: &str) -> Vec<String> {
    let annotations = rule.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default();
    match text.split_once(": ") {
        Some((owner, names)) if owner == blue_green => names.split(", ").map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn annotate(rule: &mut Value, blue_green: &str, names: &[String]) {
    let text = json!(format!("{blue_green}: {}", names.join(", ")));
    if rule.pointer("/metadata/annotations").is_none_or(|all| !all.is_object()) {
        set(rule, "/metadata", "annotations", json!({}));
    }
    set(rule, "/metadata/annotations", ANNOTATION, text);
}

fn set(object: &mut Value, path: &str, field: &str, value: Value) {
    if let Some(Value::Object(fields)) = object.pointer_mut(path) {
        fields.insert(field.to_owned(), value);
    }
}

fn remove(object: &mut Value, path: &str, field: &str) {
    if let Some(Value::Object(fields)) = object.pointer_mut(path) {
        fields.remove(field);
    }
}

pub(super) fn name(rule: &Value) -> &str {
    rule.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn host(rule: &Value) -> &str {
    rule.pointer("/spec/host").and_then(Value::as_str).unwrap_or_default()
}

// === impl SubsetReason ===

impl SubsetReason {
    /// The reason of a condition.
    pub fn as_str(&self) -> &'static str {
        match self {
            SubsetReason::NoSuchRule => "DestinationRuleNotFound",
            SubsetReason::OtherHost(_) => "DestinationRuleOfOtherHost",
            SubsetReason::OtherLabels(_) => "SubsetConflict",
            SubsetReason::ForSomeWorkloads => "DestinationRuleForSomeWorkloads",
            SubsetReason::NotApart | SubsetReason::NoLabels(_) => "ColorsNotApart",
        }
    }
}

impl fmt::Display for SubsetConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DestinationRule {}: {}", self.rule, self.reason)
    }
}

impl fmt::Display for SubsetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubsetReason::NoSuchRule => f.write_str(
                "it does not exist, but spec.routing.destinationRule of the BlueGreen names it; create it, or leave that field out",
            ),
            SubsetReason::OtherHost(host) => write!(
                f,
                "it is about host {host} and not about the service; rename it, or name the service's own rule in spec.routing.destinationRule"
            ),
            SubsetReason::OtherLabels(subset) => write!(
                f,
                "its subset `{subset}` selects other pods than that color's workload; rename the subset, or set the color's labels in the BlueGreen"
            ),
            SubsetReason::ForSomeWorkloads => f.write_str(
                "it has a workloadSelector, so other callers would miss the subsets; name a rule without one in spec.routing.destinationRule",
            ),
            SubsetReason::NotApart => f.write_str(
                "a pod can have the labels of both colors and would serve both; give some label of the two workloads a value of its own in each, such as `color: blue` and `color: green`, or set the colors' labels in the BlueGreen",
            ),
            SubsetReason::NoLabels(color) => write!(
                f,
                "{color} has no labels, so its subset would select every pod of the service; set them in the BlueGreen"
            ),
        }
    }
}
