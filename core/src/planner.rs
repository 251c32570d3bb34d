//! What to do next with one service: `plan(observation, now)` names the changes, the reasons, and when to look again.
//!
//! Pure, total and idempotent: the same observation gives the same plan, and once its changes are made the next
//! plan has none. So apply may die between any two of them and needs no memory of its own.
//!
//! Two rules shape it. **Back is always open**: `taken_back` is asked first, in every phase, and looks at
//! nothing but its causes; no readiness, pause, certificate or earlier write stands before it. **Forward is never
//! assumed**: the share rises only in `forward`, and every branch of it that stays says what is missing.
//!
//! What it deliberately does not do: judge (it is told the verdict), write, or read a clock.

mod observation;
mod report;

pub use observation::{
    Advance, Inconclusive, Judged, Observation, Order, Proxies, SilentWorker, Verb, Wish, WishedStep,
};
pub use report::{Answer, Change, Done, Move, Plan, PlanReport, Refusal, WaitingOn};

use crate::judge::Verdict;
use crate::judge::watches::{Sight, Watch};
use crate::release::{Cause, Ended, Moment, Outcome, Phase, Record, State, Step};
use crate::route_plan::Pins;
use crate::share::Bps;
use alloc::vec::Vec;

/// How long a rollback without any traffic waits for a proxy to confirm it, ms. The route is written by then, and
/// no request was there to prove that it is enforced.
pub const QUIET_MS: u64 = 10_000;
/// Most revisions that are remembered as condemned: far more than anybody tries, and still a bound.
const MAX_CONDEMNED: usize = 64;
/// Most transitions in one plan: a release has fewer phases in a row that wait for nothing.
const MAX_MOVES: usize = 16;

/// The next plan of this service.
pub fn plan(seen: &Observation, now_ms: u64) -> Plan {
    let mut work = Work::begin(seen, now_ms);
    work.catch_up_with_what_was_seen();
    work.take_back_if_there_is_a_cause();
    work.take_orders();
    work.move_on_while_nothing_is_missing();
    work.finish()
}

/// A plan in the making: the state as it will be, and what leads there.
struct Work<'a> {
    seen: &'a Observation,
    now_ms: u64,
    state: State,
    record: Option<Record>,
    recorded: u32,
    report: PlanReport,
    wake_after_ms: Option<u64>,
}

/// Where a release would go, or what keeps it.
enum Next {
    Go(Phase, Step),
    Stay,
}

// === impl Work ===

