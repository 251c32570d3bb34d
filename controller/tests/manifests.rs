//! The manifests in `istio/` against the program that they install: names, ports, rights. What needs a real API
//! server is in `tests/tests/mesh_install.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::mesh::names;
use hueshift_core::contract::REPORT_PATH;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn istio() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio")
}

fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// All objects of a kustomization, as its files hold them.
fn objects(folder: &str) -> Vec<Value> {
    let folder = istio().join(folder);
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let files = kustomization["resources"].as_array().unwrap();
    files
        .iter()
        .map(|file| folder.join(file.as_str().unwrap()))
        .filter(|path| path.is_file())
        .flat_map(|path| documents(&path))
        .collect()
}

fn one(folder: &str, kind: &str, name: &str) -> Value {
    let is = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let mut found: Vec<_> = objects(folder).into_iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{folder}: {kind} {name}");
    found.remove(0)
}

/// What the controller may, and what for. Whoever adds a line here gives a right away in every mesh.
#[rustfmt::skip]
const RIGHTS: &[(&str, &str, &str, &str, &str)] = &[
    // role, API group, resource, verbs, reason
    ("ClusterRole/hueshift", "hueshift.dev", "bluegreens", "get,list,watch", "what people ask for"),
    ("ClusterRole/hueshift", "hueshift.dev", "releases", "get,list", "the open release's checkpoint after a restart"),
    ("ClusterRole/hueshift", "hueshift.dev", "releasepolicies", "get,list,watch", "what platform teams ask of releases"),
    ("ClusterRole/hueshift", "hueshift.dev", "bluegreens/status", "patch", "state, conditions, answers to orders"),
    ("ClusterRole/hueshift", "hueshift.dev", "releases/status", "patch", "record and checkpoint"),
    ("ClusterRole/hueshift", "", "namespaces", "get,list,watch", "which opted in"),
    ("ClusterRole/hueshift", "", "pods", "get,list,watch", "a color's ready pods"),
    ("ClusterRole/hueshift", "", "services", "get,list,watch", "whether the service exists"),
    ("ClusterRole/hueshift", "discovery.k8s.io", "endpointslices", "get,list,watch", "a color's ready pods"),
    ("ClusterRole/hueshift", "apps", "deployments", "get,list,watch", "colors"),
    ("ClusterRole/hueshift", "apps", "replicasets", "get,list,watch", "a color's revision"),
    ("ClusterRole/hueshift", "networking.istio.io", "virtualservices", "get,list,watch", "what routes to the service"),
    ("ClusterRole/hueshift", "networking.istio.io", "destinationrules", "get,list,watch", "subsets"),
    ("ClusterRole/hueshift", "extensions.istio.io", "wasmplugins", "get,list,watch", "which proxies run the filter"),
    ("ClusterRole/hueshift-namespace", "hueshift.dev", "bluegreens", "patch", "finalizer"),
    ("ClusterRole/hueshift-namespace", "hueshift.dev", "releases", "create,delete", "one record per release; the oldest go"),
    ("ClusterRole/hueshift-namespace", "networking.istio.io", "virtualservices", "patch", "the split"),
    ("ClusterRole/hueshift-namespace", "networking.istio.io", "destinationrules", "create,delete,patch", "colors as subsets"),
    ("ClusterRole/hueshift-namespace", "extensions.istio.io", "wasmplugins", "create,delete,patch", "the namespace's plugin"),
    ("ClusterRole/hueshift-namespace", "events.k8s.io", "events", "create", "what happened"),
    ("ClusterRole/hueshift-plugin", "extensions.istio.io", "wasmplugins/hueshift", "patch", "keys and generation of a shipped plugin"),
    ("Role/hueshift", "coordination.k8s.io", "leases", "create", "which process leads"),
    ("Role/hueshift", "coordination.k8s.io", "leases/hueshift", "get,update", "which process leads"),
    ("Role/hueshift", "", "secrets", "create", "the mesh keys are drawn"),
    ("Role/hueshift", "", "secrets/hueshift-mesh-keys", "get", "the mesh keys"),
];

