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
    let cached = || Some(tools().join("envoy-1.40.0/envoy"));
    find("Envoy", "HUESHIFT_ENVOY", &[&on_path, &cached], "cargo wasm tools")
}

/// The compiled filter.
pub fn filter() -> PathBuf {
    let built = || Some(target().join("wasm32-unknown-unknown/wasm/hueshift_filter.wasm"));
    find("the filter", "HUESHIFT_FILTER", &[&built], "cargo wasm build")
}

/// The filter in a build that the header `x-hueshift-trap` kills.
pub fn trap_filter() -> PathBuf {
    let built = || Some(target().join("wasm32-unknown-unknown/wasm-trap/hueshift_filter.wasm"));
    find("the filter that traps", "HUESHIFT_TRAP_FILTER", &[&built], "cargo wasm build --trap")
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

/// A program or file of the cluster: etcd, kube-apiserver and what else `cargo wasm tools cluster` makes.
pub fn cluster(name: &str) -> PathBuf {
    let folder = env::var_os("HUESHIFT_CLUSTER").filter(|path| !path.is_empty());
    let folder = folder.map(|path| root().join(path)).or_else(newest_cluster).unwrap_or_default();
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing\n  make it with: cargo wasm tools cluster\n  or name its folder in HUESHIFT_CLUSTER",
        path.display()
    );
    path
}

/// The folder for pins that changed is another one; the newest belongs to the present pins.
fn newest_cluster() -> Option<PathBuf> {
    let entries = std::fs::read_dir(tools()).ok()?.flatten().map(|entry| entry.path());
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cluster-"));
    entries.filter(ours).max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
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

fn tools() -> PathBuf {
    let tools = env::var_os("HUESHIFT_TOOLS").map_or_else(|| target().join("tools"), PathBuf::from);
    root().join(tools)
}

/// Root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}
