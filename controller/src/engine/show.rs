//! What the engine tells people: views, records, lines and answers. Nothing here decides or is read back.

use super::Identity;
use super::service::Service;
use crate::control::{Accepted, Refused};
use crate::home::Seen;
use crate::text::visible;
use crate::view::{
    self, CertificateView, Claim, ColorView, Counted, End, EvidenceView, JudgeRecord, MAX_HISTORY, PhaseTime,
    PlanView, ProxyView, ReleaseRecord, ServiceView, StepTime, StepView, Unit, View, Waiting,
};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::histogram;
use hueshift_core::intake::{self, ProxyFacts};
use hueshift_core::judge::hours::Hours;
use hueshift_core::judge::{Analysis, Evidence, Metric, Mode};
use hueshift_core::planner::{Answer, Done, Move, Refusal};
use hueshift_core::release::{Cause, Outcome, Phase, Record, Step};
use hueshift_core::share::Bps;

/// A moment of the engine's clock as Unix ms.
#[derive(Clone, Copy)]
struct Clock {
    now_ms: u64,
    wall_ms: u64,
}

/// Everything at one moment.
pub fn view(identity: &Identity, services: &[Service], seen: &Seen, now_ms: u64, wall_ms: u64) -> View {
    let clock = Clock { now_ms, wall_ms };
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_ms: identity.started_ms,
        now_ms: wall_ms,
        file: identity.file.clone(),
        proxies: seen
            .proxies
            .iter()
            .map(|own| {
                let workers = services.iter().flat_map(|service| {
                    service
                        .facts
                        .proxies
                        .iter()
                        .filter(|proxy| proxy.proxy == own.name)
                        .flat_map(|proxy| &proxy.vms)
                });
                let vms: std::collections::BTreeSet<u64> = workers.clone().map(|vm| vm.vm).collect();
                ProxyView {
                    name: own.name.clone(),
                    pid: own.pid,
                    workers: u32::try_from(vms.len()).unwrap_or(u32::MAX),
                    reported_ms: workers.map(|vm| clock.wall(vm.reported_ms)).max(),
                    restarts: own.restarts,
                }
            })
            .collect(),
        services: services.iter().map(|service| service_view(service, clock).told()).collect(),
        problems: seen.problems.clone(),
    }
}

/// What to say of reports that were not used: a broken or hostile proxy must not stay unseen.
pub fn refused_reports(problems: intake::Problems) -> Vec<String> {
    let mut told = Vec::new();
    if problems.malformed > 0 {
        told.push(format!(
            "{} reports broke the rules and were not used; see the log of the Envoy that sent them",
            problems.malformed
        ));
    }
    if problems.overflow > 0 {
        told.push(format!(
            "{} reports were not used: more Envoys, workers or lotteries than this controller keeps",
            problems.overflow
        ));
    }
    told
}

