//! What the controller answers on the network: reports on one port; metrics, health and the status on the other.
//!
//! Whether it is alive and ready is its own affair: an API server that is away must not take the fast path along.

use super::names;
use super::principal::Principal;
use super::shared::Shared;
use crate::control::STATUS_PATH;
use crate::engine::{self, Input};
use crate::ingest::Speaker;
use crate::view::View;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// An engine that takes longer than this to answer hangs.
const ANSWER: Duration = Duration::from_secs(3);

/// What the handlers share.
#[derive(Clone)]
pub struct Desk {
    /// The engine, once this process leads.
    pub engine: Arc<std::sync::OnceLock<mpsc::Sender<Input>>>,
    /// Whether everything was seen once.
    pub ready: Arc<AtomicBool>,
}

// === impl Desk ===

impl Desk {
    /// Nobody leads yet.
    pub fn new() -> Desk {
        Desk { engine: Arc::default(), ready: Arc::default() }
    }

    async fn view(&self) -> Option<View> {
        let engine = self.engine.get()?;
        let (to, view) = oneshot::channel();
        engine.send(Input::Status(to)).await.ok()?;
        tokio::time::timeout(ANSWER, view).await.ok()?.ok()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Desk::new()
    }
}

/// Listens on a port of `bind`.
///
/// # Errors
/// The address is taken or not ours.
pub async fn listen(bind: IpAddr, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(bind, port)).await
}

/// The report port: as on one machine, but who reports must be somebody to the mesh, and speak for its own proxy.
/// `None`: nobody is asked who it is.
pub fn reports(engine: mpsc::Sender<Input>, identities: Option<Arc<Shared>>) -> Router {
    let router = crate::ingest::router(engine);
    match identities {
        Some(shared) => router.layer(middleware::from_fn_with_state(shared, known_to_the_mesh)),
        None => router,
    }
}

async fn known_to_the_mesh(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    // Of several headers the last is the one that the proxy before us wrote, or none is.
    let headers = request.headers().get_all("x-forwarded-client-cert");
    let proven = headers.iter().next_back().and_then(|value| value.to_str().ok());
    if let Some(principal) = proven.and_then(Principal::of_header) {
        let speaker = Speaker {
            principal: principal.to_string(),
            speaks_for: Arc::new(move |proxy| {
                principal.speaks_for(proxy, &shared.pods).inspect_err(|why| {
                    if shared.pods.is_new(why) {
                        tracing::warn!("reports are refused: {why}");
                    }
                })
            }),
        };
        request.extensions_mut().insert(speaker);
        return next.run(request).await;
    }
    let text = format!(
        "a report needs a mesh identity (mTLS); {} none takes it without\n",
        names::REPORT_IDENTITY_ENV
    );
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Metrics, health and the status.
pub fn reads(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(STATUS_PATH, get(status))
        .with_state(desk)
}

async fn healthz(State(desk): State<Desk>) -> Response {
    // A process that waits for the lease is well.
    if desk.engine.get().is_none() || desk.view().await.is_some() {
        "ok\n".into_response()
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "the engine does not answer\n").into_response()
    }
}

async fn readyz(State(desk): State<Desk>) -> Response {
    if desk.engine.get().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "waiting for the lease\n").into_response();
    }
    if !desk.ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the cluster is not listed yet\n").into_response();
    }
    "ok\n".into_response()
}

async fn status(State(desk): State<Desk>) -> Response {
    match desk.view().await {
        Some(view) => axum::Json(view).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(engine::gone())).into_response(),
    }
}

async fn metrics(State(desk): State<Desk>) -> Response {
    let view = desk.view().await;
    match super::metrics::text(view.as_ref()) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
