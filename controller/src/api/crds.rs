//! The definitions of our objects, as `hueshift crds` prints them and `istio/base/crds.yaml` holds them.

use super::{BlueGreen, Release, ReleasePolicy, rules};
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// Fields that must be there, and are told missing by a rule.
const RULED: [&str; 6] = ["spec", "colors", "name", "share", "header", "errorRate"];

/// A column of `kubectl get`: its name, type, path and meaning.
type Column = (&'static str, &'static str, &'static str, &'static str);

/// What one kind adds to its derived definition.
struct Extra {
    /// Columns that are always shown.
    columns: &'static [Column],
    /// Columns of `-o wide`.
    wide: &'static [Column],
    /// Rules of the whole object.
    rules: Option<Value>,
}

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp", "");

const BLUE_GREEN: [Column; 7] = [
    ("Phase", "string", ".status.phase", "Where the release stands."),
    ("Live", "string", ".status.liveColor", "The stable color."),
    ("Share", "string", ".status.share", "The candidate's share of the traffic."),
    ("Verdict", "string", ".status.verdict", "What the judge says, or how the last release ended."),
    ("Evidence", "string", ".status.sample", "The candidate's requests and errors in this release."),
    ("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#, "Why it is ready or not."),
    AGE,
];

const BLUE_GREEN_WIDE: [Column; 4] = [
    ("Release", "integer", ".status.release", "Number of the open or last release."),
    ("Enforcing", "integer", ".status.proxies.enforcing", "Envoys that enforce the plan."),
    ("Waits for", "string", ".status.waitingOn[*].text", "Why the release does not go on."),
    ("Problem", "string", ".status.problems[*].text", "What a person should look at."),
];

const RELEASE: [Column; 6] = [
    ("BlueGreen", "string", ".spec.blueGreen", ""),
    ("Number", "integer", ".spec.number", ""),
    ("Candidate", "string", ".spec.candidate", "The color on trial."),
    ("Revision", "string", ".spec.revision", "What it ran."),
    ("Outcome", "string", ".status.outcome", "How it ended."),
    AGE,
];

const RELEASE_WIDE: [Column; 2] =
    [("Ended", "date", ".status.endedAt", ""), ("Why", "string", ".status.reason", "")];

const POLICY: [Column; 6] = [
    ("Max alpha", "number", ".spec.maxAlpha", ""),
    ("Largest step", "string", ".spec.largestStep", ""),
    ("Min holdback", "string", ".spec.minHoldback", ""),
    ("Min soak", "string", ".spec.minSoak", ""),
    ("Advance", "string", ".spec.advance", ""),
    AGE,
];

/// The definitions as YAML, one document each, always the same text.
pub fn crds() -> Result<String, serde_saphyr::ser_error::Error> {
    let blue_green = Extra { columns: &BLUE_GREEN, wide: &BLUE_GREEN_WIDE, rules: Some(rules::blue_green()) };
    let definitions = [
        (json!(BlueGreen::crd()), blue_green),
        (json!(Release::crd()), Extra { columns: &RELEASE, wide: &RELEASE_WIDE, rules: None }),
        (json!(ReleasePolicy::crd()), Extra { columns: &POLICY, wide: &[], rules: None }),
    ];
    let mut text = String::from(
        "# Made by `hueshift crds`; change the types in controller/src/api and print it again.\n",
    );
    for (mut definition, extra) in definitions {
        finish(&mut definition, extra);
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

fn finish(definition: &mut Value, extra: Extra) {
    if let Some(metadata) = definition.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), json!({"app.kubernetes.io/part-of": "hueshift"}));
    }
    if let Some(version) = definition.pointer_mut("/spec/versions/0").and_then(Value::as_object_mut) {
        let shown = extra.columns.iter().map(|column| printed(column, 0));
        let columns = shown.chain(extra.wide.iter().map(|column| printed(column, 1))).collect();
        version.insert("additionalPrinterColumns".to_owned(), Value::Array(columns));
    }
    let Some(schema) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") else { return };
    plain(schema);
    if let (Some(schema), Some(rules)) = (schema.as_object_mut(), extra.rules) {
        schema.insert("x-kubernetes-validations".to_owned(), rules);
    }
}

fn printed((name, kind, path, meaning): &Column, priority: u8) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if let (Some(column), false) = (column.as_object_mut(), meaning.is_empty()) {
        column.insert("description".to_owned(), json!(meaning));
    }
    if let (Some(column), 1..) = (column.as_object_mut(), priority) {
        column.insert("priority".to_owned(), json!(priority));
    }
    column
}

/// Takes out what the derived schema says and we do not mean.
///
/// Defaults: an object stays as its author wrote it; so a later version may have better ones, and GitOps sees no
/// difference. `null`: leaving a field out is the one way to leave it out. Formats of Rust, which the API server does
/// not know. Line breaks of comments.
fn plain(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("default");
    schema.remove("nullable");
    schema.remove("title");
    // Told by rules, which have sentences; the API server's own complaint comes with a second one.
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|field| !RULED.iter().any(|ruled| field == ruled));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    if schema.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint") || f == "double") {
        schema.remove("format");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(below) {
            plain(below);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            plain(property);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn definitions() -> Vec<Value> {
        let text = crds().unwrap();
        text.split("---\n").skip(1).map(|one| serde_saphyr::from_str::<Value>(one).unwrap()).collect()
    }

    /// Every schema of every definition with its path.
    fn all(schema: &Value, path: &str, out: &mut Vec<(String, Value)>) {
        out.push((path.to_owned(), schema.clone()));
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, below) in properties {
                all(below, &format!("{path}.{name}"), out);
            }
        }
        for (key, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(below) = schema.get(key) {
                all(below, &format!("{path}{sign}"), out);
            }
        }
    }

    fn schemas() -> Vec<(String, Value)> {
        let mut out = Vec::new();
        for definition in definitions() {
            let kind = String::deserialize(&definition["spec"]["names"]["kind"]).unwrap();
            all(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &kind, &mut out);
        }
        out
    }

    #[test]
    fn the_manifest_is_what_the_types_say() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio/base/crds.yaml");
        let held = std::fs::read_to_string(file).unwrap();
        assert!(
            held == crds().unwrap(),
            "istio/base/crds.yaml is out of date; run `cargo run -p hueshift -- crds > istio/base/crds.yaml`"
        );
    }

    #[test]
    fn every_text_list_and_map_is_bounded() {
        for (path, schema) in schemas() {
            let bound = match schema.get("type").and_then(Value::as_str) {
                Some("string") => "maxLength",
                Some("array") => "maxItems",
                Some("object") if schema.get("additionalProperties").is_some() => "maxProperties",
                _ => continue,
            };
            let bounded = schema.get(bound).is_some()
                || schema.get("enum").is_some()
                || schema.get("format").is_some_and(|format| format == "date-time");
            assert!(bounded, "{path} has no {bound}");
        }
    }

    #[test]
    fn every_field_is_described_and_none_has_a_default() {
        for (path, schema) in schemas() {
            // Conditions and selectors are Kubernetes' own.
            let known =
                ["conditions", "elector", "keys[]", "[]", "{}"].iter().any(|part| path.contains(part));
            let described = schema.get("description").is_some();
            assert!(known || described || path.ends_with("metadata"), "{path} has no description");
            assert!(schema.get("default").is_none(), "{path} has a default");
        }
    }

    #[test]
    fn every_rule_has_a_sentence() {
        for (path, schema) in schemas() {
            for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(message.len() > 10 && !message.contains("  "), "{path}: {rule}");
            }
        }
    }
}
