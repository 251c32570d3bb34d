//! The fields of a `BlueGreen` document: which there are, what each may hold, what it is without.
//!
//! The mirror of `api.rs`, read by hand so that every error is told at once with its place and remedy; the test
//! that writes a document and reads it back fails when the two drift apart. Whether values make sense together
//! is `checks`'s business.

use super::fields::{Fields, Problems, count, list, number, quantity, tell, text, truth, word};
use super::tree::{Node, Place, Value};
use crate::api::{
    API_VERSION, Advance, AnalysisSpec, BlueGreen, ColorSpec, CustomSpec, FuseSpec, KIND, KeySpec,
    LatencySpec, OnInconclusive, PredictionsMode, PredictionsSpec, ReleaseSpec, RoutingSpec, SessionMode,
    SessionSpec, SloSpec, SoakSpec, Spec, StepSpec, Workload, human_duration, percent,
};
use hueshift_core::color::PerColor;
use hueshift_core::share::Bps;
use kube::api::ObjectMeta;
use std::collections::BTreeMap;
use std::time::Duration;

/// The home that a document is for: it decides what a color needs.
#[derive(Clone, Copy)]
enum Home {
    Standalone,
    Mesh,
}

/// What a document of another kind is called, if it is one. A slip in our own names is none: it is told.
pub(super) fn other(root: &Node) -> Option<String> {
    let Value::Map(entries) = &root.value else { return None };
    let text = |entries: &[(String, Place, Node)], wanted: &str| {
        entries.iter().find(|(key, _, _)| key == wanted).and_then(|(_, _, node)| match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    };
    let (api_version, kind) = (text(entries, "apiVersion")?, text(entries, "kind")?);
    let ours = api_version.split('/').next() == API_VERSION.split('/').next();
    if kind == KIND || (ours && !matches!(kind.as_str(), "Release" | "ReleasePolicy")) {
        return None;
    }
    let metadata = entries.iter().find(|(key, _, _)| key == "metadata").map(|(_, _, node)| &node.value);
    let name = match metadata {
        Some(Value::Map(entries)) => text(entries, "name"),
        _ => None,
    };
    Some(format!("{kind} {}", name.unwrap_or_default()).trim_end().to_owned())
}

/// A whole document.
pub(super) fn blue_green(root: &Node, out: &mut Problems) -> Option<BlueGreen> {
    let mut fields = Fields::of(root, "", out)?;
    let api_version =
        fields.required("apiVersion", API_VERSION, |n, p, out| exactly(n, p, API_VERSION, out), out);
    let kind = fields.required("kind", KIND, |n, p, out| exactly(n, p, KIND, out), out);
    // A document of another kind gets that one error, not a hundred about its fields.
    let (_, _) = (api_version?, kind?);
    let metadata = fields.required("metadata", "{name: my-model}", metadata, out);
    let spec = fields.required("spec", "{…}", spec, out);
    fields.no_others(out);
    Some(BlueGreen { metadata: metadata?, spec: spec?, status: None })
}

/// Labels and annotations are a cluster's; on one machine they mean nothing and do no harm.
fn metadata(node: &Node, path: &str, out: &mut Problems) -> Option<ObjectMeta> {
    let mut fields = Fields::of(node, path, out)?;
    let name = fields.required("name", "my-model", text, out);
    let namespace = fields.optional("namespace", None, |n, p, out| text(n, p, out).map(Some), out);
    let labels = fields.optional("labels", BTreeMap::new(), pairs, out);
    let annotations = fields.optional("annotations", BTreeMap::new(), pairs, out);
    fields.no_others(out);
    let some = |pairs: BTreeMap<String, String>| (!pairs.is_empty()).then_some(pairs);
    Some(ObjectMeta {
        name: Some(name?),
        namespace: namespace?,
        labels: some(labels?),
        annotations: some(annotations?),
        ..ObjectMeta::default()
    })
}

fn spec(node: &Node, path: &str, out: &mut Problems) -> Option<Spec> {
    let mut fields = Fields::of(node, path, out)?;
    let listen = fields.optional("listen", None, |n, p, out| text(n, p, out).map(Some), out);
    let service = fields.optional("service", None, |n, p, out| text(n, p, out).map(Some), out);
    if let (Some(None), Some(None)) = (&listen, &service) {
        tell(
            out,
            node.at,
            &format!("{path}.listen"),
            "is missing",
            "add `listen: 127.0.0.1:8080` (one machine) or `service: my-model` (a mesh)",
        );
    }
    // Which home it is for decides what a color needs; without a home that is the one thing to tell.
    let home = match (&listen, &service) {
        (Some(Some(_)), Some(None)) => Home::Standalone,
        _ => Home::Mesh,
    };
    let colors = fields.required("colors", "{blue: …, green: …}", |n, p, out| colors(n, p, home, out), out);
    let routing = fields.optional("routing", RoutingSpec::default(), routing, out);
    let session = fields.optional("session", SessionSpec::default(), session, out);
    let release = fields.optional("release", ReleaseSpec::default(), release, out);
    let analysis = fields.optional("analysis", AnalysisSpec::default(), analysis, out);
    fields.no_others(out);
    Some(Spec {
        listen: listen?,
        service: service?,
        colors: colors?,
        routing: routing?,
        session: session?,
        release: release?,
        analysis: analysis?,
    })
}

fn colors(node: &Node, path: &str, home: Home, out: &mut Problems) -> Option<PerColor<ColorSpec>> {
    let mut fields = Fields::of(node, path, out)?;
    let example = match home {
        Home::Standalone => "{endpoints: [\"127.0.0.1:9001\"], revision: v1}",
        Home::Mesh => "{workload: {name: my-model-blue}}",
    };
    let mut read = |name, out: &mut Problems| {
        fields.required(name, example, |n: &Node, p: &str, out: &mut Problems| color(n, p, home, out), out)
    };
    let (blue, green) = (read("blue", out), read("green", out));
    fields.no_others(out);
    Some(PerColor { blue: blue?, green: green? })
}

fn color(node: &Node, path: &str, home: Home, out: &mut Problems) -> Option<ColorSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let (endpoints, revision, workload);
    match home {
        Home::Standalone => {
            endpoints = fields.required("endpoints", "[\"127.0.0.1:9001\"]", texts, out);
            revision = fields.required("revision", "v1", text, out);
            workload =
                fields.optional("workload", None, |n, p, out| self::workload(n, p, out).map(Some), out);
        }
        Home::Mesh => {
            endpoints = fields.optional("endpoints", Vec::new(), texts, out);
            revision = fields.optional("revision", String::new(), text, out);
            workload =
                fields.optional("workload", None, |n, p, out| self::workload(n, p, out).map(Some), out);
        }
    }
    let command = fields.optional("command", Vec::new(), texts, out);
    let labels = fields.optional("labels", BTreeMap::new(), pairs, out);
    fields.no_others(out);
    Some(ColorSpec {
        endpoints: endpoints?,
        revision: revision?,
        command: command?,
        workload: workload?,
        labels: labels?,
    })
}

