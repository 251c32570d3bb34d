//! One service in the engine: what is known of it, and what is under way.
//!
//! In memory the state moves at once, on disk a moment later; [`Service::next_write`] keeps the order that a crash
//! needs: a route that gives the candidate more waits until its state is on disk, a way back waits for nothing, not
//! even for the write of its own state.

use super::show;
use super::trial::{Terms, Trial};
use super::wish;
use crate::api::BlueGreen;
use crate::control::{Accepted, Refused};
use crate::home::{Drift, Endpoints, Remembered};
use crate::text::visible;
use crate::view::{Earlier, ReleaseRecord, noisy, stables_hours};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{Cap, CapPins, Params, ServiceId, Tally};
use hueshift_core::hang;
use hueshift_core::intake::{Facts, Intake, ProxyFacts, SilentVm};
use hueshift_core::planner::{
    Change, Observation, Order, Plan, PlanReport, Proxies, SilentWorker, Verb, WaitingOn, plan,
};
use hueshift_core::release::{Phase, Record, Route, State};
use hueshift_core::route_plan::Pins;
use hueshift_core::share::Bps;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// A report may hold requests from before a write until this long after it: the report's interval and its way.
const REPORT_SLACK_MS: u64 = 300;
/// How far a report may be ahead of a state that was lost or rewound.
const RELEASES_AHEAD: u32 = 1_000;
/// Likewise, epochs.
const EPOCHS_AHEAD: u64 = 1_000_000;
/// Between two attempts of a write that failed, ms.
const RETRY_MS: u64 = 250;
/// Between two messages about a write that keeps failing, ms.
const COMPLAIN_MS: u64 = 5_000;
/// How far back "the last seconds" of a view reach.
const RECENT_MS: u64 = 5_000;
/// Most repairs of a route that others keep changing, per [`REPAIR_WINDOW_MS`].
const MAX_REPAIRS: usize = 12;
/// That window, and the pause after it is used up, ms.
const REPAIR_WINDOW_MS: u64 = 60_000;
/// Shortest time between two words to whoever listens, ms.
const TELL_MS: u64 = 1_000;

/// Whoever waits for the answer to a command.
pub type Caller = oneshot::Sender<Result<Accepted, Refused>>;

/// One service.
pub struct Service {
    /// Its name.
    pub name: String,
    /// The document's newest good word.
    pub document: BlueGreen,
    /// What is remembered; ahead of the disk while `unsaved`.
    pub state: State,
    /// What the proxies were told last; `None`: nothing that we know to be right.
    pub written: Option<Route>,
    /// When that was.
    pub written_ms: u64,
    /// Finished releases, newest last.
    pub records: Vec<ReleaseRecord>,
    /// The judging of the open release.
    pub trial: Option<Trial>,
    /// What the reports say about the newest release.
    pub facts: Facts,
    /// Endpoints per color.
    pub endpoints: PerColor<Endpoints>,
    key: Option<u8>,
    /// Why the last plan waits.
    pub waiting_on: Vec<WaitingOn>,
    /// What was found wrong when we started.
    pub found: Vec<String>,
    /// Since when the present epoch is enforced, as far as we saw.
    pub enforced_since_ms: Option<u64>,
    checkpoint: Option<Vec<u8>>,
    highest: (u32, u64),
    unsaved: bool,
    /// A record or a state is being written.
    saving: bool,
    /// A route is being written, and whether it leads back.
    routing: Option<Way>,
    retry_ms: u64,
    save_retry_ms: u64,
    trouble: BTreeMap<&'static str, Trouble>,
    recording: Option<ReleaseRecord>,
    orders: Vec<Order>,
    callers: BTreeMap<u64, Caller>,
    wake_ms: Option<u64>,
    snapshots: VecDeque<(u64, u32, PerColor<Tally>)>,
    touched: bool,
    drift: Option<u64>,
    repairs: Repairs,
    untold: bool,
    told_ms: u64,
}

