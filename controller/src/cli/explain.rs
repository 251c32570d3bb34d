//! `explain`: one screen that says where a release stands, why, and what would move it, in an owner's words.

use super::ask::Asked;
use super::figures::{bar, count, latency, plural, progress, rate, span};
use super::report::range;
use super::screen::{Ink, Screen, columns};
use super::{Done, Which, ask, say};
use crate::text::visible;
use crate::view::{
    EvidenceView, HeldBy, Phase, ServiceView, View, chance, complaint, ended, events, goes_on, held, odds,
    percent, predictions_moved, rolls_back,
};
use hueshift_core::color::Color;
use hueshift_core::judge::Verdict;
use hueshift_core::judge::witness::Protection;

/// Labels are filled up to this, so that sentences align.
const LABEL: usize = 12;

pub(super) async fn run(which: Which) -> Done {
    let view = Asked::of(&which.at, which.service.as_deref()).await?.view().await?;
    let service = ask::pick(&view, which.service.as_deref())?;
    let screen = Screen::of_stdout();
    say(screen.cut(&render(&view, service, &screen)))
}

/// The page of one service.
pub(super) fn render(view: &View, service: &ServiceView, screen: &Screen) -> String {
    let mut out = format!("{}\n\n", screen.ink(Ink::Bold, headline(service)));
    let mut line =
        |label: &str, text: &str| out.push_str(&screen.paragraph(&format!("{label:LABEL$}"), text));
    line("phase", &standing(service, view.now_ms));
    if service.open() {
        line("share", &share(service));
    }
    if view.live() || !service.open() {
        line("why", &why(service, view.now_ms));
    }
    if !service.open() {
        line("next", &next(service));
    }
    for waiting in &service.waiting_on {
        line("waits for", &waiting.text);
    }
    let live = |text: Option<String>| text.filter(|_| view.live());
    if let Some(text) = live(service.goes_on.clone().or_else(|| goes_on(service))) {
        line("goes on", &format!("when {text}"));
    }
    if let Some(text) = live(service.rolls_back.clone().or_else(|| rolls_back(service))) {
        line("rolls back", &if text.starts_with("nothing") { text } else { format!("when {text}") });
    }
    for problem in service.problems.iter().chain(&view.problems) {
        line("look at", problem);
    }
    if !view.live() {
        return out;
    }
    out.push('\n');
    out += &if service.open() { colors(service, screen) } else { standing_by(service, screen) };
    if let Some(evidence) = service.evidence.as_ref().filter(|_| service.open()) {
        out.push('\n');
        out += &evidence_lines(service, evidence, screen);
        out += &true_rates(service, evidence)
            .map(|text| screen.paragraph(&format!("{:LABEL$}", "true errors"), &text))
            .unwrap_or_default();
        out += &whole_answers(service)
            .map(|text| screen.paragraph(&format!("{:LABEL$}", "answers"), &text))
            .unwrap_or_default();
        out += &evidence
            .chance
            .map(|unit| screen.paragraph(&format!("{:LABEL$}", "one draw"), &format!("is {}", chance(&unit))))
            .unwrap_or_default();
        out += &evidence
            .predictions
            .map(|seen| screen.paragraph(&format!("{:LABEL$}", "predictions"), &predictions_moved(&seen)))
            .unwrap_or_default();
        out += &evidence
            .custom
            .as_ref()
            .map(|custom| {
                screen.paragraph(&format!("{:LABEL$}", "counted"), &events(custom, service.candidate()))
            })
            .unwrap_or_default();
        out += &witnesses(evidence)
            .map(|text| screen.paragraph(&format!("{:LABEL$}", "witnesses"), text))
            .unwrap_or_default();
    }
    out
}

/// Where a single Envoy could sway the verdict. One alone is all there is, and [`enforcement`] says so.
fn witnesses(evidence: &EvidenceView) -> Option<&'static str> {
    (evidence.protection == Some(Protection::Partial)).then_some(
        "one Envoy's word alone could condemn: there are fewer than three with traffic, or one has most of it \
         (a ReleasePolicy's trustedPrincipals names those that are believed, from the next release on)",
    )
}

/// The table's times are to the first byte; a stream that begins in time may still take too long.
fn whole_answers(service: &ServiceView) -> Option<String> {
    let (candidate, live) = (service.candidate(), service.live);
    let p99 = |color| service.colors.get(color).p99_total_ms.map(|ms| latency(Some(ms)));
    Some(format!(
        "whole after {} on {candidate}, {} on {live} (P99; the table has the first byte)",
        p99(candidate)?,
        p99(live)?
    ))
}

/// Where the true error rates lie, however often one looks.
fn true_rates(service: &ServiceView, evidence: &EvidenceView) -> Option<String> {
    let of = |color: Color| Some(format!("{} on {color}", range((*evidence.rates.get(color))?)));
    let rates: Vec<String> = [service.candidate(), service.live].into_iter().filter_map(of).collect();
    let sure = percent(1.0 - (-evidence.rollback_at).exp());
    (!rates.is_empty()).then(|| format!("surely ({sure}) {}", rates.join(", ")))
}

