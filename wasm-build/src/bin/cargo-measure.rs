//! `cargo measure`.

fn main() {}
