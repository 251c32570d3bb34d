//! The rules of attachment, each as a small world and what is written into it.

use super::*;
use crate::mesh::names::{PLUGIN_LABEL, YES};
use hueshift_core::contract::PluginConfig;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const NOW_MS: u64 = 1_800_000_000_000;

fn key(version: u8) -> MeshKey {
    MeshKey { version, hex: format!("{version:x}").repeat(64) }
}

fn settings() -> Settings {
    Settings {
        namespace: "hueshift-system".into(),
        root: "istio-system".into(),
        url: Some("oci://example/filter:1".into()),
        sha256: None,
        keys: vec![key(1)],
    }
}

fn opted(name: &str) -> Namespace {
    Namespace { name: name.into(), enabled: true, ending: false }
}

/// As an overlay ships it; `spec` comes on top.
fn shipped(namespace: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({
        "metadata": {
            "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"),
            "labels": {PLUGIN_LABEL: YES},
        },
        "spec": {"url": "oci://example/filter:1", "pluginName": "hueshift", "match": [{"mode": "CLIENT"}]},
    });
    json_patch::merge(&mut object["spec"], &spec);
    object
}

fn gateway(namespace: &str, name: &str) -> Value {
    shipped(namespace, name, json!({"selector": {"matchLabels": {"istio": name}}}))
}

fn seen(namespaces: &[Namespace], plugins: &[Value]) -> Seen {
    Seen {
        namespaces: namespaces.to_vec(),
        plugins: plugins.iter().map(|plugin| Plugin::read(plugin).unwrap()).collect(),
    }
}

fn decided(seen: &Seen) -> Decision {
    decide(seen, &settings(), &BTreeSet::new(), NOW_MS)
}

/// The world after the writes, as server-side apply leaves it: our fields over what was there.
fn after(seen: &Seen, objects: &[Value], decision: &Decision) -> (Seen, Vec<Value>) {
    let mut objects: Vec<Value> = objects.to_vec();
    for write in &decision.writes {
        let is = |object: &Value, namespace: &str, name: &str| {
            object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name
        };
        match write {
            Write::Apply { namespace, name, body } => {
                match objects.iter_mut().find(|object| is(object, namespace, name)) {
                    Some(object) => json_patch::merge(object, body),
                    None => {
                        let mut object = body.clone();
                        object["metadata"]["uid"] = json!(format!("{namespace}/{name}"));
                        objects.push(object);
                    }
                }
            }
            Write::Delete { namespace, name, .. } => objects.retain(|object| !is(object, namespace, name)),
        }
    }
    let plugins = objects.iter().map(|object| Plugin::read(object).unwrap()).collect();
    (Seen { plugins, ..seen.clone() }, objects)
}

/// What is there once nothing is left to write.
fn settled(namespaces: &[Namespace], objects: &[Value], settings: &Settings) -> (Vec<Value>, Decision) {
    let mut objects = objects.to_vec();
    let mut seen = seen(namespaces, &objects);
    for _ in 0..5 {
        let decision = decide(&seen, settings, &BTreeSet::new(), NOW_MS);
        if decision.writes.is_empty() {
            return (objects, decision);
        }
        (seen, objects) = after(&seen, &objects, &decision);
    }
    panic!("it never settles: {objects:?}");
}

fn names_of(objects: &[Value]) -> Vec<String> {
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    objects.iter().map(|object| format!("{}/{}", text(object, "namespace"), text(object, "name"))).collect()
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    decision.problems.iter().map(|problem| problem.reason.as_str()).collect()
}

#[test]
fn a_namespace_that_opted_in_gets_one_plugin_whole_and_then_nothing_more_is_written() {
    let decision = decided(&seen(&[opted("shop"), Namespace { enabled: false, ..opted("other") }], &[]));
    let [Write::Apply { namespace, name, body }] = decision.writes.as_slice() else {
        panic!("{:?}", decision.writes)
    };
    assert_eq!((namespace.as_str(), name.as_str()), ("shop", "hueshift"));
    assert_eq!(
        body["spec"],
        json!({
            "url": "oci://example/filter:1",
            "pluginName": "hueshift",
            "failStrategy": "FAIL_OPEN",
            "match": [{"mode": "CLIENT"}],
            "pluginConfig": {
                "cluster": "outbound|9080||hueshift-reports.hueshift-system.svc.cluster.local",
                "keys": [{"version": 1, "hex": "1".repeat(64)}],
            },
            "vmConfig": {"env": [{"name": "HUESHIFT_GENERATION", "value": "0"}]},
        })
    );
    let (objects, last) = settled(&[opted("shop")], &[], &settings());
    assert_eq!((names_of(&objects), reasons(&last)), (vec!["shop/hueshift".to_owned()], vec![]));
}

