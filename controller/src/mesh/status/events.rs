//! Which transitions between two statuses are worth an Event.
//!
//! They are read off what was told, not off the engine's moves: so a controller that starts anew repeats none, and a
//! status that could not be written loses none.

use super::cut;
use crate::api::{BlueGreenStatus, StatusProblem};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// One Event of the `events.k8s.io/v1` API, without its object and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether a person should look.
    pub kind: Kind,
    /// For programs: CamelCase.
    pub reason: String,
    /// For people; at most 1 kB, as the API asks.
    pub note: String,
}

/// The type of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Worth a look.
    Warning,
}

/// Longest note of an Event in bytes.
const LONGEST: usize = 1_024;

/// The Events of the step from one status to the next, in the order in which things happen.
pub(super) fn between(before: &BlueGreenStatus, after: &BlueGreenStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut add = |kind, reason: &str, note: &str| {
        notes.push(Note { kind, reason: cut(reason, 128), note: bytes(note) })
    };
    for problem in new_problems(before, after) {
        add(Kind::Warning, &problem.reason, &problem.text);
    }
    if let (Some(stalled), None) = (condition(before, "Stalled"), condition(after, "Stalled")) {
        add(Kind::Normal, "Resolved", &format!("{} is resolved; it is managed again", stalled.reason));
    }
    let (was, is) = (condition(before, "Progressing"), condition(after, "Progressing"));
    // The end of a release is told with its verdict, below.
    if let Some(is) = is.filter(|is| is.status == "True")
        && was.is_none_or(|was| was.message != is.message)
    {
        let kind = if is.reason == "RollingBack" { Kind::Warning } else { Kind::Normal };
        add(kind, &is.reason, &is.message);
    }
    if before.verdict.as_deref() != Some("hold") && after.verdict.as_deref() == Some("hold") {
        let evidence = after.evidence.as_deref().unwrap_or_default();
        add(Kind::Warning, "Suspicious", &format!("the judge is suspicious and holds the ramp: {evidence}"));
    }
    // A first status of a service with a history is no news.
    if let (Some(was), Some(is)) = (condition(before, "Succeeded"), condition(after, "Succeeded"))
        && is.status != "Unknown"
        && (was.message != is.message || was.status != is.status)
    {
        match (is.status.as_str(), is.reason.as_str()) {
            ("True", _) => add(Kind::Normal, "Promoted", &is.message),
            (_, "Superseded") => add(Kind::Normal, "Superseded", &is.message),
            _ => add(Kind::Warning, "RolledBack", &is.message),
        }
    }
    notes
}

/// Problems of a reason that was not there before: texts may hold numbers that grow.
fn new_problems<'a>(
    before: &'a BlueGreenStatus,
    after: &'a BlueGreenStatus,
) -> impl Iterator<Item = &'a StatusProblem> {
    after.problems.iter().enumerate().filter_map(|(index, problem)| {
        let same = |other: &StatusProblem| other.reason == problem.reason;
        let told = before.problems.iter().any(same);
        let again = after.problems.iter().take(index).any(same);
        (!told && !again).then_some(problem)
    })
}

fn condition<'a>(status: &'a BlueGreenStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// At most so many bytes, cut between characters.
fn bytes(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let mut cut = String::with_capacity(LONGEST);
    for character in text.chars() {
        if cut.len() + character.len_utf8() + '…'.len_utf8() > LONGEST {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    cut
}
