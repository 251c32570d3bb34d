//! The engine: observe, judge, plan, apply, for all services, in one task.
//!
//! One task owns everything, so there are no locks and an order of events can be told. It never writes itself: a
//! writer does one change at a time and its answer is the next event, so that a crash between any two writes is an
//! ordinary state. While a release is open it turns every 10 ms; reports that came since the last tick are judged
//! together and their replies wait for it, so the very reply to the report that crossed the line carries the cap.
//! Replies go out before anything is written.

mod service;
mod show;
mod trial;
mod wish;

use crate::api::BlueGreen;
use crate::control::{Command, Refused, Request};
use crate::home::{Apply, Observe, Seen};
use crate::view::View;
use hueshift_core::color::PerColor;
use hueshift_core::contract::{Params, REPORT_MS, Reply, Report, ServiceId};
use hueshift_core::intake::{Intake, Outcome};
use hueshift_core::judge::{Analysis, Conditions, Row};
use hueshift_core::planner::{Plan, Verb};
use hueshift_core::release::Phase;
use hueshift_core::revival::Revival;
use service::{Caller, Service, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use trial::Sees;

pub use wish::fuse;

/// Longest time between two looks when nothing happens, ms.
const IDLE_LOOK_MS: u64 = 250;
/// Longest time between two looks at the reports about services at rest, ms.
const SLOW_LOOK_MS: u64 = 10_000;
/// Longest time that a stop waits for the routes to be written and taken, ms.
const STOP_MS: u64 = 3_000;

/// Target of the diagnostics that tell each report which is taken: `HUESHIFT_LOG=info,hueshift::reports=trace`.
const REPORTS: &str = "hueshift::reports";

/// Something that happens to the engine.
pub enum Input {
    /// A filter reports; who it is, where the mesh proved it.
    Report(Box<Report>, Option<String>, oneshot::Sender<Reply>),
    /// A person asks for something.
    Command(Request, Caller),
    /// Somebody looks.
    Status(oneshot::Sender<View>),
    /// There may be something new to see.
    Look,
    /// The process should end: everything to stable first.
    Stop,
    /// The process should end, and another one goes on: nothing is taken back, what is under way is finished.
    Leave,
    /// A write ended.
    Written(Box<WriteDone>),
    /// A revival of silent workers could not be written, and why.
    NotRevived(String),
}

/// The end of a write.
pub struct WriteDone {
    service: (String, ServiceId),
    write: Write,
    result: Result<(), String>,
}

/// How the controller introduces itself in views.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The document, as given on the command line.
    pub file: String,
    /// Distinguishes this process from earlier ones in replies; grows.
    pub term: u64,
    /// When it started, Unix ms.
    pub started_ms: u64,
}

/// Everything behind `up`.
pub struct Engine<O> {
    observe: O,
    apply: Arc<dyn Apply>,
    identity: Identity,
    services: Vec<Service>,
    intake: Intake,
    news: bool,
    heard: BTreeSet<ServiceId>,
    /// Who reports for a proxy, where the mesh proved it. As many as the intake knows.
    principals: BTreeMap<String, String>,
    looked_ms: u64,
    looked_at_all_ms: u64,
    waiting: Vec<Waiting>,
    seen: Seen,
    /// Services whose memory is not read yet.
    expected: bool,
    /// Whether replies carry caps.
    caps: bool,
    stop_by_ms: Option<u64>,
    leaving: bool,
    revival: Revival,
    to_self: mpsc::Sender<Input>,
    recorder: Option<Box<dyn Recorder>>,
}

/// A judging that begins or goes on.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    /// The service.
    pub service: &'a str,
    /// Its release.
    pub release: u32,
    /// The judge's parameters.
    pub analysis: &'a Analysis,
    /// Length of its ticks.
    pub tick_ms: u64,
    /// Its newest tick: 0, or that of the checkpoint from which it goes on.
    pub from_ms: u64,
}