#[test]
fn the_configuration_is_one_that_the_filter_takes() {
    let rotated = Settings { keys: vec![key(2), key(1)], ..settings() };
    let (objects, _) = settled(&[opted("shop")], &[gateway("istio-system", "ingress")], &rotated);
    assert_eq!(objects.len(), 2);
    for object in objects {
        let config: PluginConfig = serde_json::from_value(object["spec"]["pluginConfig"].clone()).unwrap();
        assert_eq!(config.keys, rotated.keys);
        assert_eq!(config.cluster, "outbound|9080||hueshift-reports.hueshift-system.svc.cluster.local");
    }
}

#[test]
fn of_a_shipped_plugin_only_our_fields_are_written_and_its_owners_stay() {
    let plugin = shipped(
        "istio-system",
        "hueshift",
        json!({"pluginConfig": {"hang_ms": 5000}, "vmConfig": {"env": [{"name": "THEIRS", "value": "x"}]}, "priority": 7}),
    );
    let decision = decided(&seen(&[], &[plugin]));
    let [Write::Apply { body, .. }] = decision.writes.as_slice() else { panic!("{:?}", decision.writes) };
    let fields: Vec<_> = body["spec"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["pluginConfig", "vmConfig"]);
    let config: Vec<_> =
        body["spec"]["pluginConfig"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(config, ["cluster", "keys"]);
    assert_eq!(body["metadata"], json!({"name": "hueshift", "namespace": "istio-system"}));
}

#[test]
fn what_is_right_already_is_not_written_again_whatever_else_it_holds() {
    let full = shipped(
        "istio-system",
        "hueshift",
        json!({
            "pluginConfig": {
                "cluster": "outbound|9080||hueshift-reports.hueshift-system.svc.cluster.local",
                // A Struct knows only floating numbers.
                "keys": [{"version": 1.0, "hex": "1".repeat(64)}],
                "hang_ms": 5000,
            },
            "vmConfig": {"env": [
                {"name": "THEIRS", "value": "x"},
                {"name": "HUESHIFT_GENERATION", "value": "1799999999"},
            ]},
        }),
    );
    assert_eq!(decided(&seen(&[], std::slice::from_ref(&full))).writes, []);
    let mut drifted = full;
    drifted["spec"]["pluginConfig"]["keys"][0]["hex"] = json!("f".repeat(64));
    let decision = decided(&seen(&[], &[drifted]));
    let [Write::Apply { body, .. }] = decision.writes.as_slice() else { panic!("{:?}", decision.writes) };
    // A repair revives nothing.
    assert_eq!(body["spec"]["vmConfig"]["env"][0]["value"], "1799999999");
}

#[test]
fn no_plugin_per_namespace_while_a_mesh_wide_one_exists() {
    let wide = shipped("istio-system", "hueshift", json!({}));
    let (objects, last) = settled(&[opted("shop"), opted("istio-system")], &[wide], &settings());
    assert_eq!((names_of(&objects), reasons(&last)), (vec!["istio-system/hueshift".to_owned()], vec![]));
}

#[test]
fn a_namespaces_plugin_gives_way_to_a_mesh_wide_one_only_when_that_has_its_keys() {
    let (mut objects, _) = settled(&[opted("shop")], &[], &settings());
    objects.push(shipped("istio-system", "hueshift", json!({})));
    let world = seen(&[opted("shop")], &objects);
    let first = decided(&world);
    assert!(
        matches!(first.writes.as_slice(), [Write::Apply { namespace, .. }] if namespace == "istio-system"),
        "{:?}",
        first.writes
    );
    let (world, _) = after(&world, &objects, &first);
    let second = decided(&world);
    assert_eq!(
        second.writes,
        [Write::Delete { namespace: "shop".into(), name: "hueshift".into(), uid: "shop/hueshift".into() }]
    );
}

#[test]
fn a_namespace_that_opts_out_loses_the_plugin_made_for_it_and_no_other() {
    let (mut objects, _) = settled(&[opted("shop")], &[], &settings());
    objects.push(gateway("edge", "edge"));
    objects.push(
        json!({"metadata": {"namespace": "shop", "name": "theirs", "uid": "t"}, "spec": {"url": "oci://x"}}),
    );
    let out = Namespace { enabled: false, ..opted("shop") };
    let (left, last) = settled(&[out], &objects, &settings());
    assert_eq!(names_of(&left), ["edge/edge", "shop/theirs"]);
    assert_eq!(reasons(&last), [""; 0]);
}

#[test]
fn nothing_is_made_or_deleted_in_a_namespace_that_is_ending() {
    let (objects, _) = settled(&[opted("shop")], &[], &settings());
    let ending = Namespace { ending: true, ..opted("shop") };
    assert_eq!(decided(&seen(std::slice::from_ref(&ending), &[])).writes, []);
    assert_eq!(decided(&seen(&[ending], &objects)).writes, []);
}

#[test]
fn a_plugin_that_is_being_deleted_is_neither_written_nor_replaced_before_it_is_gone() {
    let (mut objects, _) = settled(&[opted("shop")], &[], &settings());
    objects[0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(decided(&seen(&[opted("shop")], &objects)).writes, []);
}

#[test]
fn in_the_root_namespace_no_plugin_is_made_and_its_owner_is_told() {
    let decision = decided(&seen(&[opted("istio-system")], &[]));
    assert_eq!((decision.writes.as_slice(), reasons(&decision)), (&[][..], vec!["RootNeedsSelector"]));
    let with_gateway = decided(&seen(&[opted("istio-system")], &[gateway("istio-system", "ingress")]));
    assert_eq!(reasons(&with_gateway), [""; 0]);
}

#[test]
fn a_gateways_plugin_in_the_root_namespace_leaves_namespaces_their_own() {
    let (objects, last) = settled(&[opted("shop")], &[gateway("istio-system", "ingress")], &settings());
    assert_eq!(names_of(&objects), ["istio-system/ingress", "shop/hueshift"]);
    assert_eq!(reasons(&last), [""; 0]);
}

#[test]
fn double_attachment_is_told_once_and_touches_nothing() {
    let wide = shipped("istio-system", "hueshift", json!({}));
    let double = |plugins: &[Value]| {
        let (objects, last) = settled(&[], plugins, &settings());
        assert_eq!(objects.len(), plugins.len());
        last.problems.into_iter().map(|problem| (problem.namespace, problem.reason)).collect::<Vec<_>>()
    };
    let one = |namespace: Option<&str>| vec![(namespace.map(str::to_owned), Reason::DoubleAttachment)];
    assert_eq!(double(&[wide.clone(), gateway("istio-system", "ingress")]), one(Some("istio-system")));
    assert_eq!(double(&[wide.clone(), shipped("edge", "edge", json!({}))]), one(Some("edge")));
    assert_eq!(double(&[wide, shipped("istio-system", "second", json!({}))]), one(None));
    assert_eq!(double(&[gateway("edge", "a"), shipped("edge", "b", json!({}))]), one(Some("edge")));
    // Labels that no proxy can have both of.
    assert_eq!(double(&[gateway("edge", "a"), gateway("edge", "b")]), []);
    let labelled = shipped("edge", "c", json!({"selector": {"matchLabels": {"app": "x"}}}));
    assert_eq!(double(&[gateway("edge", "a"), labelled]), one(Some("edge")));
    let target = |name: &str, gateway: &str| {
        shipped("edge", name, json!({"targetRefs": [{"kind": "Gateway", "name": gateway}]}))
    };
    assert_eq!(double(&[target("a", "x"), target("b", "y")]), []);
    assert_eq!(double(&[target("a", "x"), target("b", "x")]), one(Some("edge")));
}

#[test]
fn beside_a_shipped_plugin_with_a_selector_none_is_made_and_the_gap_is_told() {
    let (objects, last) = settled(&[opted("shop")], &[gateway("shop", "edge")], &settings());
    assert_eq!((names_of(&objects), reasons(&last)), (vec!["shop/edge".to_owned()], vec!["PartlyAttached"]));
    let (_, whole) = settled(&[opted("shop")], &[shipped("shop", "all", json!({}))], &settings());
    assert_eq!(reasons(&whole), [""; 0]);
}

#[test]
fn what_does_not_carry_our_label_is_told_and_never_touched() {
    let mut stranger = shipped("shop", "hueshift", json!({}));
    stranger["metadata"]["labels"] = json!({});
    let decision = decided(&seen(&[opted("shop")], &[stranger]));
    assert_eq!((decision.writes.as_slice(), reasons(&decision)), (&[][..], vec!["NameTaken", "Unlabelled"]));
}

#[test]
fn without_a_module_none_is_made_and_its_owner_is_told() {
    let settings = Settings { url: None, ..settings() };
    let decision = decide(&seen(&[opted("shop")], &[]), &settings, &BTreeSet::new(), NOW_MS);
    assert_eq!((decision.writes.as_slice(), reasons(&decision)), (&[][..], vec!["NoModule"]));
}

// --- Revival ---

fn revived(world: &Seen, silent: &str, now_ms: u64) -> Vec<String> {
    let silent = BTreeSet::from([silent.to_owned()]);
    let decision = decide(world, &settings(), &silent, now_ms);
    assert_eq!(decision.writes.len(), decision.revived.len(), "only revivals are due");
    for write in &decision.writes {
        let Write::Apply { body, .. } = write else { panic!("{write:?}") };
        let value = body["spec"]["vmConfig"]["env"][0]["value"].as_str().unwrap();
        assert_eq!(value, (now_ms / 1_000).to_string());
    }
    decision.revived
}

#[test]
fn a_silent_filter_gets_new_vms_by_the_plugin_of_its_namespace_or_else_of_the_root() {
    let (objects, _) = settled(&[opted("shop")], &[gateway("istio-system", "ingress")], &settings());
    let world = seen(&[opted("shop")], &objects);
    assert_eq!(revived(&world, "shop", NOW_MS), ["shop/hueshift"]);
    assert_eq!(revived(&world, "istio-system", NOW_MS), ["istio-system/ingress"]);
    assert_eq!(revived(&world, "edge", NOW_MS), ["istio-system/ingress"]);
}

#[test]
fn a_plugin_is_revived_at_most_every_ten_minutes_also_across_restarts_and_a_clock_set_back() {
    let (objects, _) = settled(&[opted("shop")], &[], &settings());
    let world = seen(&[opted("shop")], &objects);
    let decision = decide(&world, &settings(), &BTreeSet::from(["shop".to_owned()]), NOW_MS);
    let (world, _) = after(&world, &objects, &decision);
    assert_eq!(revived(&world, "shop", NOW_MS), [""; 0]);
    assert_eq!(revived(&world, "shop", NOW_MS + 599_000), [""; 0]);
    assert_eq!(revived(&world, "shop", NOW_MS + 600_000), ["shop/hueshift"]);
    assert_eq!(revived(&world, "shop", NOW_MS - 3_600_000), ["shop/hueshift"]);
}

// --- Keys ---

#[test]
fn plans_name_a_new_key_only_when_every_plugin_has_it() {
    let (objects, last) = settled(&[opted("shop")], &[gateway("istio-system", "ingress")], &settings());
    assert_eq!(last.key, Some(1));
    let rotated = Settings { keys: vec![key(2), key(1)], ..settings() };
    let world = seen(&[opted("shop")], &objects);
    let before = decide(&world, &rotated, &BTreeSet::new(), NOW_MS);
    assert_eq!((before.writes.len(), before.key), (2, Some(1)));
    let (world, _) = after(&world, &objects, &before);
    assert_eq!(decide(&world, &rotated, &BTreeSet::new(), NOW_MS).key, Some(2));
}

#[test]
fn the_keys_of_a_secret_are_its_two_highest_versions_or_a_sentence() {
    let parse = |entries: &[(&str, &str)]| {
        let entries: BTreeMap<String, Vec<u8>> =
            entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        parse_keys(&entries)
    };
    let hex = "ab".repeat(32);
    let versions = |keys: Vec<MeshKey>| keys.iter().map(|key| key.version).collect::<Vec<_>>();
    assert_eq!(versions(parse(&[("1", &hex)]).unwrap()), [1]);
    // By number, not by text; a line end from `base64` is no part of it.
    assert_eq!(versions(parse(&[("9", &hex), ("10", &format!("{hex}\n")), ("2", &hex)]).unwrap()), [10, 9]);
    assert_eq!(parse(&[]), Err(KeysError::Empty));
    assert_eq!(parse(&[("01", &hex)]), Err(KeysError::Name("01".into())));
    assert_eq!(parse(&[("256", &hex)]), Err(KeysError::Name("256".into())));
    assert_eq!(parse(&[("1", "abc")]), Err(KeysError::Digits(1)));
    let first = super::keys::first([0xab; 32]);
    assert_eq!(parse(&[("1", &first.hex)]).unwrap(), [first]);
}
