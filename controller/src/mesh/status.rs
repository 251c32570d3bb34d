//! From what is known of one `BlueGreen` to what its status says, and which Events that is worth. Pure.
//!
//! The status is told anew from the facts each time; the same facts give the same status, so that a controller with
//! nothing new to say writes nothing. What the controller remembers (`state`, `term`, `order`) and what is written
//! together with it (`phase` and its neighbors) belongs to who saves the state; it is carried over untouched.
//!
//! Conditions, for `kubectl wait`, kstatus (Flux, Argo CD, `kubectl apply --wait` tools) and people:
//!
//! | condition | True | else |
//! |---|---|---|
//! | `Ready` | settled: managed, its routes say so, and no release runs | False with the phase, or with what keeps it from being managed |
//! | `Reconciling` | a release runs, or routes are to be written (kstatus: in progress) | absent |
//! | `Stalled` | it is not managed until a person acts (kstatus: failed) | absent |
//! | `FilterAttached` | absent | False: proxies run no filter, or two (the second is inert) |
//! | `Progressing` | a release is open; the reason is its phase | False with how the last one ended |
//! | `TrafficShifted` | the candidate gets traffic | False |
//! | `RolledBack` | the newest release is or was taken back; the reason is its cause | False |
//! | `Succeeded` | the last release was promoted | False: it was not, the reason is the cause; Unknown while one is open |

mod conditions;
mod events;
#[cfg(test)]
mod tests;

pub use self::events::{Kind, Note};

use crate::api::{BlueGreenStatus, Proxies, StatusProblem, StatusWaiting};
use crate::text::visible;
use crate::view::{self, Chance, Phase, ServiceView, Unit};
use hueshift_core::judge::Mode;
use serde_json::{Map, Value, json};

/// What is known of one `BlueGreen` at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Generation of the document that all this is about.
    pub generation: Option<i64>,
    /// What the engine says of it, if the engine has it.
    pub view: Option<&'a ServiceView>,
    /// Why it is not managed: its traffic stays as it is until a person acts.
    pub refusal: Option<&'a StatusProblem>,
    /// What is wrong with the plugins that bring the filter to the proxies.
    pub plugins: &'a [StatusProblem],
    /// What keeps callers elsewhere from seeing the colors' subsets.
    pub hidden: &'a [StatusProblem],
    /// Unix ms.
    pub now_ms: u64,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The whole status, with what is not ours to tell as it was.
    pub status: BlueGreenStatus,
    /// Events, in order.
    pub events: Vec<Note>,
    /// How soon it should be written.
    pub urgency: Urgency,
}

/// How soon a status should be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It says what it said before.
    Never,
    /// Only counts have grown; every ten seconds is enough.
    Sometime,
    /// Someone may wait for it.
    Now,
}

/// Most entries of a list in a status, as the schema has it.
const MOST: usize = 16;

/// What is told now, after `previous` was told.
pub fn told(facts: &Facts, previous: &BlueGreenStatus) -> Told {
    let mut status = BlueGreenStatus {
        observed_generation: facts.generation.or(previous.observed_generation),
        problems: problems(facts),
        conditions: conditions::all(facts, &previous.conditions),
        // Not ours to tell.
        phase: previous.phase.clone(),
        live_color: previous.live_color,
        share: previous.share.clone(),
        release: previous.release,
        epoch: previous.epoch,
        order: previous.order.clone(),
        term: previous.term,
        state: previous.state.clone(),
        ..BlueGreenStatus::default()
    };
    if let Some(view) = facts.view {
        status.verdict = verdict(view);
        status.sample = sample(view);
        status.evidence = evidence(view);
        status.waiting_on = waiting_on(view);
        // The view may be older than the state that is written.
        let current = previous.epoch.is_none_or(|epoch| epoch == view.plan.epoch);
        status.proxies = (view.open() && current).then_some(Proxies {
            enforcing: view.plan.enforcing,
            with_traffic: view.plan.with_traffic,
            idle: view.plan.idle,
        });
    }
    let events = events::between(previous, &status);
    let urgency = urgency(previous, &status);
    Told { status, events, urgency }
}

