//! `history`: past releases, newest first, with what ended them.

use super::ask::Asked;
use super::figures::{plural, span};
use super::screen::{Ink, Screen, columns};
use super::{At, Done, Failure, Output, show};
use crate::standalone::history as kept;
use crate::text::visible;
use crate::view::{End, ReleaseRecord, ended};
use clap::Args;
use std::io::{self, Write};

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only this service.
    service: Option<String>,
    /// For people or for programs.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Most releases to list.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    at: At,
}

pub(super) async fn run(args: HistoryArgs) -> Done {
    let mut records = records(&args.at, args.service.as_deref()).await?;
    records.sort_by_key(|record| std::cmp::Reverse(record.ended_ms));
    records.truncate(args.limit);
    show(args.output, &records, |screen| render(&records, screen))
}

/// From the files, which hold more than a view and outlive the controller; where there are none, a controller
/// that nobody started is the likelier reason than one without releases.
pub(super) async fn records(at: &At, service: Option<&str>) -> Result<Vec<ReleaseRecord>, Failure> {
    let asked = Asked::of(at, service).await?;
    let state = match &asked {
        Asked::Folder { state, .. } => state,
        Asked::Cluster(cluster) => {
            return cluster.history(service).await.map_err(|error| error.failure());
        }
    };
    let unreadable =
        |error| Failure::error(format!("cannot read the history in {}: {error}", state.display()));
    let Some((mut records, problems)) = kept::all(state).map_err(unreadable)? else {
        let view = asked.view().await?;
        return Ok(view.services.into_iter().flat_map(|service| service.history).collect());
    };
    for problem in problems {
        // Told beside the result, so that JSON stays JSON.
        let _ = writeln!(io::stderr(), "warning: {}", visible(&problem));
    }
    if let Some(name) = service {
        records.retain(|record| record.service == name);
    }
    Ok(records)
}

/// The table.
pub(super) fn render(records: &[ReleaseRecord], screen: &Screen) -> String {
    if records.is_empty() {
        return "no release has ended yet\n".to_owned();
    }
    let mut rows = vec![
        ["SERVICE", "RELEASE", "REVISION", "STARTED", "TOOK", "REACHED", "RESULT"]
            .map(|head| screen.ink(Ink::Dim, head))
            .to_vec(),
    ];
    for record in records {
        let ink = match record.end {
            End::Promoted => Ink::Good,
            End::RolledBack => Ink::Bad,
            End::Superseded => Ink::Dim,
        };
        let reached = record.steps.iter().map(|step| step.share).max();
        rows.push(vec![
            visible(&record.service).into_owned(),
            record.release.to_string(),
            visible(&record.revision).into_owned(),
            screen.date(record.started_ms),
            span(record.ended_ms.saturating_sub(record.started_ms)),
            reached.map_or("-".to_owned(), |share| share.to_string()),
            format!("{}{}", screen.ink(ink, ended(record)), rescue(record)),
        ]);
    }
    columns(&rows)
}

/// How long the candidate was bad before it was off, where that is known.
fn rescue(record: &ReleaseRecord) -> String {
    match (record.first_bad_ms, record.cap_ms) {
        (Some(bad), Some(cap)) if record.end == End::RolledBack => {
            let took = cap.saturating_sub(bad);
            let candidate = record.requests.get(record.candidate);
            let served = plural(candidate.errors, "bad answer");
            let took = if took < 10_000 { format!("{:.1} s", took as f64 / 1_000.0) } else { span(took) };
            format!("; off {took} after it turned bad, {served} in all")
        }
        _ => String::new(),
    }
}