/// The record of a finished release, with the evidence that it was decided on.
pub fn record(service: &Service, record: &Record, now_ms: u64, wall_ms: u64) -> ReleaseRecord {
    let clock = Clock { now_ms, wall_ms };
    let (end, cause) = match &record.outcome {
        Outcome::Promoted => (End::Promoted, None),
        Outcome::RolledBack(Cause::Superseded) => (End::Superseded, Some(view::Cause::Superseded)),
        Outcome::RolledBack(cause) => (End::RolledBack, Some(cause_view(cause, service, record.candidate))),
    };
    let noted = service.trial.as_ref().map(|trial| trial.noted).unwrap_or_default();
    let rolled_back = end == End::RolledBack;
    ReleaseRecord {
        service: service.name.clone(),
        release: record.release,
        candidate: record.candidate,
        revision: record.revision.clone(),
        stable_revision: record.stable_revision.clone(),
        started_ms: clock.wall(record.opened_ms),
        ended_ms: clock.wall(record.ended_ms),
        end,
        cause,
        phases: record
            .timeline
            .iter()
            .map(|moment| PhaseTime { phase: phase_view(moment.phase), at_ms: clock.wall(moment.at_ms) })
            .collect(),
        steps: record
            .timeline
            .iter()
            .filter(|moment| moment.limit > Bps::ZERO)
            .map(|moment| StepTime { share: moment.limit, at_ms: clock.wall(moment.at_ms) })
            .collect(),
        uncertified: record
            .timeline
            .iter()
            .zip(record.timeline.iter().skip(1))
            .filter(|(_, next)| matches!(next.why, Step::Person | Step::Deadline | Step::Unsuspicious))
            .map(|(moment, _)| moment.limit)
            .filter(|limit| *limit > Bps::ZERO)
            .collect(),
        evidence: evidence(service, clock.now_ms),
        judge: judge(service),
        dispersion: service.trial.as_ref().and_then(|trial| trial.dispersion(end == End::Promoted)),
        hours: service.trial.as_ref().map_or_else(Hours::default, |trial| trial.hours(end == End::Promoted)),
        requests: PerColor::from_fn(|color| {
            let tally = service.facts.totals.get(color);
            Counted { n: tally.completed, errors: tally.errors }
        }),
        first_bad_ms: noted.first_bad_ms.filter(|_| rolled_back),
        cap_ms: noted.cap_ms.filter(|_| rolled_back),
    }
}

/// One line per transition, who and why.
pub fn moves(service: &Service, moves: &[Move]) -> Vec<(Move, String)> {
    let line = |step: &Move| {
        let revision = service.state.revisions.get(service.state.candidate());
        match (step.to, &step.cause) {
            (Phase::Progressing { .. } | Phase::Soaking | Phase::Draining, _) => {
                format!("{} at {}: {}", step.to, step.limit, step.why)
            }
            (Phase::RollingBack, Some(cause)) => format!("{}: {cause}", step.to),
            (Phase::Idle, None) => format!("Idle: {} serves now; {}", service.state.live, step.why),
            (Phase::Idle, Some(_)) => format!("Idle: {} serves on; {}", service.state.live, step.why),
            (Phase::Preparing, _) => format!("{} {}: {}", step.to, visible(revision), step.why),
            _ => format!("{}: {}", step.to, step.why),
        }
    };
    moves.iter().map(|step| (step.clone(), line(step))).collect()
}

/// One service at one moment.
pub fn service(service: &Service, now_ms: u64, wall_ms: u64) -> ServiceView {
    service_view(service, Clock { now_ms, wall_ms }).told()
}

/// What a person should know about one Envoy's filter.
pub fn proxy_problems(proxy: &ProxyFacts) -> Vec<String> {
    let name = visible(&proxy.proxy);
    let silent = proxy.silent.iter().map(|silent| {
        format!(
            "worker {} of Envoy {name} has been silent for {} s: its filter is dead or stuck, so its requests are split \
             by weight without affinity and counted nowhere; the ramp holds, a rollback still happens",
            silent.vm,
            silent.for_ms / 1_000
        )
    });
    let told =
        proxy.problems.iter().filter_map(|problem| Some(format!("Envoy {name}: {}", problem.advice()?)));
    silent.chain(told).collect()
}

