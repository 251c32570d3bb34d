//! The one error type of the build verbs: a sentence for people that says what failed and what to do.
//!
//! No error enum: nothing here is handled by code, everything is read by a person.

use std::fmt;
use std::process::ExitCode;

/// What went wrong and the remedy, as one text.
#[derive(Debug)]
pub struct Problem(String);

/// Result of a build verb.
pub type Outcome<T = ()> = Result<T, Problem>;

// === impl Problem ===

impl Problem {
    /// From a text that names what, where and the remedy.
    pub fn new(text: impl Into<String>) -> Self {
        Problem(text.into())
    }

    /// From an error and what was being done.
    pub fn doing(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Problem(format!("{what}: {error}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

/// Prints the problem, if any, and turns the outcome into the process's exit code.
pub fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
