//! How the demo looks: a live block on a terminal, one line per change elsewhere, and the table at the end.
//!
//! No terminal library: the block is a few lines that are drawn over themselves. Colors of the services are shown
//! in their own color; good and bad are words and marks, never blue or green.

use crate::plot::{Claim, Pace};
use hueshift::view::{Cause, End, Phase, ReleaseRecord, ServiceView};
use hueshift_core::color::Color;
use hueshift_core::judge::Verdict;
use hueshift_tests::checker::{Findings, Rescue};
use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What one line shows.
#[derive(Debug)]
pub struct Row {
    /// The service as the controller sees it.
    pub view: ServiceView,
    /// The revision on trial.
    pub revision: String,
    /// How its release ended, once it has.
    pub end: Option<End>,
}

/// The live block.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    drawn: usize,
    said: Vec<String>,
}

const BAR: usize = 20;

// === impl Screen ===

impl Screen {
    /// On a terminal lines are drawn over; elsewhere only changes are printed.
    pub fn new() -> Self {
        Screen { live: stdout().is_terminal(), drawn: 0, said: Vec::new() }
    }

    /// Something that takes a moment.
    pub fn note(&self, what: &str) {
        println!("  {}", dim(&format!("{what} …")));
    }

    /// Shows the state of both services.
    pub fn draw(&mut self, rows: &[Row], elapsed: Duration, sent: u64, lost: u64) {
        if !self.live {
            self.say(rows, elapsed);
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let clock = format!("{:.1} s", elapsed.as_secs_f64());
        let (sent, lost) = (thousands(sent as usize), thousands(lost as usize));
        let mut lines = vec![dim(&format!("{clock:<12} {sent} requests sent, {lost} lost")), String::new()];
        for row in rows {
            lines.extend(block(row));
        }
        for line in &lines {
            text.push_str(&format!("\x1b[2K  {line}\n"));
        }
        self.drawn = lines.len();
        print!("{text}");
        let _ = stdout().flush();
    }

    /// Takes the block away: what it led to is told in its place.
    pub fn end(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[0J", self.drawn);
        }
        self.drawn = 0;
        self.said.clear();
    }

    fn say(&mut self, rows: &[Row], elapsed: Duration) {
        self.said.resize(rows.len(), String::new());
        for (row, said) in rows.iter().zip(&mut self.said) {
            let now = format!("{:<8} {} {}", row.view.name, row.revision, state(row));
            if *said != now {
                println!("  {:>5.1} s  {now}", elapsed.as_secs_f64());
                *said = now;
            }
        }
    }
}

/// First words.
pub fn title(pace: &Pace, envoy: &str) {
    println!();
    println!("  {}", bold("Hueshift: blue/green releases for model serving"));
    println!(
        "  {}",
        dim(&format!(
            "Envoy {envoy} · pricing and chat, two colors each · {} requests/s from {} sessions",
            thousands(pace.rate as usize * 2),
            thousands(pace.sessions as usize * 2)
        ))
    );
    println!();
}

/// Begins an act.
pub fn act(text: &str) {
    println!();
    println!("  {}", bold(text));
    println!();
}

/// How a release ended.
pub fn ended(service: &str, record: &ReleaseRecord) {
    let took = record.ended_ms.saturating_sub(record.started_ms) as f64 / 1e3;
    let shares: Vec<String> = record.steps.iter().map(|step| step.share.to_string()).collect();
    let candidate = record.requests.get(record.candidate);
    let (mark, what) = match record.end {
        End::Promoted => ("→", "promoted".to_owned()),
        End::RolledBack => ("←", format!("rolled back: {}", cause(record.cause))),
        End::Superseded => ("·", "superseded".to_owned()),
    };
    println!("  {mark} {service:<8} {} {}", record.revision, bold(&what));
    println!(
        "             {}",
        dim(&format!(
            "after {took:.1} s; shares {}; {} answers, {} errors",
            shares.join(", "),
            thousands(candidate.n as usize),
            thousands(candidate.errors as usize),
        ))
    );
}

/// A release that did not end.
pub fn unfinished(service: &str, patience: Duration) {
    println!("  ? {service:<8} still undecided after {} s", patience.as_secs());
}

/// A line of detail.
pub fn detail(text: &str) {
    println!("  {}", dim(text));
}

/// The figures, from the event logs of clients and model servers.
pub fn table(services: &[(&str, Findings, Option<Rescue>)]) {
    let heads = ["", "requests", "lost", "moved without", "first bad answer", "bad answers"];
    let under = ["", "sent", "", "cause", "→ last request", "served"];
    let mut rows: Vec<[String; 6]> = Vec::new();
    let rescue_text = |rescue: &Option<Rescue>| match rescue {
        Some(rescue) => format!("{} ms", rescue.time.as_millis()),
        None => "none bad".to_owned(),
    };
    for (name, findings, rescue) in services {
        rows.push([
            (*name).to_owned(),
            thousands(findings.sent),
            thousands(findings.lost),
            thousands(findings.causeless.len()),
            rescue_text(rescue),
            thousands(findings.bad),
        ]);
    }
    let sum =
        |of: fn(&Findings) -> usize| thousands(services.iter().map(|(_, findings, _)| of(findings)).sum());
    let worst = services.iter().filter_map(|(_, _, rescue)| *rescue).max_by_key(|rescue| rescue.time);
    let total = [
        "total".to_owned(),
        sum(|f| f.sent),
        sum(|f| f.lost),
        sum(|f| f.causeless.len()),
        worst.map_or_else(|| "none bad".to_owned(), |worst| format!("≤ {} ms", worst.time.as_millis())),
        sum(|f| f.bad),
    ];
    println!();
    println!("  {}", bold("What clients and model servers logged"));
    println!();
    let line = |cells: [&str; 6]| {
        let [name, rest @ ..] = cells;
        let rest: String = rest.iter().map(|cell| format!("{cell:>17}")).collect();
        format!("  {name:<9}{rest}")
    };
    println!("{}", dim(&line(heads)));
    println!("{}", dim(&line(under)));
    println!("  {}", dim(&"─".repeat(94)));
    for row in &rows {
        println!("{}", line(row.each_ref().map(String::as_str)));
    }
    println!("  {}", dim(&"─".repeat(94)));
    println!("{}", bold(&line(total.each_ref().map(String::as_str))));
}

/// What was claimed and whether it held.
pub fn claims(claims: &[Claim]) {
    println!();
    for claim in claims {
        println!("  {} {}", if claim.held { "✓" } else { "✗" }, claim.text);
    }
    let failed = claims.iter().filter(|claim| !claim.held).count();
    println!();
    match failed {
        0 => println!("  {}", bold("All of it happened.")),
        1 => println!("  {}", bold("One claim did not hold.")),
        _ => println!("  {}", bold(&format!("{failed} claims did not hold."))),
    }
    println!();
}

/// Where to look while it stays.
pub fn keep<'a>(state: &Path, services: impl Iterator<Item = (&'a str, SocketAddr)>) {
    println!("  Everything runs on, with traffic, until Ctrl-C. In another terminal:");
    println!("    export HUESHIFT_STATE={}", state.display());
    println!("    cargo run -q -p hueshift -- watch");
    println!("    cargo run -q -p hueshift -- explain");
    for (name, at) in services {
        println!("    curl -i -H 'x-session-id: 7' http://{at}/    # {name}");
    }
    println!();
}

