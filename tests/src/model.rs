//! Sample model servers: pricing (one JSON quote) and chat (a short server-sent-event answer), with faults that can
//! be set while they run.
//!
//! They are real HTTP/1.1 servers. Every answer carries its color and revision, so that an answer that no model
//! gave (a proxy's own) is recognized; every request is appended to an event log with the time of its arrival,
//! which is what rescue times are measured on.

use crate::chance;
use crate::clock::now_ns;
use crate::http::{self, Server};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hueshift_core::color::Color;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;

/// Header of every answer: the color that gave it.
pub const MODEL_COLOR: &str = "x-model-color";
/// Header of every answer: the revision that gave it.
pub const MODEL_REVISION: &str = "x-model-revision";
/// Header with the session's number, also the session key of most tests.
pub const SESSION: &str = "x-session-id";
/// Under this path faults are set and the log is read.
pub const CONTROL: &str = "/_model/";

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One JSON quote.
    Pricing,
    /// Five tokens as server-sent events.
    Chat,
}

/// What goes wrong. Rates are drawn for each request on its own, from a seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Chance that a request is answered with `error_status`.
    pub error_rate: f64,
    /// The status of a failure.
    pub error_status: u16,
    /// The faults begin this long after they were set, ms.
    pub after_ms: u64,
    /// Each answer waits this long, ms.
    pub delay_ms: u64,
    /// No answer at all.
    pub hang: bool,
    /// Share of the *sessions* whose every request fails.
    pub failing_sessions: f64,
}

/// One line of a server's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Arrival of the request, Unix ns.
    pub at: u64,
    /// When the answer was ready, Unix ns; 0: never.
    pub answered: u64,
    /// Session number; `u32::MAX`: the request named none.
    pub session: u32,
    /// Color of the server.
    pub color: Color,
    /// Its revision at that time.
    pub revision: Arc<str>,
    /// Status of the answer; 0: none given.
    pub status: u16,
}

/// A running model server; it ends when this is dropped.
#[derive(Debug)]
pub struct Model {
    state: Arc<State>,
    server: Server,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Debug)]
struct State {
    kind: Kind,
    color: Color,
    revision: Mutex<Arc<str>>,
    faults: Mutex<(Faults, u64)>,
    draws: AtomicU64,
    seed: u64,
    log: Mutex<Vec<Served>>,
}

// === impl Faults ===

impl Default for Faults {
    fn default() -> Self {
        Faults {
            error_rate: 0.0,
            error_status: 500,
            after_ms: 0,
            delay_ms: 0,
            hang: false,
            failing_sessions: 0.0,
        }
    }
}

impl Faults {
    /// Each request fails with this chance.
    pub fn errors(rate: f64) -> Self {
        Faults { error_rate: rate, ..Faults::default() }
    }

