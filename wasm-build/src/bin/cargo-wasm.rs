//! `cargo wasm build | inspect | oci [DIR] | tools [cluster]`.

use hueshift_wasm_build::problem::{Outcome, Problem, exit};
use hueshift_wasm_build::{cluster, compile, inspect, oci, tools};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo wasm <VERB>

  build     compile the module that Envoy loads, and print its size
            --trap: one for tests instead, that a request header kills
  inspect   check its imports, exports and size
  oci [DIR] check it and write it as an image that Istio pulls, into a folder (target/oci), and print its digest
  tools     get Envoy, unless HUESHIFT_ENVOY or PATH already has it, and print where it is
  tools cluster
            build etcd, kube-apiserver, kube-controller-manager, kubectl and istiod from pinned Go modules
            (some minutes, once), and print the folder";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["build"] => exit(compile::run()),
        ["build", "--trap"] => exit(compile::trap()),
        ["inspect"] => exit(inspect::run()),
        ["oci"] => exit(oci::run(None)),
        ["oci", folder] if !folder.starts_with('-') => exit(oci::run(Some(folder))),
        ["tools"] => exit(tools::envoy().and_then(print)),
        ["tools", "cluster"] => exit(cluster::folder().and_then(print)),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        [] => usage("a verb is missing"),
        words => usage(&format!("`{}` is not understood here", words.join(" "))),
    }
}

fn print(path: PathBuf) -> Outcome {
    println!("{}", path.to_str().ok_or_else(|| Problem::new("the path is not UTF-8"))?);
    Ok(())
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}
