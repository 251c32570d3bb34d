//! The engine with everything around it made of memory: a clock that jumps, a disk that dies between any two writes,
//! proxies that report what they are told to. Real sockets and a real Envoy are the end-to-end tests' business.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers outside `#[test]` functions

use hueshift::api::BlueGreen;
use hueshift::control::{Accepted, Command, Refused, Request};
use hueshift::document;
use hueshift::engine::{Engine, Identity, Input};
use hueshift::home::{Apply, ApplyError, Endpoints, Observe, Remembered, Seen};
use hueshift::view::{Cause, Earlier, End, Phase, ReleaseRecord, View};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{LotteryReport, PREDICTION_BINS, PlanReport, Reply, Report, ServiceId, Tally};
use hueshift_core::judge::Mode;
use hueshift_core::judge::dispersion::Dispersion;
use hueshift_core::release::{Route, State};
use hueshift_core::share::Bps;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

const DOCUMENT: &str = "
apiVersion: hueshift.dev/v1alpha1
kind: BlueGreen
metadata: {name: pricing}
spec:
  listen: 127.0.0.1:8080
  colors:
    blue: {endpoints: ['127.0.0.1:9001'], revision: v1}
    green: {endpoints: ['127.0.0.1:9002'], revision: v1}
  session: {keys: [{header: x-session}]}
  release:
    steps: [{share: 5%}, {share: 50%}]
    soak: {holdback: 5%, time: 2s}
    drainDeadline: 10s
  analysis: {predictions: {header: X-Score}}
";

const TRUSTED: &str = "cluster.local/ns/a/sa/gateway";

fn services(green: &str) -> Vec<BlueGreen> {
    let text = DOCUMENT.replace("9002'], revision: v1", &format!("9002'], revision: {green}"));
    let mut services =
        document::parse("test", text.as_bytes(), document::Writers::Owner, document::Homes::Standalone)
            .unwrap();
    // What a ReleasePolicy would say.
    services[0].spec.analysis.trusted_principals = vec![TRUSTED.to_owned()];
    services
}

/// What survives the controller: the disk.
#[derive(Default)]
struct Disk {
    state: Option<State>,
    route: Option<Route>,
    records: Vec<ReleaseRecord>,
    checkpoint: Option<Vec<u8>>,
    /// Names of all writes, in order.
    writes: Vec<&'static str>,
    /// The power fails before the write of this index.
    dies_at: Option<usize>,
    /// Writes of this name fail.
    withheld: Option<&'static str>,
}

#[derive(Clone, Default)]
struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    fn write(&self, name: &'static str, make: impl FnOnce(&mut Disk)) -> Result<(), ApplyError> {
        let mut disk = self.0.lock().unwrap();
        if disk.withheld == Some(name) {
            return Err(ApplyError(format!("{name} is withheld")));
        }
        if disk.dies_at.is_some_and(|at| disk.writes.len() >= at) {
            return Err(ApplyError("no power".to_owned()));
        }
        disk.writes.push(name);
        make(&mut disk);
        Ok(())
    }
}

impl Apply for SharedDisk {
    fn record(&self, record: &ReleaseRecord) -> Result<(), ApplyError> {
        self.write("record", |disk| {
            assert!(disk.records.iter().all(|known| known.release != record.release), "a record twice");
            disk.records.push(record.clone());
        })
    }
    fn save(&self, _: &str, state: &State) -> Result<(), ApplyError> {
        self.write("save", |disk| disk.state = Some(state.clone()))
    }
    fn route(&self, _: &str, route: &Route) -> Result<(), ApplyError> {
        self.write("route", |disk| disk.route = Some(route.clone()))
    }
    fn checkpoint(&self, _: &str, bytes: &[u8]) -> Result<(), ApplyError> {
        let mut disk = self.0.lock().unwrap();
        disk.checkpoint = Some(bytes.to_vec());
        Ok(())
    }
    fn may_restart(&self, _: &str, _: Option<Color>) {}
}

struct Eyes {
    disk: SharedDisk,
    seen: watch::Receiver<Seen>,
    first: bool,
    zero: Instant,
}

