//! The judge against the rules of others, over simulated releases: no Envoy, no clock.

use hueshift_tests::simulation::table;
use std::path::Path;

/// Measures and writes the table into the README.
pub fn measure(runs: u64) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&readme).expect("the README is read");
    let table = table::measure(runs, |name| eprintln!("{name} …"));
    print!("{table}");
    let placed = table::placed(&text, &table).expect("the README has the markers of `cargo measure judge`");
    std::fs::write(&readme, placed).expect("the README is written");
}
