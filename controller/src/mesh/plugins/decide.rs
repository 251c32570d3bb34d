//! From what is there to what must be written: pure.

use super::{Problem, Reason, Settings};
use crate::mesh::names::{self, FIELD_MANAGER, PLUGIN_LABEL, YES};
use hueshift_core::contract::MeshKey;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the plugins that are made here and of those that the overlays ship; also Envoy's root id of the filter.
pub const NAME: &str = "hueshift";
/// Marks the plugins that are made here, and so may be deleted here.
const MADE_LABEL: &str = "app.kubernetes.io/managed-by";
/// Environment variable of the filter whose change gives it new VMs: Unix time of the last revival in s, 0: never.
const GENERATION: &str = "HUESHIFT_GENERATION";
/// Shortest time between two revivals of one plugin, s.
const REVIVE_EVERY_S: u64 = 600;
/// A revival that lies this far ahead was written by a clock that has been set back since, s.
const CLOCKS_DIFFER_S: u64 = 60;

/// What is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// All namespaces.
    pub namespaces: Vec<Namespace>,
    /// All WasmPlugins, also those of others.
    pub plugins: Vec<Plugin>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Whether it opted in.
    pub enabled: bool,
    /// Whether it is being deleted.
    pub ending: bool,
}

/// A WasmPlugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Carries our label.
    pub ours: bool,
    /// Was made here.
    pub made: bool,
    /// Is being deleted.
    pub ending: bool,
    /// To which proxies it applies.
    pub scope: Scope,
    /// Its `spec`.
    pub spec: Value,
    labels: Value,
}

/// To which proxies a plugin applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Scope {
    /// All of its namespace; in the root namespace all of the mesh.
    All,
    /// Those with these labels.
    Labels(BTreeMap<String, String>),
    /// Those of these gateways or services.
    Targets(Vec<Value>),
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Server-side apply; `body` holds exactly the fields that are ours.
    Apply {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// The object.
        body: Value,
    },
    /// Delete this very object.
    Delete {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Not another of the same name.
        uid: String,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// In this order.
    pub writes: Vec<Write>,
    /// Sorted, each once.
    pub problems: Vec<Problem>,
    /// Version of the key that plans may name: one that every plugin has already.
    pub key: Option<u8>,
    /// Names of the plugins that are revived by these writes.
    pub revived: Vec<String>,
}

/// What to write, given namespaces with a proxy whose filter fell silent (`revive`).
pub fn decide(seen: &Seen, settings: &Settings, revive: &BTreeSet<String>, now_ms: u64) -> Decision {
    let ours: Vec<&Plugin> = seen.plugins.iter().filter(|plugin| plugin.ours && !plugin.ending).collect();
    let shipped: Vec<&Plugin> = ours.iter().copied().filter(|plugin| !plugin.made).collect();
    let mut problems = unlabelled(seen, settings);
    let mut bodies: Vec<(Option<&Plugin>, Value)> = Vec::new();
    let mut deletes = Vec::new();

    for plugin in &shipped {
        bodies.push((Some(plugin), shared(&plugin.namespace, &plugin.name, plugin, settings)));
    }
    let covered = |namespace: &str| {
        let there = shipped.iter().any(|plugin| plugin.namespace == namespace);
        there || shipped.iter().any(|plugin| plugin.mesh_wide(settings))
    };
    for namespace in seen.namespaces.iter().filter(|namespace| namespace.enabled && !namespace.ending) {
        let name = namespace.name.as_str();
        problems.extend(uncovered(name, &shipped, settings));
        if name == settings.root || covered(name) {
            continue;
        }
        let Some(url) = &settings.url else {
            problems.push(no_module(name));
            continue;
        };
        match seen.plugins.iter().find(|plugin| plugin.namespace == name && plugin.name == NAME) {
            Some(other) if !other.ours => problems.push(name_taken(name)),
            // Its successor comes when it is gone.
            Some(ending) if ending.ending => {}
            existing => bodies.push((existing, made(name, existing, url, settings))),
        }
    }
    for plugin in ours.iter().filter(|plugin| plugin.made) {
        let kept = bodies.iter().any(|(kept, _)| kept.is_some_and(|kept| kept.uid == plugin.uid));
        if !kept && !relieved_later(plugin, &shipped, settings) && !ends(seen, &plugin.namespace) {
            deletes.push(Write::Delete {
                namespace: plugin.namespace.clone(),
                name: plugin.name.clone(),
                uid: plugin.uid.clone(),
            });
        }
    }
    problems.extend(doubles(&shipped, settings));

    let mut writes = Vec::new();
    let mut revived = Vec::new();
    for (existing, mut body) in bodies {
        if let Some(plugin) = existing
            && asked(plugin, &ours, revive, settings)
            && due(plugin.generation(), now_ms / 1_000)
        {
            set_generation(&mut body, &(now_ms / 1_000).to_string());
            revived.push(format!("{}/{}", plugin.namespace, plugin.name));
        }
        if existing.is_none_or(|plugin| !plugin.has(&body)) {
            let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            writes.push(Write::Apply {
                namespace: text("/metadata/namespace"),
                name: text("/metadata/name"),
                body,
            });
        }
    }
    writes.extend(deletes);
    problems.sort();
    problems.dedup();
    Decision { writes, problems, key: usable_key(&ours, &settings.keys), revived }
}

