//! The load client: an open loop of sessions over keep-alive HTTP/1.1 or HTTP/2, without retries.
//!
//! *Open loop*: each request has an intended time that does not wait for earlier answers, so that a slow server
//! cannot hide its own delay. Sessions take turns in a shuffled order, so that two requests of one session are
//! far apart and their order at the proxy is the order of sending.

use crate::clock::now_ns;
use crate::http::{connect, connect2};
use crate::model::{MODEL_COLOR, MODEL_REVISION, SESSION};
use crate::process;
use http_body_util::{BodyExt, Empty};
use hueshift_core::color::Color;
use hueshift_simulation::chance::Chance;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::client::conn::http2::SendRequest as Http2;
use hyper::http::response::Parts;
use hyper::{Request, Response};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// Envoy's listener.
    pub target: SocketAddr,
    /// Host of every request.
    pub host: String,
    /// Path of every request.
    pub path: String,
    /// HTTP/2 over a few connections instead of HTTP/1.1 over many.
    pub http2: bool,
    /// How many sessions take turns.
    pub sessions: u32,
    /// Number of the first session.
    pub first_session: u32,
    /// Exactly these sessions instead.
    pub chosen: Option<Vec<u32>>,
    /// Requests per second.
    pub rate: f64,
    /// Exponential gaps instead of equal ones.
    pub poisson: bool,
    /// Ends by itself after so many requests.
    pub requests: Option<u64>,
    /// Seed of order and gaps.
    pub seed: u64,
    /// A request without an answer by then is lost.
    pub patience: Duration,
}

/// One line of the client's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Session number.
    pub session: u32,
    /// When it should have been sent, Unix ns.
    pub intended: u64,
    /// When it was sent, Unix ns.
    pub sent: u64,
    /// When the answer was complete, Unix ns.
    pub done: u64,
    /// Status of the answer; 0: none.
    pub status: u16,
    /// Color of the model that answered; none: no model did.
    pub color: Option<Color>,
    /// Revision of that model.
    pub revision: Option<Arc<str>>,
    /// Why there was no answer.
    pub problem: Option<String>,
}

/// A load under way; dropped, it stops.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Most connections of one load: beyond them a request waits, and its waiting counts from its intended time.
const MAX_CONNECTIONS: usize = 256;

/// Connections that a load opens before its first request, which then take turns. The kernel spreads connections over
/// Envoy's workers by a hash, and a quick server at a low rate never needs a second one: without these a whole load
/// can run through one worker. With 32 the chance that one of two workers gets none is below 1e-9.
const FIRST_CONNECTIONS: usize = 32;

/// Connections of a load over HTTP/2, so that several workers take part.
const HTTP2_CONNECTIONS: usize = 4;

/// What can be seen of a load while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Glance {
    /// Requests sent.
    pub sent: u64,
    /// Answers of blue.
    pub blue: u64,
    /// Answers of green.
    pub green: u64,
    /// Answers with a status of 500 or more.
    pub bad: u64,
    /// No answer, or one that no model gave.
    pub lost: u64,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    stop: AtomicBool,
    free: Semaphore,
    pool: Mutex<VecDeque<SendRequest<Empty<Bytes>>>>,
    pool2: tokio::sync::Mutex<VecDeque<Http2<Empty<Bytes>>>>,
    log: Mutex<Vec<Sent>>,
    started: AtomicU64,
    blue: AtomicU64,
    green: AtomicU64,
    bad: AtomicU64,
    lost: AtomicU64,
    revisions: Mutex<Vec<Arc<str>>>,
}

// === impl Load ===

impl Load {
    /// A steady load of `sessions` at `rate` requests per second.
    pub fn new(target: SocketAddr, sessions: u32, rate: f64) -> Self {
        Load {
            target,
            host: "models.example".to_owned(),
            path: "/v1/quote".to_owned(),
            http2: false,
            sessions,
            first_session: 0,
            chosen: None,
            rate,
            poisson: false,
            requests: None,
            seed: 1,
            patience: Duration::from_secs(20),
        }
    }

    /// Ends by itself after so many requests.
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Starts sending.
    pub fn start(self) -> Running {
        process::allow_many_files();
        let shared = Arc::new(Shared {
            load: self,
            stop: AtomicBool::new(false),
            free: Semaphore::new(MAX_CONNECTIONS),
            pool: Mutex::default(),
            pool2: tokio::sync::Mutex::default(),
            log: Mutex::default(),
            started: AtomicU64::new(0),
            blue: AtomicU64::new(0),
            green: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            revisions: Mutex::default(),
        });
        Running { task: tokio::spawn(run(Arc::clone(&shared))), shared }
    }

