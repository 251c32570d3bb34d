//! The fields of a `BlueGreen` document: which there are, what each may hold, what it is without.
//!
//! The mirror of `api.rs`, read by hand so that every error is told at once with its place and remedy; the test
//! that writes a document and reads it back fails when the two drift apart. Whether values make sense together
//! is `checks`'s business.

use super::fields::{Fields, Problems, count, list, number, quantity, tell, text, truth, word};
use super::tree::{Node, Value};
use crate::api::{
    API_VERSION, Advance, AnalysisSpec, BlueGreen, ColorSpec, FuseSpec, KIND, KeySpec, Metadata,
    OnInconclusive, ReleaseSpec, SessionMode, SessionSpec, SoakSpec, Spec, StepSpec, human_duration, percent,
};
use hueshift_core::color::PerColor;
use hueshift_core::share::Bps;
use std::time::Duration;

/// A whole document.
pub(super) fn blue_green(root: &Node, out: &mut Problems) -> Option<BlueGreen> {
    let mut fields = Fields::of(root, "", out)?;
    let api_version =
        fields.required("apiVersion", API_VERSION, |n, p, out| exactly(n, p, API_VERSION, out), out);
    let kind = fields.required("kind", KIND, |n, p, out| exactly(n, p, KIND, out), out);
    // A document of another kind gets that one error, not a hundred about its fields.
    let (api_version, kind) = (api_version?, kind?);
    let metadata = fields.required("metadata", "{name: my-model}", metadata, out);
    let spec = fields.required("spec", "{…}", spec, out);
    fields.no_others(out);
    Some(BlueGreen { api_version, kind, metadata: metadata?, spec: spec? })
}

fn metadata(node: &Node, path: &str, out: &mut Problems) -> Option<Metadata> {
    let mut fields = Fields::of(node, path, out)?;
    let name = fields.required("name", "my-model", text, out);
    fields.no_others(out);
    Some(Metadata { name: name? })
}

fn spec(node: &Node, path: &str, out: &mut Problems) -> Option<Spec> {
    let mut fields = Fields::of(node, path, out)?;
    let listen = fields.required("listen", "127.0.0.1:8080", text, out);
    let colors = fields.required("colors", "{blue: …, green: …}", colors, out);
    let session = fields.optional("session", SessionSpec::default(), session, out);
    let release = fields.optional("release", ReleaseSpec::default(), release, out);
    let analysis = fields.optional("analysis", AnalysisSpec::default(), analysis, out);
    fields.no_others(out);
    Some(Spec { listen: listen?, colors: colors?, session: session?, release: release?, analysis: analysis? })
}

fn colors(node: &Node, path: &str, out: &mut Problems) -> Option<PerColor<ColorSpec>> {
    let mut fields = Fields::of(node, path, out)?;
    let example = "{endpoints: [\"127.0.0.1:9001\"], revision: v1}";
    let blue = fields.required("blue", example, color, out);
    let green = fields.required("green", example, color, out);
    fields.no_others(out);
    Some(PerColor { blue: blue?, green: green? })
}

fn color(node: &Node, path: &str, out: &mut Problems) -> Option<ColorSpec> {
    let mut fields = Fields::of(node, path, out)?;
    let endpoints = fields.required("endpoints", "[\"127.0.0.1:9001\"]", texts, out);
    let revision = fields.required("revision", "v1", text, out);
    let command = fields.optional("command", Vec::new(), texts, out);
    fields.no_others(out);
    Some(ColorSpec { endpoints: endpoints?, revision: revision?, command: command? })
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
    Some(SoakSpec { holdback: holdback?, time: time? })
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
    let fuse = fields.optional("fuse", default.fuse, fuse, out);
    fields.no_others(out);
    Some(AnalysisSpec {
        alpha: alpha?,
        beta: beta?,
        ratio_margin: ratio_margin?,
        error_floor: error_floor?,
        absolute_certificate: absolute_certificate?,
        fuse: fuse?,
    })
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

fn share(node: &Node, path: &str, out: &mut Problems) -> Option<Bps> {
    quantity(node, path, percent::parse, |number| format!("\"{number}%\""), out)
}

fn duration(node: &Node, path: &str, out: &mut Problems) -> Option<Duration> {
    quantity(node, path, human_duration::parse, |number| format!("{number}s, {number}m or {number}h"), out)
}
