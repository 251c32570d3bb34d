//! Where the programs under test lie: named by environment variables (`cargo verify` and `cargo demo` set them),
//! else where cargo puts them. A missing one fails with the command that makes it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Envoy.
pub fn envoy() -> PathBuf {
    let on_path = || {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|folder| folder.join("envoy")).find(|envoy| envoy.is_file())
    };
    let cached = || {
        let tools = env::var_os("HUESHIFT_TOOLS").map_or_else(|| target().join("tools"), PathBuf::from);
        Some(root().join(tools).join("envoy-1.40.0/envoy"))
    };
    find("Envoy", "HUESHIFT_ENVOY", &[&on_path, &cached], "cargo wasm tools")
}

/// The compiled filter.
pub fn filter() -> PathBuf {
    let built = || Some(target().join("wasm32-unknown-unknown/wasm/hueshift_filter.wasm"));
    find("the filter", "HUESHIFT_FILTER", &[&built], "cargo wasm build")
}

/// The controller.
pub fn hueshift() -> PathBuf {
    find(
        "the controller",
        "HUESHIFT_BIN",
        &[&|| Some(target().join("debug/hueshift"))],
        "cargo build -p hueshift",
    )
}

/// The sample model server as a program of its own, for tests that kill it.
pub fn sample_model() -> PathBuf {
    let built = || Some(target().join("debug/sample-model"));
    find("the sample model", "HUESHIFT_SAMPLE_MODEL", &[&built], "cargo build -p hueshift-tests --bins")
}

/// Envoy's version line, for the head of a measurement.
pub fn envoy_version() -> String {
    let output = Command::new(envoy()).arg("--version").output().expect("Envoy starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let build = text.split_once("version:").map_or("", |(_, build)| build);
    build.split('/').nth(1).unwrap_or("unknown").to_owned()
}

fn find(what: &str, variable: &str, places: &[&dyn Fn() -> Option<PathBuf>], remedy: &str) -> PathBuf {
    if let Some(given) = env::var_os(variable).filter(|path| !path.is_empty()) {
        let given = root().join(given);
        assert!(
            given.is_file(),
            "{variable} names {}, which is not a file\n  make it with: {remedy}",
            given.display()
        );
        return given;
    }
    let mut looked = Vec::new();
    for place in places.iter().filter_map(|place| place()) {
        if place.is_file() {
            return place;
        }
        looked.push(place.display().to_string());
    }
    panic!(
        "{what} is missing (looked at {})\n  make it with: {remedy}\n  or name it in {variable}",
        looked.join(", ")
    );
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}
