//! One container of a pod as a program to start: which program, its arguments and its environment.
//!
//! As a kubelet reads them: `$(NAME)` is replaced where NAME is a variable set before, `$$` is one dollar, fields of
//! the pod and keys of secrets and config maps come in by reference. An image is the name of a program of ours;
//! what `command` calls inside the image stands for it.

use crate::programs;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Values of secrets and config maps: kind (`secret` or `map`), name and key.
pub type Values = BTreeMap<(&'static str, String, String), String>;

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
}

/// The program of an image: its name without registry, tag and digest; none: not one of ours.
pub fn program_of(image: &str) -> Option<PathBuf> {
    match name_of(image) {
        "hueshift" => Some(programs::hueshift()),
        "sample-model" => Some(programs::sample_model()),
        _ => None,
    }
}

fn name_of(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

/// References to secrets and config maps in a container's environment: kind, name, key.
pub fn references(container: &Container) -> Vec<(&'static str, String, String)> {
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    sources
        .filter_map(|source| {
            let secret = source.secret_key_ref.as_ref().map(|it| ("secret", it.name.clone(), it.key.clone()));
            secret.or_else(|| {
                source.config_map_key_ref.as_ref().map(|it| ("map", it.name.clone(), it.key.clone()))
            })
        })
        .collect()
}

/// The program of a container; an `Err` says what the pod's status should say.
pub fn program(
    pod: &Pod,
    container: &Container,
    address: Ipv4Addr,
    values: &Values,
) -> Result<Program, String> {
    let image = container.image.as_deref().unwrap_or_default();
    let path = program_of(image).ok_or_else(|| format!("no program stands for the image {image:?}"))?;
    let mut environment: Vec<(String, String)> = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = value_of(variable, pod, address, values, &environment)
            .ok_or_else(|| format!("the environment variable {} has no value", variable.name))?;
        environment.push((variable.name.clone(), value));
    }
    let words = container.command.iter().flatten().skip(1).chain(container.args.iter().flatten());
    let arguments = words.map(|word| expand(word, &environment)).collect();
    Ok(Program { path, arguments, environment })
}

fn value_of(
    variable: &EnvVar,
    pod: &Pod,
    address: Ipv4Addr,
    values: &Values,
    before: &[(String, String)],
) -> Option<String> {
    let Some(source) = &variable.value_from else {
        return Some(expand(variable.value.as_deref().unwrap_or_default(), before));
    };
    if let Some(field) = &source.field_ref {
        return field_of(&field.field_path, pod, address);
    }
    let (key, optional) = match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(it), _) => (("secret", it.name.clone(), it.key.clone()), it.optional),
        (_, Some(it)) => (("map", it.name.clone(), it.key.clone()), it.optional),
        _ => return None,
    };
    values.get(&key).cloned().or_else(|| (optional == Some(true)).then(String::new))
}

fn field_of(path: &str, pod: &Pod, address: Ipv4Addr) -> Option<String> {
    let text = |value: &Option<String>| Some(value.clone().unwrap_or_default());
    let keyed = |map: &Option<BTreeMap<String, String>>, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
    };
    match path {
        "metadata.name" => text(&pod.metadata.name),
        "metadata.namespace" => text(&pod.metadata.namespace),
        "metadata.uid" => text(&pod.metadata.uid),
        "status.podIP" | "status.podIPs" => Some(address.to_string()),
        "status.hostIP" | "status.hostIPs" => Some("10.77.0.1".to_owned()),
        "spec.nodeName" => Some(super::kubelet::NODE.to_owned()),
        "spec.serviceAccountName" => text(&pod.spec.as_ref()?.service_account_name),
        _ => keyed(&pod.metadata.labels, "metadata.labels")
            .or_else(|| keyed(&pod.metadata.annotations, "metadata.annotations")),
    }
}

/// `$(NAME)` of a known variable is replaced, of an unknown one left; `$$` is a dollar.
fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let known =
            name.and_then(|(name, after)| Some((variables.iter().rev().find(|v| v.0 == name)?, after)));
        match known {
            Some(((_, value), after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_set_before_are_replaced_and_others_left() {
        let variables = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        assert_eq!(expand("x$(A)y$(B)z", &variables), "x1y$(A)z", "a value is not read again");
        assert_eq!(expand("$(C) $$(A) $ $(A", &variables), "$(C) $(A) $ $(A");
    }

    #[test]
    fn an_image_names_a_program_whatever_its_registry_tag_and_digest() {
        assert_eq!(name_of("registry.example:5000/team/sample-model:v2"), "sample-model");
        assert_eq!(name_of("hueshift@sha256:0123"), "hueshift");
        assert_eq!(name_of("hueshift"), "hueshift");
    }

    #[test]
    fn fields_and_references_come_in() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop", "labels": {"hueshift.dev/color": "green"}},
        }))
        .unwrap();
        let container: Container = serde_json::from_value(json!({"name": "c", "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LISTEN", "value": "$(IP):8080"},
            {"name": "COLOR", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['hueshift.dev/color']"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": true}}},
        ]}))
        .unwrap();
        let key = ("secret", "s".to_owned(), "k".to_owned());
        assert_eq!(references(&container), [key.clone(), ("map", "m".to_owned(), "k".to_owned())]);
        let values = Values::from([(key, "secret".to_owned())]);
        let mut seen: Vec<(String, String)> = Vec::new();
        for variable in container.env.iter().flatten() {
            let value = value_of(variable, &pod, Ipv4Addr::new(10, 77, 2, 1), &values, &seen).unwrap();
            seen.push((variable.name.clone(), value));
        }
        let values: Vec<&str> = seen.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["10.77.2.1", "10.77.2.1:8080", "green", "secret", ""]);
    }
}