/// Repairs of a route that somebody else changed: bounded, because the other one may repair as well.
#[derive(Default)]
struct Repairs {
    pending: bool,
    written: Option<Route>,
    done_ms: VecDeque<u64>,
    paused_until_ms: u64,
    by: Option<String>,
}

/// A write that keeps failing.
struct Trouble {
    text: String,
    told_ms: u64,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Everything to stable, the candidate's pins void.
    Back,
    /// Any other.
    On,
}

/// What should be written next.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A finished release.
    Record(Record),
    /// The state.
    Save(State),
    /// The route.
    Route(Route),
}

// === impl Service ===

impl Service {
    /// From the document and what was remembered. `fresh_id` is for a service that never was.
    pub fn new(document: BlueGreen, remembered: Remembered, fresh_id: ServiceId, now_ms: u64) -> Service {
        let wish = wish::wish(&document, None);
        let route = remembered.route.as_ref().map(|(route, _)| route);
        let open = route.and_then(|route| route.plan.as_ref());
        let of_records = remembered.records.last().map_or(0, |record| record.release);
        let highest = open.map_or((0, 0), |plan| (plan.release, plan.epoch));
        let unsaved = remembered.state.is_none();
        let mut state = remembered.state.unwrap_or_else(|| {
            let id = open.map_or(fresh_id, |plan| plan.id);
            let live = route.map_or(Color::Blue, |route| route.stable);
            State::new(id, live, wish.revisions.clone(), now_ms)
        });
        // A clock that began anew (a reboot): no time has passed in this phase.
        state.entered_ms = state.entered_ms.min(now_ms);
        let written = remembered
            .route
            .filter(|(route, exact)| *exact || *route != state.route())
            .map(|(route, _)| route);
        Service {
            name: document.key(),
            document,
            state,
            written,
            written_ms: now_ms,
            highest: (highest.0.max(of_records), highest.1),
            records: remembered.records,
            trial: None,
            facts: Facts::default(),
            endpoints: PerColor::default(),
            key: None,
            waiting_on: Vec::new(),
            found: remembered.problems,
            enforced_since_ms: None,
            checkpoint: remembered.checkpoint,
            unsaved,
            saving: false,
            routing: None,
            retry_ms: 0,
            save_retry_ms: 0,
            trouble: BTreeMap::new(),
            recording: None,
            orders: Vec::new(),
            callers: BTreeMap::new(),
            wake_ms: None,
            snapshots: VecDeque::new(),
            touched: true,
            drift: None,
            repairs: Repairs::default(),
            untold: true,
            told_ms: 0,
        }
    }

    /// Takes news about the document, its endpoints and the mesh key.
    pub fn see(&mut self, document: Option<&BlueGreen>, endpoints: PerColor<Endpoints>, key: Option<u8>) {
        self.key = key;
        if let Some(document) = document.filter(|document| **document != self.document) {
            self.document = document.clone();
            self.touched = true;
        }
        if endpoints != self.endpoints {
            self.endpoints = endpoints;
            self.touched = true;
        }
    }

    /// Takes the news that somebody else changed the route. It is written again, whatever it says now.
    pub fn take_drift(&mut self, drift: &Drift) {
        if self.drift.is_some_and(|taken| taken >= drift.version) {
            return;
        }
        self.drift = Some(drift.version);
        self.touched = true;
        if self.written.is_some() && self.routing.is_none() {
            let by = drift.by.as_deref().unwrap_or("somebody");
            tracing::warn!(service = %self.name, by, "the route was changed by {by}: it is written again");
            self.repairs.pending = true;
        }
        self.repairs.by.clone_from(&drift.by);
        self.written = drift.found.clone().filter(|found| *found != self.state.route());
    }

