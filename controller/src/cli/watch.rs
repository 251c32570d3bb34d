//! `watch`: the live view. On a terminal it redraws in place, elsewhere it prints a line per change.
//!
//! Drawing is pure ([`frame`]); who owns the terminal meanwhile is `terminal`'s business.

use super::ask::{Asked, Unanswered};
use super::explain::{enforcement, evidence_lines, named};
use super::figures::{bar, latency, plural, rate, span};
use super::screen::{Ink, Screen, cut_line, size, width};
use super::terminal::{self, Ends, Terminal};
use super::{At, Done, Failure, ask, status};
use crate::text::visible;
use crate::view::{ServiceView, View, ended, percent};
use clap::Args;
use hueshift_core::color::Color;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only this service.
    service: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Time between two looks; nobody reads faster.
const EVERY: Duration = Duration::from_millis(250);
/// Most lines of a frame, however tall the terminal.
const MAX_LINES: usize = 200;

pub(super) async fn run(args: WatchArgs) -> Done {
    // The first answer comes before the screen is touched: "nothing runs" must stay readable.
    let asked = Asked::of(&args.at, args.service.as_deref()).await?;
    let view = asked.view().await?;
    let mut out = io::stdout();
    if out.is_terminal() && Screen::of_stdout().width.is_some() {
        live(&args, &asked, view).await
    } else {
        lines(&args, &asked, view, &mut out).await
    }
}

fn only(mut view: View, name: Option<&str>) -> Result<View, Failure> {
    if let Some(name) = name {
        let service = ask::pick(&view, Some(name))?.clone();
        view.services = vec![service];
    }
    Ok(view)
}

// --- On a terminal ---

async fn live(args: &WatchArgs, asked: &Asked, first: View) -> Done {
    let failed = |error: io::Error| Failure::error(format!("cannot watch: {error}"));
    let mut ends = Ends::new().map_err(failed)?;
    let mut stop = terminal::stop().map_err(failed)?;
    let mut resized = terminal::resized().map_err(failed)?;
    let mut terminal = Terminal::take().map_err(failed)?;
    let mut last = only(first, args.service.as_deref())?;
    let mut lost: Option<Unanswered> = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (columns, rows) = size();
        let screen = Screen { width: Some(columns), height: rows, ..Screen::of_stdout() };
        let drawn = terminal.draw(&frame(&last, &screen, lost.as_ref().map(ToString::to_string).as_deref()));
        if drawn.is_err() {
            // The terminal is gone.
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            _ = tick.tick() => match asked.status().await {
                Ok(view) => {
                    last = only(view, args.service.as_deref())?;
                    lost = None;
                }
                Err(error) => lost = Some(error),
            },
            _ = resized.recv() => {}
            () = ends.recv() => return Ok(ExitCode::SUCCESS),
            _ = stop.recv() => {
                drop(terminal);
                terminal::sleep_until_continued();
                terminal = Terminal::take().map_err(failed)?;
            }
        }
    }
}

/// One frame, within the screen's width and height.
pub(super) fn frame(view: &View, screen: &Screen, lost: Option<&str>) -> String {
    let height = screen.height.min(MAX_LINES);
    let mut lines = vec![title(view, screen)];
    lines.extend(lost.map(|why| {
        screen.ink(Ink::Bad, format!("! {}; the figures are old, traffic goes on", visible(why)))
    }));
    lines
        .extend(view.problems.iter().map(|problem| screen.ink(Ink::Warn, format!("! {}", visible(problem)))));
    let mut hidden = 0;
    let mut left = view.services.len();
    for service in &view.services {
        left -= 1;
        // Whoever comes after keeps a line; a block that does not fit becomes one.
        let block = block(service, view.now_ms, screen);
        let room = height.saturating_sub(lines.len() + left.min(1) + 1);
        if block.len() <= room {
            lines.push(String::new());
            lines.extend(block);
        } else if room > 0 {
            lines.push(line(service));
        } else {
            hidden += 1;
        }
    }
    if hidden > 0 {
        lines.truncate(height.saturating_sub(1));
        lines.push(screen.ink(
            Ink::Dim,
            format!("… {} not shown; name one: hueshift watch SERVICE", plural(hidden, "more service")),
        ));
    }
    lines.truncate(height);
    lines.iter().map(|line| cut_line(line, screen.columns()) + "\n").collect()
}

fn title(view: &View, screen: &Screen) -> String {
    let workers: u32 = view.proxies.iter().map(|proxy| proxy.workers).sum();
    let left = format!(
        "hueshift · {} · {}, {} · {}",
        visible(&view.file),
        plural(view.proxies.len() as u64, "Envoy"),
        plural(workers.into(), "worker"),
        span(view.now_ms.saturating_sub(view.started_ms))
    );
    let clock = screen.clock(view.now_ms);
    let gap = screen.columns().saturating_sub(width(&left) + width(&clock)).max(2);
    screen.ink(Ink::Dim, format!("{left}{}{clock}", " ".repeat(gap)))
}

