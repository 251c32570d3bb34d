//! Whether the values of a well-formed document make sense: ranges, order, addresses, and what this version can do.
//!
//! Works on the types, not on YAML, and names fields by path; so it fits any home that has the same types.
//! What is allowed, but perhaps not meant, is `advice`'s business.

mod mesh;

use super::{Note, Notes, note};
use crate::api::{
    AnalysisSpec, BlueGreen, ColorSpec, CustomSpec, KeySpec, PredictionsSpec, ReleaseSpec, RoutingSpec,
    SessionMode, SessionSpec, human_duration,
};
use hueshift_core::color::Color;
use hueshift_core::contract::PREDICTION_BINS;
use hueshift_core::share::Bps;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest time that any field may ask for.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Longest time without a word on latency.
const LONGEST_WARMUP: Duration = Duration::from_secs(600);
/// Most steps of a ramp: each needs evidence of its own.
const MAX_STEPS: usize = 20;
/// Most session keys: all of them travel in the route name, which Istio bounds.
const MAX_KEYS: usize = 4;
/// Longest name of a session key, for the same reason.
const MAX_KEY_NAME: usize = 64;

/// What is wrong with one document.
pub(super) fn errors(document: &BlueGreen) -> Vec<Note> {
    let mut out = Notes::default();
    name(document.name(), &mut out);
    let spec = &document.spec;
    match (&spec.listen, &spec.service) {
        (Some(_), Some(_)) => out.add(
            "spec.service",
            "and spec.listen are both set, but a document is for one home",
            "keep `listen` for one machine, or `service` for a mesh",
        ),
        (None, Some(service)) => mesh::errors(document, service, &mut out),
        (Some(listen), None) => standalone(document, listen, &mut out),
        // Told by the reader, together with what else is missing.
        (None, None) => {}
    }
    session(&spec.session, &mut out);
    release(&spec.release, &mut out);
    analysis(&spec.analysis, &mut out);
    out.0
}

/// What only a document for one machine can have wrong.
fn standalone(document: &BlueGreen, listen: &str, out: &mut Notes) {
    let spec = &document.spec;
    if document.namespace().is_some() {
        out.add("metadata.namespace", "is a cluster's, but spec.listen is for one machine", "leave it out");
    }
    let listen = address("spec.listen", listen, Role::Listen, out);
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for color in Color::BOTH {
        one_color(color, spec.colors.get(color), listen, &mut taken, out);
    }
    if spec.routing != RoutingSpec::default() {
        out.add("spec.routing", "is a cluster's, but spec.listen is for one machine", "leave it out");
    }
}

/// What is wrong between documents of one file: (index of the document, what).
pub(super) fn errors_between(documents: &[BlueGreen]) -> Vec<(usize, Note)> {
    let mut out = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        for earlier in documents.iter().take(index) {
            if document.key() == earlier.key() {
                let what = format!("`{}` is the name of an earlier document of this file", document.name());
                out.push((index, note("metadata.name", what, "give each service its own name")));
            }
            let parse = |d: &BlueGreen| d.listen().parse::<SocketAddr>().ok();
            if let (Some(mine), Some(theirs)) = (parse(document), parse(earlier))
                && mine.port() == theirs.port()
                && (mine.ip() == theirs.ip() || mine.ip().is_unspecified() || theirs.ip().is_unspecified())
            {
                let what = format!("`{mine}` is taken by `{}` in this file", earlier.name());
                out.push((index, note("spec.listen", what, "give each service its own port")));
            }
        }
    }
    out
}

fn name(name: &str, out: &mut Notes) {
    if !is_label(name) {
        out.add(
            "metadata.name",
            format!("`{name}` is not a service name"),
            "write 1 to 63 lowercase letters, digits or dashes, such as price-model",
        );
    }
}

/// Whether this is a DNS-1123 label.
fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last())
}

enum Role {
    Listen,
    Endpoint,
}

