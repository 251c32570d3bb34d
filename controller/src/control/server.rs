//! The controller's side of the control socket: hands commands and looks to the engine.

use super::{COMMAND_PATH, Refused, Request, STATUS_PATH};
use crate::engine::{self, Input};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};

/// A command is a few words.
const MAX_COMMAND_BYTES: usize = 4 * 1024;

/// The control service.
pub fn router(engine: mpsc::Sender<Input>) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route(COMMAND_PATH, post(command))
        .layer(DefaultBodyLimit::max(MAX_COMMAND_BYTES))
        .with_state(engine)
}

async fn status(State(engine): State<mpsc::Sender<Input>>) -> Response {
    let (to, view) = oneshot::channel();
    let sent = engine.send(Input::Status(to)).await;
    match (sent, view.await) {
        (Ok(()), Ok(view)) => Json(view).into_response(),
        _ => refused(StatusCode::SERVICE_UNAVAILABLE, engine::gone()),
    }
}

async fn command(State(engine): State<mpsc::Sender<Input>>, body: Bytes) -> Response {
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let remedy = "use the `hueshift` of the same version as the controller".to_owned();
            return refused(
                StatusCode::BAD_REQUEST,
                Refused { error: format!("the command is not understood ({error})"), remedy },
            );
        }
    };
    let (to, answer) = oneshot::channel();
    let sent = engine.send(Input::Command(request, to)).await;
    match (sent, answer.await) {
        (Ok(()), Ok(Ok(accepted))) => Json(accepted).into_response(),
        (Ok(()), Ok(Err(no))) => refused(StatusCode::CONFLICT, no),
        _ => refused(StatusCode::SERVICE_UNAVAILABLE, engine::gone()),
    }
}

fn refused(status: StatusCode, refused: Refused) -> Response {
    (status, Json(refused)).into_response()
}
