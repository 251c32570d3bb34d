//! What only a document for a mesh can have wrong. The API server says the same by the schema's rules (`api/rules`).

use super::{Notes, is_label, revision};
use crate::api::BlueGreen;
use hueshift_core::color::Color;
use std::collections::BTreeMap;

/// Adds what is wrong.
pub(super) fn errors(document: &BlueGreen, service: &str, out: &mut Notes) {
    let spec = &document.spec;
    object_name("spec.service", service, out);
    if let Some(namespace) = document.namespace()
        && !is_label(namespace)
    {
        out.add(
            "metadata.namespace",
            format!("`{namespace}` is not a namespace"),
            "write 1 to 63 lowercase letters, digits or dashes",
        );
    }
    for color in Color::BOTH {
        let at = format!("spec.colors.{color}");
        let spec = spec.colors.get(color);
        for (field, given) in
            [("endpoints", !spec.endpoints.is_empty()), ("command", !spec.command.is_empty())]
        {
            if given {
                out.add(
                    format!("{at}.{field}"),
                    "is for one machine, but spec.service is for a mesh",
                    "leave it out; spec.colors.*.workload names what runs",
                );
            }
        }
        revision(format!("{at}.revision"), &spec.revision, out);
        labels(&format!("{at}.labels"), &spec.labels, out);
        // Of a Deployment we can read which pods are its own and what they run; of anything else not.
        let told = !spec.labels.is_empty() && !spec.revision.is_empty();
        match &spec.workload {
            None if told => {}
            None => out.add(
                format!("{at}.workload"),
                "is missing",
                "name a Deployment: {name: my-model-blue}, or write its pods' labels and a revision",
            ),
            Some(workload) => {
                object_name(&format!("{at}.workload.name"), &workload.name, out);
                if !told && (workload.api_version != "apps/v1" || workload.kind != "Deployment") {
                    out.add(
                        format!("{at}.workload"),
                        format!(
                            "a {} of {} does not tell its pods and what they run",
                            workload.kind, workload.api_version
                        ),
                        "name a Deployment (apps/v1), or also write the color's labels and revision",
                    );
                }
            }
        }
    }
    let (blue, green) = (&spec.colors.blue, &spec.colors.green);
    if blue.workload.is_some() && blue.workload == green.workload {
        out.add(
            "spec.colors.green.workload",
            "is blue's as well: otherwise a rollback changes nothing",
            "give each color a workload of its own",
        );
    }
    if !blue.labels.is_empty() && blue.labels == green.labels {
        out.add(
            "spec.colors.green.labels",
            "are blue's as well, so that both subsets would choose the same pods",
            "give each color a label of its own, such as `color: green`",
        );
    }
    let routing = &spec.routing;
    for (field, name) in
        [("virtualService", &routing.virtual_service), ("destinationRule", &routing.destination_rule)]
    {
        if let Some(name) = name {
            object_name(&format!("spec.routing.{field}"), name, out);
        }
    }
    if routing.routes.len() > 64 {
        out.add(
            "spec.routing.routes",
            format!("are {}, more than 64", routing.routes.len()),
            "leave them out to manage all that send requests to the service",
        );
    }
    for (index, route) in routing.routes.iter().enumerate() {
        let field = format!("spec.routing.routes[{index}]");
        if route.is_empty() || route.chars().count() > 256 {
            out.add(field, "is not the name of an http route", "write what `spec.http[].name` says");
        } else if routing.routes.iter().take(index).any(|earlier| earlier == route) {
            out.add(field, format!("`{route}` is listed already"), "keep one of them");
        }
    }
}

fn labels(field: &str, labels: &BTreeMap<String, String>, out: &mut Notes) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    for (name, value) in labels {
        let bytes = value.as_bytes();
        if name.is_empty()
            || name.len() > 317
            || bytes.len() > 63
            || !bytes.iter().all(|b| inner(*b))
            || !edge(bytes.first())
            || !edge(bytes.last())
        {
            out.add(
                field,
                format!("`{name}: {value}` is no label as Kubernetes knows them"),
                "write letters, digits, dashes, underscores or dots, such as color: green",
            );
        }
    }
    if labels.len() > 16 {
        out.add(
            field,
            format!("are {}, more than 16", labels.len()),
            "one label that tells the colors apart is enough",
        );
    }
}

/// A name in the document's own namespace: never `namespace/name` or a host name.
fn object_name(field: &str, name: &str, out: &mut Notes) {
    let valid = name.len() <= 253 && !name.is_empty() && name.split('.').all(is_label);
    if name.contains('/') || (field == "spec.service" && name.contains('.')) {
        out.add(
            field,
            format!("`{name}` is not the plain name of an object in the document's own namespace"),
            "write only the name: a BlueGreen may not touch another namespace",
        );
    } else if !valid {
        out.add(
            field,
            format!("`{name}` is not an object's name"),
            "write lowercase letters, digits or dashes, such as my-model",
        );
    }
}