fn address(field: &str, text: &str, role: Role, out: &mut Notes) -> Option<SocketAddr> {
    let example = match role {
        Role::Listen => "127.0.0.1:8080",
        Role::Endpoint => "127.0.0.1:9001",
    };
    let Ok(address) = text.parse::<SocketAddr>() else {
        let remedy = match text.strip_prefix("localhost:") {
            Some(port) => format!("names are not resolved here; write 127.0.0.1:{port}"),
            None => format!("write an IP address and a port, such as {example}"),
        };
        out.add(field, format!("`{text}` is not an address"), remedy);
        return None;
    };
    if address.port() == 0 {
        out.add(field, "port 0 is no fixed port", format!("write the port, such as {example}"));
        return None;
    }
    if matches!(role, Role::Endpoint) && (address.ip().is_unspecified() || address.ip().is_multicast()) {
        out.add(
            field,
            format!("`{text}` is not the address of one server"),
            format!("write where the server is reached, such as {example}"),
        );
        return None;
    }
    Some(address)
}

fn one_color(
    color: Color,
    spec: &ColorSpec,
    listen: Option<SocketAddr>,
    taken: &mut BTreeMap<SocketAddr, String>,
    out: &mut Notes,
) {
    let at = format!("spec.colors.{color}");
    if spec.endpoints.is_empty() {
        out.add(format!("{at}.endpoints"), "is empty", "name at least one server, such as 127.0.0.1:9001");
    }
    for (index, text) in spec.endpoints.iter().enumerate() {
        let field = format!("{at}.endpoints[{index}]");
        let Some(address) = address(&field, text, Role::Endpoint, out) else { continue };
        if listen.is_some_and(|l| {
            l == address
                || (l.ip().is_unspecified() && address.ip().is_loopback() && l.port() == address.port())
        }) {
            out.add(
                field,
                format!("`{text}` is spec.listen itself: requests would run in a circle"),
                "name the model server's own address",
            );
        } else if let Some(other) = taken.get(&address) {
            out.add(
                field,
                format!("`{text}` is {other} already"),
                "give each color servers of its own: otherwise a rollback changes nothing",
            );
        } else {
            taken.insert(address, field);
        }
    }
    let field = format!("{at}.revision");
    if spec.revision.trim().is_empty() {
        out.add(field, "is empty", "name what runs there, such as v1 or a commit");
    } else {
        revision(field, &spec.revision, out);
    }
    for (field, given) in [("workload", spec.workload.is_some()), ("labels", !spec.labels.is_empty())] {
        if given {
            out.add(
                format!("{at}.{field}"),
                "is a cluster's, but spec.listen is for one machine",
                "leave it out; spec.colors.*.endpoints says where the servers are",
            );
        }
    }
    if spec.command.first().is_some_and(|program| program.is_empty()) {
        out.add(format!("{at}.command[0]"), "is empty", "name the program to start");
    }
    if spec.command.iter().any(|word| word.contains('\0')) {
        out.add(format!("{at}.command"), "holds a NUL character, which no program can be given", "remove it");
    }
}

fn revision(field: String, revision: &str, out: &mut Notes) {
    if revision.chars().count() > 128 || revision.chars().any(char::is_control) {
        out.add(
            field,
            "is longer than 128 characters or holds control characters",
            "write a short name, such as v1 or a commit",
        );
    }
}