// --- What a plugin must hold ---

/// The fields that are ours in every plugin.
fn shared(namespace: &str, name: &str, plugin: &Plugin, settings: &Settings) -> Value {
    body(namespace, name, Some(plugin), settings)
}

fn body(namespace: &str, name: &str, existing: Option<&Plugin>, settings: &Settings) -> Value {
    let generation = existing.and_then(Plugin::generation_text).unwrap_or("0");
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "pluginConfig": {
                "cluster": names::report_cluster(&settings.namespace),
                "keys": settings.keys,
            },
            "vmConfig": {"env": [{"name": GENERATION, "value": generation}]},
        },
    })
}

/// All fields of a plugin that is made here.
fn made(namespace: &str, existing: Option<&Plugin>, url: &str, settings: &Settings) -> Value {
    let mut body = body(namespace, NAME, existing, settings);
    if let Some(metadata) = object(&mut body, "metadata") {
        metadata.insert("labels".to_owned(), json!({PLUGIN_LABEL: YES, MADE_LABEL: FIELD_MANAGER}));
    }
    if let Some(spec) = object(&mut body, "spec") {
        spec.insert("url".to_owned(), json!(url));
        if let Some(sha256) = &settings.sha256 {
            spec.insert("sha256".to_owned(), json!(sha256));
        }
        spec.insert("pluginName".to_owned(), json!(NAME));
        // A module that cannot be fetched must not turn requests away.
        spec.insert("failStrategy".to_owned(), json!("FAIL_OPEN"));
        // Routing happens at the caller.
        spec.insert("match".to_owned(), json!([{"mode": "CLIENT"}]));
    }
    body
}

fn object<'v>(value: &'v mut Value, field: &str) -> Option<&'v mut Map<String, Value>> {
    value.get_mut(field).and_then(Value::as_object_mut)
}

fn set_generation(body: &mut Value, generation: &str) {
    if let Some(value) = body.pointer_mut("/spec/vmConfig/env/0/value") {
        *value = json!(generation);
    }
}

/// Whether a plugin that is there holds all of `wanted`, whatever else it holds.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| there.get(field).is_some_and(|there| holds(there, wanted)))
        }
        // Of variables only ours are our business.
        (Value::Array(there), Value::Array(wanted))
            if wanted.iter().all(|entry| entry["name"].is_string()) =>
        {
            wanted.iter().all(|wanted| there.iter().any(|there| holds(there, wanted)))
        }
        // The API server may write a number as 1.0.
        (Value::Number(there), Value::Number(wanted)) => there.as_f64() == wanted.as_f64(),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| holds(there, wanted))
        }
        _ => there == wanted,
    }
}

/// The current key, unless a plugin lacks it yet; then the one before it.
fn usable_key(ours: &[&Plugin], keys: &[MeshKey]) -> Option<u8> {
    let everywhere = |key: &&MeshKey| {
        ours.iter().all(|plugin| {
            let held = plugin.spec.pointer("/pluginConfig/keys").and_then(Value::as_array);
            held.is_some_and(|held| held.iter().any(|held| holds(held, &json!(key))))
        })
    };
    keys.iter().find(everywhere).or(keys.last()).map(|key| key.version)
}

// --- Revival ---