fn headline(service: &ServiceView) -> String {
    let (live, standby) = (service.live, service.candidate());
    let revision = |color| visible(&service.colors.get(color).revision).into_owned();
    let name = visible(&service.name);
    if service.open() {
        format!(
            "{name}: release {} tries {} ({standby}) against {} ({live})",
            service.release,
            revision(standby),
            revision(live)
        )
    } else {
        format!(
            "{name}: {} ({live}) serves everything; {} ({standby}) stands by",
            revision(live),
            revision(standby)
        )
    }
}

fn standing(service: &ServiceView, now_ms: u64) -> String {
    let since = span(now_ms.saturating_sub(service.phase_since_ms));
    let meaning = match service.phase {
        Phase::Idle => "no release is open",
        Phase::Preparing => "the candidate gets ready, without traffic",
        Phase::Validating => "gates run, without traffic",
        Phase::Marking => "sessions get their pins, without traffic to the candidate",
        Phase::Waiting => "a person or a window decides",
        Phase::Progressing => "the ramp",
        Phase::Soaking => "the candidate serves, the old color stays as control",
        Phase::Draining => "the old color finishes what it has",
        Phase::RollingBack => "everything goes back to the live color",
    };
    let step = match service.step {
        Some(step) if service.phase == Phase::Progressing => {
            format!(", step {} of {}", step.index + 1, step.count)
        }
        _ => String::new(),
    };
    let paused = if service.paused { ", paused" } else { "" };
    format!("{} ({meaning}){step}{paused}, for {since}", service.phase.as_str())
}

fn share(service: &ServiceView) -> String {
    let plan = &service.plan;
    let candidate = service.candidate();
    let got = match service.colors.get(candidate).enforced {
        Some(part) => format!("; it gets {}", percent(part)),
        None => String::new(),
    };
    let cap = match plan.cap {
        Some(cap) if cap < plan.limit => format!(", capped at {cap} at once by the replies to the Envoys"),
        _ => String::new(),
    };
    format!("{} to {candidate}{cap}{got}; {}", plan.limit, enforcement(service))
}

/// `12 of 12 Envoys with traffic enforce epoch 345, 3 idle`.
pub(super) fn enforcement(service: &ServiceView) -> String {
    let plan = &service.plan;
    if plan.with_traffic == 0 {
        return format!("no Envoy with traffic, so none shows that epoch {} is enforced", plan.epoch);
    }
    let fuses = match plan.fuses_tripped {
        0 => String::new(),
        n => format!(", {} tripped", plural(n.into(), "fuse")),
    };
    let verb = if plan.enforcing == 1 { "enforces" } else { "enforce" };
    format!(
        "{} of {} with traffic {verb} epoch {}, {} idle{fuses}",
        plan.enforcing,
        plural(plan.with_traffic.into(), "Envoy"),
        plan.epoch,
        plan.idle
    )
}

fn why(service: &ServiceView, now_ms: u64) -> String {
    let (live, candidate) = (service.live, service.candidate());
    if !service.open() {
        return match service.last() {
            Some(last) => format!(
                "release {} of {} ended {} ago: {}",
                last.release,
                visible(&last.revision),
                span(now_ms.saturating_sub(last.ended_ms)),
                ended(last)
            ),
            None => "there has been no release yet".to_owned(),
        };
    }
    let rates = |evidence: &EvidenceView| {
        let rate = |color: Color| evidence.counted.get(color).rate().map_or("-".to_owned(), percent);
        format!("errors {} vs {}", rate(candidate), rate(live))
    };
    // What it rests on, which need not be errors.
    let against = |evidence: &EvidenceView| match evidence.leading {
        Some(cause) => complaint(cause, candidate, &evidence.counted, Some(evidence)),
        None => rates(evidence),
    };
    match (&service.evidence, service.phase) {
        (_, Phase::RollingBack) => {
            "the candidate was given up; its revision is not tried again until a person says so".to_owned()
        }
        (_, _) if service.paused => "a person paused it; a rollback still happens by itself".to_owned(),
        (Some(evidence), _) if evidence.counted.get(candidate).n == 0 => {
            format!("nothing is judged before the first requests on {candidate}")
        }
        (None, _) => "nothing is judged before the first candidate requests".to_owned(),
        (Some(evidence), _) => match evidence.verdict {
            Verdict::Continue => {
                format!("{}: nothing speaks against {candidate}, and it is not proven yet", rates(evidence))
            }
            Verdict::Hold
                if let Some(reason) = evidence.held_by
                    && (reason == HeldBy::SharedIncident || evidence.log_e < evidence.hold_at) =>
            {
                format!("{}: {}", rates(evidence), held(reason, candidate))
            }
            Verdict::Hold => format!(
                "{}: {candidate} looks worse than {live}; chance explains that at {}, so the share stays where it is",
                against(evidence),
                odds(evidence.log_e)
            ),
            Verdict::Certified => {
                format!("{}: {candidate} is proven good enough for this share", rates(evidence))
            }
            Verdict::Rollback if evidence.predictions.is_some_and(|seen| seen.too_far) => {
                format!("{}, so it is condemned", against(evidence))
            }
            Verdict::Rollback => format!(
                "{}: chance explains that at {} only, so it is condemned",
                against(evidence),
                odds(evidence.log_e)
            ),
        },
    }
}