/// Takes what the judge receives (the world file).
pub trait Recorder: Send {
    /// A release's judging begins, or goes on in a new process.
    fn begin(&mut self, begun: Begun<'_>);
    /// A tick, with or without rows.
    fn tick(&mut self, service: &str, release: u32, t_ms: u64, rows: &[Row], conditions: &Conditions);
    /// The judging ended with this tick.
    fn end(&mut self, service: &str, release: u32, t_ms: u64);
}

/// A report whose reply waits for the judge.
struct Waiting {
    proxy: String,
    ack: u64,
    ids: Vec<ServiceId>,
    to: oneshot::Sender<Reply>,
}

// === impl Engine ===

impl<O: Observe> Engine<O> {
    /// An engine that has not begun.
    pub fn new(
        observe: O,
        apply: Arc<dyn Apply>,
        identity: Identity,
        recorder: Option<Box<dyn Recorder>>,
        to_self: mpsc::Sender<Input>,
    ) -> Engine<O> {
        let now_ms = observe.now_ms();
        let mut engine = Engine {
            observe,
            apply,
            identity,
            services: Vec::new(),
            intake: Intake::default(),
            news: true,
            heard: BTreeSet::new(),
            principals: BTreeMap::new(),
            looked_ms: now_ms,
            looked_at_all_ms: now_ms,
            waiting: Vec::new(),
            seen: Seen::default(),
            expected: false,
            caps: true,
            stop_by_ms: None,
            leaving: false,
            revival: Revival::default(),
            to_self,
            recorder,
        };
        engine.look();
        engine
    }

    /// Replies carry no caps, so that a rollback reaches traffic by the routes alone: only to measure how long they
    /// take.
    pub fn without_caps(mut self) -> Engine<O> {
        self.caps = false;
        self
    }

