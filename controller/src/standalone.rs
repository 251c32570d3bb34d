//! The standalone home: one machine, no cluster, a plain Envoy driven by files.
//!
//! [`up`] is the glue: it reads as what happens, in order. The parts are below it; decisions are in core.

pub mod files;
pub mod history;
pub mod layout;
pub mod lookout;
pub mod programs;
pub mod record;

pub mod store;
pub mod xds;

use crate::api::BlueGreen;
use crate::control;
use crate::document::{self, DocumentError};
use crate::engine::{self, Engine, Input, Recorder};
use crate::home::Remembered;
use crate::ingest;
use crate::supervise;
use hueshift_core::contract::{FuseParams, MeshKey, PluginConfig, REPORT_MS, ServiceId};
use hueshift_core::hang;
use layout::Layout;
use lookout::Lookout;
use record::Worlds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Restartable, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What `hueshift up` was told.
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// The BlueGreen document: one or more services
    pub file: PathBuf,
    /// Directory that keeps state, sockets and logs [default: `.hueshift` beside FILE]
    #[arg(long, value_name = "DIR", env = "HUESHIFT_STATE")]
    pub state: Option<PathBuf>,
    /// The Envoy binary [default: `envoy` on PATH]
    #[arg(long, value_name = "FILE", env = "HUESHIFT_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// The filter module, built by `cargo wasm build`
    #[arg(long, value_name = "FILE", env = "HUESHIFT_FILTER")]
    pub filter: Option<PathBuf>,
    /// Envoy's worker threads [default: one per core]
    #[arg(long, value_name = "N", env = "HUESHIFT_WORKERS")]
    pub workers: Option<u32>,
    /// Write what the judge receives to FILE, in world format, for `hueshift simulate`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Why `up` ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state directory.
    #[error(transparent)]
    Layout(#[from] layout::LayoutError),
    /// Another `up` is at work.
    #[error("another `hueshift up` already uses {}; stop it first, or choose another directory with --state DIR", .0.display())]
    Locked(PathBuf),
    /// There is no Envoy.
    #[error("cannot find Envoy{}; run `cargo wasm tools` and set HUESHIFT_ENVOY to the path it prints, or give --envoy FILE", at(.0))]
    NoEnvoy(Option<PathBuf>),
    /// There is no filter module.
    #[error("cannot find the filter module{}; run `cargo wasm build` and set HUESHIFT_FILTER to the path it prints, or give --filter FILE", at(.0))]
    NoFilter(Option<PathBuf>),
    /// The filter module is something else.
    #[error("{} is no WebAssembly module, or not all of one; run `cargo wasm build` and set HUESHIFT_FILTER to the path it prints", .0.display())]
    NotAModule(PathBuf),
    /// An address is taken.
    #[error(
        "{service} cannot listen on {address}: another program uses it; stop that program (`ss -ltnp` names it) or change `spec.listen`"
    )]
    Taken {
        /// The service.
        service: String,
        /// Its address.
        address: String,
    },
    /// An address cannot be listened on.
    #[error("{service} cannot listen on {address}")]
    Listen {
        /// The service.
        service: String,
        /// Its address.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] files::WriteError),
    /// Anything else about a file.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The document.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default()
}

