//! Where filters report: one report in, one reply out, over HTTP; on one machine on a Unix socket.
//!
//! Bounded before it is parsed, handed to the engine, answered when the engine has judged it. What is no report is
//! refused here and costs the engine nothing. Who may report is decided elsewhere: by the socket's permissions, or by
//! the mesh, which then says who it is and for which proxies that one may speak ([`Speaker`]).

use crate::engine::Input;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use hueshift_core::contract::{MAX_REPORT_BYTES, REPORT_PATH, Report};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

/// Who sends a report, where somebody proved it.
#[derive(Clone)]
pub struct Speaker {
    /// The name of whoever it is, as in a `ReleasePolicy`.
    pub principal: String,
    /// Whether it may speak for a proxy; `Err`: why not.
    pub speaks_for: SpeaksFor,
}

type SpeaksFor = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The report service.
pub fn router(engine: mpsc::Sender<Input>) -> Router {
    Router::new()
        .route(REPORT_PATH, post(report))
        .layer(DefaultBodyLimit::max(MAX_REPORT_BYTES))
        .with_state(engine)
}

async fn report(
    State(engine): State<mpsc::Sender<Input>>,
    speaker: Option<Extension<Speaker>>,
    body: Bytes,
) -> Response {
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            tracing::debug!("a report was refused: {error}");
            return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    let speaker = speaker.map(|Extension(speaker)| speaker);
    if let Some(Err(why)) = speaker.as_ref().map(|speaker| (speaker.speaks_for)(&report.proxy)) {
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let by = speaker.map(|speaker| speaker.principal);
    let (to, reply) = oneshot::channel();
    if engine.send(Input::Report(Box::new(report), by, to)).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match reply.await {
        Ok(reply) => Json(reply).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Listens on a Unix socket that only its owner may use. A socket that a dead process left behind is replaced: the
/// directory's lock says that nobody else is alive.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
