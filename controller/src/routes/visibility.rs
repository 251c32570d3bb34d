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
    let mut elsewhere: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (namespace, rule) in rules.filter(|(_, rule)| fit(host(rule), &full).is_some()) {
        // What the root namespace shows to others comes last, so it hides nothing.
        let last = namespace == root && !is_private(rule, root);
        if namespace != managed.namespace && !last {
            elsewhere.entry(namespace).or_default().push(rule);
        }
    }
    let behind = elsewhere.into_iter().filter_map(|(namespace, rules)| {
        let nearest = nearest(rules.into_iter(), managed);
        let hides = nearest.first().filter(|_| !has_subsets(&nearest, managed, wanted))?;
        Some(Hidden::Behind {
            rule: format!("{namespace}/{}", name(hides)),
            host: host(hides).to_owned(),
            subsets: Color::BOTH.map(|color| managed.subsets.get(color).clone()),
        })
    });
    let narrow = own.filter(|rule| {
        let (shown, needed) = (export(rule, &managed.namespace), export(virtual_service, &managed.namespace));
        !shown.contains("*") && !needed.is_subset(&shown)
    });
    let narrow = narrow.map(|rule| Hidden::NotExported(format!("{}/{}", managed.namespace, name(rule))));
    behind.chain(narrow).collect()
}

/// Whether a rule, wherever it is, can be the one that some caller's Envoy takes for the service.
pub fn concerns(rule: &Value, managed: &Managed) -> bool {
    fit(host(rule), &managed.host()).is_some()
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
    let shown = nearest(rules.filter(|rule| !is_private(rule, root)), managed);
    shown.first()?.pointer("/spec/trafficPolicy").cloned()
}

/// The rules of one namespace that istiod takes for the host: the most specific, which it merges; the oldest leads.
fn nearest<'a>(rules: impl Iterator<Item = &'a Value>, managed: &Managed) -> Vec<&'a Value> {
    let full = managed.host();
    let fitting: Vec<(Fit, &Value)> =
        rules.filter_map(|rule| Some((fit(host(rule), &full)?, rule))).collect();
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

fn has_subsets(rules: &[&Value], managed: &Managed, wanted: &Subsets) -> bool {
    let has = |color: Color| {
        let mine = subset_of(managed.subsets.get(color), wanted.labels.get(color));
        let lists = rules.iter().filter_map(|rule| rule.pointer("/spec/subsets")?.as_array());
        lists
            .flatten()
            .any(|entry| ["name", "labels"].iter().all(|field| entry.get(field) == mine.get(field)))
    };
    Color::BOTH.into_iter().all(has)
}

/// The namespaces that an object is shown to; `*`: all.
fn export<'a>(object: &'a Value, namespace: &'a str) -> BTreeSet<&'a str> {
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
                     with 503; give that rule the subsets {blue} and {green} for this host, narrow its host, or move it"
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