fn block(service: &ServiceView, now_ms: u64, screen: &Screen) -> Vec<String> {
    let since = span(now_ms.saturating_sub(service.phase_since_ms));
    let name = screen.ink(Ink::Bold, visible(&service.name));
    let mut lines = vec![if service.open() {
        format!("{name}  release {} · {} · {since}", service.release, status::phase(service))
    } else {
        format!("{name}  {} · {since}", status::phase(service))
    }];
    for color in [service.live, service.candidate()] {
        lines.push(color_line(service, color, screen));
        // Without a release nothing is counted: the filter is inert.
        lines.extend(service.open().then(|| figures_line(service, color, screen)));
    }
    if let Some(evidence) = service.evidence.as_ref().filter(|_| service.open()) {
        lines.extend(evidence_lines(service, evidence, screen).lines().map(|line| format!("  {line}")));
    }
    let indented = |label: &str, text: &str| {
        screen.paragraph(&format!("  {label:12}"), text).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    if service.open() {
        lines.extend(indented("plan", &enforcement(service)));
    }
    for waiting in &service.waiting_on {
        lines.extend(indented("waits for", &waiting.text));
    }
    for problem in &service.problems {
        lines.extend(indented("look at", problem));
    }
    if let Some(last) = service.last().filter(|_| !service.open()) {
        let ago = span(now_ms.saturating_sub(last.ended_ms));
        lines.extend(indented(
            "last",
            &format!("release {} of {} {ago} ago: {}", last.release, visible(&last.revision), ended(last)),
        ));
    }
    lines
}

fn color_line(service: &ServiceView, color: Color, screen: &Screen) -> String {
    let view = service.colors.get(color);
    let cells = screen.columns().saturating_sub(60).clamp(10, 40);
    let (ink, role) = match (color, color == service.live, service.open()) {
        (Color::Blue, true, _) => (Ink::Blue, "live"),
        (Color::Green, true, _) => (Ink::Green, "live"),
        (Color::Blue, false, true) => (Ink::Blue, "candidate"),
        (Color::Green, false, true) => (Ink::Green, "candidate"),
        (_, false, false) => (Ink::Dim, "standby"),
    };
    let (share, got) = match (service.open(), view.enforced) {
        (false, _) => (view.intended.fraction(), view.intended.to_string()),
        (true, Some(part)) => (part, format!("{} of {}", percent(part), view.intended)),
        (true, None) => (view.intended.fraction(), format!("{}, no traffic", view.intended)),
    };
    let name = named(color, screen);
    let pad = " ".repeat(12usize.saturating_sub(color.as_str().len()));
    let up = if view.endpoints_up < view.endpoints {
        let told = format!("  {} of {} answer", view.endpoints_up, plural(view.endpoints.into(), "server"));
        screen.ink(Ink::Bad, told)
    } else {
        String::new()
    };
    format!(
        "  {name}{pad}{} {got}  {role} {}{up}",
        screen.ink(ink, bar(share, cells)),
        visible(&view.revision)
    )
}

fn figures_line(service: &ServiceView, color: Color, screen: &Screen) -> String {
    let view = service.colors.get(color);
    let failed = view.error_rate.map_or("-".to_owned(), percent);
    let bad = view.error_rate.is_some_and(|rate| rate >= 0.05);
    let sessions = match view.sessions {
        0 => String::new(),
        n => format!("  {}", plural(n.into(), "session")),
    };
    let line = format!(
        "  {:12}{}  p50 {}  p99 {}  {}/s{sessions}",
        "",
        screen.ink(if bad { Ink::Bad } else { Ink::Bold }, format!("errors {failed}")),
        latency(view.p50_ms),
        latency(view.p99_ms),
        rate(view.rate),
    );
    // The least of them, so it is left out rather than cut.
    let in_flight = format!("  {} in flight", view.in_flight);
    if width(&line) + width(&in_flight) <= screen.columns() { line + &in_flight } else { line }
}

// --- Without a terminal ---

/// Time after which a line is printed even if nothing changed: a log that stands still looks dead.
const QUIET_LOOKS: u32 = 40;

async fn lines(args: &WatchArgs, asked: &Asked, first: View, out: &mut impl Write) -> Done {
    let mut ends = Ends::new().map_err(|error| Failure::error(format!("cannot watch: {error}")))?;
    let mut view = Ok(first);
    let mut told = String::new();
    let mut quiet = 0;
    loop {
        let (key, text) = match view {
            Ok(view) => plain(&only(view, args.service.as_deref())?),
            Err(error) => (String::new(), format!("! {error}\n")),
        };
        quiet += 1;
        if key != told || quiet > QUIET_LOOKS {
            told = key;
            quiet = 0;
            if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ends.recv() => return Ok(ExitCode::SUCCESS),
        }
        view = asked.status().await;
    }
}

/// What makes a new line necessary, and the lines.
fn plain(view: &View) -> (String, String) {
    let mut key = String::new();
    let mut text = String::new();
    let screen = Screen { width: None, height: usize::MAX, paint: false, zone: jiff::tz::TimeZone::UTC };
    for service in &view.services {
        key += &format!(
            "{}{}{}{}{:?}{:?};",
            service.name,
            service.release,
            status::phase(service),
            service.plan.limit,
            service.evidence.as_ref().map(|evidence| evidence.verdict),
            service.waiting_on.iter().map(|waiting| &waiting.reason).collect::<Vec<_>>(),
        );
        text += &format!("{}Z {}\n", screen.clock(view.now_ms), line(service));
    }
    (key, text)
}

/// A service in one line.
fn line(service: &ServiceView) -> String {
    let errors = |color| service.colors.get(color).error_rate.map_or("-".to_owned(), percent);
    let live = service.live;
    if !service.open() {
        let last = service
            .last()
            .map_or(String::new(), |last| format!(" · last release {}: {}", last.release, ended(last)));
        return format!("{} · {} · {live} live{last}", visible(&service.name), status::phase(service));
    }
    let candidate = service.candidate();
    let evidence =
        service.evidence.as_ref().map_or(String::new(), |evidence| format!(" · {}", evidence.verdict));
    let waits = service
        .waiting_on
        .first()
        .map_or(String::new(), |waiting| format!(" · waits for {}", visible(&waiting.text)));
    format!(
        "{} · release {} · {} · {} to {candidate} · errors {} vs {}{evidence}{waits}",
        visible(&service.name),
        service.release,
        status::phase(service),
        service.plan.limit,
        errors(candidate),
        errors(live),
    )
}
