//! The control socket: how a verb in one process talks to the controller in another.
//!
//! HTTP over the Unix socket [`SOCKET`] in the state directory, so that file permissions decide who may steer a
//! release and nothing listens on the network. `GET /v1/status` answers a [`View`]; `POST /v1/command` takes a
//! [`Request`] and answers [`Accepted`] (200) or [`Refused`] (4xx, 5xx). Requests are tiny and local: a client
//! opens one connection per request and gives up after [`TIMEOUT`].

pub mod server;

use crate::view::View;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Name of the socket inside the state directory.
pub const SOCKET: &str = "control.sock";
/// Path of the view.
pub const STATUS_PATH: &str = "/v1/status";
/// Path of commands.
pub const COMMAND_PATH: &str = "/v1/command";
/// Longest that a client waits; the controller answers at once, so more means that it hangs.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that a client reads.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What a person asks of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which service; may be left out when there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// The verbs that change a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Start a release of the standby's revision.
    Release {
        /// Also if this revision was rolled back before, or equals the live one.
        #[serde(default)]
        force: bool,
    },
    /// Go on from the current step, hold or soak without waiting for its evidence or time.
    Promote,
    /// Stay at the current share until `resume`; a rollback still happens.
    Pause,
    /// Lift a pause.
    Resume,
    /// Stop the release and go back to stable.
    Abort,
}

/// A command that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The service it was taken for.
    pub service: String,
    /// The release it is about.
    pub release: u32,
    /// What happens now, as a sentence.
    pub text: String,
}

/// A command that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, as a lowercase fragment.
    pub error: String,
    /// What to do instead.
    pub remedy: String,
}

/// Asks the controller of one state directory.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no controller is running for {}", .state.display())]
    NotRunning {
        /// The state directory.
        state: PathBuf,
    },
    /// The socket exists but may not be used.
    #[error("cannot reach the controller at {}", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It listens, but does not answer.
    #[error("the controller at {} did not answer within {} s", .socket.display(), TIMEOUT.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// It answered something else.
    #[error("the controller's answer is not understood ({what}); is it of another version?")]
    Garbled {
        /// What was wrong with it.
        what: String,
    },
    /// It said no.
    #[error("{0}")]
    Refused(Refused),
}

// === impl Refused ===

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.error, self.remedy)
    }
}

// === impl Client ===

impl Client {
    /// For the controller that keeps its state in `state`.
    pub fn new(state: &Path) -> Self {
        Client { socket: state.join(SOCKET) }
    }

    /// Everything, now.
    pub async fn status(&self) -> Result<View, ClientError> {
        let request = hyper::Request::get(STATUS_PATH).header(HOST, "hueshift").body(Full::default());
        self.ask(request).await
    }

    /// Sends one command.
    pub async fn command(&self, request: &Request) -> Result<Accepted, ClientError> {
        let body = serde_json::to_vec(request).map_err(garbled)?;
        let request = hyper::Request::post(COMMAND_PATH)
            .header(HOST, "hueshift")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body));
        self.ask(request).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: hyper::http::Result<hyper::Request<Full<Bytes>>>,
    ) -> Result<T, ClientError> {
        let request = request.map_err(garbled)?;
        tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent { socket: self.socket.clone() }))
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(garbled)?;
        // Ends with the exchange: dropping `sender` closes the connection.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(garbled)?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(garbled)?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(garbled);
        }
        match serde_json::from_slice(&body) {
            Ok(refused) => Err(ClientError::Refused(refused)),
            Err(_) => Err(garbled(format_args!("HTTP {status}"))),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        match source.kind() {
            // A socket file without a listener is what a killed controller leaves behind.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { state: self.socket.parent().unwrap_or(Path::new(".")).to_owned() }
            }
            _ => ClientError::Unreachable { socket: self.socket.clone(), source },
        }
    }
}

fn garbled(what: impl fmt::Display) -> ClientError {
    ClientError::Garbled { what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_of_a_request_is_flat() {
        let request = Request { service: Some("chat".into()), command: Command::Release { force: true } };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"service":"chat","command":"release","force":true}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let short: Request = serde_json::from_str(r#"{"command":"release"}"#).unwrap();
        assert_eq!(short, Request { service: None, command: Command::Release { force: false } });
    }

    #[tokio::test]
    async fn a_missing_or_abandoned_socket_means_that_nobody_runs() {
        let state = tempfile::tempdir().unwrap();
        let client = Client::new(state.path());
        assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
        drop(std::os::unix::net::UnixListener::bind(state.path().join(SOCKET)).unwrap());
        assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
    }
}
