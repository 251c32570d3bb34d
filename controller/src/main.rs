//! The `hueshift` command.
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Verb {
    /// Serve a document on this machine
    Up(hueshift::standalone::UpArgs),
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let [_, verb, rest @ ..] = args.as_slice()
        && verb == hueshift::supervise::LAUNCH_VERB
    {
        return hueshift::supervise::launch(rest);
    }
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    match Verb::parse() {
        Verb::Up(args) => runtime.block_on(hueshift::standalone::up(args)),
    }
}
