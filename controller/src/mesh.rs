//! The mesh home: the same engine on Kubernetes and Istio.
//!
//! [`controller`] is the glue: it reads as what happens, in order. What is seen is in `observe` and below it, what is
//! written in `apply`; decisions are in core.

pub mod apply;
pub mod backoff;
pub mod calls;
pub mod cluster;
pub mod lease;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod packed;
pub mod plugins;
pub mod principal;
pub mod serve;
pub mod shared;
pub mod sight;
pub mod status;
pub mod tell;
#[cfg(test)]
mod tests;
mod watches;

use crate::engine::{self, Engine, Input};
use apply::Hand;
use cluster::Cluster;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use observe::Clock;
use serve::Desk;
use shared::Shared;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Keeps a `BlueGreen` until its traffic is given back.
pub const FINALIZER: &str = "hueshift.dev/traffic";

/// Before the mesh keys are asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// What `hueshift controller` was told.
#[derive(Debug, Clone, clap::Args)]
pub struct ControllerArgs {
    /// Address to listen on [default: all]
    #[arg(long, value_name = "IP", env = names::BIND_ENV)]
    pub bind: Option<IpAddr>,
    /// The controller's own namespace
    #[arg(long, value_name = "NAMESPACE", env = names::NAMESPACE_ENV, default_value = names::NAMESPACE)]
    pub namespace: String,
    /// Name of this process in the lease [default: the host's name]
    #[arg(long, value_name = "NAME", env = names::POD_ENV)]
    pub pod: Option<String>,
    /// The kubeconfig [default: as kubectl finds it, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The mesh's root namespace
    #[arg(long, value_name = "NAMESPACE", env = names::ROOT_NAMESPACE_ENV, default_value = "istio-system")]
    pub root_namespace: String,
    /// Where the module of the plugins that the controller makes comes from [default: it makes none]
    #[arg(long, value_name = "URL", env = names::PLUGIN_URL_ENV)]
    pub plugin_url: Option<String>,
    /// That module's digest
    #[arg(long, value_name = "HEX", env = names::PLUGIN_SHA256_ENV)]
    pub plugin_sha256: Option<String>,
    /// Whether a report needs a mesh identity
    #[arg(long, value_name = "WHETHER", env = names::REPORT_IDENTITY_ENV, default_value = "required")]
    pub report_identity: Identity,
    /// How long istiod may hold back a push (its PILOT_DEBOUNCE_MAX), and a little more: routes name a new subset
    /// only after that
    #[arg(long, value_name = "SECONDS", env = names::DEBOUNCE_MAX_ENV, default_value_t = 11)]
    pub debounce_max: u64,
    /// Replies carry no caps: only to measure how long the routes alone take
    #[arg(long, hide = true, env = names::WITHOUT_CAPS_ENV)]
    pub without_caps: bool,
}

/// Whether a report needs a mesh identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Identity {
    /// Reports without one are refused.
    Required,
    /// Whoever reaches the port may report.
    None,
}

/// Why the controller ended or did not begin.
#[derive(Debug, thiserror::Error)]
enum ControllerError {
    #[error("cannot find the API server ({0}); run it in the cluster, or give --kubeconfig FILE")]
    Config(String),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("{0}; this process ends so that it cannot disturb the other one")]
    Lost(String),
}

