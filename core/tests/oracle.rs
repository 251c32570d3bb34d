//! Every formula of judging against vectors that an independent implementation computed.
//!
//! All files of the folder are run, all cases of a file: the folder that `HUESHIFT_ORACLES` names, else the copy
//! beside this test. A file that nobody reads is a failure, so a new kind of vector cannot be forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::judge::analysis::Analysis;
use hueshift_core::judge::certificate::{RatioCertificate, Tolerance};
use hueshift_core::judge::line::RowCounts;
use hueshift_core::judge::math::{ln_beta, lse, rate_interval};
use hueshift_core::judge::one_sample::OneSample;
use hueshift_core::judge::ratio::{Errors, Ratio};
use hueshift_core::judge::restarts::{Restarts, Schedule, Scheme};
use hueshift_core::judge::share::{self, SecondErrors};
use hueshift_core::judge::slots::{SlotSet, errors_of};
use hueshift_core::judge::tally::{Outcome, SideDelta, Tally};
use hueshift_core::judge::verdict::{average, zone};
use hueshift_core::judge::{Row, Verdict, srm};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How a file is read.
enum Reader {
    /// By this function; it gives the number of cases.
    Here(fn(&Value) -> usize),
    /// By the unit tests of a module (the same folder).
    UnitTest(&'static str),
    /// Not yet.
    LaterPart(&'static str),
}

fn reader(file: &str) -> Reader {
    use Reader::{Here, LaterPart, UnitTest};
    match file {
        "bernoulli_cs" => Here(bernoulli_cs),
        "block_share" => Here(block_share),
        "cb_errors" => Here(cb_errors),
        "certify" => Here(certify),
        "combine" => Here(combine),
        "error_metric" => Here(error_metric),
        "one_sample" => Here(one_sample),
        "restarts" => Here(restarts),
        "slot_errors" => Here(slot_errors),
        "special" => Here(special),
        "srm" => Here(srm_groups),
        "tally" => Here(tally),
        "ecusum" => UnitTest("fuse.rs"),
        "latency_buckets" => UnitTest("histogram.rs (buckets; the margin maps come with the latency metric)"),
        "cb_latency" | "history_latency" => LaterPart("the latency metric is not judged yet"),
        "prediction_cb" | "ks_band" | "psi" => LaterPart("the predictions metric is not judged yet"),
        "history_null" => LaterPart("the history null hypothesis comes with the watches after cutover"),
        "dispersion" => {
            LaterPart("the choice of the unit of chance from stable's history comes with the full judge")
        }
        "rate_ratio_cs" => LaterPart("the interval of the ratio is shown by the full judge's report"),
        "planning" => LaterPart("planned sample sizes come with `plan-sample`"),
        _ => panic!("{file}.json: no test reads this file"),
    }
}

#[test]
fn every_oracle_file_is_reproduced() {
    let folder = std::env::var_os("HUESHIFT_ORACLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles"), PathBuf::from);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    assert!(!files.is_empty(), "{}: no oracle files", folder.display());
    // Past the test harness, which would swallow it.
    let mut out = std::io::stdout();
    writeln!(out, "oracles in {}", folder.display()).unwrap();
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(text(&file["format"]), format!("hueshift-oracle/{name}/1"));
        match reader(name) {
            Reader::Here(check) => writeln!(out, "  {name}: {} cases", check(&file)),
            Reader::UnitTest(place) => writeln!(out, "  {name}: read by the tests of {place}"),
            Reader::LaterPart(why) => writeln!(out, "  {name}: belongs to a later part: {why}"),
        }
        .unwrap();
    }
}

// === how closely values must agree ===

fn close(got: f64, want: f64, relative: f64, absolute: f64, what: &str) {
    let error = (got - want).abs();
    assert!(error <= relative * want.abs() + absolute, "{what}: got {got}, want {want}, off by {error}");
}

