//! A stand-in for the controller's report service, for tests of the filter alone: it keeps every report and answers
//! what the test wishes, wrong and hostile answers included.

use crate::http::{self, Server};
use http_body_util::{BodyExt, Full};
use hueshift_core::contract::{Reply, Report};
use hyper::Response;
use hyper::body::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// What to answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A proper reply; `ack` is filled in.
    Reply(Box<Reply>),
    /// These bytes with this status.
    Raw(u16, Vec<u8>),
}

/// The stand-in.
#[derive(Debug)]
pub struct Sink {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    reports: Vec<Report>,
    unreadable: Vec<String>,
}

// === impl Sink ===

impl Sink {
    /// Listens on any loopback port and acknowledges everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port for the sink");
        let answer = Answer::Reply(Box::new(Reply { term: 1, report_ms: 100, ..Reply::default() }));
        let state = Arc::new(Mutex::new(State { answer, reports: Vec::new(), unreadable: Vec::new() }));
        let shared = Arc::clone(&state);
        let server = http::serve(listener, move |request| {
            let shared = Arc::clone(&shared);
            async move {
                let body =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let mut state = shared.lock().unwrap();
                let seq = match serde_json::from_slice::<Report>(&body) {
                    Ok(report) => {
                        let seq = report.seq;
                        state.reports.push(report);
                        seq
                    }
                    Err(error) => {
                        state.unreadable.push(format!("{error}: {:.2000}", String::from_utf8_lossy(&body)));
                        0
                    }
                };
                let (status, bytes) = match state.answer.clone() {
                    Answer::Raw(status, bytes) => (status, bytes),
                    Answer::Reply(mut reply) => {
                        reply.ack = seq;
                        (200, serde_json::to_vec(&reply).unwrap())
                    }
                };
                Response::builder().status(status).body(Full::new(Bytes::from(bytes))).unwrap()
            }
        });
        Sink { server, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// From now on this answer.
    pub fn answer(&self, answer: Answer) {
        self.state.lock().unwrap().answer = answer;
    }

    /// All reports so far.
    pub fn reports(&self) -> Vec<Report> {
        self.state.lock().unwrap().reports.clone()
    }

    /// Bodies that were no report.
    pub fn unreadable(&self) -> Vec<String> {
        self.state.lock().unwrap().unreadable.clone()
    }

    /// The newest report of each VM.
    pub fn latest(&self) -> BTreeMap<u64, Report> {
        let mut latest: BTreeMap<u64, Report> = BTreeMap::new();
        for report in self.reports() {
            match latest.get(&report.vm) {
                Some(known) if known.seq > report.seq => {}
                _ => drop(latest.insert(report.vm, report)),
            }
        }
        latest
    }
}
