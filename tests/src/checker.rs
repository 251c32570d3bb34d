//! The offline checker: from the event logs of clients and model servers it decides what happened.
//!
//! It knows nothing of the product: which releases there were and how they ended is told to it as a story, and
//! everything else is read from the logs. The same rules judge tests, demo and measurements. Whether the logs of
//! filters and controller agree with these is decided in [`counts`].

pub mod counts;

use crate::client::Sent;
use crate::clock::between;
use crate::model::Served;
use hueshift_core::color::Color;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One release, as someone who watched from outside tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The color that was tried.
    pub candidate: Color,
    /// Its revision.
    pub revision: String,
    /// When the release began, Unix ns.
    pub began: u64,
    /// Whether it was rolled back.
    pub rolled_back: bool,
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Requests sent.
    pub sent: usize,
    /// Requests without an answer, or with an answer that no model gave.
    pub lost: usize,
    /// Up to five of those, for people.
    pub lost_examples: Vec<String>,
    /// Sessions that changed model without cause.
    pub causeless: Vec<u32>,
    /// Up to three of those: their changes, with seconds since the first release began.
    pub causeless_examples: Vec<String>,
    /// Sessions that changed model at all.
    pub moved: usize,
    /// Answers of models with a status of 500 or more.
    pub bad: usize,
}

/// How a bad color was taken off, by its server's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescue {
    /// First bad answer, Unix ns.
    pub first_bad: u64,
    /// First bad answer to the last request.
    pub time: Duration,
    /// Bad answers served from then on.
    pub bad: usize,
    /// Requests that arrived from then on.
    pub requests: usize,
}

/// Decides all that can be decided without a server's log, except when a rollback became due: for that the first
/// bad answer of each rolled back revision is taken from `servers`.
pub fn check(clients: &[Sent], servers: &[Served], stories: &[Story]) -> Findings {
    let mut findings = Findings { sent: clients.len(), ..Findings::default() };
    let mut sessions: BTreeMap<u32, Vec<&Sent>> = BTreeMap::new();
    for event in clients {
        if event.lost() {
            findings.lost += 1;
            if findings.lost_examples.len() < 5 {
                let why = event.problem.clone().unwrap_or_else(|| format!("status {}", event.status));
                findings.lost_examples.push(format!("session {}: {why}", event.session));
            }
        }
        if event.bad() {
            findings.bad += 1;
        }
        sessions.entry(event.session).or_default().push(event);
    }
    let due: Vec<u64> = stories
        .iter()
        .map(|story| match rescue(servers, story.candidate, &story.revision) {
            Some(rescue) if story.rolled_back => rescue.first_bad,
            _ => u64::MAX,
        })
        .collect();
    for (session, mut events) in sessions {
        events.sort_by_key(|event| event.sent);
        let (moves, causeless) = walk(&events, stories, &due);
        findings.moved += usize::from(moves > 0);
        if causeless > 0 {
            findings.causeless.push(session);
            if findings.causeless_examples.len() < 3 {
                let changes = changes(&events, stories.first().map_or(0, |story| story.began));
                findings.causeless_examples.push(format!("session {session}: {changes}"));
            }
        }
    }
    findings
}

/// From the first bad answer of (color, revision) to the last request that reached it; none: it never failed.
pub fn rescue(servers: &[Served], color: Color, revision: &str) -> Option<Rescue> {
    let its = || servers.iter().filter(|event| event.color == color && &*event.revision == revision);
    let first_bad = its().filter(|event| event.status >= 500).map(|event| event.answered).min()?;
    let last = its().map(|event| event.at).max().unwrap_or(first_bad);
    let after = its().filter(|event| event.at >= first_bad || event.answered >= first_bad);
    Some(Rescue {
        first_bad,
        time: between(first_bad, last),
        bad: after.clone().filter(|event| event.status >= 500).count(),
        requests: after.count(),
    })
}

/// One session's moves, and how many of them had no cause. Within a release it may go to the candidate once, and
/// back once if the candidate's first bad answer has been given and the release ends as rolled back. A session that
/// was silent for a while shows late what a release did meanwhile, so every release since it last asked counts: its
/// color is drawn then, and a busy client may see the answer only after the next release began.
fn walk(events: &[&Sent], stories: &[Story], due: &[u64]) -> (usize, usize) {
    let (mut moves, mut causeless) = (0, 0);
    let mut before: Option<(Color, u64)> = None;
    let mut used: BTreeSet<(usize, &str)> = BTreeSet::new();
    let release_at = |time: u64| stories.iter().rposition(|story| story.began <= time);
    for event in events {
        let Some(now) = event.color else { continue };
        let Some((color, seen)) = before.replace((now, event.sent)) else { continue };
        if color == now {
            continue;
        }
        moves += 1;
        let Some(newest) = release_at(event.done) else {
            causeless += 1;
            continue;
        };
        let cause = (release_at(seen).unwrap_or(0)..=newest).any(|index| {
            let allowed = now == stories[index].candidate || event.done >= due[index];
            allowed && used.insert((index, now.as_str()))
        });
        causeless += usize::from(!cause);
    }
    (moves, causeless)
}