fn block(row: &Row) -> Vec<String> {
    let view = &row.view;
    let candidate = if row.end == Some(End::Promoted) { view.live } else { view.candidate() };
    let share = view.plan.limit.fraction();
    let share = if row.end == Some(End::Promoted) { 1.0 } else { share };
    let split = split_bar(candidate, share);
    let figures = view.colors.get(candidate);
    let evidence = match (&view.evidence, row.end) {
        (Some(evidence), None) => {
            let certificate =
                evidence.certificates.iter().map(|c| c.log_e / c.target).fold(0.0, f64::max).clamp(0.0, 1.0);
            let suspicion = (evidence.log_e / evidence.rollback_at).clamp(0.0, 1.0);
            format!("promotion {}  rollback {}", gauge(certificate), gauge(suspicion))
        }
        _ => String::new(),
    };
    vec![
        format!("{:<8} {:<3} {split}  {}", view.name, row.revision, state(row)),
        dim(&format!(
            "             {:>5.0} requests/s, {} errors here  {evidence}",
            figures.rate,
            thousands(figures.errors as usize)
        )),
    ]
}

fn state(row: &Row) -> String {
    let view = &row.view;
    match row.end {
        Some(End::Promoted) => return format!("promoted, serves on {}", view.live),
        Some(End::RolledBack) => return format!("rolled back, {} serves", view.live),
        Some(End::Superseded) => return "superseded".to_owned(),
        None => {}
    }
    let share = view.plan.limit;
    let verdict = match view.evidence.as_ref().map(|evidence| evidence.verdict) {
        Some(Verdict::Certified) => "certified",
        Some(Verdict::Hold) => "suspicious, held",
        Some(Verdict::Rollback) => "condemned",
        Some(Verdict::Continue) => "gathering evidence",
        None => "",
    };
    match view.phase {
        Phase::Idle => "about to begin".to_owned(),
        Phase::Progressing => format!("{share} on {}, {verdict}", view.candidate()),
        Phase::Soaking => format!("{share} on {}, soaking, {verdict}", view.candidate()),
        phase => format!("{share}, {}", phase.as_str().to_lowercase()),
    }
}

/// The causes that the demo can meet in words, the others by their name in the status.
fn cause(cause: Option<Cause>) -> String {
    match cause {
        Some(Cause::Errors) => "more errors than stable, beyond chance".to_owned(),
        Some(Cause::Dead) => "nothing but errors".to_owned(),
        Some(Cause::Fuse) => "the fuse in Envoy tripped".to_owned(),
        Some(other) => {
            serde_json::to_value(other).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
        }
        None => "no cause given".to_owned(),
    }
}

/// Traffic by color: the candidate's part first, each in its own color.
fn split_bar(candidate: Color, share: f64) -> String {
    let filled = (share * BAR as f64).ceil() as usize;
    let part = |color: Color, width: usize, sign: char| {
        let code = if color == Color::Blue { "34" } else { "32" };
        paint(code, &sign.to_string().repeat(width))
    };
    format!("{}{}", part(candidate, filled, '█'), part(candidate.other(), BAR - filled, '░'))
}

fn gauge(part: f64) -> String {
    const SIGNS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let eighths = (part * 64.0).round() as usize;
    let text: String = (0..8).filter_map(|cell| SIGNS.get(eighths.saturating_sub(cell * 8).min(8))).collect();
    format!("[{text}]")
}

/// `12,345`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bold(text: &str) -> String {
    paint("1", text)
}

fn dim(text: &str) -> String {
    paint("2", text)
}

fn paint(code: &str, text: &str) -> String {
    if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