fn session(spec: &SessionSpec, out: &mut Notes) {
    if spec.mode == SessionMode::Keep {
        out.add(
            "spec.session.mode",
            "`keep` needs pins, which this version's filter does not carry yet",
            "write `move`: sessions follow the lottery and change at most once per release",
        );
    }
    if spec.keys.len() > MAX_KEYS {
        out.add(
            "spec.session.keys",
            format!("are {}, more than {MAX_KEYS}", spec.keys.len()),
            "keep those that most clients send",
        );
    }
    for (index, key) in spec.keys.iter().enumerate() {
        let (kind, name) = match key {
            KeySpec::Header(name) => ("header", name),
            KeySpec::Cookie(name) => ("cookie", name),
            KeySpec::Query(name) => ("query", name),
        };
        let field = format!("spec.session.keys[{index}].{kind}");
        if !is_token(name) {
            out.add(
                field,
                format!("`{name}` is not a {} name", if kind == "query" { "query parameter" } else { kind }),
                format!("write 1 to {MAX_KEY_NAME} letters, digits or dashes, such as x-session-id"),
            );
        } else if kind == "header" && name.eq_ignore_ascii_case("cookie") {
            out.add(
                field,
                "is the whole cookie header, which changes with every cookie",
                "write `cookie: NAME` for the one that holds the session",
            );
        } else if is_ours(name) {
            out.add(field, format!("`{name}` is Hueshift's own"), "name one that your clients send");
        } else if spec.keys.iter().take(index).any(|earlier| same_key(earlier, key)) {
            out.add(field, format!("`{name}` is listed already"), "keep one of them");
        }
    }
}

fn same_key(a: &KeySpec, b: &KeySpec) -> bool {
    match (a, b) {
        (KeySpec::Header(a), KeySpec::Header(b)) => a.eq_ignore_ascii_case(b),
        (a, b) => a == b,
    }
}

fn release(spec: &ReleaseSpec, out: &mut Notes) {
    let steps = "spec.release.steps";
    if spec.steps.is_empty() {
        out.add(
            steps,
            "is empty: the cutover would be the first that the candidate sees",
            "write at least one, such as `- share: 5%`",
        );
    }
    if spec.steps.len() > MAX_STEPS {
        out.add(
            steps,
            format!("are {}, more than {MAX_STEPS}", spec.steps.len()),
            "fewer steps learn as much",
        );
    }
    let holdback = spec.soak.holdback;
    if holdback.get() > 5_000 {
        out.add(
            "spec.release.soak.holdback",
            format!("{holdback} leaves the old color more than the new one"),
            "write 50% or less, such as 5%",
        );
    }
    let mut before = Bps::ZERO;
    for (index, step) in spec.steps.iter().enumerate() {
        let field = format!("{steps}[{index}].share");
        if step.share == Bps::ZERO {
            out.add(&field, "0 % sends the candidate nothing", "write a share above 0%, such as 5%");
        } else if step.share == Bps::ALL {
            out.add(
                &field,
                "100 % is the cutover, which follows the last step by itself",
                "end the steps below it, such as at 50%",
            );
        } else if holdback.get() <= 5_000 && step.share > holdback.rest() {
            out.add(
                &field,
                format!(
                    "{} is more than the {} that the cutover leaves beside its holdback",
                    step.share,
                    holdback.rest()
                ),
                "end the steps lower, or lower spec.release.soak.holdback",
            );
        } else if step.share <= before {
            out.add(
                &field,
                format!("{} does not rise above the {before} before it", step.share),
                "order the steps by rising share, each once",
            );
        }
        before = before.max(step.share);
        time(&format!("{steps}[{index}].minTime"), step.min_time, out);
        if step.min_time >= spec.deadline && !step.min_time.is_zero() {
            out.add(
                format!("{steps}[{index}].minTime"),
                "is not shorter than spec.release.deadline: the step could never pass",
                "shorten it, or lengthen the deadline",
            );
        }
    }
    if spec.deadline.is_zero() {
        out.add(
            "spec.release.deadline",
            "0s leaves a step no time at all",
            "write how long a step may take, such as 1h",
        );
    }
    time("spec.release.deadline", spec.deadline, out);
    time("spec.release.drainDeadline", spec.drain_deadline, out);
    time("spec.release.soak.time", spec.soak.time, out);
}

fn time(field: &str, time: Duration, out: &mut Notes) {
    if time > LONGEST {
        out.add(field, "is longer than 30d", "write 30d or less");
    }
}

