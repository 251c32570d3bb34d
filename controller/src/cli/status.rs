//! `status`: one row per service, and under it what it waits for and what a person should look at.

use super::ask::Asked;
use super::figures::{plural, span};
use super::screen::{Ink, Screen, columns};
use super::{At, Done, Failure, Output, ask, show, wait};
use crate::text::visible;
use crate::view::{End, Phase, ServiceView, View, ended, percent};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Only this service.
    service: Option<String>,
    /// For people or for programs.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Wait until the open release has ended; the exit code then tells how: 0 promoted, 3 rolled back, 4 held
    /// for a person, 5 time-out, 6 superseded.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    limit: wait::Limit,
    #[command(flatten)]
    at: At,
}

pub(super) async fn run(args: StatusArgs) -> Done {
    let asked = Asked::of(&args.at, args.service.as_deref()).await?;
    let mut view = asked.view().await?;
    let code = if args.wait {
        let release = ask::pick(&view, args.service.as_deref())?;
        let code = wait::until_ended(&asked, &release.name, release.release, args.limit).await?;
        view = asked.view().await?;
        Some(code)
    } else {
        None
    };
    if let Some(name) = &args.service {
        let found = ask::pick(&view, Some(name))?.clone();
        view.services = vec![found];
    }
    let shown = show(args.output, &view, |screen| render(&view, screen))?;
    Ok(code.unwrap_or(shown))
}

/// The whole page.
pub(super) fn render(view: &View, screen: &Screen) -> String {
    let mut rows = vec![
        ["SERVICE", "PHASE", "SHARE", "LIVE", "CANDIDATE", "ERRORS", "VERDICT"]
            .map(|head| screen.ink(Ink::Dim, head))
            .to_vec(),
    ];
    rows.extend(view.services.iter().map(|service| row(service, view.now_ms, screen)));
    let table = columns(&rows);
    let mut lines = table.lines();
    let mut out = format!("{}\n", lines.next().unwrap_or_default());
    for (line, service) in lines.zip(&view.services) {
        out += &format!("{line}\n");
        for waiting in &service.waiting_on {
            out += &screen.paragraph("  waits  ", &waiting.text);
        }
        for problem in &service.problems {
            out += &screen.paragraph("  !      ", problem);
        }
    }
    for problem in &view.problems {
        out += &screen.paragraph("! ", problem);
    }
    out += &screen.ink(Ink::Dim, footer(view));
    out + "\n"
}

fn row(service: &ServiceView, now_ms: u64, screen: &Screen) -> Vec<String> {
    let (live, standby) = (service.live, service.candidate());
    let color = |color| {
        let colored = service.colors.get(color);
        let bad = if colored.marked_bad { " (rolled back before)" } else { "" };
        format!("{color} {}{bad}", visible(&colored.revision))
    };
    let errors = |color| service.colors.get(color).error_rate.map_or("-".to_owned(), percent);
    let open = service.open();
    vec![
        screen.ink(Ink::Bold, visible(&service.name)),
        phase(service),
        if open { service.plan.limit.to_string() } else { "-".to_owned() },
        color(live),
        color(standby),
        if open { format!("{} vs {}", errors(standby), errors(live)) } else { "-".to_owned() },
        verdict(service, now_ms, screen),
    ]
}

/// `Progressing 2/3`, `Idle`, `Soaking, paused`.
pub(super) fn phase(service: &ServiceView) -> String {
    let name = service.phase.as_str();
    let paused = if service.paused { ", paused" } else { "" };
    match service.step {
        Some(step) if service.phase == Phase::Progressing => {
            format!("{name} {}/{}{paused}", step.index + 1, step.count)
        }
        _ => format!("{name}{paused}"),
    }
}

fn verdict(service: &ServiceView, now_ms: u64, screen: &Screen) -> String {
    if let Some(evidence) = service.evidence.as_ref().filter(|_| service.open()) {
        use hueshift_core::judge::Verdict;
        let ink = match evidence.verdict {
            Verdict::Continue => return "continue".to_owned(),
            Verdict::Hold => Ink::Warn,
            Verdict::Certified => Ink::Good,
            Verdict::Rollback => Ink::Bad,
        };
        return screen.ink(ink, evidence.verdict.as_str());
    }
    match service.last() {
        Some(last) if !service.open() => {
            let (ink, word) = match last.end {
                End::Promoted => (Ink::Good, "promoted"),
                End::RolledBack => (Ink::Bad, "rolled back"),
                End::Superseded => (Ink::Dim, "superseded"),
            };
            screen.ink(ink, format!("{word} {} ago", span(now_ms.saturating_sub(last.ended_ms))))
        }
        _ => "-".to_owned(),
    }
}

fn footer(view: &View) -> String {
    if !view.live() {
        return "from the objects in the cluster".to_owned();
    }
    let workers: u32 = view.proxies.iter().map(|proxy| proxy.workers).sum();
    format!(
        "hueshift {} serves {} for {} (pid {}); {}, {}",
        view.version,
        visible(&view.file),
        span(view.now_ms.saturating_sub(view.started_ms)),
        view.pid,
        plural(view.proxies.len() as u64, "Envoy"),
        plural(workers.into(), "worker"),
    )
}

/// How the last release ended, for the line under a wait.
pub(super) fn last_ended(service: &ServiceView) -> Result<String, Failure> {
    service
        .last()
        .map(|record| {
            format!(
                "release {} of {}: {} {}",
                record.release,
                service.name,
                visible(&record.revision),
                ended(record)
            )
        })
        .ok_or_else(|| Failure::error(format!("{} has had no release yet", service.name)))
}