    /// Whether a plan of this moment may differ from the last one. What is at rest and untouched costs nothing.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.is_open() || self.touched || self.wake_ms.is_some_and(|at| at <= now_ms)
    }

    /// Whether a word to whoever listens is due.
    pub fn is_untold(&self, now_ms: u64) -> bool {
        self.untold && (self.told_ms == 0 || now_ms.saturating_sub(self.told_ms) >= TELL_MS)
    }

    /// It was told.
    pub fn told(&mut self, now_ms: u64) {
        self.untold = self.is_open();
        self.told_ms = now_ms;
    }

    /// Whether a release is open.
    pub fn is_open(&self) -> bool {
        self.state.phase.is_open()
    }

    /// Whether nothing is left to be done or written.
    pub fn is_at_rest(&self) -> bool {
        !self.is_open()
            && !self.unsaved
            && !self.is_writing()
            && self.written.as_ref() == Some(&self.state.route())
    }

    /// Whether a write is under way.
    pub fn is_writing(&self) -> bool {
        self.saving || self.routing.is_some()
    }

    /// Whether all traffic is told to go to stable, on disk.
    pub fn is_safe_to_leave(&self) -> bool {
        self.written
            .as_ref()
            .is_some_and(|route| route.plan.as_ref().is_none_or(|plan| plan.limit == Bps::ZERO))
    }

    /// When this service wants to be looked at again, ms.
    pub fn due_ms(&self) -> Option<u64> {
        let tick = self.trial.as_ref().map(Trial::next_tick_ms);
        [tick, self.wake_ms].into_iter().flatten().min()
    }

    /// A judge for the open release: from the checkpoint, or a new one. Without the checkpoint of a release that we
    /// did not open ourselves some of alpha may be spent: the new one gets half.
    /// Says whether it made one.
    pub fn keep_trial(&mut self, intake: &mut Intake, opened_here: bool, now_ms: u64) -> bool {
        if !self.is_open() {
            self.trial = None;
            return false;
        }
        let (id, release, stable) = (self.state.id, self.state.release, self.state.live);
        if self.trial.as_ref().is_some_and(|trial| trial.release == release) {
            return false;
        }
        let restored = self
            .checkpoint
            .take()
            .and_then(|bytes| Trial::restore(&bytes, id, release, stable, intake, now_ms));
        self.trial = restored.or_else(|| {
            let earlier = Earlier::newest(&self.records);
            let mut analysis =
                wish::analysis(&self.document, earlier.as_ref().map(|earlier| &earlier.dispersion));
            if !opened_here {
                analysis.alpha /= 2.0;
                tracing::warn!(service = %self.name, release, "no checkpoint of the judge: it begins anew with half of alpha");
            }
            let terms = Terms { analysis, earlier, looked_for: wish::looked_for(&self.document) };
            Trial::begin(id, release, stable, terms, now_ms)
        });
        self.trial.is_some()
    }

    /// The newest word of the reports.
    pub fn take_facts(&mut self, intake: &Intake, now_ms: u64) {
        self.facts = intake.facts(self.state.id, self.state.release, now_ms);
        // A report far ahead of everything that we wrote is no memory of ours: it must not use up the numbers.
        let (release, epoch) = (self.state.release, self.state.epoch);
        let near = |seen: &(u32, u64)| {
            seen.0 <= release.saturating_add(RELEASES_AHEAD) && seen.1 <= epoch.saturating_add(EPOCHS_AHEAD)
        };
        if let Some(highest) = self.facts.highest.filter(near) {
            self.highest = self.highest.max(highest);
        }
        if let Some(trial) = &mut self.trial {
            trial.at_share(self.state.limit(), &self.facts);
            if self.state.phase == Phase::Soaking {
                trial.cut_over(|| stables_hours(&self.records));
            }
        }
        let due = self.snapshots.back().is_none_or(|(at, ..)| now_ms.saturating_sub(*at) >= 1_000);
        if due {
            self.snapshots.push_back((now_ms, self.state.release, self.facts.totals.clone()));
        }
        while self.snapshots.front().is_some_and(|(at, ..)| now_ms.saturating_sub(*at) > RECENT_MS) {
            self.snapshots.pop_front();
        }
    }

    /// Totals of the last seconds: what they grew by, and the time it took.
    pub fn recent(&self, now_ms: u64) -> Option<(PerColor<(u64, u64)>, f64)> {
        // Totals begin anew with each release, so an older release's say nothing.
        let (at, _, then) = self.snapshots.iter().find(|(_, release, _)| *release == self.state.release)?;
        let seconds = now_ms.saturating_sub(*at) as f64 / 1_000.0;
        if seconds < 0.5 {
            return None;
        }
        let grown = PerColor::from_fn(|color| {
            let (now, then) = (self.facts.totals.get(color), then.get(color));
            (now.completed.saturating_sub(then.completed), now.errors.saturating_sub(then.errors))
        });
        Some((grown, seconds))
    }

    /// Takes a person's order; the answer comes with the plan that deals with it.
    pub fn take_order(&mut self, verb: Verb, caller: Caller) {
        let last = self.orders.last().map_or(0, |order| order.number);
        let number = last.max(self.state.orders_done).saturating_add(1);
        self.orders.push(Order { number, verb });
        self.callers.insert(number, caller);
        self.touched = true;
    }

    /// What bounds the candidate in every reply, whatever the routes say.
    pub fn cap(&self) -> Option<Cap> {
        let condemned = self.trial.as_ref().is_some_and(|trial| trial.condemned().is_some());
        let back = self.state.phase == Phase::RollingBack || (self.is_open() && condemned);
        back.then(|| self.nothing())
    }

    /// What bounds it in the replies to this proxy.
    pub fn cap_at(&self, proxy: &str) -> Option<Cap> {
        let closed =
            self.is_open() && self.trial.as_ref().is_some_and(|trial| trial.closed().contains(proxy));
        self.cap().or_else(|| closed.then(|| self.nothing()))
    }

    fn nothing(&self) -> Cap {
        Cap { id: self.state.id, release: self.state.release, max: Bps::ZERO, pins: CapPins::Void }
    }

    /// What each reply tells the filter.
    pub fn params(&self) -> Params {
        let hang_ms = self.trial.as_ref().map_or(hang::DEFAULT_MS, Trial::hang_ms);
        // What changed while a release is open would mix what cannot be compared.
        let looked_for = match &self.trial {
            Some(trial) => trial.looked_for().clone(),
            None => wish::looked_for(&self.document),
        };
        wish::params(self.state.id, &self.document, hang_ms, looked_for)
    }

    /// The plan of this moment.
    pub fn plan(&mut self, stopping: bool, now_ms: u64) -> Plan {
        let proxies = self.proxies(now_ms);
        if proxies.busy > 0 && proxies.enforcing >= proxies.busy {
            self.enforced_since_ms.get_or_insert(now_ms);
        }
        let observation = Observation {
            state: self.state.clone(),
            wish: wish::wish(&self.document, self.key),
            written: self.written.clone(),
            seen: self.highest,
            recorded: self.records.last().map_or(0, |record| record.release),
            judged: self.trial.as_ref().map(Trial::judged),
            accepting: PerColor::from_fn(|color| self.endpoints.get(color).accepts()),
            proxies,
            silent: self.silent(),
            in_flight: PerColor::from_fn(|color| u64::from(self.facts.totals.get(color).in_flight)),
            step_requests: self.trial.as_ref().map_or(0, |trial| trial.step_requests(&self.facts)),
            orders: self.orders.clone(),
            stopping,
        };
        let next = plan(&observation, now_ms);
        // What could not be written yet is tried again.
        self.touched = !next.changes.is_empty() || self.unsaved;
        self.untold = true;
        self.waiting_on.clone_from(&next.report.waiting_on);
        self.wake_ms = next.wake_after_ms.map(|after| now_ms.saturating_add(after));
        next
    }

    /// The next write of a plan, if one may begin now.
    pub fn next_write(&mut self, changes: &[Change], now_ms: u64) -> Option<Write> {
        if self.routing.is_some() {
            return None;
        }
        if self.saving {
            return self.way_back(changes, now_ms);
        }
        if self.unsaved && now_ms >= self.save_retry_ms && !matches!(changes.first(), Some(Change::Record(_)))
        {
            let newest = changes.iter().find_map(|change| match change {
                Change::Save(state) => Some(state.clone()),
                _ => None,
            });
            return Some(Write::Save(newest.unwrap_or_else(|| self.state.clone())));
        }
        let next = changes.iter().find(|change| match change {
            Change::Record(_) => now_ms >= self.retry_ms,
            Change::Save(_) => now_ms >= self.save_retry_ms,
            Change::Route(route) => {
                now_ms >= self.retry_ms
                    && (!self.unsaved || !self.gives_more(route))
                    && self.repairs.may_write(route, now_ms)
            }
        })?;
        match next {
            Change::Record(record) => Some(Write::Record(record.clone())),
            // What comes before it must be done first.
            Change::Save(_) if matches!(changes.first(), Some(Change::Record(_))) => None,
            Change::Save(state) => Some(Write::Save(state.clone())),
            // A route of a state that is not ours yet.
            Change::Route(route) => (*route == self.state.route()).then(|| Write::Route(route.clone())),
        }
    }

    /// A way back does not even wait for its own state: that write may hang.
    fn way_back(&self, changes: &[Change], now_ms: u64) -> Option<Write> {
        let back = changes.iter().find_map(|change| match change {
            Change::Route(route) => Some(route),
            _ => None,
        })?;
        let may = now_ms >= self.retry_ms
            && Way::of(back) == Way::Back
            && *back == self.state.route()
            && self.repairs.may_write(back, now_ms);
        may.then(|| Write::Route(back.clone()))
    }

    /// A write begins. A new state counts from now on: a cap must not wait for a disk.
    pub fn begin_write(&mut self, write: &Write, record: Option<ReleaseRecord>) {
        match write {
            Write::Route(route) => self.routing = Some(Way::of(route)),
            Write::Record(_) | Write::Save(_) => {
                self.saving = true;
                self.recording = record;
            }
        }
        if let Write::Save(state) = write {
            if state.epoch != self.state.epoch {
                self.enforced_since_ms = None;
            }
            self.state = state.clone();
            self.orders.retain(|order| order.number > self.state.orders_done);
            self.unsaved = true;
        }
    }

    /// A write ended.
    pub fn end_write(&mut self, write: Write, result: Result<(), String>, now_ms: u64) {
        self.touched = true;
        let kind = match &write {
            Write::Route(_) => {
                self.routing = None;
                "route"
            }
            Write::Record(_) | Write::Save(_) => {
                self.saving = false;
                "state"
            }
        };
        if let Err(text) = result {
            match write {
                Write::Save(_) => self.save_retry_ms = now_ms + RETRY_MS,
                Write::Record(_) | Write::Route(_) => self.retry_ms = now_ms + RETRY_MS,
            }
            self.complain(kind, text, now_ms);
            return;
        }
        match write {
            Write::Save(state) => self.unsaved = state != self.state,
            Write::Route(route) => {
                self.written = Some(route.clone());
                self.written_ms = now_ms;
                self.repairs.done(route, now_ms);
            }
            Write::Record(_) => self.records.extend(self.recording.take()),
        }
        if self.trouble.remove(kind).is_some() {
            tracing::info!(service = %self.name, "writing works again");
        }
    }

    /// Answers to orders that a plan dealt with.
    pub fn callers_of(&mut self, report: &PlanReport) -> Vec<(Caller, hueshift_core::planner::Answer)> {
        report
            .answers
            .iter()
            .filter_map(|answer| Some((self.callers.remove(&answer.number)?, answer.clone())))
            .collect()
    }

    /// What a person should look at.
    pub fn problems(&self) -> Vec<String> {
        let trouble = self.trouble.values().map(|trouble| trouble.text.clone());
        let closed = self.trial.iter().flat_map(|trial| trial.closed()).map(|proxy| {
            format!(
                "Envoy {} alone says what would condemn the candidate, so the candidate gets no requests there in this \
                 release: look at that Envoy, the others decide",
                visible(proxy)
            )
        });
        let noise = self.trial.iter().filter(|trial| trial.is_noisy()).map(|_| noisy(self.state.live));
        let told = self.found.iter().cloned().chain(trouble).chain(self.repairs.problem());
        let told = told.chain(closed).chain(noise);
        told.chain(self.facts.proxies.iter().flat_map(show::proxy_problems)).collect()
    }

    /// Workers whose filter is dead or stuck while others go on.
    fn silent(&self) -> Vec<SilentWorker> {
        let of = |proxy: &ProxyFacts| {
            let worker = |silent: &SilentVm| SilentWorker { proxy: proxy.proxy.clone(), vm: silent.vm };
            proxy.silent.iter().map(worker).collect::<Vec<_>>()
        };
        self.facts.proxies.iter().flat_map(of).collect()
    }

    /// What the Envoys with traffic do about the present epoch.
    pub fn proxies(&self, now_ms: u64) -> Proxies {
        let epoch = self.state.epoch;
        let since = self.written_ms.saturating_add(REPORT_SLACK_MS);
        let (mut busy, mut enforcing, mut recent, mut enforced) = (0u32, 0u32, 0u64, 0u64);
        for proxy in &self.facts.proxies {
            recent = recent.saturating_add(proxy.recent);
            let knows = proxy.vms.iter().any(|vm| vm.epoch >= epoch);
            let lowest = proxy.enforces(since);
            if lowest.is_none() && !knows {
                continue;
            }
            busy += 1;
            if knows && now_ms >= since && lowest.is_none_or(|lowest| lowest >= epoch) {
                enforcing += 1;
                enforced = enforced.saturating_add(proxy.recent);
            }
        }
        let share = enforced.saturating_mul(10_000).checked_div(recent).unwrap_or(0);
        let share = u16::try_from(share).unwrap_or(10_000);
        Proxies { epoch, busy, enforcing, enforced_share: Bps::new(share).unwrap_or(Bps::ALL) }
    }

    fn gives_more(&self, route: &Route) -> bool {
        let limit = |route: &Route| route.plan.as_ref().map_or(Bps::ZERO, |plan| plan.limit);
        let now = self.written.as_ref();
        limit(route) > Bps::ZERO || now.is_some_and(|now| now.stable != route.stable)
    }

    /// Says it at once, then rarely: a full disk must not fill it further.
    fn complain(&mut self, kind: &'static str, text: String, now_ms: u64) {
        let told =
            self.trouble.get(kind).filter(|trouble| trouble.text == text).map(|trouble| trouble.told_ms);
        let told_ms = match told {
            Some(at) if now_ms.saturating_sub(at) < COMPLAIN_MS => at,
            _ => {
                tracing::error!(service = %self.name, "{text}; trying again, caps in the replies keep holding");
                now_ms
            }
        };
        self.trouble.insert(kind, Trouble { text, told_ms });
    }
}

