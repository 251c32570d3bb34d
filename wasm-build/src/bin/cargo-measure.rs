//! `cargo measure <WHAT> [--runs N]`: builds what is missing and prints measured distributions.

use hueshift_wasm_build::problem::Outcome;
use hueshift_wasm_build::ready::Ready;
use hueshift_wasm_build::{cluster, problem, ready};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A question needs nothing built but the program that answers it, and the judge is measured without an Envoy.
    let asks = arguments.iter().any(|argument| argument == "--help" || argument == "-h")
        || arguments.first().is_some_and(|what| what == "judge" || what == "liar");
    let mesh = arguments.first().is_some_and(|what| what == "mesh");
    match if asks { ready::programs().map(|()| None) } else { everything(mesh).map(Some) } {
        Ok(ready) => ready::hand_over("hueshift-measure", ready.as_ref(), &arguments),
        Err(problem) => problem::exit(Err(problem)),
    }
}

fn everything(mesh: bool) -> Outcome<Ready> {
    let ready = ready::all()?;
    Ok(if mesh { ready.with_cluster(cluster::folder()?) } else { ready })
}
