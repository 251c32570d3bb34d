//! The `hueshift` command.
fn main() {}