/// `hueshift up`: serves until it is told to stop.
pub async fn up(args: UpArgs) -> ExitCode {
    diagnostics();
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                // Each line begins with its place already, as editors and CI expect it.
                UpError::Document(DocumentError::Wrong { .. }) => eprintln!("{error}"),
                _ => eprintln!("error: {}", chain(&error)),
            }
            match error {
                UpError::Document(_)
                | UpError::Layout(_)
                | UpError::NoEnvoy(_)
                | UpError::NoFilter(_)
                | UpError::NotAModule(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// `hueshift down`: ends the Envoy and the colors that an `up` left serving.
pub fn down(root: &Path) -> ExitCode {
    match end_all(root) {
        Ok(ended) => {
            for name in &ended {
                println!("{name}: ended");
            }
            if ended.is_empty() {
                println!("nothing runs for {}", root.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Only programs whose pid *and* start time are on record: a stranger with the same pid is left alone.
fn end_all(root: &Path) -> Result<Vec<String>, UpError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        |source| UpError::File { path, source }
    };
    let layout = Layout::at(root).map_err(file(root))?;
    if !layout.run().is_dir() {
        return Ok(Vec::new());
    }
    let _held = lock(&layout)?;
    let mut ended = Vec::new();
    for entry in std::fs::read_dir(layout.run()).map_err(file(&layout.run()))? {
        let path = entry.map_err(file(&layout.run()))?.path();
        let Some(identity) = supervise::Identity::read(&path).filter(supervise::Identity::lives) else {
            continue;
        };
        identity.end(Duration::from_secs(5), || {});
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        ended.push(format!("{name} (pid {})", identity.pid));
        let _ = std::fs::remove_file(&path);
    }
    ended.sort();
    Ok(ended)
}

/// Diagnostics go to standard error, what happens to standard output.
fn diagnostics() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HUESHIFT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Fails only if somebody set it up already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(io::stderr)
        .with_target(false)
        .try_init();
}

/// An error and what caused it, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

async fn serve(args: UpArgs) -> Result<(), UpError> {
    let services = document::read(&args.file, document::Homes::Standalone)?;
    let envoy = find_envoy(args.envoy.as_deref())?;
    let module = find_filter(args.filter.as_deref())?;
    let root = args.state.clone().unwrap_or_else(|| beside(&args.file));
    let layout = Layout::create(&root)?;
    let _held = lock(&layout)?;

    let restartable = Restartable::default();
    let store = Store::new(layout.clone(), restartable.clone());
    let started_ms = lookout::wall_ms();
    let (keys, problems) =
        store.mesh_keys(started_ms).map_err(|source| UpError::File { path: layout.mesh_key(), source })?;
    let mut remembered = remember(&store, &services, started_ms)?;
    if let Some((first, _)) = remembered.values_mut().next() {
        first.problems.extend(problems);
    }
    write_for_envoy(&layout, &services, &module, keys)?;

    let launcher =
        std::env::current_exe().map_err(|source| UpError::File { path: "hueshift".into(), source })?;
    let program = programs::envoy(&layout, &envoy, args.workers);
    let (lookout, mut window) =
        Lookout::new(layout.clone(), args.file.clone(), services.clone(), launcher, restartable, program);
    if lookout.envoy.running().is_none() {
        addresses_are_free(&services)?;
    }
    for name in lookout.adopted() {
        println!("{name}: runs already, adopted");
    }

    let (to_engine, inputs) = mpsc::channel(1_024);
    let identity = engine::Identity { file: args.file.display().to_string(), term: started_ms, started_ms };
    let recorder: Option<Box<dyn Recorder>> = match &args.record {
        None => None,
        Some(path) => {
            let worlds = Worlds::new(path).map_err(|source| UpError::File { path: path.clone(), source })?;
            Some(Box::new(worlds))
        }
    };
    window.remembered = remembered;
    let engine = Engine::new(window, Arc::new(store), identity, recorder, to_engine.clone());
    let reports = listen(&layout.report_socket(), ingest::router(to_engine.clone()))?;
    let control = listen(&layout.control_socket(), control::server::router(to_engine.clone()))?;
    let stop = Arc::new(AtomicBool::new(false));
    let looking = std::thread::spawn({
        let stop = stop.clone();
        move || lookout.run(&stop)
    });
    for service in &services {
        println!("{}: serving on http://{}", service.name(), service.listen());
    }
    let stopper = tokio::spawn(stop_when_told(to_engine));
    engine.run(inputs).await;
    stopper.abort();
    reports.abort();
    control.abort();
    stop.store(true, Ordering::Relaxed);
    let _ = tokio::task::spawn_blocking(move || looking.join()).await;
    println!(
        "stopped; Envoy and what else it started keep serving: `hueshift up` adopts them, \
         `hueshift down --state {}` ends them",
        layout.root().display()
    );
    Ok(())
}

/// The first signal asks for an orderly stop; the second one takes the default way.
async fn stop_when_told(engine: mpsc::Sender<Input>) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    println!("stopping: everything to the stable color first");
    let _ = engine.send(Input::Stop).await;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    std::process::exit(130);
}

fn lock(layout: &Layout) -> Result<std::fs::File, UpError> {
    let path = layout.lock();
    supervise::lock(&path)
        .map_err(|source| UpError::File { path, source })?
        .ok_or_else(|| UpError::Locked(layout.root().to_owned()))
}

/// What is known of each service, and a number for those of which nothing is.
type All = BTreeMap<String, (Remembered, ServiceId)>;

fn remember(store: &Store, services: &[BlueGreen], now: u64) -> Result<All, UpError> {
    services
        .iter()
        .map(|service| {
            let name = service.name().to_owned();
            let known = store.remember(service, now).and_then(|known| Ok((known, store::fresh_id()?)));
            let known = known.map_err(|source| UpError::File { path: name.clone().into(), source })?;
            Ok((name, known))
        })
        .collect()
}

/// Everything that Envoy reads but the routes, which are the engine's.
fn write_for_envoy(
    layout: &Layout,
    services: &[BlueGreen],
    module: &Path,
    keys: Vec<MeshKey>,
) -> Result<(), UpError> {
    // Before the first reply the least trigger-happy of the services' fuses is in force.
    let fuse = services
        .iter()
        .filter_map(engine::fuse)
        .reduce(|one, other| FuseParams { p0: one.p0.max(other.p0), h: one.h.max(other.h) });
    let config = PluginConfig {
        cluster: xds::REPORT_CLUSTER.to_owned(),
        keys,
        report_ms: REPORT_MS,
        fuse,
        hang_ms: hang::DEFAULT_MS,
    };
    // An Envoy that goes on keeps its VMs: the generation is that of the last revival.
    let written = std::fs::read(layout.xds(xds::FILTER_FILE)).ok();
    let written: Option<Value> = written.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let generation = written.as_ref().and_then(xds::generation).unwrap_or(1);
    let filter = xds::filter(module, generation, &config).map_err(|error| UpError::File {
        path: layout.xds(xds::FILTER_FILE),
        source: io::Error::other(error),
    })?;
    write_json(&layout.xds(xds::FILTER_FILE), &filter)?;
    write_json(&layout.xds(xds::CLUSTERS), &xds::clusters(layout, services))?;
    write_json(&layout.xds(xds::LISTENERS), &xds::listeners(layout, services))?;
    write_json(&layout.root().join("bootstrap.json"), &xds::bootstrap(layout))?;
    Ok(())
}

fn listen(path: &Path, router: axum::Router) -> Result<JoinHandle<()>, UpError> {
    let listener = ingest::listen(path).map_err(|source| UpError::File { path: path.to_owned(), source })?;
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("a socket of the controller ended: {error}");
        }
    }))
}