/// A session's colors and revisions over time.
fn changes(events: &[&Sent], zero: u64) -> String {
    let mut text = String::new();
    let mut before = None;
    for event in events {
        let now = (event.color, event.revision.as_deref());
        if before != Some(now) {
            let color = event.color.map_or("nobody", Color::as_str);
            let at = (event.done as f64 - zero as f64) / 1e9;
            text.push_str(&format!("{color} {} at {at:.3} s; ", event.revision.as_deref().unwrap_or("-")));
            before = Some(now);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: Option<Color> = Some(Color::Blue);
    const GREEN: Option<Color> = Some(Color::Green);

    fn sent(session: u32, at: u64, color: Option<Color>, status: u16) -> Sent {
        Sent { session, intended: at, sent: at, done: at + 1, status, color, revision: None, problem: None }
    }

    fn served(at: u64, status: u16) -> Served {
        Served { at, answered: at + 1, session: 0, color: Color::Green, revision: "g2".into(), status }
    }

    fn story(rolled_back: bool) -> Vec<Story> {
        vec![Story { candidate: Color::Green, revision: "g2".into(), began: 100, rolled_back }]
    }

    #[test]
    fn one_change_to_the_candidate_has_a_cause_and_a_second_change_has_none() {
        let there = [sent(1, 90, BLUE, 200), sent(1, 110, BLUE, 200), sent(1, 120, GREEN, 200)];
        let found = check(&there, &[], &story(false));
        assert_eq!((found.moved, found.causeless), (1, vec![]));
        let back = [&there[..], &[sent(1, 130, BLUE, 200)]].concat();
        assert_eq!(check(&back, &[], &story(false)).causeless, [1]);
    }

    #[test]
    fn a_change_before_any_release_has_no_cause() {
        let found = check(&[sent(1, 10, BLUE, 200), sent(1, 20, GREEN, 200)], &[], &story(false));
        assert_eq!(found.causeless, [1]);
    }

    #[test]
    fn going_back_has_a_cause_only_after_the_first_bad_answer_and_only_once() {
        let servers = [served(120, 200), served(150, 503), served(152, 200)];
        let early = [sent(1, 110, GREEN, 200), sent(1, 130, BLUE, 200)];
        assert_eq!(check(&early, &servers, &story(true)).causeless, [1]);
        let late = [sent(1, 110, GREEN, 200), sent(1, 160, BLUE, 200)];
        assert!(check(&late, &servers, &story(true)).causeless.is_empty());
        let again = [&late[..], &[sent(1, 170, GREEN, 200), sent(1, 180, BLUE, 200)]].concat();
        assert_eq!(check(&again, &servers, &story(true)).causeless, [1]);
    }

    #[test]
    fn a_silent_session_shows_late_what_an_earlier_release_did() {
        let mut stories = story(false);
        stories.push(Story { candidate: Color::Blue, revision: "b2".into(), began: 200, rolled_back: false });
        let late = [sent(1, 110, BLUE, 200), sent(1, 210, GREEN, 200), sent(1, 220, BLUE, 200)];
        assert!(
            check(&late, &[], &stories).causeless.is_empty(),
            "promoted by the first, moved by the second"
        );
        let again = [&late[..], &[sent(1, 230, GREEN, 200)]].concat();
        assert_eq!(check(&again, &[], &stories).causeless, [1]);
    }

    #[test]
    fn an_answer_read_after_the_next_release_began_was_drawn_before_it() {
        let mut stories = story(false);
        stories.push(Story { candidate: Color::Blue, revision: "b2".into(), began: 200, rolled_back: false });
        let late = Sent { done: 205, ..sent(1, 190, BLUE, 200) };
        let found = check(&[late, sent(1, 210, GREEN, 200)], &[], &stories);
        assert!(found.causeless.is_empty(), "the first release moved it");
        let asked_after = [sent(1, 201, BLUE, 200), sent(1, 210, GREEN, 200)];
        assert_eq!(check(&asked_after, &[], &stories).causeless, [1], "the second has green as stable");
    }

    #[test]
    fn an_answer_that_no_model_gave_is_lost_and_not_bad() {
        let found = check(&[sent(1, 1, None, 503), sent(2, 2, None, 0), sent(3, 3, GREEN, 500)], &[], &[]);
        assert_eq!((found.sent, found.lost, found.bad), (3, 2, 1));
    }

    #[test]
    fn rescue_runs_from_the_first_bad_answer_to_the_last_request_of_that_revision() {
        let mut servers = vec![served(100, 200), served(200, 500), served(250, 500), served(300, 200)];
        servers.push(Served { revision: "g3".into(), ..served(900, 200) });
        let found = rescue(&servers, Color::Green, "g2").unwrap();
        assert_eq!(found, Rescue { first_bad: 201, time: Duration::from_nanos(99), bad: 2, requests: 3 });
        assert_eq!(rescue(&servers, Color::Green, "g3"), None);
    }
}