/// Whether a silent proxy may be one of this plugin's: of its namespace, or of one without a plugin of its own.
fn asked(plugin: &Plugin, ours: &[&Plugin], revive: &BTreeSet<String>, settings: &Settings) -> bool {
    revive.iter().any(|namespace| {
        plugin.namespace == *namespace
            || plugin.mesh_wide(settings)
            || (plugin.namespace == settings.root && !ours.iter().any(|other| other.namespace == *namespace))
    })
}

fn due(last_s: u64, now_s: u64) -> bool {
    last_s == 0 || now_s >= last_s.saturating_add(REVIVE_EVERY_S) || last_s > now_s + CLOCKS_DIFFER_S
}

// --- What is wrong ---

/// A made plugin stays until the shipped one that relieves it has its keys: else sessions would be unknown meanwhile.
fn relieved_later(plugin: &Plugin, shipped: &[&Plugin], settings: &Settings) -> bool {
    shipped
        .iter()
        .filter(|other| other.mesh_wide(settings) || other.namespace == plugin.namespace)
        .any(|other| !other.has(&shared(&other.namespace, &other.name, other, settings)))
}

fn ends(seen: &Seen, namespace: &str) -> bool {
    seen.namespaces.iter().any(|other| other.name == namespace && other.ending)
}

fn unlabelled(seen: &Seen, settings: &Settings) -> Vec<Problem> {
    let runs_our_module = |plugin: &&Plugin| {
        let field = |field: &str| plugin.spec.get(field).and_then(Value::as_str);
        let url = settings.url.as_deref();
        !plugin.ours && (field("pluginName") == Some(NAME) || (url.is_some() && field("url") == url))
    };
    seen.plugins
        .iter()
        .filter(runs_our_module)
        .map(|plugin| Problem {
            namespace: plugin.mesh_wide_or_namespace(settings),
            reason: Reason::Unlabelled,
            text: format!(
                "WasmPlugin {}/{} runs the filter without the label {PLUGIN_LABEL}, so it gets no keys and does \
                 nothing: label it \"{YES}\" or remove it",
                plugin.namespace, plugin.name
            ),
        })
        .collect()
}

fn uncovered(namespace: &str, shipped: &[&Plugin], settings: &Settings) -> Option<Problem> {
    if shipped.iter().any(|plugin| plugin.mesh_wide(settings)) {
        return None;
    }
    let there: Vec<_> = shipped.iter().filter(|plugin| plugin.namespace == namespace).collect();
    if namespace == settings.root && there.is_empty() {
        return Some(Problem {
            namespace: Some(namespace.to_owned()),
            reason: Reason::RootNeedsSelector,
            text: format!(
                "{namespace} opted in, but a plugin without selector there would run in the whole mesh, so none is \
                 made: apply istio/overlays/gateway or istio/overlays/mesh-wide"
            ),
        });
    }
    let partly = !there.is_empty() && there.iter().all(|plugin| plugin.scope != Scope::All);
    (partly && namespace != settings.root).then(|| Problem {
        namespace: Some(namespace.to_owned()),
        reason: Reason::PartlyAttached,
        text: format!(
            "only the proxies that WasmPlugin {} selects run the filter in {namespace}; a second plugin would meet \
             the first in these, so none is made: remove its selector, or let it be if the others call no managed \
             service",
            there.iter().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>().join(" and ")
        ),
    })
}

fn no_module(namespace: &str) -> Problem {
    Problem {
        namespace: Some(namespace.to_owned()),
        reason: Reason::NoModule,
        text: format!(
            "no proxy of {namespace} runs the filter, because it is not known where its module is: set {} in the \
             Deployment {}, or apply istio/overlays/mesh-wide",
            names::PLUGIN_URL_ENV,
            names::SERVICE
        ),
    }
}

fn name_taken(namespace: &str) -> Problem {
    Problem {
        namespace: Some(namespace.to_owned()),
        reason: Reason::NameTaken,
        text: format!(
            "no proxy of {namespace} runs the filter, because a WasmPlugin {NAME} without the label {PLUGIN_LABEL} \
             is there already: remove it, or label it \"{YES}\""
        ),
    }
}