fn next(service: &ServiceView) -> String {
    let candidate = service.candidate();
    let standby = service.colors.get(candidate);
    let revision = visible(&standby.revision);
    if standby.marked_bad {
        return format!(
            "another revision than {revision} on {candidate} starts a release; `hueshift release --force` tries {revision} again"
        );
    }
    if standby.revision == service.colors.get(candidate.other()).revision {
        return format!("a new revision on {candidate} starts a release");
    }
    format!("a new revision on {candidate} starts a release; so does `hueshift release`, of {revision}")
}

fn colors(service: &ServiceView, screen: &Screen) -> String {
    // With the gap between columns the first is as wide as the labels above.
    let first = " ".repeat(LABEL - 2);
    let mut rows = vec![
        [first.as_str(), "REVISION", "REQUESTS", "REQ/S", "ERRORS", "P50", "P99", "IN FLIGHT", "SESSIONS"]
            .map(|head| screen.ink(Ink::Dim, head))
            .to_vec(),
    ];
    for color in Color::BOTH {
        let view = service.colors.get(color);
        let failed = (view.requests > 0).then(|| view.errors as f64 / view.requests as f64);
        rows.push(vec![
            named(color, screen),
            visible(&view.revision).into_owned(),
            count(view.requests),
            rate(view.rate),
            failed.map_or("-".to_owned(), percent),
            latency(view.p50_ms),
            latency(view.p99_ms),
            view.in_flight.to_string(),
            // Not counted on every color; no session is not the same as none seen.
            if view.sessions == 0 { "-".to_owned() } else { count(view.sessions.into()) },
        ]);
    }
    columns(&rows)
}

/// Without a release nothing is counted: the filter is inert.
fn standing_by(service: &ServiceView, screen: &Screen) -> String {
    let first = " ".repeat(LABEL - 2);
    let mut rows =
        vec![[first.as_str(), "REVISION", "ROLE", "SERVERS"].map(|head| screen.ink(Ink::Dim, head)).to_vec()];
    for color in Color::BOTH {
        let view = service.colors.get(color);
        rows.push(vec![
            named(color, screen),
            visible(&view.revision).into_owned(),
            if color == service.live { "live" } else { "standby" }.to_owned(),
            format!("{} of {} answer", view.endpoints_up, view.endpoints),
        ]);
    }
    columns(&rows) + &screen.ink(Ink::Dim, "requests are counted while a release is open") + "\n"
}

/// The color's name in its color.
pub(super) fn named(color: Color, screen: &Screen) -> String {
    let ink = match color {
        Color::Blue => Ink::Blue,
        Color::Green => Ink::Green,
    };
    screen.ink(ink, color.as_str())
}

/// Two bars: towards rollback and towards promotion.
pub(super) fn evidence_lines(service: &ServiceView, evidence: &EvidenceView, screen: &Screen) -> String {
    let cells = screen.columns().saturating_sub(64).clamp(10, 24);
    let against = progress(evidence.log_e, evidence.rollback_at);
    let ink = if evidence.log_e >= evidence.hold_at { Ink::Bad } else { Ink::Dim };
    let mut out = format!(
        "{:LABEL$}{} odds {} of chance, rollback at {}\n",
        "rollback",
        screen.ink(ink, bar(against, cells)),
        odds(evidence.log_e),
        odds(evidence.rollback_at)
    );
    if let Some((part, text)) = towards_promotion(service, evidence) {
        out += &format!("{:LABEL$}{} {text}\n", "promotion", screen.ink(Ink::Good, bar(part, cells)));
    }
    out
}

fn towards_promotion(service: &ServiceView, evidence: &EvidenceView) -> Option<(f64, String)> {
    let best = evidence
        .certificates
        .iter()
        .map(|certificate| progress(certificate.log_e, certificate.target))
        .max_by(f64::total_cmp)?;
    let still = match evidence.still_needed {
        Some(n) if best < 1.0 => {
            let unit = match evidence.unit {
                crate::view::Unit::Sessions => "candidate session",
                crate::view::Unit::Requests => "candidate request",
            };
            let time = evidence.still_ms.map(|ms| format!(" ({})", span(ms))).unwrap_or_default();
            format!(", about {} to go{time}", plural(n, unit))
        }
        _ => String::new(),
    };
    let proven = if best >= 1.0 {
        format!("proven for {}", service.plan.limit)
    } else {
        format!("{:.0} % proven{still}", best * 100.0)
    };
    Some((best, proven))
}
