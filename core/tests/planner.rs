//! Rules of the planner, over random histories: a model world makes its changes, loses power between any two of
//! them, forgets its state, and people and judges say what they like.
//!
//! The judge and the proxies are inputs here; that they are right is tested where they live.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers outside `#[test]` functions

use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::judge::Verdict;
use hueshift_core::planner::{
    Advance, Change, Inconclusive, Judged, Observation, Order, Plan, PlanReport, Proxies, SilentWorker, Verb,
    Wish, WishedStep, plan,
};
use hueshift_core::release::{Cause, Outcome, Phase, Record, State, Step};
use hueshift_core::route_plan::Pins;
use hueshift_core::share::Bps;
use proptest::prelude::*;

const ID: ServiceId = ServiceId::from_bytes([7; 8]);

fn bps(n: u16) -> Bps {
    Bps::new(n).unwrap()
}

fn wish() -> Wish {
    let step = |share| WishedStep { share: bps(share), min_ms: 1_000, min_requests: 10 };
    Wish {
        revisions: PerColor { blue: "v1".into(), green: "v1".into() },
        steps: vec![step(500), step(2_500), step(5_000)],
        advance: Advance::Certified,
        holdback: bps(500),
        least_holdback: Bps::ZERO,
        soak_ms: 5_000,
        drain_ms: 20_000,
        deadline_ms: 60_000,
        inconclusive: Inconclusive::Hold,
        keys: Vec::new(),
        key_version: None,
        marking_ms: None,
    }
}

/// The world as it would be on disk and in the proxies.
#[derive(Debug, Clone)]
struct World {
    seen: Observation,
    now_ms: u64,
    records: Vec<Record>,
    /// Epochs of routes, as they were written.
    epochs: Vec<u64>,
    next_order: u64,
    told: Option<Plan>,
}

fn silent() -> Vec<SilentWorker> {
    vec![SilentWorker { proxy: "gw-1".into(), vm: 3 }]
}

impl World {
    fn new() -> World {
        let state = State::new(ID, Color::Blue, wish().revisions, 0);
        let seen = Observation {
            written: Some(state.route()),
            state,
            wish: wish(),
            seen: (0, 0),
            recorded: 0,
            judged: None,
            accepting: PerColor { blue: true, green: true },
            proxies: Proxies::default(),
            silent: Vec::new(),
            in_flight: PerColor::default(),
            step_requests: 0,
            orders: Vec::new(),
            stopping: false,
        };
        World { seen, now_ms: 0, records: Vec::new(), epochs: Vec::new(), next_order: 1, told: None }
    }

    fn releasing() -> World {
        let mut world = World::new();
        world.seen.wish.revisions.green = "v2".into();
        world.settle();
        world
    }

    fn order(&mut self, verb: Verb) {
        self.seen.orders.push(Order { number: self.next_order, verb });
        self.next_order += 1;
    }

    fn judge(&mut self, verdict: Verdict) {
        let state = &self.seen.state;
        self.seen.judged =
            Some(Judged { release: state.release, share: state.limit(), verdict, dead: false, fuse: false });
    }

    fn make(&mut self, change: Change) {
        match change {
            Change::Record(record) => {
                self.seen.recorded = self.seen.recorded.max(record.release);
                self.records.push(record);
            }
            Change::Save(state) => self.seen.state = state,
            Change::Route(route) => {
                if let Some(plan) = &route.plan {
                    self.epochs.push(plan.epoch);
                    self.seen.seen = self.seen.seen.max((plan.release, plan.epoch));
                }
                self.seen.written = Some(route);
            }
        }
    }

    /// One plan, the first `limit` of its changes made.
    fn step(&mut self, limit: usize) -> Plan {
        let next = plan(&self.seen, self.now_ms);
        for change in next.changes.iter().take(limit) {
            self.make(change.clone());
        }
        next
    }

    fn settle(&mut self) {
        self.told = Some(self.step(usize::MAX));
    }

    /// What the last plan said.
    fn report(&self) -> &PlanReport {
        &self.told.as_ref().unwrap().report
    }

    fn limit(&self) -> Bps {
        self.seen.written.as_ref().and_then(|route| route.plan.as_ref()).map_or(Bps::ZERO, |plan| plan.limit)
    }