impl<'a> Work<'a> {
    fn begin(seen: &'a Observation, now_ms: u64) -> Work<'a> {
        Work {
            seen,
            now_ms,
            state: seen.state.clone(),
            record: None,
            recorded: seen.recorded,
            report: PlanReport::default(),
            wake_after_ms: None,
        }
    }

    /// A state older than the route does not know which step was certified: stable color, hold.
    fn catch_up_with_what_was_seen(&mut self) {
        let (release, epoch) = self.seen.seen;
        let written = self.seen.written.as_ref();
        // Between the record of an end and the state after it only these two phases are open: any other open phase
        // of a release with a record is older than its end.
        let ending = matches!(self.state.phase, Phase::Draining | Phase::RollingBack);
        let ended = self.state.phase.is_open() && !ending && self.seen.recorded >= self.state.release;
        let behind = ended || self.state.release < release || self.state.epoch < epoch;
        if !behind {
            let no_such_step =
                matches!(self.state.phase, Phase::Progressing { .. }) && self.state.step_share().is_none();
            if no_such_step {
                self.enter_rollback(Cause::Interrupted);
            }
            return;
        }
        if !ended && self.was_taken_back() {
            self.state.epoch = self.state.epoch.max(epoch);
            self.enter_rollback(Cause::Unwritten);
            return;
        }
        if let Some(route) = written {
            self.state.live = route.stable;
        }
        let open = written.is_some_and(|route| route.plan.is_some());
        self.state.release = self.state.release.max(release);
        self.state.epoch = self.state.epoch.max(epoch);
        // What stands in the document now was perhaps tried before: it waits for a person.
        self.state.revisions = self.seen.wish.revisions.clone();
        if open || self.state.phase.is_open() {
            self.state.opened_ms = self.now_ms;
            self.state.timeline.clear();
            self.state.phase = Phase::Idle;
            self.enter_rollback(Cause::Interrupted);
        }
    }

    /// A way back is written before its own state. Who dies in between finds the proof in the route: this very
    /// release, condemned. So its revision is condemned too, and the release is not merely interrupted.
    fn was_taken_back(&self) -> bool {
        let written = self.seen.written.as_ref().filter(|route| route.stable == self.state.live);
        let plan = written.and_then(|route| route.plan.as_ref());
        self.state.phase.is_open()
            && self.seen.seen.0 <= self.state.release
            && plan.is_some_and(|plan| plan.pins == Pins::Condemned && plan.release == self.state.release)
    }

    /// Back is always open: every cause counts in every phase, whatever else is missing.
    fn take_back_if_there_is_a_cause(&mut self) {
        if !self.state.phase.is_open() || self.state.phase == Phase::RollingBack {
            return;
        }
        if let Some(cause) = taken_back(self.seen, &self.state, self.now_ms) {
            self.enter_rollback(cause);
        }
    }

    fn take_orders(&mut self) {
        let orders: Vec<Order> =
            self.seen.orders.iter().filter(|order| order.number > self.state.orders_done).cloned().collect();
        for order in orders {
            let result = self.obey(order.verb);
            self.state.orders_done = order.number;
            self.report.answers.push(Answer { number: order.number, result });
        }
    }

    fn obey(&mut self, verb: Verb) -> Result<Done, Refusal> {
        let open = self.state.phase.is_open();
        match verb {
            Verb::Release { force } => {
                if open {
                    return Err(Refusal::ReleaseOpen(self.state.release));
                }
                if self.seen.stopping {
                    return Err(Refusal::Stopping);
                }
                let candidate = self.state.candidate();
                let revision = self.seen.wish.revisions.get(candidate).clone();
                if !force && self.state.condemned.contains(&revision) {
                    return Err(Refusal::Condemned(revision));
                }
                if !force && revision == *self.state.revisions.get(self.state.live) {
                    return Err(Refusal::SameRevision(revision));
                }
                self.state.condemned.retain(|bad| *bad != revision);
                // A person who starts a release wants it to run.
                self.state.paused = false;
                self.open(Step::Person);
                Ok(Done::Opened(self.state.release))
            }
            Verb::Promote => self.promote(),
            Verb::Pause if self.state.phase == Phase::Idle => Err(Refusal::NothingOpen),
            Verb::Pause if self.state.paused => Err(Refusal::Already),
            Verb::Pause => {
                self.state.paused = true;
                Ok(Done::Paused)
            }
            Verb::Resume if !self.state.paused => Err(Refusal::Already),
            Verb::Resume => {
                self.state.paused = false;
                Ok(Done::Resumed)
            }
            Verb::Abort => match self.state.phase {
                Phase::Idle => Err(Refusal::NothingOpen),
                Phase::RollingBack => Err(Refusal::RollingBack),
                _ => {
                    self.enter_rollback(Cause::Aborted);
                    Ok(Done::TakesBack(self.state.release))
                }
            },
        }
    }

    /// A person skips the wait of the present step or watch; what would send requests into the void stays refused.
    fn promote(&mut self) -> Result<Done, Refusal> {
        match self.state.phase {
            Phase::Idle => Err(Refusal::NothingOpen),
            Phase::RollingBack => Err(Refusal::RollingBack),
            Phase::Progressing { .. } | Phase::Soaking | Phase::Marking | Phase::Waiting => {
                let candidate = self.state.candidate();
                if !*self.seen.accepting.get(candidate) {
                    return Err(Refusal::NotAccepting(candidate));
                }
                let Some(next) = self.next_phase() else {
                    return Err(Refusal::NothingToSkip(self.state.phase));
                };
                self.enter(next, Step::Person);
                Ok(Done::GoesOn(self.state.release))
            }
            phase => Err(Refusal::NothingToSkip(phase)),
        }
    }

    fn move_on_while_nothing_is_missing(&mut self) {
        for _ in 0..MAX_MOVES {
            self.report.waiting_on.clear();
            self.wake_after_ms = None;
            match self.forward() {
                Next::Go(phase, why) => self.go(phase, why),
                Next::Stay => return,
            }
        }
    }

    fn go(&mut self, phase: Phase, why: Step) {
        match phase {
            Phase::Idle => self.end(why),
            Phase::Preparing => self.open(why),
            phase => self.enter(phase, why),
        }
    }

    /// Where the release goes when nothing is missing; otherwise what is.
    fn forward(&mut self) -> Next {
        match self.state.phase {
            Phase::Idle => self.may_open(),
            Phase::RollingBack => self.is_the_rollback_in_force(),
            Phase::Draining => self.is_the_old_color_empty(),
            Phase::Preparing => self.does_the_candidate_accept(),
            // No gates yet: they will return their own reasons here.
            Phase::Validating => match self.seen.wish.marking_ms {
                Some(_) => Next::Go(Phase::Marking, Step::Ready),
                None => Next::Go(Phase::Waiting, Step::Ready),
            },
            Phase::Marking => self.are_sessions_marked(),
            Phase::Waiting => self.may_traffic_start(),
            Phase::Progressing { step } => self.may_the_step_advance(step),
            Phase::Soaking => self.is_the_watch_over(),
        }
    }

    fn may_open(&mut self) -> Next {
        let (candidate, live) = (self.state.candidate(), self.state.live);
        let wished = self.seen.wish.revisions.get(candidate).clone();
        if self.seen.wish.revisions.get(live) != self.state.revisions.get(live) {
            self.report.waiting_on.push(WaitingOn::LiveRevision(live));
        }
        if self.seen.stopping || wished == *self.state.revisions.get(candidate) {
            return Next::Stay;
        }
        if self.state.condemned.contains(&wished) {
            self.report.waiting_on.push(WaitingOn::CondemnedRevision(wished));
            return Next::Stay;
        }
        if self.state.paused {
            self.report.waiting_on.push(WaitingOn::Paused);
            return Next::Stay;
        }
        Next::Go(Phase::Preparing, Step::NewRevision)
    }

    fn does_the_candidate_accept(&mut self) -> Next {
        if self.candidate_accepts() { Next::Go(Phase::Validating, Step::Ready) } else { Next::Stay }
    }

    fn are_sessions_marked(&mut self) -> Next {
        let wished = self.seen.wish.marking_ms.unwrap_or(0);
        match self.left(wished) {
            None => Next::Go(Phase::Waiting, Step::Ready),
            Some(left) => self.stay_for(WaitingOn::Marking(left), left),
        }
    }

    fn may_traffic_start(&mut self) -> Next {
        let ready = [self.candidate_accepts(), self.nobody_paused(), self.nobody_is_silent()];
        if !ready.into_iter().all(|ready| ready) {
            return Next::Stay;
        }
        match self.next_phase() {
            Some(phase) => Next::Go(phase, Step::Ready),
            None => Next::Stay,
        }
    }

    /// Every reason is collected, not only the first: people see all that is missing.
    fn may_the_step_advance(&mut self, step: u32) -> Next {
        let index = usize::try_from(step).unwrap_or(usize::MAX);
        let wished = self.seen.wish.steps.get(index).copied();
        let min_ms = wished.map_or(0, |step| step.min_ms);
        let ready = [
            self.candidate_accepts(),
            self.nobody_paused(),
            self.proxies_enforce(),
            self.nobody_is_silent(),
            self.no_suspicion(),
            self.time_passed(min_ms),
        ];
        let ready = ready.into_iter().all(|ready| ready);
        let evidence = match self.seen.wish.advance {
            Advance::Certified => self.certified(),
            Advance::Unsuspicious => self.sampled(wished.map_or(0, |step| step.min_requests)),
        };
        let evidence = match evidence {
            Some(why) => Some(why),
            None => self.deadline_promotes(),
        };
        match (ready, evidence, self.next_phase()) {
            (true, Some(why), Some(next)) => {
                self.report.waiting_on.clear();
                Next::Go(next, why)
            }
            _ => Next::Stay,
        }
    }

    fn is_the_watch_over(&mut self) -> Next {
        self.turn_the_watch();
        let ready = [
            self.nobody_paused(),
            self.proxies_enforce(),
            self.nobody_is_silent(),
            self.no_suspicion(),
            self.candidate_accepts(),
        ];
        let ready = ready.into_iter().all(|ready| ready);
        match self.left(self.seen.wish.soak_ms) {
            None if ready => Next::Go(Phase::Draining, Step::Watched),
            None => Next::Stay,
            Some(left) => self.stay_for(WaitingOn::Soak(left), left),
        }
    }

    /// After half an hour that proved the candidate, less is held back for the rest of the soak; never more again.
    fn turn_the_watch(&mut self) {
        let Some(judged) = self.judged() else { return };
        let certified = judged.verdict == Verdict::Certified && judged.share == self.state.limit();
        let watch = self.state.watch.after(Sight {
            since_ms: self.state.elapsed_ms(self.now_ms),
            verdict: judged.verdict,
            certified,
            // The judge holds while there is one.
            shared_incident: false,
        });
        if watch == self.state.watch || self.state.paused {
            return;
        }
        self.state.watch = watch;
        let held_back = Bps::new(watch.holdback_bps()).unwrap_or(self.state.holdback);
        let held_back = held_back.max(self.seen.wish.least_holdback);
        if watch == Watch::Day && held_back < self.state.holdback {
            self.state.holdback = held_back;
            self.state.epoch = self.state.epoch.saturating_add(1);
            let (at_ms, phase, limit) = (self.now_ms, self.state.phase, self.state.limit());
            self.state.timeline.push(Moment { at_ms, phase, limit, why: Step::Certified });
        }
    }

    fn is_the_old_color_empty(&mut self) -> Next {
        let color = self.state.live;
        let in_flight = *self.seen.in_flight.get(color);
        // Who finishes now does so without us: Envoy serves what is open.
        if self.seen.stopping && self.is_written() {
            return Next::Go(Phase::Idle, Step::Drained);
        }
        let empty = in_flight == 0 && self.in_force();
        match self.left(self.seen.wish.drain_ms) {
            // The route must at least be written: the deadline is about requests, not about our own writes.
            None if self.is_written() => Next::Go(Phase::Idle, Step::Drained),
            _ if empty => Next::Go(Phase::Idle, Step::Drained),
            left => {
                if in_flight > 0 {
                    self.report.waiting_on.push(WaitingOn::Drain { color, in_flight });
                }
                self.wake(left.unwrap_or(QUIET_MS));
                Next::Stay
            }
        }
    }

    fn is_the_rollback_in_force(&mut self) -> Next {
        if self.in_force() { Next::Go(Phase::Idle, Step::Enforced) } else { Next::Stay }
    }

    /// The present route is written, and the proxies with traffic enforce it; without traffic, time decides.
    fn in_force(&mut self) -> bool {
        if !self.is_written() {
            return false;
        }
        if self.proxies().busy > 0 {
            return self.proxies_enforce();
        }
        match self.left(QUIET_MS) {
            None => true,
            Some(left) => {
                self.push_enforcement();
                self.wake(left);
                false
            }
        }
    }

    fn is_written(&self) -> bool {
        self.seen.written.as_ref() == Some(&self.state.route())
    }

    /// The share may rise only where requests find somebody.
    fn candidate_accepts(&mut self) -> bool {
        let candidate = self.state.candidate();
        let accepts = *self.seen.accepting.get(candidate);
        if !accepts {
            self.report.waiting_on.push(WaitingOn::Endpoints(candidate));
        }
        accepts
    }

    fn nobody_paused(&mut self) -> bool {
        if self.state.paused {
            self.report.waiting_on.push(WaitingOn::Paused);
        }
        !self.state.paused
    }

    /// All Envoys that sent a request since the write, or those with 95 % of the last ten seconds' requests.
    fn proxies_enforce(&mut self) -> bool {
        let proxies = self.proxies();
        let most = proxies.enforced_share.get() >= 9_500;
        let enforced = self.is_written() && proxies.busy > 0 && (proxies.enforcing >= proxies.busy || most);
        if !enforced {
            self.push_enforcement();
        }
        enforced
    }

    fn push_enforcement(&mut self) {
        let Proxies { busy, enforcing, .. } = self.proxies();
        self.report.waiting_on.push(WaitingOn::Enforcement { epoch: self.state.epoch, enforcing, busy });
    }

    /// Where a worker's filter is dead, requests are split by weight alone and counted nowhere: no share rises on
    /// evidence that leaves them out.
    fn nobody_is_silent(&mut self) -> bool {
        if let Some(SilentWorker { proxy, vm }) = self.seen.silent.first().cloned() {
            let others = self.seen.silent.len() - 1;
            self.report.waiting_on.push(WaitingOn::Silent { proxy, vm, others });
        }
        self.seen.silent.is_empty()
    }

    fn no_suspicion(&mut self) -> bool {
        let suspicious = self.judged().is_some_and(|judged| judged.verdict == Verdict::Hold);
        if suspicious {
            self.report.waiting_on.push(WaitingOn::Suspicion);
        }
        !suspicious
    }

    fn time_passed(&mut self, wished_ms: u64) -> bool {
        let left = self.left(wished_ms);
        if let Some(left) = left {
            self.report.waiting_on.push(WaitingOn::MinTime(left));
            self.wake(left);
        }
        left.is_none()
    }

    fn certified(&mut self) -> Option<Step> {
        let share = self.state.limit();
        let certified =
            self.judged().is_some_and(|judged| judged.verdict == Verdict::Certified && judged.share == share);
        if !certified {
            self.report.waiting_on.push(WaitingOn::Evidence(share));
        }
        certified.then_some(Step::Certified)
    }

    fn sampled(&mut self, wished: u64) -> Option<Step> {
        let left = wished.saturating_sub(self.seen.step_requests);
        if left > 0 {
            self.report.waiting_on.push(WaitingOn::MinRequests(left));
        }
        (left == 0).then_some(Step::Unsuspicious)
    }

    fn deadline_promotes(&mut self) -> Option<Step> {
        match (self.left(self.seen.wish.deadline_ms), self.seen.wish.inconclusive) {
            (Some(left), _) => {
                self.wake(left);
                None
            }
            (None, Inconclusive::Promote) => Some(Step::Deadline),
            (None, Inconclusive::Hold | Inconclusive::Rollback) => {
                self.report.waiting_on.push(WaitingOn::Person);
                None
            }
        }
    }

    /// The phase after this one on the way forward.
    fn next_phase(&self) -> Option<Phase> {
        let count = u32::try_from(self.state.steps.len()).unwrap_or(u32::MAX);
        match self.state.phase {
            Phase::Marking => Some(Phase::Waiting),
            Phase::Waiting if count == 0 => Some(Phase::Soaking),
            Phase::Waiting => Some(Phase::Progressing { step: 0 }),
            Phase::Progressing { step } if step.saturating_add(1) < count => {
                Some(Phase::Progressing { step: step.saturating_add(1) })
            }
            Phase::Progressing { .. } => Some(Phase::Soaking),
            Phase::Soaking => Some(Phase::Draining),
            _ => None,
        }
    }

    fn open(&mut self, why: Step) {
        let candidate = self.state.candidate();
        self.state.release = self.state.release.saturating_add(1);
        self.state.opened_ms = self.now_ms;
        self.state.timeline.clear();
        self.state.cause = None;
        *self.state.revisions.get_mut(candidate) = self.seen.wish.revisions.get(candidate).clone();
        self.state.keys = self.seen.wish.keys.clone();
        if let Some(version) = self.seen.wish.key_version {
            self.state.key_version = version;
        }
        self.state.steps = self.seen.wish.steps.iter().map(|step| step.share).collect();
        self.state.holdback = self.seen.wish.holdback;
        self.state.watch = Watch::default();
        self.state.keep = self.seen.wish.marking_ms.is_some();
        self.enter(Phase::Preparing, why);
    }

    fn enter_rollback(&mut self, cause: Cause) {
        self.state.cause = Some(cause);
        self.enter(Phase::RollingBack, Step::TakenBack);
    }

    /// The epoch grows with everything that a proxy would see differently.
    fn enter(&mut self, phase: Phase, why: Step) {
        let before = self.state.route();
        self.state.phase = phase;
        self.state.entered_ms = self.now_ms;
        let after = self.state.route();
        if after != before && after.plan.is_some() {
            self.state.epoch = self.state.epoch.saturating_add(1);
        }
        let limit = self.state.limit();
        self.state.timeline.push(Moment { at_ms: self.now_ms, phase, limit, why });
        self.report.moves.push(Move {
            release: self.state.release,
            to: phase,
            limit,
            why,
            cause: self.state.cause.clone(),
        });
    }

    /// The release is over: one record, and the roles as they are now.
    fn end(&mut self, why: Step) {
        let candidate = self.state.candidate();
        let outcome = match self.state.cause.clone() {
            Some(cause) => Outcome::RolledBack(cause),
            None => Outcome::Promoted,
        };
        if self.recorded < self.state.release {
            self.recorded = self.state.release;
            self.record = Some(self.state.record(outcome.clone(), self.now_ms));
        }
        let revision = self.state.revisions.get(candidate).clone();
        match &outcome {
            Outcome::Promoted => self.state.live = candidate,
            Outcome::RolledBack(cause) if cause.condemns() && !self.state.condemned.contains(&revision) => {
                self.state.condemned.push(revision.clone());
                if self.state.condemned.len() > MAX_CONDEMNED {
                    self.state.condemned.remove(0);
                }
            }
            Outcome::RolledBack(_) => {}
        }
        self.state.last = Some(Ended { release: self.state.release, revision, outcome, at_ms: self.now_ms });
        self.enter(Phase::Idle, why);
        self.state.cause = None;
        self.state.timeline.clear();
    }

    fn proxies(&self) -> Proxies {
        if self.seen.proxies.epoch == self.state.epoch { self.seen.proxies } else { Proxies::default() }
    }

    fn judged(&self) -> Option<Judged> {
        self.seen.judged.filter(|judged| judged.release == self.state.release)
    }

    /// What is left of a time counted from the phase's begin; `None`: nothing.
    fn left(&self, wished_ms: u64) -> Option<u64> {
        let left = wished_ms.saturating_sub(self.state.elapsed_ms(self.now_ms));
        (left > 0).then_some(left)
    }

    fn stay_for(&mut self, reason: WaitingOn, left_ms: u64) -> Next {
        self.report.waiting_on.push(reason);
        self.wake(left_ms);
        Next::Stay
    }

    fn wake(&mut self, after_ms: u64) {
        self.wake_after_ms = Some(self.wake_after_ms.map_or(after_ms, |earlier| earlier.min(after_ms)));
    }

    /// What was decided, as writes: what happened first, then what is remembered, then what proxies are told.
    fn finish(self) -> Plan {
        let mut changes = Vec::new();
        changes.extend(self.record.map(Change::Record));
        let route = self.state.route();
        if self.state != self.seen.state {
            changes.push(Change::Save(self.state));
        }
        if self.seen.written.as_ref() != Some(&route) {
            changes.push(Change::Route(route));
        }
        Plan { changes, report: self.report, wake_after_ms: self.wake_after_ms }
    }
}

/// Why the open release must go back, if it must. Facts and people's wishes, nothing that could delay it.
fn taken_back(seen: &Observation, state: &State, now_ms: u64) -> Option<Cause> {
    let judged = seen.judged.filter(|judged| judged.release == state.release);
    if let Some(judged) = judged {
        if judged.dead {
            return Some(Cause::Dead);
        }
        if judged.fuse {
            return Some(Cause::Fuse);
        }
        if judged.verdict == Verdict::Rollback {
            return Some(Cause::Verdict);
        }
    }
    if seen.wish.revisions.get(state.candidate()) != state.revisions.get(state.candidate()) {
        return Some(Cause::Superseded);
    }
    // Draining is over but for its last requests: that end is the promotion.
    if seen.stopping && state.phase != Phase::Draining {
        return Some(Cause::Stopped);
    }
    let late = matches!(state.phase, Phase::Progressing { .. })
        && state.elapsed_ms(now_ms) >= seen.wish.deadline_ms
        && seen.wish.inconclusive == Inconclusive::Rollback
        && !judged.is_some_and(|judged| judged.verdict == Verdict::Certified);
    late.then_some(Cause::Inconclusive)
}
