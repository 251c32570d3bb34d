//! Waiting for a release to end, so that a pipeline can act on its exit code.
//!
//! A controller that restarts meanwhile is waited for; its state survives. Progress goes to standard error, one
//! line per change, so that standard output stays for the result.

use super::Failure;
use super::ask::Asked;
use super::status::{last_ended, phase};
use crate::api::human_duration;
use crate::view::{End, View};
use clap::Args;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a wait may take.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Limit {
    /// Longest time to wait, such as 90s, 10m or 2h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = human_duration::parse, requires = "wait")]
    timeout: Duration,
}

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the controller may be away, e.g. for a restart.
const AWAY: Duration = Duration::from_secs(15);

/// Where a wait stands.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    /// Nothing to tell but the state, as one line.
    Open(String),
    /// It ended, or will not without a person.
    Over(u8, String),
}

/// Waits until release `release` of `service` has ended, and says how.
pub(super) async fn until_ended(
    asked: &Asked,
    service: &str,
    release: u32,
    limit: Limit,
) -> Result<ExitCode, Failure> {
    let begin = Instant::now();
    let mut seen = begin;
    let mut told = String::new();
    loop {
        match asked.status().await {
            Ok(view) => {
                seen = Instant::now();
                match stand(&view, service, release)? {
                    Stand::Over(code, text) => {
                        tell(&text);
                        return Ok(ExitCode::from(code));
                    }
                    Stand::Open(line) if line != told => {
                        tell(&line);
                        told = line;
                    }
                    Stand::Open(_) => {}
                }
            }
            Err(error) if error.final_word() || seen.elapsed() > AWAY => return Err(error.failure()),
            Err(_) => {}
        }
        if begin.elapsed() >= limit.timeout {
            let waited = human_duration::format(limit.timeout);
            let text = format!("not decided within {waited}; it goes on, see `hueshift explain`");
            return Err(Failure { code: 5, ..Failure::error(text) });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(line: &str) {
    // Progress that nobody reads is no failure.
    let _ = writeln!(io::stderr(), "{line}");
}

fn stand(view: &View, name: &str, release: u32) -> Result<Stand, Failure> {
    let service = super::ask::pick(view, Some(name))?;
    let record = service.history.iter().rev().find(|record| record.release >= release);
    if let Some(record) = record.filter(|record| record.release == release || service.release > release) {
        let code = match record.end {
            _ if record.release > release => 6,
            End::Promoted => 0,
            End::RolledBack => 3,
            End::Superseded => 6,
        };
        return Ok(Stand::Over(code, last_ended(service)?));
    }
    if service.release > release {
        return Ok(Stand::Over(
            6,
            format!("release {release} of {name} was superseded by release {}", service.release),
        ));
    }
    if !service.open() {
        return Ok(Stand::Over(0, format!("{name} has no open release")));
    }
    if service.needs_person() {
        let why =
            service.waiting_on.iter().map(|waiting| waiting.text.clone()).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { "it is paused".to_owned() } else { format!("it waits for {why}") };
        return Ok(Stand::Over(
            4,
            format!("release {release} of {name} is held at {}: {why}", service.plan.limit),
        ));
    }
    Ok(Stand::Open(format!(
        "release {release} of {name}: {}, {} to {}",
        phase(service),
        service.plan.limit,
        service.candidate()
    )))
}
