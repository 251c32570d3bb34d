//! Requests as raw bytes, for what a proper HTTP client refuses to send.

use crate::clock::patience;
use crate::model::MODEL_COLOR;
use hueshift_core::color::Color;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept connection: all its requests go to one worker.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Color of the model that answered.
    pub color: Option<Color>,
    /// Head of the answer, lowercase.
    pub head: String,
}

// === impl Wire ===

impl Wire {
    /// Connects.
    pub async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("a connection to Envoy");
        stream.set_nodelay(true).expect("nodelay");
        Wire { stream }
    }

    /// Sends a GET with these header lines (each ending in CRLF) and reads one answer.
    pub async fn get(&mut self, path: &str, headers: &[u8]) -> Answer {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: models.example\r\n").into_bytes();
        request.extend_from_slice(headers);
        request.extend_from_slice(b"\r\n");
        self.stream.write_all(&request).await.expect("sending");
        let deadline = patience(Duration::from_secs(10));
        tokio::time::timeout(deadline, self.read()).await.expect("an answer before the deadline")
    }

    /// A request of one session.
    pub async fn session(&mut self, session: u32) -> Answer {
        self.get("/v1/quote", format!("x-session-id: {session}\r\n").as_bytes()).await
    }

    async fn read(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut bytes).await;
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|v| v.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let color = header(MODEL_COLOR).and_then(|name| Color::BOTH.into_iter().find(|c| c.as_str() == name));
        if let Some(length) = header("content-length").and_then(|length| length.parse::<usize>().ok()) {
            while bytes.len() < head_end + length {
                self.more(&mut bytes).await;
            }
        } else {
            while !bytes.ends_with(b"0\r\n\r\n") {
                self.more(&mut bytes).await;
            }
        }
        Answer { status, color, head }
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) {
        let read = self.stream.read_buf(bytes).await.expect("reading");
        assert!(read > 0, "Envoy closed the connection after {:?}", String::from_utf8_lossy(bytes));
    }
}
