//! Recorded worlds through the whole of `simulate`: the expected verdict, and the reference's log E tick by tick.
//!
//! All worlds of the folder that `HUESHIFT_WORLDS` names are judged, else those beside this test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift::cli::simulate;
use hueshift::rivals::Rules;
use hueshift::world::{Watched, World};
use hueshift_core::judge::{Line, Metric};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

fn near(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-6 + 1e-9 * want.abs(), "{what}: got {got}, want {want}");
}

#[test]
fn every_world_gets_its_expected_verdict_and_the_references_evidence() {
    let folder = std::env::var_os("HUESHIFT_WORLDS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds"), PathBuf::from);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut out = Vec::new();
        let summary = simulate::run(&path, &mut out).unwrap();
        let lines: Vec<Line> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let world = World::read(&path).unwrap();
        let expect = world.expect.as_ref().unwrap();
        let mut watched = Watched::default();
        lines.iter().for_each(|line| watched.see(line.clone()));
        assert_eq!(watched.meets(expect), Some(true), "{summary}");
        assert_eq!(lines.len() as u64, world.duration_ms / world.tick_ms, "{name}: one line per tick");

        let at: BTreeMap<u64, &Line> = lines.iter().map(|line| (line.t_ms, line)).collect();
        for (t_ms, log_e) in &expect.trace {
            near(at[t_ms].log_e, *log_e, &format!("{name} at {t_ms} ms"));
        }
        if let (Some(want), Some(last)) = (&expect.last, lines.last()) {
            assert_eq!((last.rows, last.counted), (want.rows, want.counted), "{name}");
            near(last.log_srm, want.log_srm, &format!("{name}, log_srm"));
            for metric in Metric::ALL {
                let (got, want) = (last.metrics.get(metric), want.metrics.get(metric));
                assert_eq!(got.is_some(), want.is_some(), "{name}, {}", metric.as_str());
                near(got.unwrap_or(0.0), want.unwrap_or(0.0), &format!("{name}, {}", metric.as_str()));
            }
        }
        writeln!(std::io::stdout(), "  {name}: {} ticks, {} traced", lines.len(), expect.trace.len())
            .unwrap();
    }
}

#[test]
fn a_line_has_the_fields_of_the_format_in_their_order() {
    let mut out = Vec::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds/aa-simpson.json");
    simulate::run(&path, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let last = text.lines().last().unwrap();
    let names = [
        "{\"t_ms\":300000,\"verdict\":\"certified\",\"log_e\":-1.349",
        ",\"metrics\":{\"errors\":-1.349",
        "},\"log_srm\":-5.484",
        ",\"noisy\":false,\"certified\":[10.0,5.0,3.0,2.0],\"rows\":{\"accepted\":600,\"ignored\":0,\"malformed\":0},\
         \"counted\":{\"blue_requests\":46135,\"blue_errors\":616,\"green_requests\":13816,\"green_errors\":616}}",
    ];
    let mut rest = last;
    for name in names {
        let place = rest.find(name).unwrap_or_else(|| panic!("{name} in {last}"));
        rest = &rest[place + name.len()..];
    }
    assert_eq!(rest, "");
}

#[test]
fn anothers_rule_prints_lines_of_the_same_format() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds/step-errors.json");
    for rules in [Rules::Flagger, Rules::Argo, Rules::Kayenta] {
        let mut out = Vec::new();
        let summary = simulate::run_by(&path, Some(rules), Some(1), &mut out).unwrap();
        assert!(summary.contains(&format!("judged by {rules}")), "{summary}");
        let mut ours = Vec::new();
        simulate::run(&path, &mut ours).unwrap();
        let read = |out: Vec<u8>| -> Vec<Line> {
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (theirs, ours) = (read(out), read(ours));
        assert_eq!(theirs.len(), ours.len());
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(
                (theirs.t_ms, theirs.rows, theirs.counted),
                (ours.t_ms, ours.rows, ours.counted),
                "{rules}"
            );
        }
    }
}
