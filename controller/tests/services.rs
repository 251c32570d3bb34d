//! Services that appear, change, drift and vanish while the engine runs, as they do in a cluster.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers outside `#[test]` functions

use hueshift::api::BlueGreen;
use hueshift::control::{Command, Request};
use hueshift::document;
use hueshift::engine::{Engine, Identity, Input};
use hueshift::home::{Apply, ApplyError, Drift, Endpoints, Observe, Remembered, Seen};
use hueshift::view::{Phase, ReleaseRecord, ServiceView, View};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{PlanReport, Report, ServiceId};
use hueshift_core::release::{Route, State};
use hueshift_core::share::Bps;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

fn service(name: &str, green: &str) -> BlueGreen {
    let text = format!(
        "
apiVersion: hueshift.dev/v1alpha1
kind: BlueGreen
metadata: {{name: {name}}}
spec:
  listen: 127.0.0.1:8080
  colors:
    blue: {{endpoints: ['127.0.0.1:9001'], revision: v1}}
    green: {{endpoints: ['127.0.0.1:9002'], revision: {green}}}
"
    );
    document::parse("test", text.as_bytes(), document::Writers::Owner, document::Homes::Standalone)
        .unwrap()
        .remove(0)
}

fn seen(services: &[BlueGreen]) -> Seen {
    let up = Endpoints { listed: 1, up: 1, current: true };
    Seen {
        endpoints: services.iter().map(|one| (one.key(), PerColor { blue: up, green: up })).collect(),
        services: Arc::new(services.to_vec()),
        ..Seen::default()
    }
}

/// What is written, by service.
#[derive(Default)]
struct Disk {
    states: BTreeMap<String, State>,
    routes: BTreeMap<String, Route>,
    /// Writes so far.
    writes: Vec<(String, &'static str)>,
    told: Vec<String>,
}

#[derive(Clone, Default)]
struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    fn writes_of(&self, service: &str) -> usize {
        self.0.lock().unwrap().writes.iter().filter(|(of, _)| of == service).count()
    }
}

impl Apply for SharedDisk {
    fn record(&self, record: &ReleaseRecord) -> Result<(), ApplyError> {
        self.0.lock().unwrap().writes.push((record.service.clone(), "record"));
        Ok(())
    }
    fn save(&self, service: &str, state: &State) -> Result<(), ApplyError> {
        let mut disk = self.0.lock().unwrap();
        disk.writes.push((service.to_owned(), "save"));
        disk.states.insert(service.to_owned(), state.clone());
        Ok(())
    }
    fn route(&self, service: &str, route: &Route) -> Result<(), ApplyError> {
        let mut disk = self.0.lock().unwrap();
        disk.writes.push((service.to_owned(), "route"));
        disk.routes.insert(service.to_owned(), route.clone());
        Ok(())
    }
    fn checkpoint(&self, service: &str, _: &[u8]) -> Result<(), ApplyError> {
        self.0.lock().unwrap().writes.push((service.to_owned(), "checkpoint"));
        Ok(())
    }
    fn may_restart(&self, _: &str, _: Option<Color>) {}
    fn listens(&self) -> bool {
        true
    }
    fn tell(&self, view: ServiceView) {
        self.0.lock().unwrap().told.push(view.name);
    }
}

struct Eyes {
    seen: watch::Receiver<Seen>,
    first: bool,
    zero: Instant,
    /// What is read by now of each service.
    memories: Arc<Mutex<BTreeMap<String, (Remembered, ServiceId)>>>,
}

impl Observe for Eyes {
    fn seen(&mut self) -> Option<Seen> {
        let news = self.first || self.seen.has_changed().unwrap_or(false);
        self.first = false;
        news.then(|| self.seen.borrow_and_update().clone())
    }
    fn remembered(&mut self, service: &str) -> Option<(Remembered, ServiceId)> {
        self.memories.lock().unwrap().remove(service)
    }
    fn now_ms(&self) -> u64 {
        1_000_000 + u64::try_from(self.zero.elapsed().as_millis()).unwrap()
    }
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.now_ms()
    }
}