    /// Sends everything and gives the log; needs `requests`.
    pub async fn finish(self) -> Vec<Sent> {
        assert!(self.requests.is_some(), "a load without an end cannot be finished");
        let mut running = self.start();
        (&mut running.task).await.expect("the load client");
        running.take_log()
    }
}

// === impl Running ===

impl Running {
    /// Sends no more, waits for open requests, gives the log.
    pub async fn stop(mut self) -> Vec<Sent> {
        self.shared.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await.expect("the load client");
        self.take_log()
    }

    /// How it stands.
    pub fn glance(&self) -> Glance {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        Glance {
            sent: get(&shared.started),
            blue: get(&shared.blue),
            green: get(&shared.green),
            bad: get(&shared.bad),
            lost: get(&shared.lost),
        }
    }

    /// A copy of the log so far (answered requests only).
    pub fn log(&self) -> Vec<Sent> {
        self.shared.log.lock().unwrap().clone()
    }

    fn take_log(&mut self) -> Vec<Sent> {
        let mut log = std::mem::take(&mut *self.shared.log.lock().unwrap());
        log.sort_by_key(|event| event.sent);
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

// === impl Sent ===

impl Sent {
    /// No answer, or an answer that no model gave.
    pub fn lost(&self) -> bool {
        self.status == 0 || self.color.is_none()
    }

    /// A model failed.
    pub fn bad(&self) -> bool {
        self.color.is_some() && self.status >= 500
    }
}

async fn run(shared: Arc<Shared>) {
    let load = &shared.load;
    let mut chance = Chance::new(load.seed);
    let numbered = || (0..load.sessions).map(|n| load.first_session + n).collect();
    let mut order: Vec<u32> = load.chosen.clone().unwrap_or_else(numbered);
    let mut turn = order.len();
    shared.connect_first().await;
    let (begin, begin_ns) = (Instant::now(), now_ns());
    let mut at = 0.0;
    let mut open = JoinSet::new();
    for _ in 0..load.requests.unwrap_or(u64::MAX) {
        if turn == order.len() {
            chance.shuffle(&mut order);
            turn = 0;
        }
        let session = order[turn];
        turn += 1;
        let offset = Duration::from_secs_f64(at);
        at += if load.poisson { chance.exponential(1.0 / load.rate) } else { 1.0 / load.rate };
        tokio::time::sleep_until(begin + offset).await;
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        shared.started.fetch_add(1, Ordering::Relaxed);
        let intended = begin_ns + u64::try_from(offset.as_nanos()).unwrap_or(u64::MAX);
        open.spawn(one(Arc::clone(&shared), session, intended));
        while open.try_join_next().is_some() {}
    }
    while open.join_next().await.is_some() {}
}

async fn one(shared: Arc<Shared>, session: u32, intended: u64) {
    let _free = shared.free.acquire().await;
    let sent = now_ns();
    let answer = tokio::time::timeout(shared.load.patience, shared.ask(session)).await;
    let done = now_ns();
    let event = match answer {
        Ok(Ok((status, color, revision))) => {
            Sent { session, intended, sent, done, status, color, revision, problem: None }
        }
        Ok(Err(problem)) => Sent {
            session,
            intended,
            sent,
            done,
            status: 0,
            color: None,
            revision: None,
            problem: Some(problem),
        },
        Err(_) => {
            let problem = Some("no answer in time".to_owned());
            Sent { session, intended, sent, done, status: 0, color: None, revision: None, problem }
        }
    };
    match event.color {
        Some(Color::Blue) => shared.blue.fetch_add(1, Ordering::Relaxed),
        Some(Color::Green) => shared.green.fetch_add(1, Ordering::Relaxed),
        None => 0,
    };
    if event.bad() {
        shared.bad.fetch_add(1, Ordering::Relaxed);
    }
    if event.lost() {
        shared.lost.fetch_add(1, Ordering::Relaxed);
    }
    shared.log.lock().unwrap().push(event);
}

// === impl Shared ===

impl Shared {
    async fn ask(&self, session: u32) -> Result<(u16, Option<Color>, Option<Arc<str>>), String> {
        let response = if self.load.http2 {
            let request = Request::get(format!("http://{}{}", self.load.host, self.load.path));
            let request = request.header(SESSION, session).body(Empty::new()).map_err(|e| e.to_string())?;
            let mut sender = self.connection2().await?;
            let response =
                sender.send_request(request).await.map_err(|error| format!("sending: {error:?}"))?;
            read(response).await?
        } else {
            let request = Request::get(&self.load.path).header("host", &self.load.host);
            let request = request.header(SESSION, session).body(Empty::new()).map_err(|e| e.to_string())?;
            let mut sender = self.connection().await?;
            let response =
                sender.send_request(request).await.map_err(|error| format!("sending: {error:?}"))?;
            let head = read(response).await?;
            if sender.ready().await.is_ok() {
                self.pool.lock().unwrap().push_back(sender);
            }
            head
        };
        let header = |name| response.headers.get(name).and_then(|value| value.to_str().ok());
        let color =
            header(MODEL_COLOR).and_then(|name| Color::BOTH.into_iter().find(|color| color.as_str() == name));
        let revision = header(MODEL_REVISION).map(|name| self.intern(name));
        Ok((response.status.as_u16(), color, revision))
    }

    /// Opens connections in advance. If there is nobody yet, the requests will tell.
    async fn connect_first(&self) {
        for _ in 0..if self.load.http2 { 0 } else { FIRST_CONNECTIONS } {
            let Ok(sender) = connect(self.load.target).await else { return };
            self.pool.lock().unwrap().push_back(sender);
        }
    }

    /// The connections take turns.
    async fn connection2(&self) -> Result<Http2<Empty<Bytes>>, String> {
        let mut pool = self.pool2.lock().await;
        pool.retain(|sender| !sender.is_closed());
        let sender = if pool.len() < HTTP2_CONNECTIONS {
            connect2(self.load.target).await.map_err(|error| format!("connecting: {error}"))?
        } else {
            pool.pop_front().expect("a connection")
        };
        pool.push_back(sender.clone());
        Ok(sender)
    }

    /// The connection that rested longest, so that all take part; a new one if none rests.
    async fn connection(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        loop {
            let pooled = self.pool.lock().unwrap().pop_front();
            match pooled {
                Some(sender) if sender.is_closed() => {}
                Some(sender) => return Ok(sender),
                None => {
                    return connect(self.load.target).await.map_err(|error| format!("connecting: {error}"));
                }
            }
        }
    }

    fn intern(&self, name: &str) -> Arc<str> {
        let mut known = self.revisions.lock().unwrap();
        if let Some(same) = known.iter().find(|revision| &***revision == name) {
            return Arc::clone(same);
        }
        let new: Arc<str> = name.into();
        known.push(Arc::clone(&new));
        new
    }
}

/// Reads an answer to its end.
async fn read(response: Response<Incoming>) -> Result<Parts, String> {
    let (head, body) = response.into_parts();
    body.collect().await.map_err(|error| format!("reading: {error:?}"))?;
    Ok(head)
}

/// One answer that takes long: the number of its events, and what cut it short.
pub async fn stream(target: SocketAddr, host: &str, session: u32, seconds: u32) -> (usize, Option<String>) {
    let request = Request::get(format!("{}{seconds}", crate::model::STREAM)).header("host", host);
    let request = request.header(SESSION, session).body(Empty::<Bytes>::new()).expect("a request");
    let opened = async {
        let mut sender = connect(target).await.map_err(|error| format!("connecting: {error}"))?;
        sender.send_request(request).await.map_err(|error| format!("sending: {error:?}"))
    };
    let mut body = match opened.await {
        Ok(response) if response.status() == 200 => response.into_body(),
        Ok(response) => return (0, Some(format!("status {}", response.status()))),
        Err(problem) => return (0, Some(problem)),
    };
    let (mut events, mut ended) = (0, false);
    while let Some(frame) = body.frame().await {
        let Ok(Ok(data)) = frame.map(hyper::body::Frame::into_data) else {
            return (events, Some("the connection broke".to_owned()));
        };
        events += data.windows(6).filter(|six| *six == b"data: ").count();
        ended |= data.windows(6).any(|six| six == b"[DONE]");
    }
    (events, (!ended).then(|| "it ended without its end mark".to_owned()))
}
