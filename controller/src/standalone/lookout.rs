//! The standalone home's side of [`Observe`]: the document, the programs and the endpoints, looked at by a thread.
//!
//! A thread of its own because ending a program takes seconds, and the engine must not wait. It acts only on what
//! needs no decision: keeps programs running, restarts a color that the engine says has no traffic, writes Envoy's
//! listeners and clusters when the document's addresses change. A broken edit of the document is reported and the
//! last good one stays in force.

use super::files;
use super::layout::Layout;
use super::programs;
use super::store::Restartable;
use super::xds;
use crate::api::BlueGreen;
use crate::document;
use crate::home::{Endpoints, Observe, OwnProxy, Remembered, Seen};
use crate::supervise::{Event, Identity, Keeper, Program};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Between two looks at the programs.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at the document and the endpoints.
const SLOW_LOOK: Duration = Duration::from_millis(500);
/// A local endpoint that takes longer than this to accept is not ready.
const ACCEPT: Duration = Duration::from_millis(250);

/// The engine's end: the newest facts.
pub struct Window {
    newest: watch::Receiver<Seen>,
    first: bool,
    /// What is remembered of each service, and a number for those of which nothing is.
    pub remembered: BTreeMap<String, (Remembered, ServiceId)>,
}

/// The thread's end.
pub struct Lookout {
    /// Where everything is.
    pub layout: Layout,
    /// The document.
    pub file: PathBuf,
    /// Its last good reading.
    pub services: Arc<Vec<BlueGreen>>,
    /// The launcher: our own binary.
    pub launcher: PathBuf,
    /// Which colors may be restarted.
    pub restartable: Restartable,
    /// Envoy.
    pub envoy: Keeper,
    /// The colors that have a command.
    colors: BTreeMap<(String, Color), Keeper>,
    stamp: Option<Stamp>,
    document_problem: Option<String>,
    problems: Vec<String>,
    restarts: u32,
    to: watch::Sender<Seen>,
}

/// Changes when a file does.
type Stamp = (u64, i64, i64, u64);

// === impl Window ===

impl Observe for Window {
    fn seen(&mut self) -> Option<Seen> {
        if self.first || self.newest.has_changed().unwrap_or(false) {
            self.first = false;
            return Some(self.newest.borrow_and_update().clone());
        }
        None
    }

    fn remembered(&mut self, service: &str) -> Option<(Remembered, ServiceId)> {
        Some(
            self.remembered.remove(service).unwrap_or((Remembered::default(), ServiceId::from_bytes([0; 8]))),
        )
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn wall_ms(&self) -> u64 {
        wall_ms()
    }
}

/// Ms since boot, sleep included: goes on when we are restarted, and nobody can set it.
pub fn now_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Unix ms.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

// === impl Lookout ===

impl Lookout {
    /// Adopts what lives; starts nothing yet.
    pub fn new(
        layout: Layout,
        file: PathBuf,
        services: Vec<BlueGreen>,
        launcher: PathBuf,
        restartable: Restartable,
        envoy: Program,
    ) -> (Lookout, Window) {
        let (to, newest) = watch::channel(Seen::default());
        let envoy = Keeper::adopt(envoy, &launcher);
        let mut lookout = Lookout {
            stamp: stamp(&file),
            layout,
            file,
            services: Arc::new(services),
            launcher,
            restartable,
            envoy,
            colors: BTreeMap::new(),
            document_problem: None,
            problems: Vec::new(),
            restarts: 0,
            to,
        };
        lookout.adopt_colors();
        lookout.publish();
        (lookout, Window { newest, first: true, remembered: BTreeMap::new() })
    }

    /// Whether a running program was taken over, for messages.
    pub fn adopted(&self) -> Vec<String> {
        let keepers = std::iter::once(&self.envoy).chain(self.colors.values());
        let told = |keeper: &Keeper| {
            keeper.running().map(|identity| format!("{} (pid {})", keeper.program.name, identity.pid))
        };
        keepers.filter_map(told).collect()
    }