    fn phase(&self) -> Phase {
        self.seen.state.phase
    }

    /// The proxies' word about what is written.
    fn enforce(&mut self, busy: u32, enforcing: u32) {
        let epoch =
            self.seen.written.as_ref().and_then(|route| route.plan.as_ref()).map_or(0, |plan| plan.epoch);
        let enforced_share = if busy > 0 && enforcing == busy { Bps::ALL } else { Bps::ZERO };
        self.seen.proxies = Proxies { epoch, busy, enforcing, enforced_share };
    }

    /// Certifies and waits until the release is in `phase`.
    fn ramp_to(&mut self, phase: Phase) {
        for _ in 0..100 {
            if self.phase() == phase {
                return;
            }
            self.judge(Verdict::Certified);
            self.now_ms += 6_000;
            self.enforce(1, 1);
            self.settle();
        }
        panic!("never reached {phase:?}, is in {:?}", self.phase());
    }
}

#[derive(Debug, Clone)]
enum Event {
    Verdict(Verdict),
    WrongShare,
    Dead,
    Fuse,
    Accepting(bool),
    Proxies(u32, u32),
    Silent(bool),
    InFlight(u64),
    Time(u64),
    Order(Verb),
    Revision(bool, u8),
    Inconclusive(u8),
    Requests(u64),
    Stopping(bool),
    /// Power fails after so many changes of the next plan.
    Crash(usize),
    /// The state file is gone or from yesterday.
    LoseState,
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Continue), 2 => Just(Verdict::Hold), 6 => Just(Verdict::Certified), 1 => Just(Verdict::Rollback)
    ];
    let verb = prop_oneof![
        any::<bool>().prop_map(|force| Verb::Release { force }),
        Just(Verb::Promote),
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Abort)
    ];
    prop_oneof![
        8 => verdict.prop_map(Event::Verdict),
        1 => Just(Event::WrongShare),
        1 => Just(Event::Dead),
        1 => Just(Event::Fuse),
        3 => any::<bool>().prop_map(Event::Accepting),
        3 => (0u32..3, 0u32..3).prop_map(|(a, b)| Event::Proxies(a, b)),
        2 => any::<bool>().prop_map(Event::Silent),
        2 => (0u64..2).prop_map(Event::InFlight),
        8 => (0u64..40_000).prop_map(Event::Time),
        4 => verb.prop_map(Event::Order),
        3 => (any::<bool>(), 1u8..4).prop_map(|(blue, n)| Event::Revision(blue, n)),
        1 => (0u8..3).prop_map(Event::Inconclusive),
        1 => (0u64..20).prop_map(Event::Requests),
        1 => any::<bool>().prop_map(Event::Stopping),
        4 => (0usize..3).prop_map(Event::Crash),
        1 => Just(Event::LoseState),
    ]
}

