//! The standalone home: one machine, no cluster, a plain Envoy driven by files.
//!
//! [`up`] is the glue: it reads as what happens, in order. The parts are below it; decisions are in core.

pub mod files;
pub mod layout;
pub mod programs;
pub mod xds;

use crate::api::BlueGreen;
use crate::supervise;
use hueshift_core::color::Color;
use hueshift_core::contract::{FuseParams, MeshKey, PluginConfig, REPORT_MS};
use hueshift_core::release::Route;
use layout::Layout;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    #[error("{0}")]
    Document(String),
}

fn at(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default()
}

/// `hueshift up`: serves until it is told to stop.
pub async fn up(args: UpArgs) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            match error {
                UpError::Document(_) | UpError::Layout(_) | UpError::NoEnvoy(_) | UpError::NoFilter(_) => {
                    ExitCode::from(2)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
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
    let services = read_document(&args.file)?;
    let envoy = find_envoy(args.envoy.as_deref())?;
    let filter = find_filter(args.filter.as_deref())?;
    let root = args.state.clone().unwrap_or_else(|| beside(&args.file));
    let layout = Layout::create(&root)?;
    let lock = layout.lock();
    let _held = supervise::lock(&lock)
        .map_err(|source| UpError::File { path: lock, source })?
        .ok_or_else(|| UpError::Locked(layout.root().to_owned()))?;
    for service in &services {
        let route = Route { stable: Color::Blue, plan: None };
        write_json(&layout.routes(&service.metadata.name), &xds::routes(&service.metadata.name, &route))?;
    }
    let config = PluginConfig {
        cluster: xds::REPORT_CLUSTER.to_owned(),
        keys: vec![MeshKey { version: 1, hex: "00".repeat(32) }],
        report_ms: REPORT_MS,
        fuse: Some(FuseParams { p0: 0.02, h: 24.0 }),
        hang_ms: 10_000,
    };
    let module = xds::filter(&filter, 1, &config).unwrap_or_default();
    write_json(&layout.xds(xds::FILTER_FILE), &module)?;
    write_json(&layout.xds(xds::CLUSTERS), &xds::clusters(&layout, &services))?;
    write_json(&layout.xds(xds::LISTENERS), &xds::listeners(&layout, &services))?;
    write_json(&layout.root().join("bootstrap.json"), &xds::bootstrap(&layout))?;
    let launcher =
        std::env::current_exe().map_err(|source| UpError::File { path: "hueshift".into(), source })?;
    let mut keepers = vec![programs::envoy(&layout, &envoy, args.workers)];
    for service in &services {
        keepers.extend(
            Color::BOTH.into_iter().filter_map(|color| programs::color(&layout, &args.file, service, color)),
        );
    }
    let mut keepers: Vec<_> =
        keepers.into_iter().map(|program| supervise::Keeper::adopt(program, &launcher)).collect();
    if keepers.first().is_some_and(|envoy| envoy.running().is_none()) {
        addresses_are_free(&services)?;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for keeper in &mut keepers {
                    match keeper.look() {
                        Some(event) => println!("{}: {event:?}", keeper.program.name),
                        None => continue,
                    }
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn read_document(path: &Path) -> Result<Vec<BlueGreen>, UpError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| UpError::File { path: path.to_owned(), source })?;
    serde_saphyr::from_multiple(&text).map_err(|error| UpError::Document(error.to_string()))
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
    found.ok_or_else(|| UpError::NoFilter(given.map(Path::to_owned)))
}

/// Asked before Envoy is started: its own message would end up in its log only.
fn addresses_are_free(services: &[BlueGreen]) -> Result<(), UpError> {
    for service in services {
        let (service, address) = (service.metadata.name.clone(), service.spec.listen.clone());
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
    files::replace(path, value.to_string().as_bytes())
}
