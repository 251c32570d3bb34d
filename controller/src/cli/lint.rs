//! `lint`: checks a document before it meets traffic, and says how long its ramp will take.

use super::{Done, say};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// The document.
    file: std::path::PathBuf,
}

pub(super) async fn run(args: LintArgs) -> Done {
    let _ = args;
    say("")
}
