//! The conditions, as the table in the parent says. Their messages change only at transitions, never with counts.

use super::{Facts, cut, release, shifted};
use crate::view::{self, Cause, End, Phase, ReleaseRecord, ServiceView};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Types that are ours; others are left as they are.
const OURS: [&str; 8] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "FilterAttached",
    "Progressing",
    "TrafficShifted",
    "RolledBack",
    "Succeeded",
];

/// What a condition says.
struct Claim {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

/// All conditions; one whose status is what it was keeps its time.
pub(super) fn all(facts: &Facts, previous: &[Condition]) -> Vec<Condition> {
    let now = Timestamp::from_second(i64::try_from(facts.now_ms / 1_000).unwrap_or(i64::MAX));
    let now = Time(now.unwrap_or(Timestamp::UNIX_EPOCH));
    let ours = claims(facts).into_iter().map(|claim| {
        let before = previous.iter().find(|old| old.type_ == claim.kind && old.status == claim.status);
        Condition {
            type_: claim.kind.to_owned(),
            status: claim.status.to_owned(),
            reason: cut(&claim.reason, 1_024),
            message: cut(&claim.message, 32_768),
            observed_generation: facts.generation,
            last_transition_time: before.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
        }
    });
    let foreign = previous.iter().filter(|old| !OURS.contains(&old.type_.as_str())).cloned();
    ours.chain(foreign).collect()
}

fn claims(facts: &Facts) -> Vec<Claim> {
    let mut claims = vec![ready(facts)];
    claims.extend(busy(facts));
    claims.extend(filter_attached(facts));
    if let Some(view) = facts.view {
        claims.extend([progressing(view), traffic_shifted(view), rolled_back(view), succeeded(view)]);
    }
    claims
}

fn claim(kind: &'static str, status: &'static str, reason: impl Into<String>, message: String) -> Claim {
    Claim { kind, status, reason: reason.into(), message }
}

fn ready(facts: &Facts) -> Claim {
    match (facts.refusal, facts.view) {
        (Some(refusal), _) => claim("Ready", "False", &refusal.reason, refusal.text.clone()),
        (None, None) => claim("Ready", "False", "Pending", "it has not been taken up yet".to_owned()),
        (None, Some(view)) if view.open() => claim("Ready", "False", open_reason(view), stands(view)),
        (None, Some(view)) if view.plan.unwritten => claim("Ready", "False", "Routing", unrouted(view)),
        (None, Some(view)) => {
            claim("Ready", "True", "Settled", format!("{} serves everything; no release is open", view.live))
        }
    }
}

/// kstatus wants these two only while they are true. It reads what is stalled as failed, and waiting for a person in
/// the middle of a release is no failure.
fn busy(facts: &Facts) -> Option<Claim> {
    match (facts.refusal, facts.view) {
        (Some(refusal), _) => Some(claim("Stalled", "True", &refusal.reason, refusal.text.clone())),
        (None, None) => {
            Some(claim("Reconciling", "True", "Pending", "it has not been taken up yet".to_owned()))
        }
        (None, Some(view)) if view.open() => {
            Some(claim("Reconciling", "True", open_reason(view), stands(view)))
        }
        (None, Some(view)) if view.plan.unwritten => {
            Some(claim("Reconciling", "True", "Routing", unrouted(view)))
        }
        (None, Some(_)) => None,
    }
}

/// Until then requests may reach the standby as well.
fn unrouted(view: &ServiceView) -> String {
    format!("the routes do not name {} yet", view.live)
}

/// Told only while it is False; several things that are wrong are told together.
fn filter_attached(facts: &Facts) -> Option<Claim> {
    let first = facts.plugins.first()?;
    let texts: Vec<&str> = facts.plugins.iter().map(|problem| problem.text.as_str()).collect();
    Some(claim("FilterAttached", "False", &first.reason, texts.join(". ")))
}

fn progressing(view: &ServiceView) -> Claim {
    if view.open() {
        return claim("Progressing", "True", view.phase.as_str(), stands(view));
    }
    match view.last() {
        None => claim("Progressing", "False", "NoRelease", "there was no release yet".to_owned()),
        Some(last) => claim("Progressing", "False", end(last.end), told(last)),
    }
}

fn traffic_shifted(view: &ServiceView) -> Claim {
    if shifted(view) {
        let message = format!("{} gets {}", view.candidate(), view.plan.limit);
        claim("TrafficShifted", "True", view.phase.as_str(), message)
    } else {
        claim("TrafficShifted", "False", "OnLive", format!("{} gets everything", view.live))
    }
}

fn rolled_back(view: &ServiceView) -> Claim {
    if view.phase == Phase::RollingBack {
        return claim("RolledBack", "True", "RollingBack", format!("{} is taken back", release(view)));
    }
    match view.last() {
        _ if view.open() => {
            claim("RolledBack", "False", "ReleaseOpen", format!("{} is not decided", release(view)))
        }
        None => claim("RolledBack", "False", "NoRelease", "there was no release yet".to_owned()),
        Some(last) if last.end == End::RolledBack => claim("RolledBack", "True", cause(last), told(last)),
        Some(last) => claim("RolledBack", "False", end(last.end), told(last)),
    }
}

/// Unknown while a release is open: whoever waits for this one must not read the verdict of the one before.
fn succeeded(view: &ServiceView) -> Claim {
    match view.last() {
        _ if view.open() => {
            claim("Succeeded", "Unknown", "ReleaseOpen", format!("{} is not decided", release(view)))
        }
        None => claim("Succeeded", "Unknown", "NoRelease", "there was no release yet".to_owned()),
        Some(last) if last.end == End::Promoted => claim("Succeeded", "True", end(last.end), told(last)),
        Some(last) => claim("Succeeded", "False", cause(last), told(last)),
    }
}

/// Where an open release stands. A person that is waited for is named first: nothing goes on without her.
fn stands(view: &ServiceView) -> String {
    let state = match view.phase {
        Phase::Progressing | Phase::Soaking | Phase::Draining => {
            format!("{} at {}", view.phase.as_str(), view.plan.limit)
        }
        phase => phase.as_str().to_owned(),
    };
    let waits = match open_reason(view) {
        "Paused" => ", paused: `hueshift resume` lets it go on",
        "WaitingForPerson" => ", waiting for a person: `hueshift promote` or `hueshift abort`",
        _ => "",
    };
    format!("{}: {state}{waits}", release(view))
}

fn open_reason(view: &ServiceView) -> &'static str {
    match () {
        () if view.phase == Phase::RollingBack => view.phase.as_str(),
        () if view.paused => "Paused",
        () if view.needs_person() => "WaitingForPerson",
        () => view.phase.as_str(),
    }
}

fn told(last: &ReleaseRecord) -> String {
    let revision = crate::text::visible(&last.revision);
    format!("release {} ({revision} on {}) {}", last.release, last.candidate, view::ended(last))
}

fn end(end: End) -> &'static str {
    match end {
        End::Promoted => "Promoted",
        End::RolledBack => "RolledBack",
        End::Superseded => "Superseded",
    }
}

fn cause(last: &ReleaseRecord) -> &'static str {
    match last.cause {
        Some(Cause::Errors) => "Errors",
        Some(Cause::Hung) => "Hung",
        Some(Cause::Latency) => "Latency",
        Some(Cause::Predictions) => "Predictions",
        Some(Cause::Custom) => "Custom",
        Some(Cause::Slo) => "SLO",
        Some(Cause::History) => "History",
        Some(Cause::Dead) => "Dead",
        Some(Cause::Fuse) => "Fuse",
        Some(Cause::Aborted) => "Aborted",
        Some(Cause::Inconclusive) => "Inconclusive",
        Some(Cause::Superseded) => "Superseded",
        Some(Cause::Stopped) => "Stopped",
        Some(Cause::Interrupted) => "Interrupted",
        Some(Cause::Unwritten) => "Unwritten",
        None => end(last.end),
    }
}