    /// Looks until told to stop. Programs keep running.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut slow = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.look_after_programs();
            if Instant::now() >= slow {
                slow = Instant::now() + SLOW_LOOK;
                self.look_at_document();
                self.publish();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn look_after_programs(&mut self) {
        let before = self.envoy.running().is_some();
        if let Some(Event::Died { .. }) = tell(&mut self.envoy) {
            self.restarts += 1;
        }
        if before != self.envoy.running().is_some() {
            self.publish();
        }
        let allowed = self.restartable.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for service in self.services.iter() {
            for color in Color::BOTH {
                let name = service.name();
                let Some(keeper) = self.colors.get_mut(&(name.to_owned(), color)) else { continue };
                let wished = programs::color(&self.layout, &self.file, service, color);
                if let Some(wished) = wished
                    && allowed.get(name) == Some(&color)
                    && wished.revision != keeper.program.revision
                {
                    println!(
                        "{}: restarting with revision {}",
                        keeper.program.name,
                        crate::text::visible(&wished.revision)
                    );
                    keeper.replace(wished);
                }
                tell(keeper);
            }
        }
    }

    fn look_at_document(&mut self) {
        let stamp = stamp(&self.file);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match document::read(&self.file, document::Homes::Standalone) {
            Ok(services) => self.take_document(services),
            Err(error) => {
                let text = format!(
                    "the document was changed and is wrong now; the last good one stays in force: {error}"
                );
                tracing::error!("{text}");
                self.document_problem = Some(text);
            }
        }
    }

    fn take_document(&mut self, services: Vec<BlueGreen>) {
        let names = |services: &[BlueGreen]| -> Vec<String> {
            services.iter().map(|service| service.name().to_owned()).collect()
        };
        if names(&services) != names(&self.services) {
            let text = "the document's list of services changed; that needs a new `hueshift up`, the last good one stays in force";
            tracing::error!("{text}");
            self.document_problem = Some(text.to_owned());
            return;
        }
        if self.document_problem.take().is_some() || *self.services != services {
            println!("{}: read again", self.file.display());
        }
        self.services = Arc::new(services);
        self.adopt_colors();
        self.problems.clear();
        let writes = [
            (xds::CLUSTERS, xds::clusters(&self.layout, &self.services)),
            (xds::LISTENERS, xds::listeners(&self.layout, &self.services)),
        ];
        for (name, value) in writes {
            if let Err(error) =
                files::replace_if_changed(&self.layout.xds(name), value.to_string().as_bytes())
            {
                let text = format!("{error}: {}", error.source);
                tracing::error!("{text}");
                self.problems.push(text);
            }
        }
    }

    /// A keeper for each color with a command. What already runs is kept as it was started: only the engine knows
    /// when a color may change.
    fn adopt_colors(&mut self) {
        for service in self.services.clone().iter() {
            for color in Color::BOTH {
                let key = (service.name().to_owned(), color);
                let Some(mut program) = programs::color(&self.layout, &self.file, service, color) else {
                    self.colors.remove(&key);
                    continue;
                };
                if self.colors.contains_key(&key) {
                    continue;
                }
                if let Some(Identity { argv, revision, .. }) = Identity::read(&program.pid_file) {
                    program = programs::as_recorded(program, argv, revision);
                }
                self.colors.insert(key, Keeper::adopt(program, &self.launcher));
            }
        }
    }

    fn publish(&self) {
        let endpoints = self.services.iter().map(|service| {
            let name = service.name().to_owned();
            let colors = PerColor::from_fn(|color| self.endpoints(service, color));
            (name, colors)
        });
        let pid = self.envoy.running().and_then(|identity| u32::try_from(identity.pid).ok());
        let seen = Seen {
            services: self.services.clone(),
            endpoints: endpoints.collect(),
            // The routes' files are ours alone.
            drifts: BTreeMap::new(),
            // The only one that the filter is told.
            key: Some(1),
            listed: true,
            proxies: vec![OwnProxy { name: xds::NODE_ID.to_owned(), pid, restarts: self.restarts }],
            problems: self.document_problem.iter().chain(&self.problems).cloned().collect(),
        };
        self.to.send_if_modified(|last| {
            let changed = *last != seen;
            *last = seen;
            changed
        });
    }

    fn endpoints(&self, service: &BlueGreen, color: Color) -> Endpoints {
        let spec = service.spec.colors.get(color);
        let up = spec.endpoints.iter().filter(|endpoint| accepts(endpoint)).count();
        let keeper = self.colors.get(&(service.name().to_owned(), color));
        Endpoints {
            listed: u32::try_from(spec.endpoints.len()).unwrap_or(u32::MAX),
            up: u32::try_from(up).unwrap_or(u32::MAX),
            current: keeper.is_none_or(|keeper| {
                keeper.running().is_some_and(|identity| identity.revision == spec.revision)
            }),
        }
    }
}

fn accepts(endpoint: &str) -> bool {
    endpoint.parse::<SocketAddr>().is_ok_and(|address| TcpStream::connect_timeout(&address, ACCEPT).is_ok())
}

/// Looks after one program and says what happened.
fn tell(keeper: &mut Keeper) -> Option<Event> {
    let event = keeper.look()?;
    let program = &keeper.program;
    let (name, log) = (&program.name, program.log.display());
    match &event {
        Event::Started(identity) => println!("{name}: started, pid {}", identity.pid),
        Event::Died { how, wait } => {
            tracing::error!(
                "{name} died ({how}); starting it again in {} ms; its log is {log}",
                wait.as_millis()
            );
        }
        Event::NotStarted { error, wait } => {
            tracing::error!("{name} cannot be started ({error}); trying again in {} ms", wait.as_millis());
        }
    }
    Some(event)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}