/// Pairs of shipped plugins that may meet in one proxy. (Those made here give way by themselves.)
fn doubles(shipped: &[&Plugin], settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, first) in shipped.iter().enumerate() {
        for second in shipped.iter().skip(index + 1).filter(|second| meet(first, second, settings)) {
            let wide = [first, second].into_iter().find(|plugin| plugin.mesh_wide(settings));
            let why = wide.map_or_else(
                || "may both run in one proxy".to_owned(),
                |wide| {
                    format!(
                        "both run in one proxy, since {}/{} has no selector and so is mesh-wide",
                        wide.namespace, wide.name
                    )
                },
            );
            // Told where a person can act: at the one that does not cover the mesh.
            let place = if first.mesh_wide(settings) { second } else { first };
            problems.push(Problem {
                namespace: place.mesh_wide_or_namespace(settings),
                reason: Reason::DoubleAttachment,
                text: format!(
                    "WasmPlugins {}/{} and {}/{} {why}; the second there does nothing: remove one, or give them \
                     selectors that exclude each other",
                    first.namespace, first.name, second.namespace, second.name
                ),
            });
        }
    }
    problems
}

fn meet(first: &Plugin, second: &Plugin, settings: &Settings) -> bool {
    if first.mesh_wide(settings) || second.mesh_wide(settings) {
        return true;
    }
    // A selector in the root namespace may also match elsewhere; that needs the pods to know, and the second
    // instance in a proxy is inert.
    first.namespace == second.namespace
        && match (&first.scope, &second.scope) {
            (Scope::Labels(first), Scope::Labels(second)) => {
                first.iter().all(|(label, value)| second.get(label).is_none_or(|other| other == value))
            }
            (Scope::Targets(first), Scope::Targets(second)) => {
                first.iter().any(|target| second.contains(target))
            }
            _ => true,
        }
}

// === impl Plugin ===

impl Plugin {
    /// Reads an object of the API; what has no name is none.
    pub fn read(object: &Value) -> Option<Plugin> {
        let metadata = object.get("metadata")?;
        let text = |field: &str| metadata.get(field).and_then(Value::as_str);
        let labels = metadata.get("labels").cloned().unwrap_or_default();
        let label = |name: &str| labels.get(name).and_then(Value::as_str);
        let spec = object.get("spec").cloned().unwrap_or_default();
        let ours = label(PLUGIN_LABEL) == Some(YES);
        Some(Plugin {
            namespace: text("namespace")?.to_owned(),
            name: text("name")?.to_owned(),
            uid: text("uid").unwrap_or_default().to_owned(),
            ours,
            made: ours && text("name") == Some(NAME) && label(MADE_LABEL) == Some(FIELD_MANAGER),
            ending: text("deletionTimestamp").is_some(),
            scope: Scope::read(&spec),
            spec,
            labels,
        })
    }

    /// Runs in every proxy of the mesh.
    fn mesh_wide(&self, settings: &Settings) -> bool {
        self.namespace == settings.root && self.scope == Scope::All
    }

    fn mesh_wide_or_namespace(&self, settings: &Settings) -> Option<String> {
        (!self.mesh_wide(settings)).then(|| self.namespace.clone())
    }

    fn has(&self, body: &Value) -> bool {
        body.get("spec").is_some_and(|spec| holds(&self.spec, spec))
            && body.pointer("/metadata/labels").is_none_or(|labels| holds(&self.labels, labels))
    }

    fn generation_text(&self) -> Option<&str> {
        let env = self.spec.pointer("/vmConfig/env")?.as_array()?;
        env.iter().find(|entry| entry["name"] == GENERATION)?.get("value")?.as_str()
    }

    fn generation(&self) -> u64 {
        self.generation_text().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

// === impl Scope ===

impl Scope {
    fn read(spec: &Value) -> Scope {
        let labels = spec.pointer("/selector/matchLabels").and_then(Value::as_object);
        let targets: Vec<Value> = ["targetRefs", "targetRef"]
            .into_iter()
            .filter_map(|field| spec.get(field))
            .flat_map(|refs| refs.as_array().cloned().unwrap_or_else(|| vec![refs.clone()]))
            .collect();
        if !targets.is_empty() {
            return Scope::Targets(targets);
        }
        match labels.filter(|labels| !labels.is_empty()) {
            None => Scope::All,
            Some(labels) => Scope::Labels(
                labels
                    .iter()
                    .map(|(label, value)| (label.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect(),
            ),
        }
    }
}
