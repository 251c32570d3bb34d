//! Sample model servers: pricing (one JSON quote) and chat (a short server-sent-event answer), with faults that can
//! be set while they run.
//!
//! They are real HTTP/1.1 servers. Every answer carries its color and revision, so that an answer that no model
//! gave (a proxy's own) is recognized; every request is appended to an event log with the time of its arrival,
//! which is what rescue times are measured on.

use crate::clock::now_ns;
use crate::http::{self, Server};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hueshift_core::color::Color;
use hueshift_simulation::chance;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
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
/// Header of every good answer: what the model says, 0 to 1.
pub const PREDICTION: &str = "x-prediction";
/// Header with the session's number, also the session key of most tests.
pub const SESSION: &str = "x-session-id";
/// Under this path faults are set and the log is read.
pub const CONTROL: &str = "/_model/";
/// Under this path, followed by a number of seconds, an answer takes so long: an event each second.
pub const STREAM: &str = "/v1/stream/";

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
    /// Each answer waits this long (the median, if times are spread), ms.
    pub delay_ms: u64,
    /// How far times are spread: standard deviation of their logarithm.
    pub delay_spread: f64,
    /// The body follows its head this much later, ms.
    pub body_ms: u64,
    /// Chance that a request is never answered.
    pub hang_rate: f64,
    /// Share of the *sessions* whose every request fails.
    pub failing_sessions: f64,
    /// Predictions are so much larger; above 1 they are 1.
    pub prediction_shift: f64,
    /// Chance that a prediction is no number.
    pub prediction_nan_rate: f64,
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
    file: Mutex<Option<(File, u64)>>,
}

/// A line of a log that is kept in a file: one when the request came, another when its answer was ready.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: u64,
    #[serde(flatten)]
    served: Served,
}

// === impl Faults ===

impl Default for Faults {
    fn default() -> Self {
        Faults {
            error_rate: 0.0,
            error_status: 500,
            after_ms: 0,
            delay_ms: 0,
            delay_spread: 0.0,
            body_ms: 0,
            hang_rate: 0.0,
            failing_sessions: 0.0,
            prediction_shift: 0.0,
            prediction_nan_rate: 0.0,
        }
    }
}

impl Faults {
    /// Each request fails with this chance.
    pub fn errors(rate: f64) -> Self {
        Faults { error_rate: rate, ..Faults::default() }
    }

    /// Each answer takes about so long, spread as times of model servers are.
    pub fn takes(ms: u64) -> Self {
        Faults { delay_ms: ms, delay_spread: 0.5, ..Faults::default() }
    }

    /// Predictions are so much larger.
    pub fn predicts(shift: f64) -> Self {
        Faults { prediction_shift: shift, ..Faults::default() }
    }

    /// The same, and each answer that begins is whole this much later.
    pub fn ending_later(mut self, ms: u64) -> Self {
        self.body_ms = ms;
        self
    }