/// What a person is told about an order.
pub fn answer(service: &Service, answer: &Answer) -> Result<Accepted, Refused> {
    let candidate = service.state.candidate();
    let live = service.state.live;
    let refused = |error: String, remedy: &str| Err(Refused { error, remedy: remedy.to_owned() });
    match &answer.result {
        Ok(done) => Ok(Accepted {
            service: service.name.clone(),
            release: service.state.release,
            text: match done {
                Done::Opened(release) => format!("release {release} is open: {candidate} is on trial"),
                Done::GoesOn(_) => {
                    format!("goes on: {} at {}", service.state.phase, service.state.limit())
                }
                Done::Paused => "paused: the share stays; a rollback still happens".to_owned(),
                Done::Resumed => "resumed".to_owned(),
                Done::TakesBack(release) => format!("release {release} is taken back: everything to {live}"),
            },
        }),
        Err(Refusal::ReleaseOpen(release)) => {
            refused(format!("release {release} is open"), "wait for its end, or `hueshift abort` it")
        }
        Err(Refusal::NothingOpen) => {
            refused("no release is open".to_owned(), "`hueshift release` starts one")
        }
        Err(Refusal::SameRevision(revision)) => refused(
            format!("{candidate} has the same revision as {live}: {}", visible(revision)),
            "change its revision in the document, or say --force",
        ),
        Err(Refusal::Condemned(revision)) => refused(
            format!("revision {} was rolled back before", visible(revision)),
            "if you want it tried again, say --force",
        ),
        Err(Refusal::RollingBack) => refused(
            "the release is on its way back already".to_owned(),
            "wait for its end (`hueshift watch`)",
        ),
        Err(Refusal::NotAccepting(color)) => refused(
            format!("{color} does not accept connections with the document's revision"),
            "look at its log, `hueshift status` names its endpoints",
        ),
        Err(Refusal::NothingToSkip(phase)) => refused(
            format!("in {phase} nothing is awaited that a person could skip"),
            "`hueshift explain` says what is",
        ),
        Err(Refusal::Stopping) => Err(super::gone()),
        Err(Refusal::Already) => refused("it is so already".to_owned(), "nothing needs to be done"),
    }
}

fn service_view(service: &Service, clock: Clock) -> ServiceView {
    let state = &service.state;
    let proxies = service.proxies(clock.now_ms);
    let known = u32::try_from(service.facts.proxies.len()).unwrap_or(u32::MAX);
    let recent = service.recent(clock.now_ms);
    ServiceView {
        name: service.name.clone(),
        listen: service.document.serves(),
        live: state.live,
        phase: phase_view(state.phase),
        phase_since_ms: clock.wall(state.entered_ms),
        release: state.release,
        paused: state.paused,
        step: match state.phase {
            Phase::Progressing { step } => Some(StepView {
                index: usize::try_from(step).unwrap_or(usize::MAX),
                count: state.steps.len(),
                enforced_since_ms: service.enforced_since_ms.map(|at| clock.wall(at)),
            }),
            _ => None,
        },
        plan: PlanView {
            epoch: state.epoch,
            limit: state.limit(),
            cap: service.cap().map(|cap| cap.max),
            with_traffic: proxies.busy,
            enforcing: proxies.enforcing,
            idle: known.saturating_sub(proxies.busy),
            fuses_tripped: u32::try_from(service.facts.proxies.iter().filter(|p| p.tripped > 0).count())
                .unwrap_or(u32::MAX),
            unwritten: service.written.as_ref() != Some(&state.route()),
        },
        colors: PerColor::from_fn(|color| color_view(service, color, recent)),
        evidence: evidence(service, clock.now_ms),
        waiting_on: service
            .waiting_on
            .iter()
            .map(|reason| Waiting { reason: reason.reason().to_owned(), text: reason.to_string() })
            .collect(),
        goes_on: None,
        rolls_back: None,
        history: service.records.iter().rev().take(MAX_HISTORY).rev().map(without_judge).collect(),
        problems: service.problems(),
    }
}

/// A view is asked for often and read by people: it leaves out what only `report` and later releases need.
fn without_judge(record: &ReleaseRecord) -> ReleaseRecord {
    ReleaseRecord { judge: None, hours: Hours::default(), ..record.clone() }
}