impl Observe for Eyes {
    fn seen(&mut self) -> Option<Seen> {
        let news = self.first || self.seen.has_changed().unwrap_or(false);
        self.first = false;
        news.then(|| self.seen.borrow_and_update().clone())
    }
    fn remembered(&mut self, _: &str) -> Option<(Remembered, ServiceId)> {
        let disk = self.disk.0.lock().unwrap();
        let remembered = Remembered {
            state: disk.state.clone(),
            route: disk.route.clone().map(|route| (route, true)),
            records: disk.records.clone(),
            checkpoint: disk.checkpoint.clone(),
            problems: Vec::new(),
        };
        Some((remembered, ServiceId::from_bytes([7; 8])))
    }
    fn now_ms(&self) -> u64 {
        1_000_000 + u64::try_from(self.zero.elapsed().as_millis()).unwrap()
    }
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.now_ms()
    }
}

/// One worker of one Envoy: draws, counts and reports as the written route says.
#[derive(Default)]
struct Proxy {
    seq: u64,
    term: u64,
    incarnation: u64,
    sessions: u64,
    books: BTreeMap<(u32, u64), LotteryReport>,
    error_rate: PerColor<f64>,
    /// The candidate says the same to everybody.
    one_answer: bool,
    capped: bool,
    /// Who the mesh says it is.
    principal: Option<String>,
}

struct World {
    disk: SharedDisk,
    see: watch::Sender<Seen>,
    zero: Instant,
    engine: Option<(mpsc::Sender<Input>, tokio::task::JoinHandle<()>)>,
    proxy: Proxy,
    term: u64,
}