    /// Works until it is stopped.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            self.turn();
            if self.may_end() {
                self.checkpoint_all().await;
                return;
            }
            let pause = Duration::from_millis(self.due_ms().saturating_sub(self.observe.now_ms()));
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Report(report, by, to) => self.take_report(&report, by, to),
            Input::Command(request, caller) => self.take_command(request, caller),
            Input::Status(to) => {
                let _ = to.send(self.view());
            }
            // The turn that follows looks.
            Input::Look => {}
            Input::Stop | Input::Leave => {
                self.leaving |= matches!(input, Input::Leave);
                let by = self.observe.now_ms().saturating_add(STOP_MS);
                self.stop_by_ms.get_or_insert(by);
            }
            Input::Written(done) => {
                let now_ms = self.observe.now_ms();
                let (name, id) = &done.service;
                // One that vanished and came again is another one.
                let service = self.services.iter_mut().find(|s| s.name == *name && s.state.id == *id);
                if let Some(service) = service {
                    service.end_write(done.write, done.result, now_ms);
                }
            }
            Input::NotRevived(error) => {
                tracing::error!("silent workers could not be revived: {error}");
                self.revival.failed(self.observe.now_ms());
            }
        }
    }

    /// One turn: each step reads what the steps before it left.
    fn turn(&mut self) {
        self.look();
        let now_ms = self.observe.now_ms();
        if self.judge(now_ms) {
            self.reply();
        }
        if !self.leaving {
            self.plan(now_ms);
            self.checkpoint(now_ms);
            self.revive(now_ms);
            self.tell(now_ms);
        }
    }

    fn look(&mut self) {
        if let Some(seen) = self.observe.seen() {
            self.take_seen(seen);
        } else if self.expected {
            let seen = std::mem::take(&mut self.seen);
            self.take_seen(seen);
        }
    }

    fn take_seen(&mut self, seen: Seen) {
        let now_ms = self.observe.now_ms();
        self.expected = false;
        let same = Arc::ptr_eq(&seen.services, &self.seen.services);
        if !same {
            self.forget_what_vanished(&seen);
        }
        for document in seen.services.iter() {
            let name = &document.key();
            let endpoints = seen.endpoints.get(name).copied().unwrap_or_default();
            let known = self.services.iter().position(|service| service.name == *name);
            let index = known.or_else(|| self.begin_service(document, now_ms));
            let Some(service) = index.and_then(|index| self.services.get_mut(index)) else {
                self.expected = true;
                continue;
            };
            service.see((!same).then_some(document), endpoints, seen.key);
            if let Some(drift) = seen.drifts.get(name) {
                service.take_drift(drift);
            }
        }
        self.seen = seen;
    }

    fn forget_what_vanished(&mut self, seen: &Seen) {
        let intake = &mut self.intake;
        self.services.retain(|service| {
            let stays = seen.services.iter().any(|document| document.key() == service.name);
            if !stays {
                intake.forget_before(service.state.id, u32::MAX);
                tracing::info!(service = %service.name, "is none of ours any more");
            }
            stays
        });
    }

    /// A service that appears, if what is remembered of it is known by now.
    fn begin_service(&mut self, document: &BlueGreen, now_ms: u64) -> Option<usize> {
        let (remembered, fresh_id) = self.observe.remembered(&document.key())?;
        let mut service = Service::new(document.clone(), remembered, fresh_id, now_ms);
        let begun = service.keep_trial(&mut self.intake, false, now_ms);
        if let (true, Some(recorder), Some(trial)) = (begun, &mut self.recorder, &service.trial) {
            recorder.begin(trial.begun(&service.name));
        }
        service.take_facts(&self.intake, now_ms);
        self.services.push(service);
        self.services.len().checked_sub(1)
    }

    fn take_report(&mut self, report: &Report, by: Option<String>, to: oneshot::Sender<Reply>) {
        let taken = self.intake.take(report, self.observe.now_ms());
        if let (Outcome::Accepted, Some(by)) = (taken.outcome, by) {
            self.principals.insert(report.proxy.clone(), by);
        }
        if taken.outcome == Outcome::Accepted && tracing::enabled!(target: REPORTS, tracing::Level::TRACE) {
            let report = serde_json::to_string(report).unwrap_or_default();
            tracing::trace!(target: REPORTS, report, "taken");
        }
        self.news = true;
        let ids: Vec<ServiceId> = report.plans.iter().map(|plan| plan.id).collect();
        self.heard.extend(&ids);
        self.waiting.push(Waiting { proxy: report.proxy.clone(), ack: taken.ack, ids, to });
    }

    fn take_command(&mut self, request: Request, caller: Caller) {
        let verb = match request.command {
            Command::Release { force } => Verb::Release { force },
            Command::Promote => Verb::Promote,
            Command::Pause => Verb::Pause,
            Command::Resume => Verb::Resume,
            Command::Abort => Verb::Abort,
        };
        let names: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        let wanted = match (&request.service, names.as_slice()) {
            (Some(name), _) => Ok(name.clone()),
            (None, [only]) => Ok((*only).to_owned()),
            (None, _) => Err(Refused {
                error: "there is more than one service".to_owned(),
                remedy: format!("name one of {}", names.join(", ")),
            }),
        };
        let unknown = |name: &str| Refused {
            error: format!("there is no service {name}"),
            remedy: format!("name one of {}", names.join(", ")),
        };
        let found = wanted
            .and_then(|name| names.iter().position(|known| *known == name).ok_or_else(|| unknown(&name)));
        match found.map(|index| self.services.get_mut(index)) {
            Ok(Some(service)) => service.take_order(verb, caller),
            Ok(None) => {}
            Err(refused) => {
                let _ = caller.send(Err(refused));
            }
        }
    }

    /// Ticks every open trial that is due. Says whether replies may go out: every report was judged.
    fn judge(&mut self, now_ms: u64) -> bool {
        let wall_ms = self.observe.wall_ms();
        let due = self
            .services
            .iter()
            .all(|service| service.trial.as_ref().is_none_or(|trial| trial.next_tick_ms() <= now_ms));
        let look = self.news || now_ms.saturating_sub(self.looked_ms) >= IDLE_LOOK_MS;
        let look_at_all = now_ms.saturating_sub(self.looked_at_all_ms) >= SLOW_LOOK_MS;
        if due && look {
            self.looked_ms = now_ms;
            if look_at_all {
                self.looked_at_all_ms = now_ms;
            }
        }
        for service in &mut self.services {
            if due && look && (look_at_all || service.is_open() || self.heard.contains(&service.state.id)) {
                service.take_facts(&self.intake, now_ms);
            }
            let facts = (due && look).then_some(&service.facts);
            if let Some(trial) = service.trial.as_mut().filter(|trial| trial.next_tick_ms() <= now_ms) {
                let release = trial.release;
                let ready = PerColor::from_fn(|color| service.endpoints.get(color).up);
                let trusted = &service.document.spec.analysis.trusted_principals;
                let principals = &self.principals;
                let trusts = |proxy: &str| principals.get(proxy).is_some_and(|by| trusted.contains(by));
                let seen = Sees { facts, ready, trusts: &trusts };
                trial.tick(now_ms, wall_ms, &mut self.intake, seen, |t_ms, rows, conditions| {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.tick(&service.name, release, t_ms, rows, conditions);
                    }
                });
            }
        }
        if due {
            self.news = false;
            self.heard.clear();
        }
        due
    }

    fn plan(&mut self, now_ms: u64) {
        for index in 0..self.services.len() {
            let Some(service) = self.services.get_mut(index) else { continue };
            let stopping = self.stop_by_ms.is_some();
            if !stopping && !service.is_due(now_ms) {
                continue;
            }
            let plan = service.plan(stopping, now_ms);
            let Some(write) = service.next_write(&plan.changes, now_ms) else { continue };
            self.begin(index, write, &plan, now_ms);
        }
    }

    /// Hands one write to the writer. A state counts from here on, and is told.
    fn begin(&mut self, index: usize, write: Write, plan: &Plan, now_ms: u64) {
        let wall_ms = self.observe.wall_ms();
        let Some(service) = self.services.get_mut(index) else { return };
        let record = match &write {
            Write::Record(record) => Some(show::record(service, record, now_ms, wall_ms)),
            Write::Save(_) | Write::Route(_) => None,
        };
        service.begin_write(&write, record.clone());
        if let Write::Save(_) = &write {
            let moves = show::moves(service, &plan.report.moves);
            self.apply.moved(&service.name, &moves);
            for (caller, answer) in service.callers_of(&plan.report) {
                let _ = caller.send(show::answer(service, &answer));
            }
            let before = service.trial.as_ref().map(|trial| (trial.release, trial.t_ms()));
            let begun = service.keep_trial(&mut self.intake, true, now_ms);
            service.take_facts(&self.intake, now_ms);
            if let Some(recorder) = &mut self.recorder {
                let now = service.trial.as_ref().map(|trial| trial.release);
                if let Some((release, t_ms)) = before.filter(|(release, _)| now != Some(*release)) {
                    recorder.end(&service.name, release, t_ms);
                }
                if let (true, Some(trial)) = (begun, &service.trial) {
                    recorder.begin(trial.begun(&service.name));
                }
            }
            let candidate = (service.state.phase == Phase::Preparing).then(|| service.state.candidate());
            self.apply.may_restart(&service.name, candidate);
        }
        let (apply, name, back) = (self.apply.clone(), service.name.clone(), self.to_self.clone());
        let id = service.state.id;
        tokio::task::spawn_blocking(move || {
            let result = match &write {
                Write::Record(_) => record.map_or(Ok(()), |record| apply.record(&record)),
                Write::Save(state) => apply.save(&name, state),
                Write::Route(route) => apply.route(&name, route),
            };
            let done = WriteDone { service: (name, id), write, result: result.map_err(|error| error.0) };
            let _ = back.blocking_send(Input::Written(Box::new(done)));
        });
    }

    fn reply(&mut self) {
        let trials = self.services.iter().filter_map(|service| service.trial.as_ref());
        for waiting in self.waiting.drain(..) {
            let params: Vec<Params> = self
                .services
                .iter()
                .filter(|service| waiting.ids.contains(&service.state.id))
                .map(Service::params)
                .collect();
            let capped = self.services.iter().filter(|_| self.caps);
            let reply = Reply {
                term: self.identity.term,
                ack: waiting.ack,
                report_ms: REPORT_MS,
                caps: capped.filter_map(|service| service.cap_at(&waiting.proxy)).collect(),
                params,
                rearm: trials.clone().filter_map(|trial| trial.rearm(&waiting.proxy)).collect(),
            };
            let _ = waiting.to.send(reply);
        }
    }

    /// Workers whose filter is dead get a new one.
    fn revive(&mut self, now_ms: u64) {
        let open = self.services.iter().filter(|service| service.is_open());
        let silent = open
            .flat_map(|service| &service.facts.proxies)
            .flat_map(|proxy| proxy.silent.iter().map(|silent| (&proxy.proxy, silent.for_ms)));
        let proxies = self.revival.due(silent, now_ms);
        if proxies.is_empty() {
            return;
        }
        tracing::warn!("building the filters of {} anew: workers of theirs are silent", proxies.join(", "));
        let (apply, back) = (self.apply.clone(), self.to_self.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = apply.revive(&proxies) {
                let _ = back.blocking_send(Input::NotRevived(error.0));
            }
        });
    }

    /// Checkpoints are not part of a plan: losing one costs evidence, never a decision.
    fn checkpoint(&mut self, now_ms: u64) {
        for service in &mut self.services {
            let Some(trial) = &mut service.trial else { continue };
            let Some(bytes) = trial.due_checkpoint(now_ms, &self.intake) else { continue };
            let (apply, name) = (self.apply.clone(), service.name.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(error) = apply.checkpoint(&name, &bytes) {
                    tracing::warn!(service = %name, "no checkpoint of the judge: {error}");
                }
            });
        }
    }

    /// Another process goes on from here.
    async fn checkpoint_all(&mut self) {
        for service in self.services.iter_mut().filter(|service| service.is_open()) {
            let Some(bytes) = service.trial.as_mut().and_then(|trial| trial.checkpoint(&self.intake)) else {
                continue;
            };
            let (apply, name) = (self.apply.clone(), service.name.clone());
            let written = tokio::task::spawn_blocking(move || apply.checkpoint(&name, &bytes)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(service = %service.name, "no checkpoint of the judge: {error}");
            }
        }
    }

    /// Whoever listens gets each service that may look different.
    fn tell(&mut self, now_ms: u64) {
        if !self.apply.listens() {
            return;
        }
        let wall_ms = self.observe.wall_ms();
        for service in self.services.iter_mut().filter(|service| service.is_untold(now_ms)) {
            self.apply.tell(show::service(service, now_ms, wall_ms));
            service.told(now_ms);
        }
    }

    fn due_ms(&self) -> u64 {
        let idle = self.observe.now_ms().saturating_add(IDLE_LOOK_MS);
        self.services.iter().filter_map(Service::due_ms).fold(idle, u64::min)
    }

    /// A stop is over when everything is at rest, or when it took too long and the routes are at least safe.
    fn may_end(&self) -> bool {
        let Some(by_ms) = self.stop_by_ms else { return false };
        if self.leaving {
            return self.observe.now_ms() >= by_ms || !self.services.iter().any(Service::is_writing);
        }
        let rest = self.services.iter().all(Service::is_at_rest);
        let late = self.observe.now_ms() >= by_ms;
        if late && !self.services.iter().all(Service::is_safe_to_leave) {
            tracing::error!("stopping although the routes could not be written: see the messages above");
        }
        rest || late
    }

    fn view(&self) -> View {
        let now_ms = self.observe.now_ms();
        let mut view = show::view(&self.identity, &self.services, &self.seen, now_ms, self.observe.wall_ms());
        view.problems.extend(show::refused_reports(self.intake.problems()));
        view
    }
}

/// What a command that nobody can take any more is told.
pub fn gone() -> Refused {
    Refused {
        error: "the controller is about to end".to_owned(),
        remedy: "start it again with `hueshift up`".to_owned(),
    }
}