fn workload(node: &Node, path: &str, out: &mut Problems) -> Option<Workload> {
    let mut fields = Fields::of(node, path, out)?;
    let default = Workload::deployment("");
    let api_version = fields.optional("apiVersion", default.api_version, text, out);
    let kind = fields.optional("kind", default.kind, text, out);
    let name = fields.required("name", "my-model-blue", text, out);
    fields.no_others(out);
    Some(Workload { api_version: api_version?, kind: kind?, name: name? })
}

fn routing(node: &Node, path: &str, out: &mut Problems) -> Option<RoutingSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let optional_text = |n: &Node, p: &str, out: &mut Problems| text(n, p, out).map(Some);
    let virtual_service = fields.optional("virtualService", None, optional_text, out);
    let routes = fields.optional("routes", Vec::new(), texts, out);
    let destination_rule = fields.optional("destinationRule", None, optional_text, out);
    fields.no_others(out);
    Some(RoutingSpec {
        virtual_service: virtual_service?,
        routes: routes?,
        destination_rule: destination_rule?,
    })
}

fn session(node: &Node, path: &str, out: &mut Problems) -> Option<SessionSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let keys = fields.optional("keys", Vec::new(), |n, p, out| list(n, p, key, out), out);
    let words = [("move", SessionMode::Move), ("keep", SessionMode::Keep)];
    let mode = fields.optional("mode", SessionMode::default(), |n, p, out| word(n, p, &words, out), out);
    fields.no_others(out);
    Some(SessionSpec { keys: keys?, mode: mode? })
}

