//! Where things lie in the workspace: its root, cargo's target folder, the programs that cargo built.

use crate::problem::{Outcome, Problem};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's target folder, honoring `CARGO_TARGET_DIR`.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The module as `cargo wasm build` leaves it.
pub fn module() -> PathBuf {
    target().join("wasm32-unknown-unknown/wasm/hueshift_filter.wasm")
}

/// The module for tests that `cargo wasm build --trap` leaves.
pub fn trap_module() -> PathBuf {
    target().join("wasm32-unknown-unknown/wasm-trap/hueshift_filter.wasm")
}

/// A program that cargo built in the dev profile.
pub fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// Cargo, the same one that runs us, at the workspace's root.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Runs a command that talks to the terminal itself.
pub fn run(what: &str, command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| Problem::doing(format_args!("{what}: cannot start"), e))?;
    if status.success() { Ok(()) } else { Err(Problem::new(format!("{what} failed ({status})"))) }
}