/// The fields that are told, for a patch that leaves the others alone; `null` takes a field out.
pub fn fields(status: &BlueGreenStatus) -> Map<String, Value> {
    let told = serde_json::to_value(status).unwrap_or(Value::Null);
    ["observedGeneration", "verdict", "sample", "evidence", "waitingOn", "proxies", "problems", "conditions"]
        .into_iter()
        .map(|field| (field.to_owned(), told.get(field).cloned().unwrap_or(Value::Null)))
        .collect()
}

fn problems(facts: &Facts) -> Vec<StatusProblem> {
    let of_view = facts.view.map(|view| view.problems.as_slice()).unwrap_or_default();
    let untyped =
        of_view.iter().map(|text| StatusProblem { reason: "Attention".to_owned(), text: text.clone() });
    let mut all: Vec<StatusProblem> = Vec::new();
    // What others must mend comes last: there may be one in each namespace.
    let typed = facts.refusal.into_iter().chain(facts.plugins).cloned();
    for problem in typed.chain(untyped).chain(facts.hidden.iter().cloned()) {
        let problem = StatusProblem { reason: cut(&problem.reason, 64), text: cut(&problem.text, 8_192) };
        if !all.contains(&problem) && all.len() < MOST {
            all.push(problem);
        }
    }
    all
}

fn verdict(view: &ServiceView) -> Option<String> {
    let word = match (&view.evidence, view.last()) {
        (Some(evidence), _) if view.open() => json!(evidence.verdict),
        (_, Some(last)) if !view.open() => json!(last.end),
        _ => return None,
    };
    word.as_str().map(str::to_owned)
}

fn sample(view: &ServiceView) -> Option<String> {
    let (requests, errors) = if view.open() {
        let candidate = view.colors.get(view.candidate());
        (candidate.requests, candidate.errors)
    } else {
        let last = view.last()?;
        let candidate = last.requests.get(last.candidate);
        (candidate.n, candidate.errors)
    };
    Some(format!("{requests}/{errors}"))
}

fn evidence(view: &ServiceView) -> Option<String> {
    if !view.open() {
        return view.last().map(view::ended);
    }
    let evidence = view.evidence.as_ref()?;
    let by_seconds = |chance: Chance| chance.noisy || chance.mode == Mode::Robust;
    let unit = match evidence.unit {
        Unit::Sessions => "sessions",
        Unit::Requests if evidence.chance.is_some_and(by_seconds) => "seconds",
        Unit::Requests => "requests",
    };
    let (candidate, live) = (view.candidate(), view.live);
    let of = |color| {
        let counted = evidence.counted.get(color);
        format!("{} of {}", counted.errors, counted.n)
    };
    Some(format!(
        "{candidate} failed {}, {live} {} (judged by {unit}); odds of being chance {}, taken back at {}",
        of(candidate),
        of(live),
        view::odds(evidence.log_e),
        view::odds(evidence.rollback_at),
    ))
}

fn waiting_on(view: &ServiceView) -> Vec<StatusWaiting> {
    let told = view.waiting_on.iter().take(MOST);
    told.map(|waiting| StatusWaiting { reason: cut(&waiting.reason, 64), text: cut(&waiting.text, 1_024) })
        .collect()
}

/// What a release is called in a sentence.
fn release(view: &ServiceView) -> String {
    let candidate = view.candidate();
    let revision = &view.colors.get(candidate).revision;
    format!("release {} ({} on {candidate})", view.release, visible(revision))
}

fn urgency(previous: &BlueGreenStatus, status: &BlueGreenStatus) -> Urgency {
    if previous == status {
        return Urgency::Never;
    }
    let reasons = |status: &BlueGreenStatus| -> Vec<String> {
        status.waiting_on.iter().map(|waiting| waiting.reason.clone()).collect()
    };
    let calm = BlueGreenStatus {
        sample: previous.sample.clone(),
        evidence: previous.evidence.clone(),
        waiting_on: previous.waiting_on.clone(),
        proxies: previous.proxies,
        ..status.clone()
    };
    let only_counts = calm == *previous && reasons(previous) == reasons(status);
    if only_counts { Urgency::Sometime } else { Urgency::Now }
}

/// At most so many characters, as the schema counts them.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Whether a share of traffic is on the candidate.
fn shifted(view: &ServiceView) -> bool {
    view.open() && view.phase != Phase::RollingBack && view.plan.limit.get() > 0
}