    /// The same, beginning later.
    pub fn after(mut self, time: Duration) -> Self {
        self.after_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

// === impl Model ===

impl Model {
    /// Starts a server on `listen` (port 0: any).
    pub async fn start(kind: Kind, color: Color, revision: &str, listen: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind(listen)
            .await
            .unwrap_or_else(|error| panic!("the {color} model cannot listen on {listen}: {error}"));
        let state = Arc::new(State {
            kind,
            color,
            revision: Mutex::new(revision.into()),
            faults: Mutex::new((Faults::default(), 0)),
            draws: AtomicU64::new(0),
            seed,
            log: Mutex::new(Vec::new()),
        });
        let serving = Arc::clone(&state);
        let server = http::serve(listener, move |request| answer(Arc::clone(&serving), request));
        Model { state, server }
    }

    /// Starts a server on any loopback port.
    pub async fn anywhere(kind: Kind, color: Color, revision: &str, seed: u64) -> Self {
        Self::start(kind, color, revision, SocketAddr::from(([127, 0, 0, 1], 0)), seed).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// From now on (plus `after_ms`) these faults instead of the earlier ones.
    pub fn set(&self, faults: Faults) {
        self.state.set(faults);
    }

    /// A new revision is deployed; it is healthy until faults are set.
    pub fn deploy(&self, revision: &str) {
        *self.state.revision.lock().unwrap() = revision.into();
        self.set(Faults::default());
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Served> {
        self.state.log.lock().unwrap().clone()
    }

    /// How many requests it has seen.
    pub fn seen(&self) -> usize {
        self.state.log.lock().unwrap().len()
    }
}

// === impl State ===

impl State {
    fn set(&self, faults: Faults) {
        let begin = now_ns() + faults.after_ms * 1_000_000;
        *self.faults.lock().unwrap() = (faults, begin);
    }

    fn faults_at(&self, at: u64) -> Faults {
        let faults = self.faults.lock().unwrap();
        if at >= faults.1 { faults.0.clone() } else { Faults::default() }
    }

    fn fails(&self, faults: &Faults, session: u32) -> bool {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        chance::at(self.seed, draw) < faults.error_rate
            || chance::at(self.seed ^ 0xa5a5, u64::from(session)) < faults.failing_sessions
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    if let Some(verb) = request.uri().path().strip_prefix(CONTROL) {
        let verb = verb.to_owned();
        return control(&state, &verb, request).await;
    }
    let at = now_ns();
    let session = request.headers().get(SESSION).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let session = session.unwrap_or(u32::MAX);
    let faults = state.faults_at(at);
    let revision = Arc::clone(&state.revision.lock().unwrap());
    let index = {
        let mut log = state.log.lock().unwrap();
        log.push(Served {
            at,
            answered: 0,
            session,
            color: state.color,
            revision: Arc::clone(&revision),
            status: 0,
        });
        log.len() - 1
    };
    // The request must be read whole, or the connection cannot be kept.
    let _ = request.into_body().collect().await;
    if faults.hang {
        std::future::pending::<()>().await;
    }
    if faults.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
    }
    let status = if state.fails(&faults, session) { faults.error_status } else { 200 };
    {
        let mut log = state.log.lock().unwrap();
        log[index].answered = now_ns();
        log[index].status = status;
    }
    let response = Response::builder()
        .status(status)
        .header(MODEL_COLOR, state.color.as_str())
        .header(MODEL_REVISION, &*revision);
    let (content_type, body) = match (state.kind, status) {
        (_, 500..) => ("application/json", whole(r#"{"error":"model failed"}"#)),
        (Kind::Pricing, _) => ("application/json", whole(&quote(session))),
        (Kind::Chat, _) => ("text/event-stream", Tokens::default().boxed_unsync()),
    };
    response.header("content-type", content_type).body(body).unwrap()
}

async fn control(state: &State, verb: &str, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match verb {
        "faults" => match serde_json::from_slice(&body) {
            Ok(faults) => {
                state.set(faults);
                Response::new(whole("{}"))
            }
            Err(error) => Response::builder().status(400).body(whole(&error.to_string())).unwrap(),
        },
        "log" => Response::new(whole(&serde_json::to_string(&*state.log.lock().unwrap()).unwrap())),
        _ => Response::builder().status(404).body(whole("faults or log")).unwrap(),
    }
}

/// A price that depends on the session only, so that a client can check it.
pub fn quote(session: u32) -> String {
    let cents = chance::at(7, u64::from(session)) * 10_000.0;
    format!(r#"{{"currency":"EUR","price":{:.2}}}"#, (cents.floor() + 100.0) / 100.0)
}

fn whole(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync()
}

/// Five tokens, a millisecond apart, then the end mark: a chat answer in small.
#[derive(Debug, Default)]
struct Tokens {
    next: usize,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl hyper::body::Body for Tokens {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const TOKENS: [&str; 6] = ["The", " sky", " is", " blue", ".", "[DONE]"];
        if let Some(pause) = self.pause.as_mut() {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let Some(token) = TOKENS.get(self.next) else { return Poll::Ready(None) };
        self.next += 1;
        self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: {token}\n\n"))))))
    }
}
