//! `cargo verify [--quick | --full]`: everything that must hold before a change lands, real Envoy included.

use hueshift_wasm_build::problem::{Outcome, Problem, exit};
use hueshift_wasm_build::ready::{self, Ready};
use hueshift_wasm_build::steps::Steps;
use hueshift_wasm_build::workspace::{self, cargo};
use hueshift_wasm_build::{cluster, compile, inspect, tools};
use std::fs;
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "\
Usage: cargo verify [--quick | --full]

Format, lints (host and module), unit and property tests, core without a standard library, the module's build and
inspection, end-to-end tests against a real Envoy and against a real cluster (API server, istiod; built with Go,
once), documentation without warnings. Logs: target/verify/.

  --quick   without the end-to-end tests
  --full    with all repetitions of the end-to-end tests (an hour rather than minutes)";

/// Has no operating system: a clock or a socket smuggled into core does not build here, as it would for wasm32.
const NO_STD_TARGET: &str = "x86_64-unknown-none";

/// The tests of simulated releases.
const JUDGING: &str = "judging";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Quick,
    Usual,
    Full,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => exit(verify(Extent::Usual)),
        ["--quick"] => exit(verify(Extent::Quick)),
        ["--full"] => exit(verify(Extent::Full)),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        [argument, ..] => {
            eprintln!("error: `{argument}` is not understood here\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn verify(extent: Extent) -> Outcome {
    let mut steps = Steps::new()?;
    compile::add_target(compile::TARGET)?;
    compile::add_target(NO_STD_TARGET)?;
    steps.run("format", &mut cargo(["fmt", "--all", "--check"]));
    steps.run(
        "lints, host",
        &mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    );
    steps.run("lints, module", &mut for_wasm(["clippy", "--", "-D", "warnings"]));
    steps.run(
        "core without a standard library",
        &mut cargo(["build", "--package", "hueshift-core", "--target", NO_STD_TARGET, "--locked"]),
    );
    steps.run(
        "unit and property tests",
        &mut cargo(["test", "--workspace", "--exclude", "hueshift-tests", "--locked", "--no-fail-fast"]),
    );
    steps
        .run("checker's own tests", &mut cargo(["test", "--package", "hueshift-tests", "--lib", "--locked"]));
    steps.run(
        "documentation",
        cargo(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    );
    steps.call("module, build", compile::run);
    steps.call("module, inspection", inspect::run);
    match has_deny() {
        true => steps.run("licenses and sources", &mut cargo(["deny", "--locked", "check"])),
        false => steps.leave_out("licenses and sources", "cargo-deny is not installed"),
    }
    let mut simulated = cargo(["test", "--package", "hueshift-tests", "--test", JUDGING, "--locked"]);
    if extent == Extent::Quick {
        steps.run("simulated releases", &mut simulated);
        steps.leave_out("end-to-end tests against a real Envoy", "because of --quick");
        steps.leave_out("end-to-end tests against a cluster", "because of --quick");
        return steps.finish();
    }
    steps.call("Envoy", tools::envoy);
    let (envoy, mesh) = end_to_end_tests()?;
    let programs = steps.call("programs", ready::all);
    // They need no ports and no clock, and the others mostly wait: four minutes less.
    let simulated = steps.beside("simulated releases", &simulated);
    if let Some(ready) = programs {
        steps.run("end-to-end tests against a real Envoy", &mut tests(&envoy, &ready, extent));
        if let Some(folder) = steps.call("servers of a cluster", cluster::folder) {
            let ready = ready.with_cluster(folder);
            steps.run("end-to-end tests against a cluster", &mut tests(&mesh, &ready, extent));
        }
    }
    steps.join(simulated);
    steps.finish()
}

/// Names of the end-to-end tests: against Envoy alone, and against a cluster. Simulated releases are neither.
fn end_to_end_tests() -> Outcome<(Vec<String>, Vec<String>)> {
    let folder = workspace::root().join("tests/tests");
    let entries = fs::read_dir(&folder).map_err(|error| Problem::doing(folder.display(), error))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != JUDGING)
        .collect();
    names.sort();
    Ok(names.into_iter().partition(|name| !name.starts_with("mesh_")))
}

fn tests(names: &[String], ready: &Ready, extent: Extent) -> Command {
    let mut tests = cargo(["test", "--package", "hueshift-tests", "--locked", "--no-fail-fast"]);
    for name in names {
        tests.args(["--test", name]);
    }
    tests.args(["--", "--test-threads", "1"]);
    ready.name_in(&mut tests);
    tests.env("RUST_BACKTRACE", "0");
    if extent == Extent::Full {
        tests.env("HUESHIFT_FULL", "1");
    }
    tests
}

fn for_wasm<const N: usize>(words: [&str; N]) -> Command {
    let mut words = words.into_iter();
    let mut command = cargo([words.next().unwrap_or("check")]);
    command.args(["--package", "hueshift-filter", "--target", compile::TARGET, "--locked"]).args(words);
    command
}

fn has_deny() -> bool {
    let mut question = cargo(["deny", "--version"]);
    question.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