    /// The same, and each request is left without an answer with this chance.
    pub fn hanging(mut self, rate: f64) -> Self {
        self.hang_rate = rate;
        self
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
            file: Mutex::default(),
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

    /// Writes the log to a file as well, from now on: it outlives this process however that ends.
    pub fn keep_log(&self, path: &Path) {
        let file = File::options().create(true).append(true).open(path);
        let file = file.unwrap_or_else(|error| panic!("the event log {}: {error}", path.display()));
        *self.state.file.lock().unwrap() = Some((file, now_ns()));
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

    /// A request came; its place in the log.
    fn came(&self, served: Served) -> usize {
        let mut log = self.log.lock().unwrap();
        self.write(log.len(), &served);
        log.push(served);
        log.len() - 1
    }

    /// Its answer is ready.
    fn answered(&self, index: usize, status: u16) {
        let mut log = self.log.lock().unwrap();
        log[index].answered = now_ns();
        log[index].status = status;
        self.write(index, &log[index]);
    }

    fn write(&self, index: usize, served: &Served) {
        if let Some((file, first)) = &mut *self.file.lock().unwrap() {
            let line = Line { id: *first + index as u64, served: served.clone() };
            let mut text = serde_json::to_vec(&line).expect("a line");
            text.push(b'\n');
            file.write_all(&text).expect("the event log");
        }
    }

    /// The number of a request, from which all its chances follow.
    fn draw(&self) -> u64 {
        self.draws.fetch_add(1, Ordering::Relaxed)
    }

    fn hangs(&self, faults: &Faults, draw: u64) -> bool {
        chance::at(self.seed ^ 0x5a5a, draw) < faults.hang_rate
    }

    fn delay(&self, faults: &Faults, draw: u64) -> Duration {
        let middle = Duration::from_millis(faults.delay_ms);
        if faults.delay_spread == 0.0 {
            return middle;
        }
        let z = chance::normal_quantile(chance::at(self.seed ^ 0x3c3c, draw));
        middle.mul_f64((faults.delay_spread * z).exp())
    }

    /// What it says about a session: the same each time, unless it is shifted.
    fn prediction(&self, faults: &Faults, session: u32, draw: u64) -> String {
        if chance::at(self.seed ^ 0x6969, draw) < faults.prediction_nan_rate {
            return "NaN".to_owned();
        }
        let score = chance::at(11, u64::from(session)) + faults.prediction_shift;
        format!("{:.4}", score.clamp(0.0, 1.0))
    }

    fn fails(&self, faults: &Faults, session: u32, draw: u64) -> bool {
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
    let stream = request.uri().path().strip_prefix(STREAM).and_then(|seconds| seconds.parse().ok());
    let index = state.came(Served {
        at,
        answered: 0,
        session,
        color: state.color,
        revision: Arc::clone(&revision),
        status: 0,
    });
    // The request must be read whole, or the connection cannot be kept.
    let _ = request.into_body().collect().await;
    let draw = state.draw();
    if state.hangs(&faults, draw) {
        std::future::pending::<()>().await;
    }
    let delay = state.delay(&faults, draw);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let status = if state.fails(&faults, session, draw) { faults.error_status } else { 200 };
    state.answered(index, status);
    let mut response = Response::builder()
        .status(status)
        .header(MODEL_COLOR, state.color.as_str())
        .header(MODEL_REVISION, &*revision);
    if status < 400 {
        response = response.header(PREDICTION, state.prediction(&faults, session, draw));
    }
    let (content_type, body) = match (stream, state.kind) {
        _ if status >= 500 => ("application/json", whole(r#"{"error":"model failed"}"#)),
        (Some(seconds), _) => ("text/event-stream", Tokens::seconds(seconds).boxed_unsync()),
        (None, Kind::Pricing) if faults.body_ms > 0 => {
            ("application/json", later(quote(session), Duration::from_millis(faults.body_ms)))
        }
        (None, Kind::Pricing) => ("application/json", whole(&quote(session))),
        (None, Kind::Chat) => ("text/event-stream", Tokens::chat().boxed_unsync()),
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
        "health" => Response::new(whole("{}")),
        _ => Response::builder().status(404).body(whole("faults or log")).unwrap(),
    }
}

/// Tells models that run elsewhere to fail from now on (plus `after_ms`), or no longer.
pub async fn set_faults(models: impl IntoIterator<Item = SocketAddr>, faults: &Faults) {
    let body = serde_json::to_string(faults).expect("JSON");
    for address in models {
        let path = format!("{CONTROL}faults");
        let answer = http::ask_address(address, "POST", &path, &body).await.expect("a model answers");
        assert_eq!(answer.0, 200, "{answer:?}");
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

/// The head goes at once.
fn later(text: String, wait: Duration) -> Body {
    let body = async move {
        tokio::time::sleep(wait).await;
        Ok(Frame::data(Bytes::from(text)))
    };
    StreamBody::new(futures_util::stream::once(body)).boxed_unsync()
}

/// The requests in a file of [`Model::keep_log`]. A last line that a kill cut off is left out.
pub fn read_log(path: &Path) -> Vec<Served> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    // The later line of a request knows more.
    let requests: BTreeMap<u64, Served> = lines.map(|line| (line.id, line.served)).collect();
    requests.into_values().collect()
}

/// Server-sent events, one after the other, then the end.
#[derive(Debug)]
struct Tokens {
    left: VecDeque<String>,
    gap: Duration,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

// === impl Tokens ===

impl Tokens {
    /// Five tokens, a millisecond apart, and the end mark: a chat answer in small.
    fn chat() -> Self {
        let left = ["The", " sky", " is", " blue", ".", "[DONE]"].map(str::to_owned).into();
        Tokens { left, gap: Duration::from_millis(1), pause: None }
    }

    /// An event each second, and the end mark.
    fn seconds(seconds: u32) -> Self {
        let left = (0..seconds).map(|n| n.to_string()).chain(["[DONE]".to_owned()]).collect();
        Tokens { left, gap: Duration::from_secs(1), pause: None }
    }
}

impl hyper::body::Body for Tokens {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = self.pause.as_mut() {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let Some(token) = self.left.pop_front() else { return Poll::Ready(None) };
        self.pause = Some(Box::pin(tokio::time::sleep(self.gap)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: {token}\n\n"))))))
    }
}