/// `hueshift controller`: works until it is told to stop.
pub async fn controller(args: ControllerArgs) -> ExitCode {
    diagnostics();
    match work(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                ControllerError::Config(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// One line of JSON each.
fn diagnostics() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HUESHIFT_LOG")
        // The client's own words about each failed call are told again where the call was made.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off,kube_runtime=off"));
    // Fails only if somebody set it up already.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

async fn work(args: ControllerArgs) -> Result<(), ControllerError> {
    let client = client(&args).await?;
    let clock = Clock::new();
    let bind = args.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let desk = Desk::new();
    answer(bind, names::PORT, serve::reads(desk.clone())).await?;
    if args.report_identity == Identity::None {
        tracing::warn!(
            "reports are taken from whoever reaches the port: {} is none",
            names::REPORT_IDENTITY_ENV
        );
    }

    let mut signals = Signals::new();
    let candidate = Arc::new(lease::Candidate::new(&client, &args.namespace, holder(&args)));
    let tenure = Arc::new(lease::Tenure::default());
    tokio::select! {
        () = candidate.lead(&tenure, clock.now_ms()) => {}
        () = signals.told() => return Ok(()),
    }

    let shared = Arc::new(Shared::default());
    let (to_engine, inputs) = mpsc::channel(1_024);
    let (revive, asked) = mpsc::channel(64);
    let (told, plugins_told) = watch::channel(plugins::Told::default());
    let hand = Arc::new(Hand::new(
        client.clone(),
        shared.clone(),
        tenure.clone(),
        revive,
        Duration::from_secs(args.debounce_max),
    ));
    let window = observe::begin(
        client.clone(),
        shared.clone(),
        hand.clone(),
        Cluster::of(&args.root_namespace),
        clock,
        to_engine.clone(),
        plugins_told.clone(),
    );
    let identity = engine::Identity {
        file: format!("cluster, as {}", candidate.holder()),
        term: tenure.term(),
        started_ms: clock.now_ms(),
    };
    let ready = window.newest();
    let mut engine = Engine::new(window, hand.clone(), identity, None, to_engine.clone());
    if args.without_caps {
        tracing::warn!("rollbacks are slow: {} keeps caps out of the replies", names::WITHOUT_CAPS_ENV);
        engine = engine.without_caps();
    }
    let _ = desk.engine.set(to_engine.clone());
    let required = args.report_identity == Identity::Required;
    answer(bind, names::REPORTS_PORT, serve::reports(to_engine.clone(), required.then(|| shared.clone())))
        .await?;
    let background = [
        tokio::spawn(tell::keep_told(client.clone(), hand, shared, plugins_told)),
        tokio::spawn(keep_plugins(client.clone(), args.clone(), asked, told)),
        tokio::spawn(ready_when_listed(ready, desk)),
        tokio::spawn({
            let (candidate, tenure) = (candidate.clone(), tenure.clone());
            async move { candidate.keep(&tenure).await }
        }),
    ];

    let engine = tokio::spawn(engine.run(inputs));
    let end = tokio::select! {
        () = signals.told() => None,
        why = tenure.end() => Some(why),
    };
    // Whoever leads next goes on from what is written: nothing is taken back.
    let _ = to_engine.send(Input::Leave).await;
    let _ = engine.await;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    match end {
        Some(why) => Err(ControllerError::Lost(why)),
        None => {
            candidate.give_back().await;
            tracing::info!("stopped: the next one goes on from here");
            Ok(())
        }
    }
}

async fn client(args: &ControllerArgs) -> Result<Client, ControllerError> {
    let failed = |error: &dyn std::error::Error| ControllerError::Config(calls::words(error));
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| failed(&error))?
        }
        None if args.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| failed(&error))?
        }
        None => Config::infer().await.map_err(|error| failed(&error))?,
    };
    config.connect_timeout = Some(Duration::from_secs(2));
    // A failed call is told, and repeated when we say so: the client's own pauses would grow with an outage.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| failed(&error))
}

async fn answer(bind: IpAddr, port: u16, router: axum::Router) -> Result<(), ControllerError> {
    let listener = serve::listen(bind, port)
        .await
        .map_err(|source| ControllerError::Listen { address: format!("{bind}:{port}"), source })?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("port {port} is not served any more: {error}");
        }
    });
    Ok(())
}

/// Which proxies run the filter, once the mesh keys are there.
async fn keep_plugins(
    client: Client,
    args: ControllerArgs,
    asked: mpsc::Receiver<plugins::Revive>,
    told: watch::Sender<plugins::Told>,
) {
    let mut said = String::new();
    let keys = loop {
        match plugins::mesh_keys(&client, &args.namespace).await {
            Ok(keys) => break keys,
            Err(error) => {
                let text = calls::words(&error);
                if said != text {
                    tracing::error!("{text}");
                    said = text;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let settings = plugins::Settings {
        namespace: args.namespace,
        root: args.root_namespace,
        url: filled(args.plugin_url),
        sha256: filled(args.plugin_sha256),
        keys,
    };
    plugins::run(client, settings, asked, told).await;
}

async fn ready_when_listed(mut seen: watch::Receiver<crate::home::Seen>, desk: Desk) {
    if seen.wait_for(|seen| seen.listed).await.is_ok() {
        desk.ready.store(true, Ordering::Relaxed);
        tracing::info!("ready");
    }
}

/// The name of this process for people: its pod's, or its host's.
pub fn instance() -> String {
    let pod = std::env::var(names::POD_ENV).ok().filter(|name| !name.is_empty());
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    pod.unwrap_or_else(host)
}

/// A pod's name is its own, and a container that is started again in it takes its lease up at once. Elsewhere two
/// processes could have one name.
fn holder(args: &ControllerArgs) -> String {
    let drawn: [u8; 4] = crate::random::bytes().unwrap_or_default();
    args.pod.clone().unwrap_or_else(|| format!("{}-{:08x}", instance(), u32::from_be_bytes(drawn)))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn new() -> Signals {
        Signals {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    async fn told(&mut self) {
        async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! { () = next(&mut self.terminate) => {}, () = next(&mut self.interrupt) => {} }
    }
}