// === impl Way ===

impl Way {
    fn of(route: &Route) -> Way {
        match &route.plan {
            Some(plan) if plan.pins == Pins::Condemned => Way::Back,
            _ => Way::On,
        }
    }
}

// === impl Repairs ===

impl Repairs {
    /// A route that was never written is no repair: it waits for nothing.
    fn may_write(&self, route: &Route, now_ms: u64) -> bool {
        !self.pending || self.written.as_ref() != Some(route) || now_ms >= self.paused_until_ms
    }

    fn done(&mut self, route: Route, now_ms: u64) {
        self.written = Some(route);
        while self.done_ms.front().is_some_and(|at| now_ms.saturating_sub(*at) > REPAIR_WINDOW_MS) {
            self.done_ms.pop_front();
        }
        if std::mem::take(&mut self.pending) {
            self.done_ms.push_back(now_ms);
        }
        if self.done_ms.len() >= MAX_REPAIRS {
            self.done_ms.clear();
            self.paused_until_ms = now_ms.saturating_add(REPAIR_WINDOW_MS);
        }
    }

    fn problem(&self) -> Option<String> {
        let by = self.by.as_deref().unwrap_or("somebody");
        // One change that is repaired at once is no struggle.
        let held_off = self.pending && self.paused_until_ms > 0 && self.done_ms.is_empty();
        held_off.then(|| {
            format!(
                "{by} changes the managed route again and again; it is repaired {MAX_REPAIRS} times a minute at most: \
                 let {by} ignore the managed routes"
            )
        })
    }
}