struct World {
    disk: SharedDisk,
    see: watch::Sender<Seen>,
    memories: Arc<Mutex<BTreeMap<String, (Remembered, ServiceId)>>>,
    engine: mpsc::Sender<Input>,
}

impl World {
    fn new() -> World {
        let (see, seen) = watch::channel(Seen::default());
        let (disk, memories) = (SharedDisk::default(), Arc::default());
        let eyes = Eyes { seen, first: true, zero: Instant::now(), memories: Arc::clone(&memories) };
        let (engine, inputs) = mpsc::channel(64);
        let identity = Identity { file: "test".into(), term: 1, started_ms: 0 };
        tokio::spawn(Engine::new(eyes, Arc::new(disk.clone()), identity, None, engine.clone()).run(inputs));
        World { disk, see, memories, engine }
    }

    fn remember(&self, name: &str, remembered: Remembered) {
        let id = ServiceId::from_bytes([name.len() as u8; 8]);
        self.memories.lock().unwrap().insert(name.to_owned(), (remembered, id));
    }

    async fn show(&self, services: &[BlueGreen]) {
        self.see.send_replace(seen(services));
        self.engine.send(Input::Look).await.unwrap();
        wait(400).await;
    }

    async fn drift(&self, service: &BlueGreen, version: u64, found: Option<Route>) {
        let mut seen = seen(std::slice::from_ref(service));
        let drift = Drift { version, found, by: Some("kubectl-edit".to_owned()) };
        seen.drifts.insert(service.key(), drift);
        self.see.send_replace(seen);
        self.engine.send(Input::Look).await.unwrap();
    }

    async fn view(&self) -> View {
        let (to, view) = oneshot::channel();
        self.engine.send(Input::Status(to)).await.unwrap();
        view.await.unwrap()
    }

    async fn command(&self, service: &str, command: Command) {
        let (to, answer) = oneshot::channel();
        let request = Request { service: Some(service.to_owned()), command };
        self.engine.send(Input::Command(request, to)).await.unwrap();
        answer.await.unwrap().unwrap();
    }
}

async fn wait(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_waits_until_what_is_remembered_of_it_is_read() {
    let world = World::new();
    world.show(&[service("late", "v2")]).await;
    wait(5_000).await;
    assert!(world.view().await.services.is_empty());
    assert_eq!(world.disk.writes_of("late"), 0, "nothing is written of a service that is not known yet");

    // It was in the middle of something: the memory arrives with it.
    let mut state = State::new(
        ServiceId::from_bytes([4; 8]),
        Color::Green,
        PerColor { blue: "v1".to_owned(), green: "v2".to_owned() },
        0,
    );
    state.release = 7;
    world.remember("late", Remembered { state: Some(state), ..Remembered::default() });
    wait(400).await;
    let service = world.view().await.services[0].clone();
    assert_eq!((service.live, service.release, service.phase), (Color::Green, 7, Phase::Idle));
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.routes["late"], Route { stable: Color::Green, plan: None });
}

#[tokio::test(start_paused = true)]
async fn services_come_and_go_without_touching_the_others() {
    let world = World::new();
    for name in ["one", "three"] {
        world.remember(name, Remembered::default());
    }
    let (one, three) = (service("one", "v1"), service("three", "v1"));
    world.show(std::slice::from_ref(&one)).await;
    world.show(&[one.clone(), three.clone()]).await;
    world.command("three", Command::Release { force: true }).await;
    wait(1_000).await;
    assert_eq!(world.view().await.services.len(), 2);
    let writes = world.disk.writes_of("one");

    // The one with an open release vanishes: nothing is written of it any more, and its numbers are free.
    world.show(std::slice::from_ref(&one)).await;
    let gone = world.disk.writes_of("three");
    wait(60_000).await;
    assert_eq!(world.disk.writes_of("three"), gone);
    assert_eq!(world.disk.writes_of("one"), writes);
    let names: Vec<String> = world.view().await.services.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["one"]);

    // One of the same name is another one: it begins with what is remembered of it, which is nothing.
    world.remember("three", Remembered::default());
    world.show(&[one, three]).await;
    let again = world.view().await.services[1].clone();
    assert_eq!((again.release, again.phase), (0, Phase::Idle));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_services_at_rest_are_neither_written_nor_told_again() {
    let world = World::new();
    let services: Vec<BlueGreen> = (0..200).map(|n| service(&format!("s{n}"), "v1")).collect();
    for one in &services {
        world.remember(&one.key(), Remembered::default());
    }
    world.show(&services).await;
    wait(10_000).await;
    let (writes, told) = {
        let disk = world.disk.0.lock().unwrap();
        (disk.writes.len(), disk.told.len())
    };
    assert_eq!(writes, 400, "a state and a route each");
    wait(300_000).await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!((disk.writes.len(), disk.told.len()), (writes, told));
}

