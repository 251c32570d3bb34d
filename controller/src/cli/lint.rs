//! `lint`: checks a document before it meets traffic, and says how long its ramp will take.
//!
//! The traffic is what was given, or what a running controller sees of the same service. Errors of the document
//! are told as `up` tells them, exit code 2; notes are advice and change nothing.

use super::ask::Asked;
use super::figures::{count, rate, span};
use super::screen::{Ink, Screen, columns};
use super::{At, Done, Failure, say};
use crate::api::{Advance, BlueGreen};
use crate::document::{Homes, advice, read_all};
use crate::ramp::{StepForecast, Traffic, forecast};
use crate::text::visible;
use crate::view::{ServiceView, percent};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// The document.
    file: PathBuf,
    /// Expected requests per second, both colors together [default: what a running controller sees].
    #[arg(long, value_name = "N", value_parser = positive)]
    requests_per_second: Option<f64>,
    /// Expected share of failed requests, such as 0.5% [default: what a running controller sees, or 0.5%].
    #[arg(long, value_name = "P", value_parser = share_of_errors)]
    error_rate: Option<f64>,
    /// Requests of one session [default: 10 where the document has session keys, else 1].
    #[arg(long, value_name = "M", value_parser = positive)]
    requests_per_session: Option<f64>,
    #[command(flatten)]
    at: At,
}

pub(super) async fn run(args: LintArgs) -> Done {
    let held = read_all(&args.file, Homes::Any).map_err(|error| Failure::document(&error))?;
    let screen = Screen::of_stdout();
    // Nobody needs to answer: a document can be checked before anything runs.
    let seen = match Asked::of(&args.at, None).await {
        Ok(asked) => asked.status().await.map(|view| view.services).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let mut out = format!("{}: valid\n", visible(&args.file.display().to_string()));
    if !held.others.is_empty() {
        let others = format!("{}: not looked at, lint reads BlueGreens", held.others.join(", "));
        out += &screen.paragraph("  note  ", &visible(&others));
    }
    for document in &held.documents {
        out += &render(document, traffic(&args, document, &seen), &screen);
    }
    say(screen.cut(&out))
}

fn traffic(args: &LintArgs, document: &BlueGreen, seen: &[ServiceView]) -> Option<Traffic> {
    let service = seen.iter().find(|service| service.name == document.key());
    let observed = service
        .map(|service| service.colors.blue.rate + service.colors.green.rate)
        .filter(|rate| *rate > 0.0);
    let observed_errors = service.and_then(|service| service.colors.get(service.live).error_rate);
    let sticky = !document.spec.session.keys.is_empty();
    Some(Traffic {
        requests_per_second: args.requests_per_second.or(observed)?,
        error_rate: args.error_rate.or(observed_errors).unwrap_or(0.005),
        requests_per_session: args.requests_per_session.unwrap_or(if sticky { 10.0 } else { 1.0 }),
    })
}

fn render(document: &BlueGreen, traffic: Option<Traffic>, screen: &Screen) -> String {
    let mut out = format!("\n{}\n", screen.ink(Ink::Bold, visible(&document.key())));
    for note in advice(document) {
        out += &screen.paragraph("  note  ", &format!("{} {}; {}", note.field, note.what, note.remedy));
    }
    if let (Some(service), Some(routes)) = (&document.spec.service, document.virtual_service()) {
        out += &screen.paragraph("  note  ", &only_in_the_cluster(service, routes));
    }
    let Some(traffic) = traffic else {
        out += "  ramp  add --requests-per-second N to see how long it will take\n";
        return out;
    };
    let sessions = match traffic.requests_per_session {
        m if m > 1.0 => format!(", {} requests per session", rate(m)),
        _ => String::new(),
    };
    let given = format!(
        "expected at {} requests/s with {} errors on both colors{sessions}; single releases take half or twice that",
        rate(traffic.requests_per_second),
        percent(traffic.error_rate)
    );
    out += &screen.paragraph("  ramp  ", &given);
    let steps = forecast(document, traffic);
    let unit = if traffic.requests_per_session > 1.0 { "SESSIONS" } else { "REQUESTS" };
    let mut rows =
        vec![["        STEP", "SHARE", unit, "TIME", "3x ERRORS FOUND AFTER"].map(str::to_owned).to_vec()];
    for (index, (step, wished)) in steps.iter().zip(&document.spec.release.steps).enumerate() {
        rows.push(vec![
            format!("        {}", index + 1),
            wished.share.to_string(),
            count(step.sessions.ceil() as u64),
            step.time.map_or_else(|| "not before the deadline".to_owned(), told),
            step.finds_threefold.map_or_else(|| "-".to_owned(), told),
        ]);
    }
    out += &columns(&rows);
    out += &screen.paragraph("        ", &summary(document, &steps));
    out
}

/// What no file tells, and what holds for every service whose colors are subsets.
fn only_in_the_cluster(service: &str, routes: &str) -> String {
    format!(
        "only the cluster knows whether Service {service}, VirtualService {routes} and both workloads exist, whether its \
         routes can be rewritten, whether the namespace has opted in and what a ReleasePolicy asks: after `kubectl apply` \
         see `kubectl get bg -o wide`. Service {service} selects both colors: who calls it from outside the mesh reaches \
         the standby too, and who calls it without the filter keeps to the weights, but not to a session's color"
    )
}

fn summary(document: &BlueGreen, steps: &[StepForecast]) -> String {
    let release = &document.spec.release;
    let times: Option<Vec<Duration>> = steps.iter().map(|step| step.time).collect();
    match times {
        Some(times) => format!(
            "to 100 % in about {}, then {} of soak and at most {} of drain",
            told(times.iter().sum()),
            told(release.soak.time),
            told(release.drain_deadline)
        ),
        None => {
            let remedy = match release.advance {
                Advance::Certified => {
                    "give it a larger share, more traffic, or a later spec.release.deadline"
                }
                Advance::Unsuspicious => {
                    "ask for less time or fewer requests, or a later spec.release.deadline"
                }
            };
            format!(
                "step {} would reach its deadline of {} undecided; {remedy}",
                steps.len(),
                told(release.deadline)
            )
        }
    }
}

fn told(time: Duration) -> String {
    span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("write a number above 0, such as 200".to_owned()),
    }
}

fn share_of_errors(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|value| value / 100.0),
        None => text.parse::<f64>(),
    };
    match value {
        Ok(value) if (0.0..0.5).contains(&value) => Ok(value),
        _ => Err("write a share from 0% to below 50%, such as 0.5% or 0.005".to_owned()),
    }
}
