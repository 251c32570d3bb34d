//! `cargo wasm build`: compiles the module that Envoy loads.
//!
//! Paths of the machine that compiles are replaced, so that two machines make the same bytes and none tells where
//! its user lives.

use crate::inspect::{self, Budget};
use crate::problem::{Outcome, Problem};
use crate::workspace;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the module.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the module and prints its size.
pub fn run() -> Outcome {
    build("wasm", &[])?;
    let module = workspace::module();
    let size = fs::metadata(&module).map_err(|error| Problem::doing(module.display(), error))?.len();
    println!("{}: {}", module.display(), Budget::of(size));
    Ok(())
}

/// Builds a module that a request header kills, for tests, and makes sure that the inspection would refuse it.
pub fn trap() -> Outcome {
    build("wasm-trap", &["--features", "trap"])?;
    let module = workspace::trap_module();
    let bytes = fs::read(&module).map_err(|error| Problem::doing(module.display(), error))?;
    if !inspect::is_trap(&bytes) {
        return Err(Problem::new(format!(
            "{}: the inspection would not know it for a trap build",
            module.display()
        )));
    }
    println!("{}: for tests only", module.display());
    Ok(())
}

fn build(profile: &str, more: &[&str]) -> Outcome {
    add_target(TARGET)?;
    let mut build = workspace::cargo([
        "build",
        "--locked",
        "--package",
        "hueshift-filter",
        "--target",
        TARGET,
        "--profile",
        profile,
    ]);
    build.args(more);
    // Flags for a named target do not reach build scripts. The separator stands for "between arguments".
    build.env("CARGO_ENCODED_RUSTFLAGS", remaps().join("\x1f"));
    workspace::run("building the module", &mut build)
}

/// Adds a compilation target if the toolchain lacks it.
pub fn add_target(target: &str) -> Outcome {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = Command::new(rustc)
        .current_dir(workspace::root())
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(|error| Problem::doing("cannot start rustc", error))?;
    if Path::new(String::from_utf8_lossy(&folder.stdout).trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace::root()).args(["target", "add", target]);
    workspace::run(&format!("adding the target {target} (without rustup: install it yourself)"), &mut rustup)
}

/// What stands for each folder of this machine in the module's messages.
fn remaps() -> Vec<String> {
    let home = env::home_dir().unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let packages = cargo.join("registry/src");
    let sources = fs::read_dir(&packages).into_iter().flatten().flatten().map(|entry| entry.path());
    // Of several prefixes that fit the last one counts, so the general ones come first.
    [home, packages]
        .into_iter()
        .chain(sources)
        .map(|folder| (folder, "packages"))
        .chain([(workspace::root(), "hueshift")])
        .map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()))
        .collect()
}
