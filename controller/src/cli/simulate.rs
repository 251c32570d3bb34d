//! `hueshift simulate`: judges a recorded world with the judge that judges live, one JSON line per tick.
//!
//! With `--rules` another's rule judges the same world and prints the same lines, so that anyone can compare.
//! Standard output holds the lines and nothing else; a summary for people goes to standard error. The fuse and the
//! dead-candidate rule are not applied: they are no part of a world.

use super::{Done, Failure};
use crate::rivals::{Rival, Rules};
use crate::world::{Watched, World, WorldError};
use clap::Args;
use hueshift_core::judge::line::Counted;
use hueshift_core::judge::{Conditions, Judge, Line, Row};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `simulate` was told.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The recorded world, as written by `hueshift up --record FILE`
    #[arg(long, value_name = "FILE")]
    world: PathBuf,
    /// Judge by another's rule instead
    #[arg(long, value_enum)]
    rules: Option<Rules>,
    /// Failed checks that roll back under that rule: Flagger's `threshold` [default: 5], Argo's `failureLimit` + 1
    /// [default: 1]
    #[arg(long, value_name = "N", requires = "rules", value_parser = clap::value_parser!(u32).range(1..))]
    failures: Option<u32>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The lines could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn verb(args: SimulateArgs) -> Done {
    let mut out = BufWriter::new(io::stdout().lock());
    match run_by(&args.world, args.rules, args.failures, &mut out) {
        Ok(summary) => {
            // Nowhere else to tell it.
            let _ = write!(io::stderr(), "{summary}");
            Ok(ExitCode::SUCCESS)
        }
        Err(SimulateError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ SimulateError::Output(_)) => Err(Failure::error(error.to_string())),
        Err(error @ SimulateError::World(_)) => Err(Failure::usage(error.to_string())),
    }
}

/// Judges the world at `path`; one line per tick goes to `out`, the summary is returned.
pub fn run(path: &Path, out: &mut impl Write) -> Result<String, SimulateError> {
    run_by(path, None, None, out)
}

/// Likewise by another's rule, if one is named.
pub fn run_by(
    path: &Path,
    rules: Option<Rules>,
    failures: Option<u32>,
    out: &mut impl Write,
) -> Result<String, SimulateError> {
    let world = World::read(path)?;
    let watched = match rules {
        None => {
            let judge = Judge::new(world.analysis.clone());
            let mut judge = judge.map_err(|source| WorldError::Analysis { path: path.to_owned(), source })?;
            print(&world, out, |t_ms, rows, conditions| judge.tick_under(t_ms, rows, conditions))?
        }
        Some(rules) => {
            let mut rival = Rival::new(rules, failures, &world.analysis);
            print(&world, out, |t_ms, rows, _| rival.tick(t_ms, rows))?
        }
    };
    out.flush()?;
    Ok(summary(&world, rules, &watched))
}

fn print(
    world: &World,
    out: &mut impl Write,
    tick: impl FnMut(u64, &[Row], &Conditions) -> Line,
) -> io::Result<Watched> {
    let mut watched = Watched::default();
    for line in world.lines(tick) {
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        watched.see(line);
    }
    Ok(watched)
}

fn summary(world: &World, rules: Option<Rules>, watched: &Watched) -> String {
    let at = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("at {} ms", ms));
    let by = rules.map_or_else(String::new, |rules| format!(", judged by {rules}"));
    let mut text = format!("{}: {} ticks of {} ms{by}\n", world.name, watched.lines, world.tick_ms);
    if let Some(last) = &watched.last {
        let Counted { blue_requests, blue_errors, green_requests, green_errors } = last.counted;
        let evidence = if rules.is_none() { format!(" (log E {:.3})", last.log_e) } else { String::new() };
        text += &format!("  verdict    {}{evidence}\n", last.verdict);
        text += &format!("  stable     {blue_requests} requests, {blue_errors} errors\n");
        text += &format!("  candidate  {green_requests} requests, {green_errors} errors\n");
        text += &format!(
            "  rows       {} accepted, {} ignored, {} malformed\n",
            last.rows.accepted, last.rows.ignored, last.rows.malformed
        );
    }
    text += &format!(
        "  rollback {} · hold {} · certified {}\n",
        at(watched.rollback_ms),
        at(watched.hold_ms),
        at(watched.certified_ms)
    );
    if world.ticks_off_the_grid() > 0 {
        let n = world.ticks_off_the_grid();
        text += &format!(
            "  {n} entries of `ticks` lie at times when the judge does not run; they were not judged\n"
        );
    }
    if let Some(expect) = &world.expect
        && let (Some(expected), Some(met)) = (expect.verdict, watched.meets(expect))
    {
        let by = expect.by_ms.map_or_else(String::new, |ms| format!(" by {ms} ms"));
        let met = if met { "as expected" } else { "NOT as expected" };
        text += &format!("  {met}: the world asks for {expected}{by}\n");
    }
    text
}