/// `.hueshift` in the document's folder.
fn beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(".hueshift")
}

fn find_envoy(given: Option<&Path>) -> Result<PathBuf, UpError> {
    let found = match given {
        Some(path) => path.is_file().then(|| path.to_owned()),
        None => std::env::var_os("PATH").and_then(|folders| {
            std::env::split_paths(&folders).map(|folder| folder.join("envoy")).find(|path| path.is_file())
        }),
    };
    found
        .and_then(|path| std::path::absolute(path).ok())
        .ok_or_else(|| UpError::NoEnvoy(given.map(Path::to_owned)))
}

fn find_filter(given: Option<&Path>) -> Result<PathBuf, UpError> {
    let found = given.filter(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok());
    let module = found.ok_or_else(|| UpError::NoFilter(given.map(Path::to_owned)))?;
    // Envoy would refuse it, say so in its own log only, and serve without any affinity.
    match std::fs::read(&module) {
        Ok(bytes) if is_whole(&bytes) => Ok(module),
        _ => Err(UpError::NotAModule(module)),
    }
}

/// Whether these bytes are a WebAssembly module of which nothing is cut off: its sections fill it exactly.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(b"\0asm\x01\0\0\0") else { return false };
    while let Some((_, after)) = rest.split_first() {
        let Some(next) = skip_section(after) else { return false };
        rest = next;
    }
    bytes.len() > 8
}

/// What follows a section whose kind was read: its size as LEB128, then that many bytes.
fn skip_section(mut rest: &[u8]) -> Option<&[u8]> {
    let mut size = 0usize;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first()?;
        rest = after;
        size |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.get(size..);
        }
    }
    None
}

/// Asked before Envoy is started: its own message would end up in its log only.
fn addresses_are_free(services: &[BlueGreen]) -> Result<(), UpError> {
    for service in services {
        let (service, address) = (service.name().to_owned(), service.listen().to_owned());
        match std::net::TcpListener::bind(&address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(UpError::Taken { service, address });
            }
            Err(source) => return Err(UpError::Listen { service, address, source }),
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Result<(), files::WriteError> {
    files::replace_if_changed(path, value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_counts_as_whole_only_if_nothing_is_cut_off() {
        let module = [b"\0asm\x01\0\0\0".as_slice(), &[1, 3, 7, 7, 7], &[0, 0x81, 0, 9]].concat();
        assert!(is_whole(&module) && is_whole(&module[..13]), "a cut between sections is Envoy's to find");
        for cut in (0..module.len()).filter(|cut| *cut != 13) {
            assert!(!is_whole(&module[..cut]), "cut at {cut}");
        }
        assert!(!is_whole(&[b"\0asm\x01\0\0\0".as_slice(), &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat()));
    }
}
