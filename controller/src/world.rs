//! Worlds: recorded streams of what a judge received, in one JSON file.
//!
//! Reading is strict about the format's name and lenient about everything that a later version may add: unknown
//! fields are ignored, a missing parameter takes its default. The judge that replays a world is the one that judged
//! it live ([`hueshift_core::judge`]); this module only brings the rows to it.

mod expect;
mod recorder;

pub use expect::{Expect, Expected, Watched};
pub use recorder::Recorder;

use hueshift_core::judge::{Analysis, AnalysisError, Conditions, Judge, Line, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The only format that is read or written.
pub const FORMAT: &str = "hueshift-world/1";

/// A recorded stream of reports.
#[derive(Debug, Clone, Deserialize)]
pub struct World {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// Time between two ticks of the judge, ms.
    pub tick_ms: u64,
    /// The last tick, ms.
    pub duration_ms: u64,
    /// Which sides of the rows are which roles.
    #[serde(default)]
    pub colors: Roles,
    /// The judge's parameters.
    #[serde(default)]
    pub analysis: Analysis,
    /// What should come of it.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// The rows, in time order; a tick without rows is left out.
    pub ticks: Vec<Tick>,
}

/// The rows of one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Time since the start of the analysis, ms.
    pub t_ms: u64,
    /// In the order of their arrival.
    #[serde(default)]
    pub reports: Vec<Row>,
    /// What the judge was told beside the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
}

/// Sides of rows are roles: this is the same in every world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Always `blue`.
    pub stable: String,
    /// Always `green`.
    pub candidate: String,
}

/// Why a world cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The file.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text.
    #[error("{}:{}:{}: {why}", .path.display(), .line, .column)]
    Json {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// Its format.
    #[error("{}: this is no {FORMAT} file: field `format` is {found}", .path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What it says instead.
        found: String,
    },
    /// A value in it.
    #[error("{}: {why}", .path.display())]
    Value {
        /// Which.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Its parameters.
    #[error("{}: {source}", .path.display())]
    Analysis {
        /// Which.
        path: PathBuf,
        /// What is wrong and what would be right.
        source: AnalysisError,
    },
}

// === impl World ===

impl World {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<World, WorldError> {
        let text = fs::read(path).map_err(|source| WorldError::Read { path: path.to_owned(), source })?;
        World::parse(path, &text)
    }

    /// Checks a text; `path` is for messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<World, WorldError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: serde_json::Value,
        }
        // The format first: another one fails for its name, not for some field that it lacks.
        let head: Head = serde_json::from_slice(text).map_err(|error| WorldError::json(path, &error))?;
        if head.format != FORMAT {
            let found = if head.format.is_null() { "missing".to_owned() } else { head.format.to_string() };
            return Err(WorldError::Format { path: path.to_owned(), found });
        }
        let world: World = serde_json::from_slice(text).map_err(|error| WorldError::json(path, &error))?;
        world.check().map_err(|why| WorldError::Value { path: path.to_owned(), why })?;
        match world.analysis.check() {
            Ok(()) => Ok(world),
            Err(source) => Err(WorldError::Analysis { path: path.to_owned(), source }),
        }
    }

    /// Judges it: one line per tick, up to the last tick included, rows or not.
    pub fn judge(&self) -> Result<impl Iterator<Item = Line>, AnalysisError> {
        let mut judge = Judge::new(self.analysis.clone())?;
        Ok(self.lines(move |t_ms, rows, conditions| judge.tick_under(t_ms, rows, conditions)))
    }

    /// What `tick` makes of it, likewise.
    pub fn lines<T>(&self, mut tick: impl FnMut(u64, &[Row], &Conditions) -> T) -> impl Iterator<Item = T> {
        let mut told: BTreeMap<u64, (Vec<Row>, Conditions)> = BTreeMap::new();
        for entry in &self.ticks {
            let (rows, conditions) = told.entry(entry.t_ms).or_default();
            rows.extend(entry.reports.iter().cloned());
            if let Some(more) = &entry.conditions {
                conditions.clone_from(more);
            }
        }
        let (tick_ms, last) = (self.tick_ms, self.duration_ms / self.tick_ms.max(1));
        let ticks = (1..=last).map(move |n| n * tick_ms);
        ticks.map(move |t_ms| {
            let (rows, conditions) = told.remove(&t_ms).unwrap_or_default();
            tick(t_ms, &rows, &conditions)
        })
    }

    /// Entries of `ticks` at times when the judge does not run; their rows are not judged.
    pub fn ticks_off_the_grid(&self) -> usize {
        let runs =
            |t_ms: u64| t_ms > 0 && t_ms <= self.duration_ms && t_ms.is_multiple_of(self.tick_ms.max(1));
        self.ticks.iter().filter(|tick| !runs(tick.t_ms)).count()
    }

    fn check(&self) -> Result<(), String> {
        if self.tick_ms == 0 {
            return Err("tick_ms must be above 0".to_owned());
        }
        if self.colors != Roles::default() {
            return Err(
                "colors must be {\"stable\":\"blue\",\"candidate\":\"green\"}: sides of rows are roles"
                    .to_owned(),
            );
        }
        match self.ticks.is_sorted_by_key(|tick| tick.t_ms) {
            true => Ok(()),
            false => Err("ticks must be in time order".to_owned()),
        }
    }
}

