//! Programs that outlive us: Envoy and the colors.
//!
//! Each gets a session of its own and logs to a file, so neither a signal to our terminal nor our own death
//! takes it along. Its pid file holds the pid *and* the start time from `/proc`: a new `up` adopts the living
//! ones, and a recycled pid is never taken for ours, let alone killed. The pid file is written by the launcher
//! (our own binary, [`launch`]) just before it becomes the program, so there is no moment in which a program
//! runs unrecorded.
//!
//! What it deliberately does not do: it decides no policy beyond back-off; who runs what is told to it.

use crate::standalone::files;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The hidden verb that makes our binary a launcher.
pub const LAUNCH_VERB: &str = "__launch";
/// First wait after a death; doubles with each one in a row.
const BACKOFF: Duration = Duration::from_millis(200);
/// Longest wait between two starts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Having run this long clears the back-off.
const STEADY: Duration = Duration::from_secs(30);

/// A program to be kept running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Name in messages and file names.
    pub name: String,
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// What it is, in the owner's words; recorded beside the pid.
    pub revision: String,
    /// Where it starts.
    pub folder: PathBuf,
    /// Its output is appended here.
    pub log: PathBuf,
    /// Who it is, for the next `up`.
    pub pid_file: PathBuf,
}

/// A running program, as its pid file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id; also its session and process group.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`).
    pub started: u64,
    /// The boot in which that start time means something.
    pub boot: String,
    /// What it runs.
    pub argv: Vec<String>,
    /// [`Program::revision`].
    pub revision: String,
}

/// Keeps one program running.
#[derive(Debug)]
pub struct Keeper {
    /// What it keeps.
    pub program: Program,
    launcher: PathBuf,
    child: Option<Child>,
    running: Option<Identity>,
    failures: u32,
    started_at: Instant,
    not_before: Instant,
}

/// What happened since the last look.
#[derive(Debug)]
pub enum Event {
    /// It was started.
    Started(Identity),
    /// It is gone; it is started again after this wait.
    Died {
        /// How, where that is known.
        how: String,
        /// Until the next start.
        wait: Duration,
    },
    /// It could not be started.
    NotStarted {
        /// Why.
        error: io::Error,
        /// Until the next attempt.
        wait: Duration,
    },
}

// === impl Keeper ===

impl Keeper {
    /// Adopts the program if it lives; nothing is started yet.
    pub fn adopt(program: Program, launcher: &Path) -> Keeper {
        let now = Instant::now();
        let running = Identity::read(&program.pid_file).filter(Identity::lives);
        Keeper {
            program,
            launcher: launcher.to_owned(),
            child: None,
            running,
            failures: 0,
            started_at: now,
            not_before: now,
        }
    }

    /// Who runs now.
    pub fn running(&self) -> Option<&Identity> {
        self.running.as_ref()
    }

    /// Looks after the program; call it often. Says what changed.
    pub fn look(&mut self) -> Option<Event> {
        let now = Instant::now();
        if self.running.is_some() {
            let how = self.end()?;
            self.running = None;
            self.child = None;
            if now.duration_since(self.started_at) > STEADY {
                self.failures = 0;
            }
            return Some(Event::Died { how, wait: self.back_off(now) });
        }
        if now < self.not_before {
            return None;
        }
        Some(match self.start() {
            Ok(identity) => {
                self.started_at = now;
                self.running = Some(identity.clone());
                Event::Started(identity)
            }
            Err(error) => Event::NotStarted { error, wait: self.back_off(now) },
        })
    }

    /// Ends what runs now (politely, then not) and makes `program` what is kept.
    pub fn replace(&mut self, program: Program) {
        self.stop(Duration::from_secs(3));
        self.program = program;
        self.failures = 0;
        self.not_before = Instant::now();
    }

    /// Ends what runs now.
    pub fn stop(&mut self, patience: Duration) {
        if let Some(identity) = self.running.take() {
            identity.end(patience, || {
                if let Some(child) = &mut self.child {
                    let _ = child.try_wait();
                }
            });
        }
        self.child = None;
    }

    /// How it ended, if it did.
    fn end(&mut self) -> Option<String> {
        if let Some(child) = &mut self.child {
            return match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            };
        }
        let lives = self.running.as_ref().is_some_and(Identity::lives);
        (!lives).then(|| "it is gone".to_owned())
    }

    fn back_off(&mut self, now: Instant) -> Duration {
        let wait = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures += 1;
        self.not_before = now + wait;
        wait
    }

    fn start(&mut self) -> io::Result<Identity> {
        let program = &self.program;
        let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
        let _ = fs::remove_file(&program.pid_file);
        let child = Command::new(&self.launcher)
            .arg(LAUNCH_VERB)
            .arg(&program.pid_file)
            .arg(&program.revision)
            .args(&program.argv)
            .envs(program.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&program.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let identity = Identity {
            pid,
            started: process_start(pid).map(|(started, _)| started).unwrap_or_default(),
            boot: boot_id(),
            argv: program.argv.clone(),
            revision: program.revision.clone(),
        };
        self.child = Some(child);
        Ok(identity)
    }
}

// === impl Identity ===

impl Identity {
    /// From a pid file; an unreadable one names nobody.
    pub fn read(path: &Path) -> Option<Identity> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Whether exactly this process lives: same boot, same pid, same start time, not a zombie.
    pub fn lives(&self) -> bool {
        self.boot == boot_id()
            && process_start(self.pid).is_some_and(|(started, dead)| started == self.started && !dead)
    }

    /// Ends it and what it started in its group: a request first, force after `patience`. `reap` is called
    /// between looks.
    pub fn end(&self, patience: Duration, mut reap: impl FnMut()) {
        let Some(group) = Pid::from_raw(self.pid) else { return };
        let mut wait_until_gone = |deadline: Instant| {
            while self.lives() && Instant::now() < deadline {
                reap();
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        if self.lives() {
            let _ = rustix::process::kill_process_group(group, Signal::TERM);
            wait_until_gone(Instant::now() + patience);
        }
        if self.lives() {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            wait_until_gone(Instant::now() + patience);
        }
    }
}

/// The launcher: own session, pid file, then becomes the program. Returns only if that failed.
pub fn launch(args: &[std::ffi::OsString]) -> ExitCode {
    let [pid_file, revision, program, arguments @ ..] = args else {
        eprintln!("{LAUNCH_VERB} is for hueshift itself");
        return ExitCode::from(2);
    };
    let argv =
        std::iter::once(program).chain(arguments).map(|word| word.to_string_lossy().into_owned()).collect();
    // Fails only if we lead a group already: then we have what we want.
    let _ = rustix::process::setsid();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let identity = Identity {
        pid,
        started: process_start(pid).map(|(started, _)| started).unwrap_or_default(),
        boot: boot_id(),
        argv,
        revision: revision.to_string_lossy().into_owned(),
    };
    let written = serde_json::to_vec(&identity)
        .map_err(io::Error::other)
        .and_then(|bytes| files::replace(Path::new(pid_file), &bytes).map_err(io::Error::other));
    if let Err(error) = written {
        eprintln!("cannot record the pid of {}: {error}", program.display());
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot start {}: {error}", program.display());
    ExitCode::from(127)
}

/// Holds the directory's lock; `None`: another process has it. The lock ends with the process, however it ends.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Start time in ticks since boot, and whether it is dead but not yet waited for.
fn process_start(pid: i32) -> Option<(u64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((started, matches!(state, "Z" | "X")))
}

/// Names this boot of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}
