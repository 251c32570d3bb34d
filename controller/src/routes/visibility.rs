//! Whose DestinationRule a caller's Envoy takes for the service: one of the caller's own namespace if any covers the
//! host, else one of the service's, else one of the mesh's root namespace (istiod, `PushContext.destinationRule`). Rules
//! of different namespaces are never merged.
//!
//! So a rule elsewhere hides the colors' subsets from callers there: what a route sends to a subset that they do not
//! know is answered with 503. And a rule of ours hides what the root namespace says of the host, which is therefore
//! copied into it.

use super::Managed;
use super::subsets::{Subsets, host, name, subset_of};
use hueshift_core::color::Color;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What keeps callers from seeing the subsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hidden {
    /// A rule of another namespace, for callers there.
    Behind {
        /// `namespace/name` of the rule.
        rule: String,
        /// Its host.
        host: String,
        /// Which subsets.
        subsets: [String; 2],
    },
    /// The rule with the subsets (`namespace/name`) is exported to fewer namespaces than the VirtualService.
    NotExported(String),
}

/// How exactly a rule names the service's host; `None`: it is about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Wildcard(usize),
    Exact,
}

/// Everything that hides the subsets from callers. `rules`: all of the mesh, with their namespaces. `own`: the rule that
/// holds the subsets, or will.
pub fn hidden<'a>(
    rules: impl Iterator<Item = (&'a str, &'a Value)>,
    own: Option<&Value>,
    virtual_service: &Value,
    managed: &Managed,
    wanted: &Subsets,
    root: &str,
) -> Vec<Hidden> {
    let full = managed.host();
    let callers = callers(virtual_service, &managed.namespace);
    let calls = |namespace: &str| callers.contains("*") || callers.contains(namespace);
    let mut elsewhere: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (namespace, rule) in rules.filter(|(_, rule)| fit(host(rule), &full).is_some()) {
        let shown = export(rule, namespace);
        // What the root namespace shows to others comes last, so it hides nothing.
        let last = namespace == root && !is_private(rule, root);
        let at_home = shown.contains("*") || shown.contains(namespace);
        if namespace != managed.namespace && calls(namespace) && at_home && !last {
            elsewhere.entry(namespace).or_default().push(rule);
        }
    }
    let behind = elsewhere.into_iter().filter_map(|(namespace, rules)| {
        let nearest = nearest(rules.into_iter(), &full);
        let hides = nearest.first().filter(|_| !has_subsets(&nearest, managed, wanted))?;
        Some(Hidden::Behind {
            rule: format!("{namespace}/{}", name(hides)),
            host: host(hides).to_owned(),
            subsets: Color::BOTH.map(|color| managed.subsets.get(color).clone()),
        })
    });
    let narrow = own.filter(|rule| {
        let shown = export(rule, &managed.namespace);
        !shown.contains("*") && !callers.is_subset(&shown)
    });
    let narrow = narrow.map(|rule| Hidden::NotExported(format!("{}/{}", managed.namespace, name(rule))));
    behind.chain(narrow).collect()
}

/// The namespaces whose Envoys may have the routes; `*`: all. Of routes that only gateways have, those of the gateways.
fn callers<'a>(virtual_service: &'a Value, namespace: &'a str) -> BTreeSet<&'a str> {
    let shown = export(virtual_service, namespace);
    let gateways = virtual_service.pointer("/spec/gateways").and_then(Value::as_array);
    let gateways: Vec<&str> = gateways.into_iter().flatten().filter_map(Value::as_str).collect();
    if gateways.is_empty() || gateways.contains(&"mesh") {
        return shown;
    }
    let of = |gateway: &'a str| gateway.split_once('/').map_or(namespace, |(of, _)| of);
    let of_gateways = gateways.into_iter().map(of);
    of_gateways.filter(|of| shown.contains("*") || shown.contains(of)).collect()
}

/// Whether a rule, wherever it is, can be the one that some caller's Envoy takes for the service.
pub fn concerns(rule: &Value, full_host: &str) -> bool {
    fit(host(rule), full_host).is_some()
}