fn color_view(service: &Service, color: Color, recent: Option<(PerColor<(u64, u64)>, f64)>) -> ColorView {
    let state = &service.state;
    let tally = service.facts.totals.get(color);
    let endpoints = service.endpoints.get(color);
    let limit = state.limit();
    let completed = recent.map(|(grown, _)| *grown.get(color)).unwrap_or_default();
    let all = recent.map(|(grown, _)| grown.blue.0 + grown.green.0).unwrap_or_default();
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let quantile = |of, per_mille| histogram::quantile_us(of, per_mille).map(|us| us as f64 / 1_000.0);
    let revision = state.revisions.get(color).clone();
    ColorView {
        marked_bad: state.condemned.contains(&revision),
        revision,
        intended: if color == state.live { limit.rest() } else { limit },
        enforced: share(completed.0, all),
        endpoints: endpoints.listed,
        endpoints_up: endpoints.up,
        requests: tally.completed,
        errors: tally.errors,
        rate: recent.map_or(0.0, |(_, seconds)| completed.0 as f64 / seconds),
        error_rate: share(completed.1, completed.0),
        p50_ms: quantile(&tally.first_byte, 500),
        p99_ms: quantile(&tally.first_byte, 990),
        p99_total_ms: quantile(&tally.total, 990),
        in_flight: tally.in_flight,
        sessions: match service.trial.as_ref() {
            Some(trial) if color != state.live => trial.evidence().candidate_slots.done,
            _ => 0,
        },
    }
}

fn judge(service: &Service) -> Option<Box<JudgeRecord>> {
    let trial = service.trial.as_ref()?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Some(Box::new(JudgeRecord { version, evidence: trial.evidence(), state: trial.books()? }))
}

fn evidence(service: &Service, now_ms: u64) -> Option<EvidenceView> {
    let trial = service.trial.as_ref()?;
    let Evidence { verdict, log_e, rollback_at, hold_at, ratio, ceiling, .. } = trial.evidence();
    let evidence = trial.evidence();
    let sessions = trial.analysis().mode == Mode::Sessions;
    let mut certificates = vec![CertificateView {
        claim: Claim::Ratio(f64::from(ratio.bound)),
        log_e: ratio.highest,
        target: ratio.certified_at,
    }];
    certificates.extend(ceiling.map(|ceiling| CertificateView {
        claim: Claim::Absolute(ceiling.bound),
        log_e: ceiling.highest,
        target: ceiling.certified_at,
    }));
    let stable = service.state.live;
    let counted = evidence.counted;
    let role = |color: Color| {
        let (n, errors) = if color == stable {
            (counted.blue_requests, counted.blue_errors)
        } else {
            (counted.green_requests, counted.green_errors)
        };
        Counted { n, errors }
    };
    let rate = |color: Color| if color == stable { evidence.stable_rate } else { evidence.candidate_rate };
    Some(EvidenceView {
        verdict,
        log_e,
        leading: (log_e > 0.0 || evidence.predictions.is_some_and(|seen| seen.too_far))
            .then(|| verdict_view(service, stable.other())),
        rollback_at,
        hold_at,
        certificates,
        unit: if sessions { Unit::Sessions } else { Unit::Requests },
        chance: Some(trial.chance()),
        counted: PerColor::from_fn(role),
        rates: PerColor::from_fn(rate),
        slots: sessions.then_some(evidence.candidate_slots),
        still_needed: still_needed(&evidence),
        still_ms: still_ms(service, &evidence, sessions, now_ms),
        predictions: evidence.predictions,
        slo: trial.analysis().slo_error_rate,
        protection: evidence.protection,
        held_by: held_by(&evidence, trial.analysis()),
        custom: custom(service, &evidence),
    })
}

