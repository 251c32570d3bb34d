//! Test vectors computed by an independent implementation: read from the folder that `HUESHIFT_ORACLES` names, so
//! that other vectors of the same format can be run, else from the copy that comes with the source.

extern crate std;

use std::path::PathBuf;

/// The parsed file `<name>.json`.
pub fn oracle(name: &str) -> serde_json::Value {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles");
    let folder = std::env::var_os("HUESHIFT_ORACLES").map_or_else(|| PathBuf::from(here), PathBuf::from);
    let path = folder.join(std::format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
