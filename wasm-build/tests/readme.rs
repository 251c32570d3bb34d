//! The README tells where things are; a path that moved must be told there too.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

use std::path::Path;

#[test]
fn every_path_in_the_readme_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let parts = ["core/", "filter/", "controller/", "wasm-build/", "tests/"];
    let named: Vec<&str> = readme
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| parts.iter().any(|part| word.starts_with(part)))
        .collect();
    assert!(named.len() > 10, "the change map is gone from the README");
    let missing: Vec<&&str> = named.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "README names what is not there: {missing:?}");
}
