//! `hueshift simulate`: judges a recorded world with the judge that judges live, one JSON line per tick.
//!
//! Standard output holds the lines and nothing else; a summary for people goes to standard error. The fuse and the
//! dead-candidate rule are not applied: they are no part of a world.

use super::{Done, Failure};
use crate::world::{Watched, World, WorldError};
use clap::Args;
use hueshift_core::judge::line::Counted;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `simulate` was told.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The recorded world, as written by `hueshift up --record FILE`
    #[arg(long, value_name = "FILE")]
    world: PathBuf,
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
    match run(&args.world, &mut out) {
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
    let world = World::read(path)?;
    let lines = world.judge().map_err(|source| WorldError::Analysis { path: path.to_owned(), source })?;
    let mut watched = Watched::default();
    for line in lines {
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        watched.see(line);
    }
    out.flush()?;
    Ok(summary(&world, &watched))
}

fn summary(world: &World, watched: &Watched) -> String {
    let at = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("at {} ms", ms));
    let mut text = format!("{}: {} ticks of {} ms\n", world.name, watched.lines, world.tick_ms);
    if let Some(last) = &watched.last {
        let Counted { blue_requests, blue_errors, green_requests, green_errors } = last.counted;
        text += &format!("  verdict    {} (log E {:.3})\n", last.verdict, last.log_e);
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