impl World {
    fn happen(&mut self, event: &Event) -> usize {
        let mut changes = usize::MAX;
        match event {
            Event::Verdict(verdict) => self.judge(*verdict),
            Event::WrongShare => {
                self.judge(Verdict::Certified);
                if let Some(judged) = &mut self.seen.judged {
                    judged.share = bps(17);
                }
            }
            Event::Dead | Event::Fuse => {
                self.judge(Verdict::Continue);
                if let Some(judged) = &mut self.seen.judged {
                    judged.dead = matches!(event, Event::Dead);
                    judged.fuse = !judged.dead;
                }
            }
            Event::Accepting(yes) => *self.seen.accepting.get_mut(self.seen.state.candidate()) = *yes,
            Event::Proxies(busy, enforcing) => {
                let enforcing = *enforcing.min(busy);
                self.enforce(*busy, enforcing);
            }
            Event::Silent(yes) => self.seen.silent = if *yes { silent() } else { Vec::new() },
            Event::InFlight(n) => self.seen.in_flight = PerColor { blue: *n, green: *n },
            Event::Time(ms) => self.now_ms += ms,
            Event::Order(verb) => self.order(*verb),
            Event::Revision(blue, n) => {
                let color = if *blue { Color::Blue } else { Color::Green };
                *self.seen.wish.revisions.get_mut(color) = format!("v{n}");
            }
            Event::Inconclusive(0) => self.seen.wish.inconclusive = Inconclusive::Hold,
            Event::Inconclusive(1) => self.seen.wish.inconclusive = Inconclusive::Promote,
            Event::Inconclusive(_) => self.seen.wish.inconclusive = Inconclusive::Rollback,
            Event::Requests(n) => self.seen.step_requests = *n,
            Event::Stopping(yes) => self.seen.stopping = *yes,
            Event::Crash(after) => changes = *after,
            Event::LoseState => {
                // Orders live in the memory of the process that died with it.
                self.seen.orders.clear();
                let live = self.seen.written.as_ref().map_or(Color::Blue, |route| route.stable);
                self.seen.state = State::new(ID, live, self.seen.wish.revisions.clone(), self.now_ms);
            }
        }
        changes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_in_every_history(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            let before = world.clone();
            let changes = world.happen(event);
            let seen = world.seen.clone();
            let next = world.step(changes);

            // Idempotent: the same observation, the same plan; once made, nothing is left to do.
            prop_assert_eq!(&plan(&seen, world.now_ms), &next);
            if changes == usize::MAX {
                let again = plan(&world.seen, world.now_ms);
                prop_assert!(again.changes.is_empty(), "left over: {:?} after {:?}", again.changes, next);
            }

            // The share rises only with a certificate for the present share, the document's own word, or a person's.
            let risen = before.limit() < world.limit();
            let moves = &next.report.moves;
            if risen && changes == usize::MAX {
                let why = moves.iter().rev().find(|m| m.limit == world.limit()).map(|m| m.why);
                let judged = seen.judged.filter(|j| j.release == seen.state.release && j.share == seen.state.limit());
                let allowed = match why {
                    Some(Step::Certified) => judged.is_some_and(|j| j.verdict == Verdict::Certified),
                    Some(Step::Person) => seen.orders.iter().any(|o| o.number > seen.state.orders_done),
                    Some(Step::Deadline) => seen.wish.inconclusive == Inconclusive::Promote,
                    // The first step: nothing was on the candidate before.
                    Some(Step::Ready) => before.limit() == Bps::ZERO,
                    Some(Step::Watched) => before.phase() == Phase::Soaking,
                    _ => false,
                };
                // A crash may have left a route behind a state that was already allowed to be there.
                let owed = seen.written.as_ref() != Some(&seen.state.route());
                prop_assert!(allowed || owed, "risen by {:?} in {:?}", why, moves);
                prop_assert!(*seen.accepting.get(seen.state.candidate()) || owed || seen.state.phase == Phase::Soaking
                    , "traffic towards a color that takes no connections");
            }

            // A pause stops advancing.
            if seen.state.paused && risen && seen.orders.iter().all(|o| o.number <= seen.state.orders_done) {
                let owed = seen.written.as_ref() != Some(&seen.state.route());
                prop_assert!(owed, "advanced while paused");
            }

            // Neither does the share rise while a worker is silent, but by a person's word.
            if !seen.silent.is_empty() && risen && seen.orders.iter().all(|o| o.number <= seen.state.orders_done) {
                let owed = seen.written.as_ref() != Some(&seen.state.route());
                prop_assert!(owed, "advanced while a worker was silent");
            }

            // Every condemnation is in that very plan, whatever else is missing.
            let condemned = seen.judged.is_some_and(|j| j.release == seen.state.release && (j.dead || j.fuse || j.verdict == Verdict::Rollback));
            let behind = seen.state.release < seen.seen.0 || seen.state.epoch < seen.seen.1;
            if condemned && seen.state.phase.is_open() && !behind && changes == usize::MAX {
                // The next release, of another revision, may begin in the same plan.
                let reopened = moves.iter().any(|m| m.to == Phase::Preparing);
                prop_assert!(world.limit() == Bps::ZERO || reopened, "{:?}", moves);
                let back = moves.iter().any(|m| m.to == Phase::RollingBack) || before.phase() == Phase::RollingBack;
                prop_assert!(back, "no way back in {:?}", moves);
            }

            // Epochs of written routes never decrease; records are written once.
            prop_assert!(world.epochs.is_sorted(), "{:?}", world.epochs);
            let mut releases: Vec<u32> = world.records.iter().map(|r| r.release).collect();
            let written = releases.len();
            releases.dedup();
            prop_assert_eq!(releases.len(), written, "a record twice");

            // Every move is an edge of the machine.
            let mut from = before.phase();
            for step in moves {
                let lost = matches!(event, Event::LoseState) || behind;
                prop_assert!(from.may_become(step.to) || lost, "{:?} -> {:?}", from, step.to);
                from = step.to;
            }

            // A condemned revision is not tried again without a person.
            if let Some(opened) = moves.iter().find(|m| m.to == Phase::Preparing)
                && opened.why != Step::Person {
                let revision = world.seen.wish.revisions.get(world.seen.state.candidate());
                prop_assert!(!seen.state.condemned.contains(revision));
            }
        }
    }

