//! A child process that ends with its owner, by its own id, also while a test unwinds.
//!
//! Its output goes to a file, never to a pipe of ours: a full pipe would stop it, and the file outlives a failure.

use crate::clock::patience;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts `command` with all output in `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log file twice"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} ({command:?})"));
        Process { name: name.to_owned(), child, log: log.to_path_buf() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs; its exit status otherwise.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child's state")
    }

    /// Panics, with the end of its log, if it ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!(
                "{} ended early ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                self.log_tail(30)
            );
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log_text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Its whole log.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGINT, as Ctrl-C sends it, and waits for the end.
    pub fn interrupt(&mut self, deadline: Duration) -> Option<ExitStatus> {
        signal(self.id(), Signal::INT);
        let end = Instant::now() + patience(deadline);
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to one process; one that is gone already is no problem.
pub fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Raises the limit of open files to what the system allows: clients and servers of a load share this process.
pub fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Ids of the living processes whose command line mentions `path`: what a program under test started in a folder
/// that only this test knows.
pub fn mentioning(path: &Path) -> Vec<(u32, String)> {
    let wanted = path.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&wanted) && id != std::process::id() && !is_zombie(&entry.path()) {
            found.push((id, command));
        }
    }
    found
}

fn is_zombie(folder: &Path) -> bool {
    let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