#[tokio::test(start_paused = true)]
async fn a_changed_route_is_repaired_at_once_but_not_for_ever() {
    let world = World::new();
    world.remember("shop", Remembered::default());
    let shop = service("shop", "v1");
    world.show(std::slice::from_ref(&shop)).await;
    let before = world.disk.writes_of("shop");
    let wrong = Some(Route { stable: Color::Green, plan: None });
    world.drift(&shop, 1, wrong.clone()).await;
    wait(50).await;
    assert_eq!(world.disk.writes_of("shop"), before + 1);
    // The same news twice is one change.
    world.drift(&shop, 1, wrong.clone()).await;
    wait(500).await;
    assert_eq!(world.disk.writes_of("shop"), before + 1);

    // Somebody who insists is held off, and named.
    for version in 2..60 {
        world.drift(&shop, version, wrong.clone()).await;
        wait(500).await;
    }
    assert_eq!(world.disk.writes_of("shop"), before + 12);
    let problem = world.view().await.services[0].problems.join(" ");
    assert!(problem.contains("kubectl-edit"), "{problem}");
    wait(60_000).await;
    assert_eq!(world.disk.writes_of("shop"), before + 13, "after a pause it is repaired again");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_does_not_wait_behind_repairs() {
    let world = World::new();
    world.remember("shop", Remembered::default());
    let shop = service("shop", "v1");
    world.show(std::slice::from_ref(&shop)).await;
    world.command("shop", Command::Release { force: true }).await;
    wait(1_000).await;
    let open = world.view().await.services[0].clone();
    assert_eq!(open.phase, Phase::Progressing);
    for version in 1..40 {
        world.drift(&shop, version, Some(Route { stable: Color::Green, plan: None })).await;
        wait(100).await;
    }
    world.command("shop", Command::Abort).await;
    wait(100).await;
    let route = world.disk.0.lock().unwrap().routes["shop"].clone();
    assert_eq!(route.plan.map(|plan| plan.limit), Some(Bps::ZERO));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_takes_nothing_back_and_leaves_a_checkpoint() {
    let world = World::new();
    world.remember("shop", Remembered::default());
    world.show(&[service("shop", "v1")]).await;
    world.command("shop", Command::Release { force: true }).await;
    wait(1_000).await;
    let id = world.disk.0.lock().unwrap().states["shop"].id;
    let plan = PlanReport { id, release: 1, epoch: 2, tripped: 0, lotteries: Vec::new() };
    let report = Report { proxy: "envoy".into(), seq: 1, plans: vec![plan], ..Report::default() };
    let (to, reply) = oneshot::channel();
    world.engine.send(Input::Report(Box::new(report), None, to)).await.unwrap();
    assert!(reply.await.unwrap().caps.is_empty());
    let checkpoints =
        world.disk.0.lock().unwrap().writes.iter().filter(|(_, what)| *what == "checkpoint").count();
    world.engine.send(Input::Leave).await.unwrap();
    world.engine.closed().await;
    let disk = world.disk.0.lock().unwrap();
    assert_eq!(disk.states["shop"].phase, hueshift_core::release::Phase::Progressing { step: 0 });
    assert!(disk.routes["shop"].plan.as_ref().unwrap().limit > Bps::ZERO);
    let after = disk.writes.iter().filter(|(_, what)| *what == "checkpoint").count();
    assert_eq!(after, checkpoints + 1);
}