fn key(node: &Node, path: &str, out: &mut Problems) -> Option<KeySpec> {
    let remedy = "write one of `header: NAME`, `cookie: NAME`, `query: NAME`";
    let Value::Map(entries) = &node.value else {
        tell(out, node.at, path, format!("a session key is wanted here, not {}", node.value.name()), remedy);
        return None;
    };
    let [(kind, at, name)] = entries.as_slice() else {
        tell(out, node.at, path, format!("a session key has one place, not {}", entries.len()), remedy);
        return None;
    };
    let make = match kind.as_str() {
        "header" => KeySpec::Header,
        "cookie" => KeySpec::Cookie,
        "query" => KeySpec::Query,
        other => {
            tell(out, *at, path, format!("`{other}` is not a place of session keys"), remedy);
            return None;
        }
    };
    text(name, &format!("{path}.{kind}"), out).map(make)
}

fn release(node: &Node, path: &str, out: &mut Problems) -> Option<ReleaseSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = ReleaseSpec::default();
    let advances = [("certified", Advance::Certified), ("unsuspicious", Advance::Unsuspicious)];
    let ends = [
        ("hold", OnInconclusive::Hold),
        ("promote", OnInconclusive::Promote),
        ("rollback", OnInconclusive::Rollback),
    ];
    let steps = fields.optional("steps", default.steps, |n, p, out| list(n, p, step, out), out);
    let advance = fields.optional("advance", default.advance, |n, p, out| word(n, p, &advances, out), out);
    let soak = fields.optional("soak", default.soak, soak, out);
    let drain_deadline = fields.optional("drainDeadline", default.drain_deadline, duration, out);
    let deadline = fields.optional("deadline", default.deadline, duration, out);
    let on_inconclusive =
        fields.optional("onInconclusive", default.on_inconclusive, |n, p, out| word(n, p, &ends, out), out);
    fields.no_others(out);
    Some(ReleaseSpec {
        steps: steps?,
        advance: advance?,
        soak: soak?,
        drain_deadline: drain_deadline?,
        deadline: deadline?,
        on_inconclusive: on_inconclusive?,
    })
}

fn step(node: &Node, path: &str, out: &mut Problems) -> Option<StepSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let share = fields.required("share", "5%", share, out);
    let min_time = fields.optional("minTime", Duration::ZERO, duration, out);
    let min_requests = fields.optional("minRequests", 0, count, out);
    fields.no_others(out);
    Some(StepSpec { share: share?, min_time: min_time?, min_requests: min_requests? })
}

fn soak(node: &Node, path: &str, out: &mut Problems) -> Option<SoakSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = SoakSpec::default();
    let holdback = fields.optional("holdback", default.holdback, share, out);
    let time = fields.optional("time", default.time, duration, out);
    fields.no_others(out);
    Some(SoakSpec { holdback: holdback?, time: time?, ..SoakSpec::default() })
}

fn analysis(node: &Node, path: &str, out: &mut Problems) -> Option<AnalysisSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = AnalysisSpec::default();
    let alpha = fields.optional("alpha", default.alpha, number, out);
    let beta = fields.optional("beta", default.beta, number, out);
    let ratio_margin = fields.optional("ratioMargin", default.ratio_margin, number, out);
    let error_floor = fields.optional("errorFloor", default.error_floor, number, out);
    let absolute_certificate =
        fields.optional("absoluteCertificate", default.absolute_certificate, truth, out);
    let predictions =
        fields.optional("predictions", None, |n, p, out| self::predictions(n, p, out).map(Some), out);
    let custom = fields.optional("custom", None, |n, p, out| self::custom(n, p, out).map(Some), out);
    let latency = fields.optional("latency", default.latency, latency, out);
    let slo = fields.optional("slo", None, |n, p, out| self::slo(n, p, out).map(Some), out);
    let fuse = fields.optional("fuse", default.fuse, fuse, out);
    fields.no_others(out);
    Some(AnalysisSpec {
        // A platform grants it, no document.
        trusted_principals: Vec::new(),
        alpha: alpha?,
        beta: beta?,
        ratio_margin: ratio_margin?,
        error_floor: error_floor?,
        absolute_certificate: absolute_certificate?,
        predictions: predictions?,
        custom: custom?,
        latency: latency?,
        slo: slo?,
        fuse: fuse?,
    })
}

