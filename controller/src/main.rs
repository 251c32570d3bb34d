//! The `hueshift` command; everything is in the library, so that tests reach it.

fn main() -> std::process::ExitCode {
    hueshift::cli::run()
}
