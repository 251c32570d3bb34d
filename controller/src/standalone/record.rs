//! `--record FILE`: what the judge receives, one world per release.
//!
//! The first release goes to FILE itself; a world has one set of parameters, so each later one gets a file of its own
//! beside it, named after service and release. A release that was open before is gone on with, in the same file. A
//! recording that fails is reported once and given up: it must not hold up the judge.

use crate::engine::{Begun, Recorder};
use crate::world;
use hueshift_core::judge::{Conditions, Row};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// All worlds of this process.
pub struct Worlds {
    file: PathBuf,
    open: BTreeMap<String, (u32, world::Recorder)>,
    first: bool,
}

// === impl Worlds ===

impl Worlds {
    /// Begins with `file`; an unwritable one is an error now and not in the middle of a release.
    pub fn new(file: &Path) -> io::Result<Worlds> {
        let made = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
        drop(made);
        Ok(Worlds { file: file.to_owned(), open: BTreeMap::new(), first: true })
    }

    fn create(&self, begun: &Begun<'_>) -> io::Result<world::Recorder> {
        let name = format!("{} release {}", begun.service, begun.release);
        let own = self.beside(begun.service, begun.release);
        let make = |path: &Path| {
            world::Recorder::create(path, &name, "recorded by hueshift up", begun.tick_ms, begun.analysis)
        };
        for path in [&self.file, &own] {
            let Some(earlier) = world::World::read(path).ok().filter(|world| world.name == name) else {
                continue;
            };
            let mut recorder = make(path)?;
            // The judge goes on from its checkpoint: what the earlier process heard after it is told again.
            for tick in earlier.ticks.iter().filter(|tick| tick.t_ms <= begun.from_ms) {
                recorder.tick(tick.t_ms, &tick.reports, &tick.conditions.clone().unwrap_or_default())?;
            }
            return Ok(recorder);
        }
        make(if self.first { &self.file } else { &own })
    }

    fn beside(&self, service: &str, release: u32) -> PathBuf {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        self.file.with_file_name(format!("{stem}-{service}-r{release}.json"))
    }

    /// Writes, or gives up.
    fn with(
        &mut self,
        service: &str,
        release: u32,
        write: impl FnOnce(&mut world::Recorder) -> io::Result<()>,
    ) {
        let Some((_, recorder)) = self.open.get_mut(service).filter(|(of, _)| *of == release) else { return };
        if let Err(error) = write(recorder) {
            tracing::error!("recording to {} ends here: {error}", recorder.path().display());
            self.open.remove(service);
        }
    }
}

impl Recorder for Worlds {
    fn begin(&mut self, begun: Begun<'_>) {
        let Begun { service, release, .. } = begun;
        match self.create(&begun) {
            Ok(recorder) => {
                println!("{service} release {release}: recording to {}", recorder.path().display());
                self.open.insert(service.to_owned(), (release, recorder));
                self.first = false;
            }
            Err(error) => tracing::error!("release {release} of {service} is not recorded: {error}"),
        }
    }

    fn tick(&mut self, service: &str, release: u32, t_ms: u64, rows: &[Row], conditions: &Conditions) {
        self.with(service, release, |recorder| recorder.tick(t_ms, rows, conditions));
    }

    fn end(&mut self, service: &str, release: u32, t_ms: u64) {
        self.with(service, release, |recorder| recorder.end(t_ms));
    }
}
