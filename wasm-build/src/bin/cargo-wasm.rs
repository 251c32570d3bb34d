//! `cargo wasm build | inspect | tools`.

use hueshift_wasm_build::problem::{Outcome, Problem, exit};
use hueshift_wasm_build::{compile, inspect, tools};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo wasm <VERB>

  build     compile the module that Envoy loads, and print its size
  inspect   check its imports, exports and size
  tools     get Envoy, unless HUESHIFT_ENVOY or PATH already has it, and print where it is";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["build"] => exit(compile::run()),
        ["inspect"] => exit(inspect::run()),
        ["tools"] => exit(print_tools()),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        [] => usage("a verb is missing"),
        [verb, ..] => usage(&format!("`{verb}` is not understood here")),
    }
}

fn print_tools() -> Outcome {
    let envoy = tools::envoy()?;
    println!("{}", envoy.to_str().ok_or_else(|| Problem::new("the path of Envoy is not UTF-8"))?);
    Ok(())
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}
