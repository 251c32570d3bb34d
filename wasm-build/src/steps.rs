//! Runs the steps of `cargo verify`, each with its name, its time and its log: one after the other, but for one that only
//! computes and may do so beside others.
//!
//! A step's output goes to a file, so that what is printed stays readable; it is shown when the step fails. All
//! steps run even if one fails: a person who waits wants to know everything at once.

use crate::problem::{Outcome, Problem};
use crate::workspace;
use std::fs::{self, File};
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The steps so far.
#[derive(Debug)]
pub struct Steps {
    logs: PathBuf,
    began: Instant,
    count: usize,
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    left_out: Vec<String>,
}

/// A step that runs beside others; it ends with [`Steps::join`].
#[derive(Debug)]
pub struct Beside {
    name: String,
    log: PathBuf,
    /// Gives how it ended and what it took.
    end: JoinHandle<(Outcome, Duration)>,
}

/// Lines of a failed step's log that are printed; the file has all.
const SHOWN: usize = 120;

// === impl Steps ===

impl Steps {
    /// Logs go to `verify` in the target folder.
    pub fn new() -> Outcome<Self> {
        let logs = workspace::target().join("verify");
        fs::create_dir_all(&logs).map_err(|error| Problem::doing(logs.display(), error))?;
        Ok(Steps {
            logs,
            began: Instant::now(),
            count: 0,
            passed: 0,
            failed: 0,
            failures: Vec::new(),
            left_out: Vec::new(),
        })
    }

    /// Runs one command. Tests that it reports count one by one, any other command as one.
    pub fn run(&mut self, name: &str, command: &mut Command) {
        let log = self.log(name);
        self.step(name, log.clone(), |file| wait(name, spawn(command, file)?));
    }

    /// Starts a command that only computes and lets the steps that follow go first.
    pub fn beside(&mut self, name: &str, command: &Command) -> Beside {
        let log = self.log(name);
        println!("  {name}, beside what follows …");
        let mut patient = Command::new("nice");
        patient.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
        command.get_envs().for_each(|(key, value)| match value {
            Some(value) => _ = patient.env(key, value),
            None => _ = patient.env_remove(key),
        });
        command.get_current_dir().into_iter().for_each(|folder| _ = patient.current_dir(folder));
        let child = File::create(&log)
            .map_err(|error| Problem::doing(log.display(), error))
            .and_then(|file| spawn(&mut patient, &file));
        let began = Instant::now();
        let end = std::thread::spawn(move || {
            let outcome = child.and_then(|mut child| match child.wait() {
                Ok(status) => ended(status),
                Err(error) => Err(Problem::doing("waiting", error)),
            });
            (outcome, began.elapsed())
        });
        Beside { name: name.to_owned(), log, end }
    }

    /// Waits for what ran beside, and tells how it ended.
    pub fn join(&mut self, beside: Beside) {
        let Beside { name, log, end } = beside;
        let lost = |_| (Err(Problem::new("nobody waited for it")), Duration::ZERO);
        let (outcome, took) = end.join().unwrap_or_else(lost);
        self.tell(&name, &log, took, outcome);
    }

    /// Runs a function of ours; what it prints is not captured.
    pub fn call<T>(&mut self, name: &str, call: impl FnOnce() -> Outcome<T>) -> Option<T> {
        let log = self.log(name);
        let mut value = None;
        self.step(name, log, |_| call().map(|it| value = Some(it)));
        value
    }

    /// Says that something was not run, and why.
    pub fn leave_out(&mut self, name: &str, why: &str) {
        println!("- {name}: left out, {why}");
        self.left_out.push(name.to_owned());
    }

    /// Prints the reckoning; a problem if anything failed.
    pub fn finish(self) -> Outcome {
        println!();
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        if !self.left_out.is_empty() {
            println!("left out: {}", self.left_out.join(", "));
        }
        println!("{:.0} s", self.began.elapsed().as_secs_f64());
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { Ok(()) } else { Err(Problem::new("cargo verify failed")) }
    }

    fn log(&mut self, name: &str) -> PathBuf {
        self.count += 1;
        let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.logs.join(format!("{:02}-{word}.log", self.count))
    }

    fn step(&mut self, name: &str, log: PathBuf, run: impl FnOnce(&File) -> Outcome) {
        let began = Instant::now();
        if !stdout().is_terminal() {
            println!("  {name} …");
        }
        let outcome = File::create(&log)
            .map_err(|error| Problem::doing(log.display(), error))
            .and_then(|file| run(&file));
        self.tell(name, &log, began.elapsed(), outcome);
    }

    fn tell(&mut self, name: &str, log: &Path, took: Duration, outcome: Outcome) {
        let text =
            fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let (passed, failed) = tests_in(&text);
        clear_line();
        let seconds = took.as_secs_f64();
        match outcome {
            Ok(()) => {
                let tests = if passed > 0 { format!(", {passed} tests") } else { String::new() };
                println!("✓ {name} ({seconds:.1} s{tests})");
                self.passed += passed.max(1);
            }
            Err(problem) => {
                println!("✗ {name} ({seconds:.1} s): {problem}");
                let lines: Vec<&str> = text.lines().collect();
                for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                    println!("    {line}");
                }
                println!("    the whole log: {}", log.display());
                self.passed += passed;
                self.failed += failed.max(1);
                self.failures.push(name.to_owned());
            }
        }
    }
}

/// Its output goes to the file.
fn spawn(command: &mut Command, file: &File) -> Outcome<Child> {
    let shared = || file.try_clone().map_err(|_| Problem::new("the log file cannot be shared"));
    command
        .stdin(Stdio::null())
        .stdout(shared()?)
        .stderr(shared()?)
        .spawn()
        .map_err(|error| Problem::doing(format_args!("cannot start {command:?}"), error))
}

fn ended(status: ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(Problem::new(format!("{status}"))) }
}

fn wait(name: &str, mut child: Child) -> Outcome {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return ended(status),
            Ok(None) => tick(name, began.elapsed()),
            Err(error) => return Err(Problem::doing("waiting", error)),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sums of cargo's lines `test result: ok. 12 passed; 0 failed; …`.
fn tests_in(log: &str) -> (u64, u64) {
    let number = |line: &str, word: &str| -> u64 {
        let before = line.split(word).next().unwrap_or_default().trim_end();
        before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    log.lines()
        .filter(|line| line.starts_with("test result:"))
        .fold((0, 0), |sum, line| (sum.0 + number(line, "passed"), sum.1 + number(line, "failed")))
}

fn tick(name: &str, elapsed: Duration) {
    if stdout().is_terminal() {
        print!("\r  {name} … {:.0} s", elapsed.as_secs_f64());
        let _ = stdout().flush();
    }
}

fn clear_line() {
    if stdout().is_terminal() {
        print!("\r\x1b[2K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_are_summed_over_all_binaries() {
        let log = "\
test a ... ok
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s
test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";
        assert_eq!(tests_in(log), (17, 2));
        assert_eq!(tests_in("nothing ran"), (0, 0));
    }
}