fn predictions(node: &Node, path: &str, out: &mut Problems) -> Option<PredictionsSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = PredictionsSpec::of("");
    let modes = [("effect", PredictionsMode::Effect), ("equality", PredictionsMode::Equality)];
    let header = fields.required("header", "x-prediction", text, out);
    let min = fields.optional("min", default.min, number, out);
    let max = fields.optional("max", default.max, number, out);
    let bins = fields.optional("bins", default.bins.into(), count, out);
    let mode = fields.optional("mode", default.mode, |n, p, out| word(n, p, &modes, out), out);
    fields.no_others(out);
    // A number too large for the type is out of range, too.
    let bins = u16::try_from(bins?).unwrap_or(u16::MAX);
    Some(PredictionsSpec { header: header?, min: min?, max: max?, bins, mode: mode? })
}

fn custom(node: &Node, path: &str, out: &mut Problems) -> Option<CustomSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let name = fields.optional("name", CustomSpec::default_name(), text, out);
    let client_errors = fields.optional("clientErrors", false, truth, out);
    let header = fields.optional("header", None, |n, p, out| text(n, p, out).map(Some), out);
    fields.no_others(out);
    let custom = CustomSpec { name: name?, client_errors: client_errors?, header: header? };
    Some(custom)
}

fn latency(node: &Node, path: &str, out: &mut Problems) -> Option<LatencySpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = LatencySpec::default();
    let tolerance = fields.optional("tolerance", default.tolerance, number, out);
    let warmup = fields.optional("warmup", default.warmup, duration, out);
    fields.no_others(out);
    Some(LatencySpec { tolerance: tolerance?, warmup: warmup? })
}

fn slo(node: &Node, path: &str, out: &mut Problems) -> Option<SloSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let error_rate = fields.required("errorRate", "0.05", number, out);
    fields.no_others(out);
    Some(SloSpec { error_rate: error_rate? })
}

fn fuse(node: &Node, path: &str, out: &mut Problems) -> Option<FuseSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let default = FuseSpec::default();
    let enabled = fields.optional("enabled", default.enabled, truth, out);
    let healthy_error_rate = fields.optional("healthyErrorRate", default.healthy_error_rate, number, out);
    let height = fields.optional("height", default.height, number, out);
    fields.no_others(out);
    Some(FuseSpec { enabled: enabled?, healthy_error_rate: healthy_error_rate?, height: height? })
}

fn exactly(node: &Node, path: &str, wanted: &str, out: &mut Problems) -> Option<String> {
    let written = text(node, path, out)?;
    if written == wanted {
        return Some(written);
    }
    tell(
        out,
        node.at,
        path,
        format!("`{written}` is not known to this version"),
        format!("write `{wanted}`"),
    );
    None
}

fn texts(node: &Node, path: &str, out: &mut Problems) -> Option<Vec<String>> {
    list(node, path, text, out)
}

/// A mapping of texts to texts, such as labels.
fn pairs(node: &Node, path: &str, out: &mut Problems) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        tell(
            out,
            node.at,
            path,
            format!("a mapping is wanted here, not {}", node.value.name()),
            "write `name: value` lines, indented under it",
        );
        return None;
    };
    let read: Vec<Option<(String, String)>> = entries
        .iter()
        .map(|(key, _, value)| Some((key.clone(), text(value, &format!("{path}.{key}"), out)?)))
        .collect();
    read.into_iter().collect()
}

fn share(node: &Node, path: &str, out: &mut Problems) -> Option<Bps> {
    quantity(node, path, percent::parse, |number| format!("\"{number}%\""), out)
}

fn duration(node: &Node, path: &str, out: &mut Problems) -> Option<Duration> {
    quantity(node, path, human_duration::parse, |number| format!("{number}s, {number}m or {number}h"), out)
}