// === impl Roles ===

impl Default for Roles {
    fn default() -> Self {
        Roles { stable: "blue".to_owned(), candidate: "green".to_owned() }
    }
}

// === impl WorldError ===

impl WorldError {
    fn json(path: &Path, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        // serde_json ends its message with the place, which is said in front here.
        let why = error.to_string();
        let why = why.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&why).to_owned();
        WorldError::Json { path: path.to_owned(), line, column, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        World::parse(Path::new("w.json"), text.as_bytes()).unwrap_err().to_string()
    }

    fn world(fields: &str) -> String {
        format!("{{\"format\":\"hueshift-world/1\",\"tick_ms\":250,\"duration_ms\":1000,{fields}}}")
    }

    #[test]
    fn what_is_no_world_is_refused_with_its_place() {
        assert_eq!(refused("{"), "w.json:1:1: EOF while parsing an object");
        assert_eq!(refused("{}"), "w.json: this is no hueshift-world/1 file: field `format` is missing");
        assert!(
            refused("{\"format\":\"hueshift-world/2\"}").ends_with("field `format` is \"hueshift-world/2\"")
        );
        assert_eq!(refused(&world("\"x\":1")), "w.json:1:68: missing field `ticks`");
    }

    #[test]
    fn a_metric_that_is_not_judged_is_named() {
        let why = refused(&world("\"analysis\":{\"metrics\":[\"throughput\"]},\"ticks\":[]"));
        assert!(why.contains("unknown variant `throughput`"), "{why}");
    }

    #[test]
    fn senseless_values_are_refused() {
        let errors = "\"analysis\":{\"metrics\":[\"errors\"]";
        assert!(refused(&world("\"tick_ms\":0,\"ticks\":[]")).contains("duplicate field"));
        assert!(
            refused(&world(&format!("{errors},\"alpha\":2}},\"ticks\":[]")))
                .contains("analysis.alpha must be")
        );
        assert!(
            refused(&world(&format!("{errors},\"rho_max\":4}},\"ticks\":[]")))
                .contains("one of 10, 5, 3 and 2")
        );
        let late = "{\"t_ms\":500,\"reports\":[]},{\"t_ms\":250,\"reports\":[]}";
        assert!(refused(&world(&format!("{errors}}},\"ticks\":[{late}]"))).contains("time order"));
        let colors = "\"colors\":{\"stable\":\"green\",\"candidate\":\"blue\"}";
        assert!(refused(&world(&format!("{errors}}},{colors},\"ticks\":[]"))).contains("roles"));
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_take_their_default() {
        let text =
            world("\"analysis\":{\"metrics\":[\"errors\"],\"new\":1},\"ticks\":[],\"expect\":{\"new\":2}");
        let world = World::parse(Path::new("w.json"), text.as_bytes()).unwrap();
        assert_eq!((world.analysis.alpha, world.analysis.restarts), (0.01, 60));
        assert_eq!(world.judge().unwrap().map(|line| line.t_ms).collect::<Vec<_>>(), [250, 500, 750, 1_000]);
    }
}
