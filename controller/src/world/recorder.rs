//! Writes what a live judge receives as a world.
//!
//! The file is a whole world after every write, so that a killed controller leaves evidence that can be replayed: a
//! tick and the closing tail go out in one write, over the old tail. The tail ends with the duration, which only
//! grows, so the old tail is always covered.

use super::{FORMAT, Roles, Tick};
use hueshift_core::judge::{Analysis, Conditions, Row};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How often the duration moves on while nothing is reported, ms.
const QUIET_MS: u64 = 1_000;

/// A world that is being written.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: File,
    /// Where the tail begins.
    tail: u64,
    empty: bool,
    written_ms: u64,
}

#[derive(Serialize)]
struct Head<'a> {
    format: &'a str,
    name: &'a str,
    about: &'a str,
    tick_ms: u64,
    colors: Roles,
    analysis: &'a Analysis,
}

// === impl Recorder ===

impl Recorder {
    /// Begins a world, over an older file.
    pub fn create(
        path: &Path,
        name: &str,
        about: &str,
        tick_ms: u64,
        analysis: &Analysis,
    ) -> io::Result<Recorder> {
        let head = Head { format: FORMAT, name, about, tick_ms, colors: Roles::default(), analysis };
        let mut text = serde_json::to_string(&head)?;
        text.pop();
        text.push_str(",\"ticks\":[");
        let tail = text.len() as u64;
        text.push_str(&tail_at(0));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        Ok(Recorder { path: path.to_owned(), file, tail, empty: true, written_ms: 0 })
    }

    /// Goes on with a world that an earlier process wrote.
    pub fn reopen(path: &Path) -> io::Result<Recorder> {
        let text = std::fs::read_to_string(path)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "this file was not written by --record");
        let (body, duration) = text.rsplit_once(TAIL).ok_or_else(wrong)?;
        let written_ms =
            duration.trim_end().strip_suffix('}').and_then(|ms| ms.parse().ok()).ok_or_else(wrong)?;
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Recorder {
            path: path.to_owned(),
            file,
            tail: body.len() as u64,
            empty: body.ends_with('['),
            written_ms,
        })
    }

    /// Records a tick, also one without rows. Ticks come in time order.
    pub fn tick(&mut self, t_ms: u64, rows: &[Row], conditions: &Conditions) -> io::Result<()> {
        if rows.is_empty() && conditions.cutover.is_none() {
            return if t_ms >= self.written_ms + QUIET_MS { self.end(t_ms) } else { Ok(()) };
        }
        let conditions = (*conditions != Conditions::default()).then(|| conditions.clone());
        let mut text = String::from(if self.empty { "\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(&Tick { t_ms, reports: rows.to_vec(), conditions })?);
        let tail = self.tail + text.len() as u64;
        text.push_str(&tail_at(t_ms));
        self.file.write_all_at(text.as_bytes(), self.tail)?;
        (self.tail, self.empty, self.written_ms) = (tail, false, t_ms);
        Ok(())
    }

    /// Records that the judge ran up to this tick.
    pub fn end(&mut self, t_ms: u64) -> io::Result<()> {
        if t_ms > self.written_ms {
            self.file.write_all_at(tail_at(t_ms).as_bytes(), self.tail)?;
            self.written_ms = t_ms;
        }
        Ok(())
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

const TAIL: &str = "\n],\"duration_ms\":";

fn tail_at(t_ms: u64) -> String {
    format!("{TAIL}{t_ms}}}\n")
}

#[cfg(test)]
mod tests {
    use super::super::World;
    use super::*;
    use hueshift_core::judge::Side;

    fn row(seq: u64) -> Row {
        let side = Side { requests: Some(i64::try_from(seq * 100).unwrap()), ..Side::default() };
        Row {
            proxy: "gw".into(),
            incarnation: 1,
            seq,
            epoch: 1,
            split: 0.123,
            blue: Some(side),
            ..Row::default()
        }
    }

    #[test]
    fn the_file_is_a_whole_world_after_every_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        let analysis = Analysis { alpha: 0.005, restart_v0: 1.0 / 3.0, ..Analysis::live() };
        let mut recorder = Recorder::create(&path, "n", "a \"quoted\" about", 10, &analysis).unwrap();
        let check = |ticks: usize, duration_ms: u64| {
            let world = World::read(&path).unwrap();
            assert_eq!((world.ticks.len(), world.duration_ms), (ticks, duration_ms));
            assert_eq!((world.tick_ms, world.name.as_str()), (10, "n"));
            assert_eq!(world.analysis, analysis, "every parameter, to the last bit");
        };
        check(0, 0);
        recorder.tick(10, &[], &Conditions::default()).unwrap();
        check(0, 0);
        recorder.tick(20, &[row(1)], &Conditions::default()).unwrap();
        check(1, 20);
        recorder.tick(1_500, &[], &Conditions::default()).unwrap();
        check(1, 1_500);
        drop(recorder);
        let mut recorder = Recorder::reopen(&path).unwrap();
        recorder.tick(1_510, &[row(2), row(3)], &Conditions::default()).unwrap();
        check(2, 1_510);
        recorder.end(1_990).unwrap();
        check(2, 1_990);
        assert_eq!(World::read(&path).unwrap().ticks[1].reports, [row(2), row(3)]);
    }

    #[test]
    fn a_foreign_file_is_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(Recorder::reopen(&path).unwrap_err().to_string().contains("--record"));
    }
}