/// The tolerance of most files.
fn near(got: f64, want: f64, what: &str) {
    close(got, want, 1e-9, 1e-12, what);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn int(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    list(value).iter().map(float).collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn cases(file: &Value) -> impl Iterator<Item = (String, &Value)> {
    list(&file["cases"]).iter().enumerate().map(|(i, case)| {
        let name = case["name"].as_str().map_or_else(|| format!("case {i}"), str::to_owned);
        (format!("{} {name}", text(&file["format"])), case)
    })
}

fn count(file: &Value) -> usize {
    list(&file["cases"]).len()
}

/// `[n_g, n_b, e_g, e_b]` as errors with the realised share, or with the case's own.
fn block(values: &Value, split: Option<f64>) -> Errors {
    let mut errors = Errors::realised(int(&values[0]), int(&values[1]), int(&values[2]), int(&values[3]));
    if let Some(split) = split {
        errors.share = split;
    }
    errors
}

// === one function per file ===

fn cb_errors(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let rho0 = float(&case["rho0"]);
        let test = Ratio::new(rho0, floats(&case["grid"]).iter().map(|g| g * rho0).collect());
        let ln_prior: Vec<f64> = floats(&case["prior"]).iter().map(|p| p.ln()).collect();
        let mut sums = vec![0.0; test.len()];
        for (values, want) in list(&case["blocks"]).iter().zip(floats(&case["log_e"])) {
            test.add(block(values, case["split"].as_f64()), &mut sums);
            near(lse(sums.iter().zip(&ln_prior).map(|(l, p)| l + p)), want, &what);
        }
        for (got, want) in sums.iter().zip(floats(&case["log_l"])) {
            near(*got, want, &what);
        }
    }
    count(file)
}

fn one_sample(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let p0 = float(&case["p0"]);
        let alternatives = floats(&case["alternatives"]);
        let given = OneSample::new(p0, alternatives.iter().copied());
        let own = match text(&case["kind"]) {
            "reject-above" => OneSample::above(p0),
            "certify-below" => OneSample::below(p0),
            kind => panic!("{what}: unknown kind {kind}"),
        };
        let (mut n, mut errors) = (0, 0);
        for (values, want) in list(&case["blocks"]).iter().zip(floats(&case["log_e"])) {
            (n, errors) = (n + int(&values[0]), errors + int(&values[1]));
            close(given.log_e(n, errors), want, 1e-9, 1e-12, &what);
            close(own.log_e(n, errors), want, 1e-9, 1e-12, &format!("{what}, our alternatives"));
        }
    }
    count(file)
}

fn error_metric(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let ratio = Ratio::worse_than(float(&case["rho0"]));
        let floor = OneSample::above(float(&case["floor"]));
        let mut sums = [0.0; 6];
        let (mut n, mut errors) = (0, 0);
        for (values, want) in list(&case["blocks"]).iter().zip(list(&case["log_e"])) {
            ratio.add(block(values, None), &mut sums);
            (n, errors) = (n + int(&values[0]), errors + int(&values[2]));
            let (log_ratio, log_floor) = (lse(sums.iter().copied()) - 6f64.ln(), floor.log_e(n, errors));
            near(log_ratio, float(&want["ratio"]), &what);
            near(log_floor, float(&want["floor"]), &what);
            near(log_ratio.min(log_floor), float(&want["errors"]), &what);
        }
    }
    count(file)
}

fn restarts(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let scheme: Scheme = serde_json::from_value(case["scheme"].clone()).unwrap();
        let (count, v0) = (u32::try_from(int(&case["count"])).unwrap(), float(&case["v0"]));
        let schedule = Schedule { count, every_ms: int(&case["every_ms"]), v0, scheme };
        let mut mixture = Restarts::equal(schedule, usize::try_from(int(&case["alternatives"])).unwrap());
        for (tick, want) in list(&case["ticks"]).iter().zip(floats(&case["log_e"])) {
            mixture.add(int(&tick["t_ms"]), &floats(&tick["inc"]));
            near(mixture.log_e(), want, &format!("{what} at {} ms", tick["t_ms"]));
        }
    }
    count(file)
}

fn certify(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let bound = Tolerance::try_from(float(&case["rho_max"])).unwrap();
        let mut certificate = RatioCertificate::new(bound, &floats(&case["alternatives"]));
        let threshold = (1.0 / float(&case["beta"])).ln();
        let mut certified = None;
        for (i, (values, want)) in list(&case["blocks"]).iter().zip(floats(&case["log_e"])).enumerate() {
            certificate.add(block(values, None));
            near(certificate.log_e(), want, &what);
            certified = certified.or((certificate.log_e() >= threshold).then_some(i as u64));
        }
        assert_eq!(certified, case["certified_after_block"].as_u64(), "{what}");
    }
    count(file)
}

fn slot_errors(file: &Value) -> usize {
    for (what, case) in cases(file) {
        assert_eq!(int(&case["slots"]), 10_000, "{what}: the product draws from 10 000 slots");
        let test = Ratio::worse_than(float(&case["rho0"]));
        let mut sums = [0.0; 6];
        let mut seen = SlotSet::default();
        for (batch, want) in list(&case["batches"]).iter().zip(floats(&case["log_e"])) {
            let mut fresh = SlotSet::default();
            for slot in list(&batch["slots"]) {
                fresh.insert(u16::try_from(int(slot)).unwrap());
            }
            fresh.remove(&seen);
            test.add(errors_of(u16::try_from(int(&batch["limit"])).unwrap(), &seen, &fresh), &mut sums);
            seen.extend(&fresh);
            near(lse(sums.iter().copied()) - 6f64.ln(), want, &what);
        }
    }
    count(file)
}