    #[test]
    fn power_may_fail_between_any_two_writes_and_the_end_is_the_same(
        events in prop::collection::vec(event(), 1..40), cut in 0usize..4
    ) {
        let mut whole = World::new();
        for event in &events {
            let _ = whole.happen(event);
            whole.settle();
        }
        let mut torn = whole.clone();
        torn.now_ms += 1_000;
        whole.now_ms += 1_000;
        whole.judge(Verdict::Rollback);
        torn.judge(Verdict::Rollback);
        whole.settle();
        let _ = torn.step(cut);
        torn.settle();
        prop_assert_eq!(&whole.seen.state, &torn.seen.state);
        prop_assert_eq!(&whole.seen.written, &torn.seen.written);
        prop_assert_eq!(&whole.records, &torn.records);
    }
}

#[test]
fn a_healthy_release_goes_through_all_phases_and_swaps_the_roles() {
    let mut world = World::releasing();
    assert_eq!(world.phase(), Phase::Progressing { step: 0 });
    assert_eq!(world.limit(), bps(500));
    world.ramp_to(Phase::Soaking);
    assert_eq!(world.limit(), bps(9_500));
    world.ramp_to(Phase::Idle);
    assert_eq!(world.seen.state.live, Color::Green);
    assert_eq!(world.limit(), Bps::ZERO);
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].outcome, Outcome::Promoted);
    assert!(world.seen.written.as_ref().unwrap().plan.is_none());
}

#[test]
fn less_is_held_back_after_half_an_hour_only_if_the_candidate_is_proved() {
    for (verdict, least, then) in [
        (Verdict::Certified, 0, 9_900),
        (Verdict::Certified, 300, 9_700),
        (Verdict::Certified, 500, 9_500),
        (Verdict::Continue, 0, 9_500),
        (Verdict::Hold, 0, 9_500),
    ] {
        let mut world = World::releasing();
        world.seen.wish.soak_ms = 86_400_000;
        world.seen.wish.least_holdback = bps(least);
        world.ramp_to(Phase::Soaking);
        let epoch = world.seen.state.epoch;
        for minutes in [6, 20, 40] {
            world.now_ms += minutes * 60_000;
            world.judge(verdict);
            world.enforce(1, 1);
            world.settle();
        }
        let state = &world.seen.state;
        assert_eq!((world.limit(), state.phase), (bps(then), Phase::Soaking), "{verdict}, at least {least}");
        assert_eq!(state.epoch > epoch, then > 9_500, "proxies must see the change");
    }
}

#[test]
fn rollback_is_in_the_very_next_plan_from_every_phase_even_paused_unready_and_unwritten() {
    for phase in [
        Phase::Preparing,
        Phase::Waiting,
        Phase::Progressing { step: 0 },
        Phase::Progressing { step: 2 },
        Phase::Soaking,
        Phase::Draining,
    ] {
        let mut world = World::new();
        world.seen.wish.revisions.green = "v2".into();
        if phase == Phase::Preparing {
            world.seen.accepting.green = false;
            world.settle();
        } else if phase == Phase::Waiting {
            world.seen.accepting.green = false;
            world.settle();
            world.order(Verb::Pause);
            world.seen.accepting.green = true;
            world.settle();
        } else {
            world.settle();
            world.seen.in_flight.blue = 1;
            world.ramp_to(phase);
        }
        assert_eq!(world.phase(), phase);
        world.seen.state.paused = true;
        world.seen.accepting = PerColor { blue: false, green: false };
        world.seen.proxies = Proxies::default();
        world.seen.silent = silent();
        world.seen.written = None;
        let epoch = world.seen.state.epoch;
        world.judge(Verdict::Rollback);
        world.settle();
        let route = world.seen.written.clone().unwrap();
        let plan = route.plan.unwrap();
        assert_eq!((plan.limit, plan.pins, plan.epoch), (Bps::ZERO, Pins::Condemned, epoch + 1), "{phase:?}");
        assert_eq!(route.stable, Color::Blue);
    }
}

