//! `cargo wasm build`: compiles the module that Envoy loads.

use crate::problem::Outcome;
use crate::workspace;

/// Builds the module and prints its size.
pub fn run() -> Outcome {
    workspace::run(
        "building the module",
        &mut workspace::cargo([
            "build",
            "--package",
            "hueshift-filter",
            "--target",
            "wasm32-unknown-unknown",
            "--profile",
            "wasm",
        ]),
    )
}