#[test]
fn the_controllers_rights_are_exactly_the_listed_ones() {
    let subresource = |resource: &str| matches!(resource, "bluegreens/status" | "releases/status");
    let mut granted = BTreeSet::new();
    for role in objects("base") {
        let kind = role["kind"].as_str().unwrap();
        let name = format!("{kind}/{}", role["metadata"]["name"].as_str().unwrap());
        if !RIGHTS.iter().any(|(role, ..)| *role == name) {
            continue;
        }
        let texts = |rule: &Value, field: &str| -> Vec<String> {
            let list = rule[field].as_array().cloned().unwrap_or_default();
            list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            let mut verbs = texts(rule, "verbs");
            verbs.sort();
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    let objects = texts(rule, "resourceNames");
                    let named = if objects.is_empty() {
                        vec![resource.clone()]
                    } else {
                        objects.iter().map(|object| format!("{resource}/{object}")).collect()
                    };
                    for named in named {
                        granted.insert((name.clone(), group.clone(), named, verbs.join(",")));
                    }
                }
            }
        }
    }
    let listed: BTreeSet<_> = RIGHTS
        .iter()
        .map(|(role, group, resource, verbs, _)| {
            ((*role).to_owned(), (*group).to_owned(), (*resource).to_owned(), (*verbs).to_owned())
        })
        .collect();
    assert_eq!(granted, listed);
    // Nothing that widens itself, and no secret but one.
    for (_, group, resource, verbs) in &listed {
        assert!(!format!("{group}{resource}{verbs}").contains('*'), "{resource}");
        assert_ne!(group, "rbac.authorization.k8s.io");
        assert!(!resource.starts_with("secrets/") || resource.ends_with(names::KEYS_SECRET));
        assert!(!resource.contains('/') || subresource(resource) || verbs != "create");
    }
}

#[test]
fn nobody_else_gets_the_controllers_rights_and_writes_are_bound_nowhere_by_default() {
    let mut bound = BTreeSet::new();
    for folder in ["base", "overlays/mesh-wide", "overlays/gateway", "overlays/namespace"] {
        for binding in objects(folder) {
            let kind = binding["kind"].as_str().unwrap();
            if !kind.ends_with("RoleBinding") && kind != "ClusterRoleBinding" {
                continue;
            }
            let subject =
                json!([{"kind": "ServiceAccount", "name": "hueshift", "namespace": names::NAMESPACE}]);
            assert_eq!(binding["subjects"], subject, "{folder}");
            let place = binding["metadata"]["namespace"].as_str().unwrap_or("-");
            bound.insert(format!(
                "{folder}: {kind} {} in {place}",
                binding["roleRef"]["name"].as_str().unwrap()
            ));
        }
    }
    let expected = [
        "base: ClusterRoleBinding hueshift in -",
        "base: RoleBinding hueshift in hueshift-system",
        "overlays/gateway: RoleBinding hueshift-plugin in istio-system",
        "overlays/mesh-wide: RoleBinding hueshift-plugin in istio-system",
        // In the namespace that `kubectl --namespace` names.
        "overlays/namespace: RoleBinding hueshift-namespace in -",
    ];
    assert_eq!(bound.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn services_ports_and_policies_are_those_that_the_controller_serves() {
    for (service, port) in [(names::REPORTS_SERVICE, names::REPORTS_PORT), (names::SERVICE, names::PORT)] {
        let service = one("base", "Service", service);
        assert_eq!(service["metadata"]["namespace"], names::NAMESPACE);
        let ports = service["spec"]["ports"].as_array().unwrap();
        assert_eq!((ports.len(), &ports[0]["port"]), (1, &json!(port)));
        // A headless Service is no cluster that a filter can call.
        assert_ne!(service["spec"]["clusterIP"], "None");
    }
    let container = container();
    let served: Vec<_> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["containerPort"]).collect();
    assert_eq!(served, [&json!(names::REPORTS_PORT), &json!(names::PORT)]);

    let policy = one("base", "AuthorizationPolicy", "hueshift");
    let rules = policy["spec"]["rules"].as_array().unwrap();
    let reports = &rules[0];
    assert_eq!(reports["to"][0]["operation"]["ports"], json!([names::REPORTS_PORT.to_string()]));
    assert_eq!(reports["to"][0]["operation"]["paths"], json!([REPORT_PATH]));
    // Port alone would let anybody report.
    assert!(reports["from"][0]["source"]["principals"].is_array());
    assert_eq!(
        rules[1]["to"][0]["operation"],
        json!({"ports": [names::PORT.to_string()], "methods": ["GET"]})
    );
    let peers = one("base", "PeerAuthentication", "hueshift");
    assert_eq!(peers["spec"]["mtls"]["mode"], "STRICT");
    let exceptions: Vec<_> = peers["spec"]["portLevelMtls"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(exceptions, [names::PORT.to_string()]);
}

fn container() -> Value {
    one("base", "Deployment", "hueshift")["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn the_deployment_sets_every_variable_that_the_controller_reads_and_no_other() {
    let container = container();
    let set: BTreeSet<&str> =
        container["env"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let read = BTreeSet::from([
        names::BIND_ENV,
        names::NAMESPACE_ENV,
        names::POD_ENV,
        names::ROOT_NAMESPACE_ENV,
        names::PLUGIN_URL_ENV,
        names::PLUGIN_SHA256_ENV,
        names::DEBOUNCE_MAX_ENV,
        names::REPORT_IDENTITY_ENV,
    ]);
    assert_eq!(set, read);
    assert_eq!(container["args"], json!(["controller"]));
}

#[test]
fn the_pod_is_restricted_and_its_probes_ask_only_itself() {
    let pod = one("base", "Deployment", "hueshift")["spec"]["template"]["spec"].clone();
    let container = container();
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "http"}));
    }
    // A throttled controller is a late rollback.
    assert!(container["resources"]["limits"].get("cpu").is_none());
}