#[test]
fn a_condemned_revision_waits_for_a_person_even_after_another_one() {
    let mut world = World::releasing();
    world.judge(Verdict::Rollback);
    world.settle();
    world.enforce(1, 1);
    world.settle();
    assert_eq!(world.phase(), Phase::Idle);
    world.seen.wish.revisions.green = "v3".into();
    world.settle();
    assert!(world.phase().is_open());
    world.order(Verb::Abort);
    world.settle();
    world.enforce(1, 1);
    world.settle();
    world.seen.wish.revisions.green = "v2".into();
    world.settle();
    assert_eq!(world.phase(), Phase::Idle);
    world.order(Verb::Release { force: false });
    world.settle();
    assert!(world.report().answers[0].result.is_err());
    world.order(Verb::Release { force: true });
    world.settle();
    assert!(world.phase().is_open());
}

#[test]
fn a_certificate_for_another_share_does_not_count() {
    let mut world = World::releasing();
    world.now_ms += 10_000;
    world.enforce(1, 1);
    let _ = world.happen(&Event::WrongShare);
    world.settle();
    assert_eq!(world.phase(), Phase::Progressing { step: 0 });
}

#[test]
fn suspicion_and_unenforced_epochs_hold_a_certified_step() {
    for hold in [true, false] {
        let mut world = World::releasing();
        world.now_ms += 10_000;
        world.judge(if hold { Verdict::Hold } else { Verdict::Certified });
        if !hold {
            world.enforce(2, 1);
            world.seen.proxies.enforced_share = bps(9_499);
        } else {
            world.enforce(1, 1);
        }
        world.settle();
        assert_eq!(world.phase(), Phase::Progressing { step: 0 });
        let reason = if hold { "suspicion" } else { "enforcement" };
        assert!(world.report().waiting_on.iter().any(|w| w.reason() == reason), "{:?}", world.report());
    }
}

#[test]
fn a_silent_worker_holds_the_ramp_and_is_named() {
    let mut world = World::releasing();
    world.now_ms += 10_000;
    world.judge(Verdict::Certified);
    world.enforce(1, 1);
    world.seen.silent = silent();
    world.settle();
    assert_eq!(world.phase(), Phase::Progressing { step: 0 });
    let waits: Vec<String> = world.report().waiting_on.iter().map(ToString::to_string).collect();
    assert!(waits.contains(&"worker 3 of Envoy gw-1 to report".to_owned()), "{waits:?}");
    world.seen.silent.clear();
    world.settle();
    assert_eq!(world.phase(), Phase::Progressing { step: 1 });
}

#[test]
fn a_deadline_does_what_the_document_says_and_a_pause_does_not_stop_the_way_back() {
    let mut world = World::releasing();
    world.seen.state.paused = true;
    world.seen.wish.inconclusive = Inconclusive::Rollback;
    world.now_ms += 59_999;
    world.settle();
    assert_eq!(world.phase(), Phase::Progressing { step: 0 });
    world.now_ms += 1;
    world.settle();
    world.enforce(1, 1);
    world.settle();
    assert_eq!(world.records[0].outcome, Outcome::RolledBack(Cause::Inconclusive));
}