fn held_by(evidence: &Evidence, analysis: &Analysis) -> Option<view::HeldBy> {
    let reasons = [
        (evidence.shared_incident, view::HeldBy::SharedIncident),
        (evidence.slow_at_load, view::HeldBy::SlowAtLoad),
        (analysis.srm && evidence.log_srm >= -analysis.alpha_srm.ln(), view::HeldBy::Split),
        (evidence.noisy, view::HeldBy::Noisy),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

/// The events that somebody named, where they are judged.
fn custom(service: &Service, evidence: &Evidence) -> Option<view::CustomView> {
    let (stable, events) = (service.state.live, evidence.events?);
    let name = service.trial.as_ref()?.looked_for().events.as_ref()?.name.clone();
    let (blue, green) = (evidence.counted.blue_requests, evidence.counted.green_requests);
    let of = |color: Color| {
        let (n, errors) = if color == stable { (blue, events.stable) } else { (green, events.candidate) };
        Counted { n, errors }
    };
    Some(view::CustomView { name, counted: PerColor::from_fn(of) })
}

/// How long the observations that are still needed take, at the pace of this release so far.
fn still_ms(service: &Service, evidence: &Evidence, sessions: bool, now_ms: u64) -> Option<u64> {
    let began = service.state.timeline.iter().find(|moment| moment.limit > Bps::ZERO)?.at_ms;
    let had = if sessions { evidence.candidate_slots.done.into() } else { evidence.counted.green_requests };
    let needed = u128::from(still_needed(evidence).filter(|needed| *needed > 0)?);
    let took = u128::from(now_ms.saturating_sub(began));
    u64::try_from((needed * took).checked_div(u128::from(had))?).ok()
}

/// Clean candidate sessions that the absolute certificate still needs: without an error each adds about the bound
/// (and 1.4 of them are the price of not knowing the rate beforehand).
fn still_needed(evidence: &Evidence) -> Option<u64> {
    let ceiling = evidence.ceiling?;
    if ceiling.holds() || evidence.ratio.holds() {
        return Some(0);
    }
    if evidence.candidate_slots.errors > 0 || ceiling.bound <= 0.0 {
        return None;
    }
    let needed = (ceiling.certified_at + 1.4) / ceiling.bound - f64::from(evidence.candidate_slots.done);
    Some(needed.max(1.0).ceil() as u64)
}

fn phase_view(phase: Phase) -> view::Phase {
    match phase {
        Phase::Idle => view::Phase::Idle,
        Phase::Preparing => view::Phase::Preparing,
        Phase::Validating => view::Phase::Validating,
        Phase::Marking => view::Phase::Marking,
        Phase::Waiting => view::Phase::Waiting,
        Phase::Progressing { .. } => view::Phase::Progressing,
        Phase::Soaking => view::Phase::Soaking,
        Phase::Draining => view::Phase::Draining,
        Phase::RollingBack => view::Phase::RollingBack,
    }
}

fn cause_view(cause: &Cause, service: &Service, candidate: Color) -> view::Cause {
    match cause {
        Cause::Verdict => verdict_view(service, candidate),
        Cause::Dead => view::Cause::Dead,
        Cause::Fuse => view::Cause::Fuse,
        Cause::Aborted => view::Cause::Aborted,
        Cause::Inconclusive => view::Cause::Inconclusive,
        Cause::Superseded => view::Cause::Superseded,
        Cause::Stopped => view::Cause::Stopped,
        Cause::Interrupted => view::Cause::Interrupted,
        Cause::Unwritten => view::Cause::Unwritten,
    }
}

/// What the judge's verdict rests on: the metric that says most. A hung request counts as an error, but is none to
/// whoever has to find out what is wrong.
fn verdict_view(service: &Service, candidate: Color) -> view::Cause {
    let Some(trial) = &service.trial else { return view::Cause::Errors };
    let (evidence, analysis) = (trial.evidence(), trial.analysis());
    // A distance that is too large condemns by itself.
    if evidence.predictions.is_some_and(|seen| seen.too_far) && evidence.log_e < evidence.rollback_at {
        return view::Cause::Predictions;
    }
    let said = |metric: Metric| Some(evidence.metrics.get(metric)? + analysis.part(metric).ln());
    let said = Metric::ALL.into_iter().filter_map(|metric| Some((metric, said(metric)?)));
    let tally = service.facts.totals.get(candidate);
    match said.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
        Some((Metric::Latency, _)) => view::Cause::Latency,
        Some((Metric::Predictions, _)) => view::Cause::Predictions,
        Some((Metric::Custom, _)) => view::Cause::Custom,
        Some((Metric::Slo, _)) => view::Cause::Slo,
        Some((Metric::History, _)) => view::Cause::History,
        _ if tally.hung.saturating_mul(2) > tally.errors => view::Cause::Hung,
        _ => view::Cause::Errors,
    }
}

// === impl Clock ===

impl Clock {
    fn wall(self, at_ms: u64) -> u64 {
        self.wall_ms.saturating_sub(self.now_ms.saturating_sub(at_ms))
    }
}