/// The traffic policy that holds for the host as long as its namespace has no rule for it: the root namespace's.
pub fn mesh_policy<'a>(
    rules: impl Iterator<Item = &'a Value>,
    managed: &Managed,
    root: &str,
) -> Option<Value> {
    if managed.namespace == root {
        return None;
    }
    let shown = nearest(rules.filter(|rule| export(rule, root).contains("*")), &managed.host());
    // Of rules that are merged the first that has a policy.
    shown.iter().find_map(|rule| rule.pointer("/spec/trafficPolicy").cloned())
}

/// The rules of one namespace that istiod takes for the host: the most specific, which it merges; the oldest leads.
fn nearest<'a>(rules: impl Iterator<Item = &'a Value>, full: &str) -> Vec<&'a Value> {
    let fitting: Vec<(Fit, &Value)> = rules.filter_map(|rule| Some((fit(host(rule), full)?, rule))).collect();
    let best = fitting.iter().map(|(fit, _)| *fit).max();
    let mut nearest: Vec<&Value> =
        fitting.into_iter().filter(|(fit, _)| Some(*fit) == best).map(|(_, rule)| rule).collect();
    nearest.sort_by_key(|rule| {
        let created = rule.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or("9");
        (created.to_owned(), name(rule).to_owned())
    });
    nearest
}

/// In another namespace a short name is another service, so only the full one counts.
fn fit(host: &str, full: &str) -> Option<Fit> {
    match host.strip_prefix('*') {
        Some(suffix) => full.ends_with(suffix).then_some(Fit::Wildcard(suffix.len())),
        None => (host == full).then_some(Fit::Exact),
    }
}

/// Whether each caller that these rules apply to finds both subsets: rules with different selectors are not merged.
fn has_subsets(rules: &[&Value], managed: &Managed, wanted: &Subsets) -> bool {
    let has = |selector: Option<&Value>, color: Color| {
        let mine = subset_of(managed.subsets.get(color), wanted.labels.get(color));
        let merged = rules.iter().filter(|rule| [None, selector].contains(&self::selector(rule)));
        let lists = merged.filter_map(|rule| rule.pointer("/spec/subsets")?.as_array());
        lists
            .flatten()
            .any(|entry| ["name", "labels"].iter().all(|field| entry.get(field) == mine.get(field)))
    };
    rules.iter().all(|rule| Color::BOTH.into_iter().all(|color| has(selector(rule), color)))
}

/// The callers that a rule is for, if not all of its namespace.
fn selector(rule: &Value) -> Option<&Value> {
    rule.pointer("/spec/workloadSelector").filter(|selector| !selector.is_null())
}

/// The namespaces that an object is shown to; `*`: all. A rule with a selector never leaves its own.
fn export<'a>(object: &'a Value, namespace: &'a str) -> BTreeSet<&'a str> {
    if selector(object).is_some() {
        return BTreeSet::from([namespace]);
    }
    let list = object.pointer("/spec/exportTo").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named: BTreeSet<&str> =
        list.iter().filter_map(Value::as_str).map(|to| if to == "." { namespace } else { to }).collect();
    if named.is_empty() { BTreeSet::from(["*"]) } else { named }
}

fn is_private(rule: &Value, namespace: &str) -> bool {
    export(rule, namespace) == BTreeSet::from([namespace])
}

// === impl Hidden ===

impl Hidden {
    /// The reason of a condition or a problem.
    pub const REASON: &str = "SubsetsHidden";
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hidden::Behind { rule, host, subsets: [blue, green] } => {
                let namespace = rule.split('/').next().unwrap_or_default();
                write!(
                    f,
                    "DestinationRule {rule} (host {host}) hides the colors' subsets from callers in namespace \
                     {namespace}: a caller's own namespace comes first, so their requests to this service are answered \
                     with 503; write a rule for this host there with the subsets {blue} and {green}, narrow that one's host, \
                     or move it"
                )
            }
            Hidden::NotExported(rule) => write!(
                f,
                "DestinationRule {rule} is exported to fewer namespaces than the VirtualService (exportTo): callers \
                 elsewhere miss the colors' subsets and are answered with 503; export both alike"
            ),
        }
    }
}