#[test]
fn a_lost_state_under_an_open_route_goes_back_to_the_routes_stable_color_and_waits() {
    let mut world = World::releasing();
    world.ramp_to(Phase::Progressing { step: 1 });
    let epoch = world.seen.state.epoch;
    world.seen.state = State::new(ID, Color::Green, world.seen.wish.revisions.clone(), world.now_ms);
    world.settle();
    assert_eq!(world.report().moves[0].cause, Some(Cause::Interrupted));
    world.enforce(1, 1);
    world.settle();
    assert_eq!((world.phase(), world.seen.state.live, world.limit()), (Phase::Idle, Color::Blue, Bps::ZERO));
    assert!(world.seen.state.epoch > epoch);
    world.judge(Verdict::Certified);
    world.now_ms += 100_000;
    world.settle();
    assert_eq!(world.phase(), Phase::Idle);
}

#[test]
fn a_state_from_before_the_end_of_its_release_does_not_go_on_with_the_ramp() {
    let mut world = World::releasing();
    world.ramp_to(Phase::Progressing { step: 1 });
    let old = world.seen.state.clone();
    world.order(Verb::Abort);
    world.settle();
    world.enforce(1, 1);
    world.settle();
    assert_eq!((world.phase(), world.records.len()), (Phase::Idle, 1));
    // A backup is put back, and nothing but the record tells of the end: the idle route names no epoch.
    world.seen.orders.clear();
    world.seen.seen = (old.release, old.epoch);
    world.seen.state = old;
    let plan = world.step(usize::MAX);
    let shares = plan.changes.iter().filter_map(|change| match change {
        Change::Route(route) => route.plan.as_ref().map(|plan| plan.limit),
        _ => None,
    });
    assert!(shares.into_iter().all(|share| share == Bps::ZERO), "{plan:?}");
    world.enforce(1, 1);
    world.settle();
    assert_eq!((world.phase(), world.seen.state.live, world.records.len()), (Phase::Idle, Color::Blue, 1));
}

#[test]
fn draining_waits_for_the_old_colors_requests_but_not_for_ever() {
    let mut world = World::releasing();
    world.seen.in_flight.blue = 3;
    world.ramp_to(Phase::Draining);
    world.now_ms += 19_999;
    world.settle();
    assert_eq!(world.phase(), Phase::Draining);
    world.now_ms += 1;
    world.settle();
    assert_eq!(world.phase(), Phase::Idle);
}

#[test]
fn a_stop_leaves_everything_on_stable_and_the_revision_may_be_tried_again() {
    let mut world = World::releasing();
    world.ramp_to(Phase::Soaking);
    world.seen.stopping = true;
    world.settle();
    assert_eq!(world.limit(), Bps::ZERO);
    world.enforce(1, 1);
    world.settle();
    assert_eq!(world.records[0].outcome, Outcome::RolledBack(Cause::Stopped));
    assert!(world.seen.state.condemned.is_empty());
}

#[test]
fn a_route_that_was_taken_back_before_its_state_was_written_condemns_the_revision() {
    let mut world = World::releasing();
    world.ramp_to(Phase::Progressing { step: 1 });
    world.judge(Verdict::Rollback);
    let back =
        plan(&world.seen, world.now_ms).changes.into_iter().find(|change| matches!(change, Change::Route(_)));
    // The way back is written, its state is not, and the judge that knew why is gone.
    world.make(back.unwrap());
    world.seen.judged = None;
    world.settle();
    assert_eq!(world.report().moves[0].cause, Some(Cause::Unwritten));
    world.enforce(1, 1);
    world.settle();
    let state = &world.seen.state;
    assert_eq!(
        (state.phase, state.live, state.condemned.as_slice()),
        (Phase::Idle, Color::Blue, ["v2".into()].as_slice())
    );
    assert_eq!(world.records[0].outcome, Outcome::RolledBack(Cause::Unwritten));
}

#[test]
fn the_mesh_key_of_a_release_is_the_one_that_every_filter_had_when_it_opened() {
    let mut world = World::new();
    world.seen.wish.key_version = Some(4);
    world.seen.wish.revisions.green = "v2".into();
    world.settle();
    let key = |world: &World| world.seen.written.as_ref().unwrap().plan.as_ref().unwrap().key_version;
    assert_eq!(key(&world), 4);
    // Rotated, or not known, in its middle: sessions would draw anew.
    for version in [Some(5), None] {
        world.seen.wish.key_version = version;
        world.ramp_to(Phase::Progressing { step: 1 });
        assert_eq!(key(&world), 4);
    }
}