fn block_share(file: &Value) -> usize {
    for (what, case) in cases(file) {
        assert_eq!(floats(&case["lambdas"]), share::LAMBDAS, "{what}");
        let mut sums = [0.0; 6];
        for (second, want) in list(&case["seconds"]).iter().zip(floats(&case["log_e"])) {
            let strata = list(second).iter().map(|s| SecondErrors {
                split: float(&s[0]),
                candidate: int(&s[1]),
                stable: int(&s[2]),
            });
            for (sum, more) in sums.iter_mut().zip(share::increments(float(&case["rho0"]), strata)) {
                *sum += more;
            }
            near(lse(sums.iter().copied()) - 6f64.ln(), want, &what);
        }
    }
    count(file)
}

fn srm_groups(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let groups = list(&case["groups"]).iter();
        let got: f64 =
            groups.map(|g| srm::log_e(float(&case["k"]), float(&g[0]), int(&g[1]), int(&g[2]))).sum();
        close(got, float(&case["log_e"]), 0.0, 1e-8, &what);
    }
    count(file)
}

fn combine(file: &Value) -> usize {
    let analysis = Analysis::default();
    for (what, case) in cases(file) {
        let active = case["active_log_e"].as_object().unwrap();
        let evidence = active.iter().map(|(metric, log_e)| (analysis.weights[metric], float(log_e)));
        let log_e = average(evidence);
        close(log_e, float(&case["log_e"]), 1e-12, 0.0, &what);
        let want = match text(&case["zone"]) {
            "rollback" => Verdict::Rollback,
            "hold" => Verdict::Hold,
            "normal" => Verdict::Continue,
            zone => panic!("{what}: unknown zone {zone}"),
        };
        assert_eq!(zone(log_e, 0.01, analysis.hold_at), want, "{what}");
    }
    count(file)
}

fn bernoulli_cs(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let prior = (float(&case["a"]), float(&case["b"]));
        let (lower, upper) = rate_interval(int(&case["e"]), int(&case["n"]), float(&case["alpha"]), prior);
        close(lower, float(&case["lower"]), 0.0, 1e-7, &what);
        close(upper, float(&case["upper"]), 0.0, 1e-7, &what);
    }
    count(file)
}

/// The quantiles (`norm_ppf`, `cp_upper`) belong to the latency metric and to history.
///
/// The vectors subtract log-gammas, so they are themselves wrong by some ulps of those (2.5e-11 of the value at
/// (0.5, 98765.5), where 40 digits agree with ours); that much is granted on top of the file's 1e-11.
fn special(file: &Value) -> usize {
    let rows = list(&file["ln_beta"]);
    for row in rows {
        let (a, b) = (float(&row["a"]), float(&row["b"]));
        let cancelled = 2.0 * f64::EPSILON * (a + b) * (a + b).ln();
        close(ln_beta(a, b), float(&row["v"]), 1e-11, cancelled, &format!("ln_beta({a}, {b})"));
    }
    rows.len()
}

fn tally(file: &Value) -> usize {
    let mut tally = Tally::default();
    for (what, case) in cases(file) {
        let row: Row = serde_json::from_value(case["row"].clone()).unwrap();
        let outcome = tally.take(&row);
        let name = match &outcome {
            Outcome::Accepted(_) => "accepted",
            Outcome::Ignored => "ignored",
            Outcome::Malformed => "malformed",
        };
        assert_eq!(name, text(&case["outcome"]), "{what}");
        if let Outcome::Accepted(delta) = outcome {
            for (side, got) in [("blue", &delta.blue), ("green", &delta.green), ("control", &delta.control)] {
                let want = &case["delta"][side];
                let number = |name: &str| want[name].as_u64().unwrap_or(0);
                let histogram = |name: &str| {
                    let buckets = want[name].as_object().into_iter().flatten();
                    buckets.map(|(bucket, n)| (bucket.parse().unwrap(), int(n))).collect()
                };
                let want = SideDelta {
                    n: number("requests"),
                    requests: number("requests"),
                    errors: number("errors"),
                    latency: histogram("latency"),
                    predictions: histogram("predictions"),
                };
                assert_eq!(*got, want, "{what}, {side}");
            }
        }
    }
    let RowCounts { accepted, ignored, malformed } = tally.counts();
    assert_eq!(usize::try_from(accepted + ignored + malformed).unwrap(), count(file));
    count(file)
}