#[test]
fn shipped_plugins_carry_our_label_leave_our_fields_alone_and_let_requests_pass() {
    for overlay in ["overlays/mesh-wide", "overlays/gateway"] {
        let plugin = one(overlay, "WasmPlugin", "hueshift");
        assert_eq!(plugin["metadata"]["labels"], json!({names::PLUGIN_LABEL: names::YES}));
        let spec = plugin["spec"].as_object().unwrap();
        assert_eq!(spec["failStrategy"], "FAIL_OPEN");
        assert_eq!(spec["match"], json!([{"mode": "CLIENT"}]));
        // The controller's; in a manifest they would be set back whenever it is applied.
        assert!(!spec.contains_key("pluginConfig") && !spec.contains_key("vmConfig"));
        assert_eq!(spec.contains_key("selector"), overlay == "overlays/gateway");
    }
}

#[test]
fn the_demo_differs_from_base_by_taking_reports_without_identity_and_says_so() {
    let component = documents(&istio().join("components/no-identity/kustomization.yaml")).remove(0);
    let patches: Vec<Value> = component["patches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|patch| serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap())
        .collect();
    let gone: Vec<_> =
        patches.iter().filter(|patch| patch["$patch"] == "delete").map(|patch| &patch["kind"]).collect();
    assert_eq!(gone, ["PeerAuthentication", "AuthorizationPolicy"]);
    let deployment = patches.iter().find(|patch| patch["kind"] == "Deployment").unwrap();
    assert!(
        deployment["metadata"]["annotations"]["hueshift.dev/warning"]
            .as_str()
            .unwrap()
            .contains("not for production")
    );
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["env"],
        json!([{"name": names::REPORT_IDENTITY_ENV, "value": "none"}])
    );
    let base = container()["env"].as_array().unwrap().clone();
    assert!(base.contains(&json!({"name": names::REPORT_IDENTITY_ENV, "value": "required"})));
}

#[test]
fn every_path_and_command_in_the_readme_of_the_manifests_exists() {
    let readme = std::fs::read_to_string(istio().join("README.md")).unwrap();
    let root = istio().join("..");
    let paths: BTreeSet<&str> = readme
        .split(|sign: char| sign.is_whitespace() || matches!(sign, '`' | '(' | ')'))
        .map(|word| word.trim_end_matches(['.', ',', ':', ';']))
        .filter(|word| word.starts_with("istio/"))
        .collect();
    assert!(paths.len() >= 6, "{paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "istio/README.md names what is not there: {missing:?}");
}