fn analysis(spec: &AnalysisSpec, out: &mut Notes) {
    let mut range = |field: &str, value: &dyn fmt::Display, fits: bool, wanted: &str| {
        if !fits {
            out.add(format!("spec.analysis.{field}"), format!("{value} is out of range"), wanted);
        }
    };
    let within = |value: f64, top: f64| value > 0.0 && value <= top;
    range(
        "alpha",
        &spec.alpha,
        within(spec.alpha, 0.1),
        "write more than 0, at most 0.1; 0.01 is one false rollback in a hundred healthy releases",
    );
    range("beta", &spec.beta, within(spec.beta, 0.2), "write more than 0, at most 0.2, such as 0.05");
    range(
        "ratioMargin",
        &spec.ratio_margin,
        (1.0..=10.0).contains(&spec.ratio_margin),
        "write 1 to 10; 1.25 accepts a quarter more errors than stable",
    );
    range(
        "errorFloor",
        &spec.error_floor,
        within(spec.error_floor, 0.1),
        "write more than 0, at most 0.1, such as 0.001",
    );
    range(
        "latency.tolerance",
        &spec.latency.tolerance,
        (1.0..=4.0).contains(&spec.latency.tolerance),
        "write 1 to 4; 1.19 accepts that an answer takes a fifth longer",
    );
    range(
        "latency.warmup",
        &human_duration::format(spec.latency.warmup),
        spec.latency.warmup <= LONGEST_WARMUP,
        "write 10m or less: no latency is judged meanwhile, such as 30s",
    );
    if let Some(slo) = &spec.slo {
        range(
            "slo.errorRate",
            &slo.error_rate,
            within(slo.error_rate, 0.5),
            "write more than 0, at most 0.5, such as 0.05",
        );
    }
    if let Some(predictions) = &spec.predictions {
        range(
            "predictions.bins",
            &predictions.bins,
            (2..=PREDICTION_BINS).contains(&predictions.bins.into()),
            "write 2 to 64, such as 20",
        );
        let (min, max) = (predictions.min, predictions.max);
        range(
            "predictions.max",
            &max,
            min < max && min >= -1e12 && max <= 1e12,
            "write a largest prediction above the least one, both within ±1e12, such as `min: 0` and `max: 1`",
        );
    }
    let p0 = spec.fuse.healthy_error_rate;
    range(
        "fuse.healthyErrorRate",
        &p0,
        p0 > 0.0 && p0 < 0.5,
        "write more than 0, less than 0.5, such as 0.02",
    );
    range(
        "fuse.height",
        &spec.fuse.height,
        (5.0..=60.0).contains(&spec.fuse.height),
        "write 5 to 60; 24 trips falsely once in e^24 requests",
    );
    if let Some(CustomSpec { name, client_errors, header }) = &spec.custom {
        if !client_errors && header.is_none() {
            out.add(
                "spec.analysis.custom",
                "counts nothing",
                "say which answers are counted: `clientErrors: true`, or `header: x-fallback`, or both",
            );
        }
        let tail = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !starts || name.len() > 32 || !name.bytes().all(tail) {
            out.add(
                "spec.analysis.custom.name",
                format!("`{name}` is no short name"),
                "write 1 to 32 letters, digits or dashes, a letter first, such as clientErrors",
            );
        }
        if let Some(header) = header {
            response_header("custom", header, "x-fallback", out);
        }
    }
    if let Some(PredictionsSpec { header, .. }) = &spec.predictions {
        response_header("predictions", header, "x-prediction", out);
    }
}

fn response_header(of: &str, header: &str, example: &str, out: &mut Notes) {
    if !is_token(header) || is_ours(header) {
        out.add(
            format!("spec.analysis.{of}.header"),
            format!("`{header}` is not a header name of your models"),
            format!("write 1 to {MAX_KEY_NAME} letters, digits or dashes, such as {example}"),
        );
    }
}

/// Whether this is the name of a header, as HTTP has it and the route name carries it.
fn is_token(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= MAX_KEY_NAME && name.bytes().all(token)
}

/// Whether a name is one of those that we send ourselves.
fn is_ours(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("x-hueshift-") || lower.starts_with("hueshift-")
}