impl World {
    async fn new() -> World {
        let mut world = World {
            disk: SharedDisk::default(),
            see: watch::channel(seen("v1")).0,
            zero: Instant::now(),
            engine: None,
            proxy: Proxy { incarnation: 1, ..Proxy::default() },
            term: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.term += 1;
        let (to_engine, inputs) = mpsc::channel(64);
        let disk = self.disk.clone();
        let eyes = Eyes { disk: disk.clone(), seen: self.see.subscribe(), first: true, zero: self.zero };
        let identity = Identity { file: "test".into(), term: self.term, started_ms: 0 };
        let engine = Engine::new(eyes, Arc::new(disk), identity, None, to_engine.clone());
        self.engine = Some((to_engine, tokio::spawn(engine.run(inputs))));
    }

    /// kill -9, and a new process.
    async fn restart(&mut self) {
        let (_, task) = self.engine.take().unwrap();
        task.abort();
        let _ = task.await;
        self.disk.0.lock().unwrap().dies_at = None;
        self.start();
    }

    fn revision(&self, green: &str) {
        self.see.send_replace(seen(green));
    }

    async fn send(&self, input: Input) {
        let _ = self.engine.as_ref().unwrap().0.send(input).await;
    }

    async fn view(&self) -> View {
        let (to, view) = oneshot::channel();
        self.send(Input::Status(to)).await;
        view.await.unwrap()
    }

    async fn phase(&self) -> Phase {
        self.view().await.services[0].phase
    }

    async fn command(&self, command: Command) -> Result<Accepted, Refused> {
        let (to, answer) = oneshot::channel();
        self.send(Input::Command(Request { service: None, command }, to)).await;
        answer.await.unwrap()
    }

    /// A quarter of a second of traffic: 100 requests of 100 new sessions, then the report.
    async fn traffic(&mut self) -> Option<Reply> {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let route = self.disk.0.lock().unwrap().route.clone()?;
        let plan = route.plan?;
        let limit = if self.proxy.capped { Bps::ZERO } else { plan.limit };
        let book = self.proxy.books.entry((plan.release, plan.epoch)).or_insert_with(|| LotteryReport {
            epoch: plan.epoch,
            limit,
            ..LotteryReport::default()
        });
        if self.proxy.capped && book.limit > Bps::ZERO {
            // A cap begins a lottery of its own; these requests are not what the tests are about.
            return self.report(plan.id, plan.release, plan.epoch).await;
        }
        for _ in 0..100 {
            let slot = u16::try_from(self.proxy.sessions * 7_919 % 10_000).unwrap();
            self.proxy.sessions += 1;
            let color = if slot < limit.get() { plan.stable.other() } else { plan.stable };
            let failed = (self.proxy.sessions % 100) as f64 / 100.0 < *self.proxy.error_rate.get(color);
            let tally: &mut Tally = book.tallies.get_mut(color);
            tally.started += 1;
            tally.completed += 1;
            tally.errors += u64::from(failed);
            let bin = if self.proxy.one_answer && color != plan.stable { 19 } else { slot % 20 };
            book.first_predictions.push(u32::from(slot) * PREDICTION_BINS + u32::from(bin));
            if failed && !book.error_slots.contains(&slot) {
                book.error_slots.push(slot);
            }
            if !book.done_slots.contains(&slot) {
                book.done_slots.push(slot);
            }
        }
        self.report(plan.id, plan.release, plan.epoch).await
    }

    async fn report(&mut self, id: ServiceId, release: u32, epoch: u64) -> Option<Reply> {
        self.proxy.seq += 1;
        let lotteries =
            self.proxy.books.iter().filter(|((of, _), _)| *of == release).map(|(_, book)| book.clone());
        let report = Report {
            proxy: "envoy-0".into(),
            vm: 1,
            incarnation: self.proxy.incarnation,
            seq: self.proxy.seq,
            plans: vec![PlanReport { id, release, epoch, tripped: 0, lotteries: lotteries.collect() }],
            ..Report::default()
        };
        let (to, reply) = oneshot::channel();
        self.send(Input::Report(Box::new(report), self.proxy.principal.clone(), to)).await;
        let reply = tokio::time::timeout(Duration::from_secs(1), reply).await.ok()?.ok()?;
        self.proxy.term = reply.term;
        self.proxy.capped = reply.caps.iter().any(|cap| cap.release == release && cap.max == Bps::ZERO);
        Some(reply)
    }

    async fn until(&mut self, phase: Phase) {
        for _ in 0..2_000 {
            if self.phase().await == phase {
                return;
            }
            self.traffic().await;
        }
        panic!("never {phase:?}: {:#?}", self.view().await.services[0].waiting_on);
    }
}

fn seen(green: &str) -> Seen {
    let up = Endpoints { listed: 1, up: 1, current: true };
    Seen {
        services: Arc::new(services(green)),
        endpoints: BTreeMap::from([("pricing".to_owned(), PerColor { blue: up, green: up })]),
        ..Seen::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_release_is_certified_step_by_step_and_serves_at_the_end() {
    let mut world = World::new().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    world.until(Phase::Soaking).await;
    world.until(Phase::Idle).await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.route, Some(Route { stable: Color::Green, plan: None }));
    assert_eq!(disk.records.len(), 1);
    assert_eq!(disk.records[0].end, End::Promoted);
    let state = disk.state.as_ref().unwrap();
    assert_eq!((state.live, state.revisions.green.as_str()), (Color::Green, "v2"));
    assert_eq!(disk.writes.iter().filter(|name| **name == "record").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_judge_is_told_whom_it_may_trust() {
    for (principal, is_trusted) in
        [(Some(TRUSTED), true), (Some("cluster.local/ns/a/sa/other"), false), (None, false)]
    {
        let mut world = World::new().await;
        world.proxy.principal = principal.map(str::to_owned);
        world.revision("v2");
        world.until(Phase::Progressing).await;
        let mut witnesses = None;
        for _ in 0..2_000 {
            world.traffic().await;
            let checkpoint = world.disk.0.lock().unwrap().checkpoint.clone().unwrap_or_default();
            let text = String::from_utf8(checkpoint).unwrap();
            // It was heard, as one among others or as one that is trusted.
            if let Some(at) = text.find(r#""witnesses":{"#).filter(|at| text[*at..].contains("envoy-0")) {
                witnesses = Some(text[at..].to_owned());
                break;
            }
        }
        let trusts = witnesses.unwrap().contains(r#""trusted":["envoy-0"]"#);
        assert_eq!(trusts, is_trusted, "{principal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_very_reply_to_the_report_that_crossed_the_line_carries_the_cap() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    // The phase counts from the moment of its decision; the route is there a moment later.
    while world.traffic().await.is_none() {}
    world.proxy.error_rate.green = 1.0;
    // The route cannot be written: only replies hold the candidate down.
    world.disk.0.lock().unwrap().withheld = Some("route");
    let mut capped = false;
    for _ in 0..40 {
        let before = world.view().await.services[0].evidence.clone().unwrap();
        let reply = world.traffic().await.unwrap();
        let after = world.view().await.services[0].evidence.clone().unwrap();
        let crossed = after.log_e >= after.rollback_at;
        assert_eq!(crossed || capped, !reply.caps.is_empty(), "{} -> {}", before.log_e, after.log_e);
        capped |= crossed;
    }
    assert!(capped);
    let view = world.view().await;
    assert_eq!(view.services[0].phase, Phase::RollingBack);
    assert!(view.services[0].problems[0].contains("withheld"), "{:?}", view.services[0].problems);

    // A new process goes on with the cap, and ends it once the disk allows.
    world.restart().await;
    assert!(!world.traffic().await.unwrap().caps.is_empty());
    world.disk.0.lock().unwrap().withheld = None;
    world.until(Phase::Idle).await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.records.len(), 1);
    assert_eq!((disk.records[0].end, disk.records[0].cause), (End::RolledBack, Some(Cause::Errors)));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_says_something_else_is_taken_back_by_bins_that_no_edit_changes() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    world.proxy.one_answer = true;
    let told = |reply: Option<Reply>| reply?.params.first()?.predictions.clone();
    let first = told(world.traffic().await).unwrap();
    assert_eq!((first.header.as_str(), first.min, first.max, first.bins), ("x-score", 0.0, 1.0, 20));
    let mut edited = seen("v2");
    let mut services = services("v2");
    services[0].spec.analysis.predictions.as_mut().unwrap().bins = 40;
    edited.services = Arc::new(services);
    world.see.send_replace(edited);
    assert_eq!(told(world.traffic().await).unwrap(), first);
    world.restart().await;
    assert_eq!(told(world.traffic().await).unwrap(), first, "nor a restart");
    world.until(Phase::Idle).await;
    let record = world.disk.0.lock().unwrap().records[0].clone();
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Predictions)), "{record:?}");
    assert!(record.evidence.unwrap().predictions.unwrap().too_far);
    let next = told(world.report(record_id(&world), 1, 99).await);
    assert_eq!(next.map(|params| params.bins), Some(40), "the next release has the edited ones");
}

#[tokio::test(start_paused = true)]
async fn the_unit_of_chance_of_a_service_without_session_keys_is_that_of_its_newest_record() {
    let mut world = World::new().await;
    let keyless = |blue: &str, green: &str| {
        let mut seen = seen(green);
        let mut services = services(green);
        services[0].spec.session.keys.clear();
        services[0].spec.colors.blue.revision = blue.to_owned();
        services[0].spec.analysis.predictions = None;
        seen.services = Arc::new(services);
        seen
    };
    world.see.send_replace(keyless("v1", "v2"));
    world.until(Phase::Progressing).await;
    world.traffic().await;
    let chance = |view: View| view.services[0].evidence.as_ref().unwrap().chance.unwrap();
    let first = chance(world.view().await);
    assert_eq!((first.mode, first.earlier), (Mode::PerError, None));
    world.until(Phase::Idle).await;
    // Its soak was too short to tell; a longer one would have told this.
    let dispersion = Dispersion { seconds: 300, phi: Some(9.0) };
    {
        let mut disk = world.disk.0.lock().unwrap();
        assert_eq!((disk.records[0].end, disk.records[0].dispersion), (End::Promoted, None));
        assert!(!disk.records[0].hours.is_empty(), "what a later cutover is held against");
        disk.records[0].dispersion = Some(dispersion);
    }
    world.restart().await;
    world.see.send_replace(keyless("v3", "v2"));
    world.until(Phase::Progressing).await;
    world.traffic().await;
    let second = chance(world.view().await);
    assert_eq!((second.mode, second.earlier), (Mode::Robust, Some(Earlier { release: 1, dispersion })));
    world.restart().await;
    world.traffic().await;
    assert_eq!(chance(world.view().await), second, "a restart does not choose again");
    world.command(Command::Abort).await.unwrap();
    world.until(Phase::Idle).await;
    let record = world.disk.0.lock().unwrap().records[1].clone();
    assert_eq!(record.evidence.unwrap().chance, Some(second));
}

/// The service's id.
fn record_id(world: &World) -> ServiceId {
    world.disk.0.lock().unwrap().state.as_ref().unwrap().id
}

#[tokio::test(start_paused = true)]
async fn a_kill_between_any_two_writes_ends_where_no_kill_ends() {
    for healthy in [true, false] {
        let mut writes = 0;
        for dies_at in std::iter::once(None).chain((0..40).map(Some)) {
            if dies_at.is_some_and(|at| at >= writes) {
                break;
            }
            let mut world = World::new().await;
            world.disk.0.lock().unwrap().dies_at = dies_at;
            world.revision("v2");
            world.proxy.error_rate.green = if healthy { 0.0 } else { 1.0 };
            let mut restarted = dies_at.is_none();
            for _ in 0..400 {
                world.traffic().await;
                let reached = {
                    let disk = world.disk.0.lock().unwrap();
                    dies_at.is_some_and(|at| disk.writes.len() >= at)
                };
                if reached && !restarted {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    world.restart().await;
                    // Before anything was remembered, what the document says now counts as known.
                    restarted = true;
                }
            }
            let disk = world.disk.0.lock().unwrap();
            writes = writes.max(disk.writes.len());
            let at = format!("healthy {healthy}, killed before write {dies_at:?}: {:?}", disk.writes);
            assert!(restarted, "{at}");
            if disk.records.is_empty() {
                assert!(dies_at.is_some_and(|at| at < 2), "{at}");
                continue;
            }
            assert_eq!(disk.records.len(), 1, "{at}");
            let (end, live) =
                if healthy { (End::Promoted, Color::Green) } else { (End::RolledBack, Color::Blue) };
            assert_eq!(disk.records[0].end, end, "{at}");
            assert_eq!(disk.route, Some(Route { stable: live, plan: None }), "{at}");
            assert_eq!(disk.state.as_ref().unwrap().live, live, "{at}");
        }
        assert!(writes > 6, "the sweep saw {writes} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_ramp_but_not_the_way_back() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    while world.traffic().await.is_none() {}
    world.disk.0.lock().unwrap().withheld = Some("save");
    for _ in 0..200 {
        world.traffic().await;
    }
    let limit = |world: &World| {
        let route = world.disk.0.lock().unwrap().route.clone();
        route.and_then(|route| route.plan).map_or(Bps::ZERO, |plan| plan.limit)
    };
    assert_eq!(limit(&world), Bps::new(500).unwrap(), "the share rose ahead of its state");
    world.proxy.error_rate.green = 1.0;
    for _ in 0..60 {
        world.traffic().await;
    }
    assert_eq!(limit(&world), Bps::ZERO, "the way back waited for the disk");
    // Even a process that never saw it knows what to do: the route is ahead of the state.
    world.restart().await;
    world.disk.0.lock().unwrap().withheld = None;
    world.until(Phase::Idle).await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.route, Some(Route { stable: Color::Blue, plan: None }));
    assert_eq!(disk.state.as_ref().unwrap().phase, hueshift_core::release::Phase::Idle);
    assert_eq!(disk.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_heals_lets_the_ramp_go_on_by_itself() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    world.disk.0.lock().unwrap().withheld = Some("save");
    for _ in 0..100 {
        world.traffic().await;
    }
    world.disk.0.lock().unwrap().withheld = None;
    world.until(Phase::Soaking).await;
    world.until(Phase::Idle).await;
    assert_eq!(world.disk.0.lock().unwrap().records[0].end, End::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_controller_counts_every_request_once() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    world.command(Command::Pause).await.unwrap();
    for restart in [false, false, true, false, true, true, false, true] {
        for _ in 0..17 {
            world.traffic().await;
        }
        if restart {
            world.restart().await;
        }
    }
    world.traffic().await;
    let view = world.view().await;
    let counted = view.services[0].evidence.as_ref().unwrap().counted;
    let booked = |color: Color| {
        let books = world.proxy.books.values();
        books.map(|book| book.tallies.get(color).completed).sum::<u64>()
    };
    assert_eq!((counted.blue.n, counted.green.n), (booked(Color::Blue), booked(Color::Green)));
}

#[tokio::test(start_paused = true)]
async fn a_persons_words_are_answered_and_counted_once() {
    let mut world = World::new().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let no = world.command(Command::Release { force: false }).await.unwrap_err();
    assert!(no.error.contains("same revision"), "{no}");
    world.command(Command::Release { force: true }).await.unwrap();
    world.until(Phase::Progressing).await;
    world.command(Command::Pause).await.unwrap();
    for _ in 0..40 {
        world.traffic().await;
    }
    let service = world.view().await.services[0].clone();
    assert_eq!((service.phase, service.step.unwrap().index), (Phase::Progressing, 0));
    assert!(service.waiting_on.iter().any(|reason| reason.reason == "paused"));
    world.command(Command::Promote).await.unwrap();
    assert_eq!(world.view().await.services[0].step.unwrap().index, 1);
    world.command(Command::Abort).await.unwrap();
    world.until(Phase::Idle).await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.records[0].cause, Some(Cause::Aborted));
    assert_eq!(disk.state.as_ref().unwrap().orders_done, 5);
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_everything_to_stable_before_it_ends() {
    let mut world = World::new().await;
    world.revision("v2");
    world.until(Phase::Progressing).await;
    world.send(Input::Stop).await;
    let (_, task) = world.engine.take().unwrap();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    let disk = world.disk.0.lock().unwrap();
    let route = disk.route.as_ref().unwrap();
    assert_eq!(route.stable, Color::Blue);
    assert!(route.plan.as_ref().is_none_or(|plan| plan.limit == Bps::ZERO));
}
