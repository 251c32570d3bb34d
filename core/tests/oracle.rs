//! Every formula of judging against vectors that an independent implementation computed.
//!
//! All files of the folder are run, all cases of a file: the folder that `HUESHIFT_ORACLES` names, else the copy
//! beside this test. A file that nobody reads is a failure, so a new kind of vector cannot be forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test asserts by panicking

use hueshift_core::contract::FuseParams;
use hueshift_core::fuse::{ECusum, Steps};
use hueshift_core::histogram::{Sparse, bucket_of};
use hueshift_core::judge::analysis::Analysis;
use hueshift_core::judge::buckets::{self, Buckets};
use hueshift_core::judge::certificate::{RatioCertificate, Tolerance};
use hueshift_core::judge::dispersion::{self, Dispersion};
use hueshift_core::judge::history::{self, LatencyHistory};
use hueshift_core::judge::latency::margin::Margin;
use hueshift_core::judge::latency::weights::Weights;
use hueshift_core::judge::line::RowCounts;
use hueshift_core::judge::math::{ln_beta, lse, rate_interval};
use hueshift_core::judge::one_sample::OneSample;
use hueshift_core::judge::planning::Effect;
use hueshift_core::judge::predictions::{self, Distance, Past};
use hueshift_core::judge::psi::psi;
use hueshift_core::judge::quantile::{normal, rate_upper_limit};
use hueshift_core::judge::ratio::{Errors, Ratio};
use hueshift_core::judge::ratio_interval::ratio_interval;
use hueshift_core::judge::restarts::{Restarts, Schedule, Scheme};
use hueshift_core::judge::share::{self, SecondErrors};
use hueshift_core::judge::slots::{SlotSet, errors_of};
use hueshift_core::judge::tally::{Outcome, SideDelta, Tally};
use hueshift_core::judge::verdict::{average, zone};
use hueshift_core::judge::{Row, Verdict, srm};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many cases of a file were reproduced.
type Check = fn(&Value) -> usize;

const FILES: [(&str, Check); 23] = [
    ("bernoulli_cs", bernoulli_cs),
    ("block_share", block_share),
    ("cb_errors", cb_errors),
    ("cb_latency", cb_latency),
    ("certify", certify),
    ("combine", combine),
    ("dispersion", dispersion),
    ("ecusum", ecusum),
    ("error_metric", error_metric),
    ("history_latency", history_latency),
    ("history_null", history_null),
    ("ks_band", ks_band),
    ("latency_buckets", latency_buckets),
    ("one_sample", one_sample),
    ("planning", planning),
    ("prediction_cb", prediction_cb),
    ("psi", psi_of_pairs),
    ("rate_ratio_cs", rate_ratio_cs),
    ("restarts", restarts),
    ("slot_errors", slot_errors),
    ("special", special),
    ("srm", srm_groups),
    ("tally", tally),
];

#[test]
fn every_oracle_file_is_reproduced() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let folder = std::env::var_os("HUESHIFT_ORACLES").map_or_else(|| own.clone(), PathBuf::from);
    if folder == own {
        let names: Vec<String> = json_files(&folder).iter().map(|path| stem(path)).collect();
        assert_eq!(names, FILES.map(|(name, _)| name), "the copy beside this test is complete");
    }
    // Past the test harness, which would swallow it.
    let mut out = std::io::stdout();
    writeln!(out, "oracles in {}", folder.display()).unwrap();
    for (name, cases) in reproduced(&folder).unwrap() {
        writeln!(out, "  {name}: {cases} cases").unwrap();
    }
}

#[test]
fn an_oracle_file_that_no_test_reads_is_a_failure() {
    let folder = std::env::temp_dir().join(format!("hueshift-oracles-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    assert!(reproduced(&folder).unwrap_err().ends_with("no oracle files"));
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/psi.json");
    file("psi.json", &std::fs::read_to_string(own).unwrap());
    assert_eq!(reproduced(&folder).unwrap().len(), 1);
    file("new_kind.json", r#"{"format": "hueshift-oracle/new_kind/1", "cases": []}"#);
    let why = reproduced(&folder).unwrap_err();
    assert!(why.ends_with("new_kind.json: no test reads this file"), "{why}");
    std::fs::remove_file(folder.join("new_kind.json")).unwrap();
    file("psi.json", r#"{"format": "hueshift-oracle/psi/1", "cases": []}"#);
    assert!(reproduced(&folder).unwrap_err().ends_with("psi.json: no case in it"));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Runs all files of a folder: how many cases each has, or why one counts as not read.
fn reproduced(folder: &Path) -> Result<Vec<(String, usize)>, String> {
    let files = json_files(folder);
    if files.is_empty() {
        return Err(format!("{}: no oracle files", folder.display()));
    }
    let mut done = Vec::new();
    for path in files {
        let name = stem(&path);
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(text(&file["format"]), format!("hueshift-oracle/{name}/1"));
        let Some((_, check)) = FILES.iter().find(|(known, _)| *known == name) else {
            return Err(format!("{}: no test reads this file", path.display()));
        };
        match check(&file) {
            0 => return Err(format!("{}: no case in it", path.display())),
            cases => done.push((name, cases)),
        }
    }
    Ok(done)
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
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

fn ecusum(file: &Value) -> usize {
    let steps_of =
        |case: &Value| Steps::new(&FuseParams { p0: float(&case["p0"]), h: float(&case["h"]) }).unwrap();
    for (what, case) in cases(file) {
        let steps = steps_of(case);
        near(steps.up, float(&case["up"]), &what);
        near(steps.down, float(&case["down"]), &what);
        let mut score = ECusum::default();
        let needed = (1..).find(|_| score.step(&steps, true) >= steps.h).unwrap();
        assert_eq!(needed, int(&case["requests_to_trip_at_100_percent"]), "{what}");
    }
    let sequences = list(&file["sequences"]);
    for sequence in sequences {
        let (steps, mut score, mut tripped) = (steps_of(sequence), ECusum::default(), None);
        for (n, outcome) in (1u64..).zip(text(&sequence["outcomes"]).chars()) {
            let s = score.step(&steps, outcome == '1');
            tripped = tripped.or((s >= steps.h).then_some(n));
            if let Some(want) = sequence["s_after"][n.to_string()].as_f64() {
                near(s, want, &format!("{} after {n}", sequence["name"]));
            }
        }
        assert_eq!(tripped, sequence["trips_at_request"].as_u64(), "{}", sequence["name"]);
    }
    count(file) + sequences.len()
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

/// The vectors subtract log-gammas, so they are themselves wrong by some ulps of those (2.5e-11 of the value at
/// (0.5, 98765.5), where 40 digits agree with ours); that much is granted on top of the file's 1e-11.
fn special(file: &Value) -> usize {
    for row in list(&file["norm_ppf"]) {
        close(normal(float(&row["p"])), float(&row["z"]), 0.0, 1e-13, &format!("normal({})", row["p"]));
    }
    for row in list(&file["ln_beta"]) {
        let (a, b) = (float(&row["a"]), float(&row["b"]));
        let cancelled = 2.0 * f64::EPSILON * (a + b) * (a + b).ln();
        close(ln_beta(a, b), float(&row["v"]), 1e-11, cancelled, &format!("ln_beta({a}, {b})"));
    }
    for row in list(&file["cp_upper"]) {
        let got = rate_upper_limit(int(&row["e"]), int(&row["n"]), float(&row["confidence"]));
        close(got, float(&row["upper"]), 1e-8, 0.0, &format!("upper limit of {row}"));
    }
    ["norm_ppf", "ln_beta", "cp_upper"].into_iter().map(|table| list(&file[table]).len()).sum()
}

/// `{bucket: count}`.
fn sparse(value: &Value) -> Sparse {
    value.as_object().unwrap().iter().map(|(bucket, n)| (bucket.parse().unwrap(), int(n))).collect()
}

/// Counts by bin, from 0.
fn dense(value: &Value) -> Sparse {
    (0..).zip(list(value)).map(|(bin, n)| (bin, int(n))).collect()
}

fn cb_latency(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let weights = Weights::of(&sparse(&case["reference"])).unwrap();
        let margin = Margin::new(u32::try_from(int(&case["shift"])).unwrap(), int(&case["guard_us"]));
        assert_eq!(weights.len() as u64, int(&case["alternatives"]), "{what}");
        for (got, want) in weights.prior().iter().zip(floats(&case["prior"])) {
            near(*got, want, &what);
        }
        for at in list(&case["weights_at"]) {
            let got: Vec<f64> = weights.at(u16::try_from(int(&at["bucket"])).unwrap()).collect();
            assert_eq!(got.len(), list(&at["w"]).len(), "{what}");
            for (got, want) in got.iter().zip(floats(&at["w"])) {
                near(*got, want, &format!("{what}, weight of bucket {}", at["bucket"]));
            }
        }
        let mut sums = vec![0.0; weights.len()];
        for (block, want) in list(&case["blocks"]).iter().zip(floats(&case["log_e"])) {
            let mut booked = Buckets { blue: sparse(&block["blue"]), ..Buckets::default() };
            for (bucket, n) in sparse(&block["green"]) {
                buckets::add(&mut booked.green, margin.booked(i32::from(bucket)), n);
            }
            weights.add(&booked, &mut sums);
            let log_e = lse(sums.iter().zip(weights.prior()).map(|(l, prior)| l + prior.ln()));
            close(log_e, want, 1e-9, 1e-10, &what);
        }
        for (got, want) in sums.iter().zip(floats(&case["log_l"])) {
            close(*got, want, 1e-9, 1e-10, &what);
        }
    }
    count(file)
}

fn latency_buckets(file: &Value) -> usize {
    for (what, case) in cases(file) {
        assert_eq!(u64::from(bucket_of(int(&case["us"]))), int(&case["bucket"]), "{what}: {} us", case["us"]);
    }
    let maps = list(&file["margin_maps"]);
    let lowest = i32::try_from(int(&file["lowest_bucket"])).unwrap();
    for map in maps {
        let margin = Margin::new(u32::try_from(int(&map["shift"])).unwrap(), int(&map["guard_us"]));
        for (bucket, want) in (lowest..).zip(list(&map["map"])) {
            assert_eq!(u64::from(margin.booked(bucket)), int(want), "bucket {bucket} of {map}");
        }
    }
    count(file) + maps.len()
}

fn history_latency(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let windows: Vec<Sparse> = list(&case["windows"]).iter().map(sparse).collect();
        let envelope = history::envelope(&windows, float(&case["delta"])).unwrap();
        for (i, got) in envelope.iter().enumerate() {
            let want = case["envelope"][(160 + i).to_string()].as_f64().unwrap_or(0.0);
            near(*got, want, &format!("{what}, envelope at {}", 160 + i));
        }
        assert_eq!(int(&case["guard_us"]), 0, "{what}: history grants no microseconds");
        let test = LatencyHistory::new(&envelope, u32::try_from(int(&case["shift"])).unwrap());
        let mut sums = vec![0.0; test.alternatives()];
        for (green, want) in list(&case["green"]).iter().zip(floats(&case["log_e"])) {
            test.add(&sparse(green), &mut sums);
            let log_e = lse(sums.iter().copied()) - (sums.len() as f64).ln();
            close(log_e, want, 1e-9, 1e-10, &what);
        }
    }
    count(file)
}

fn history_null(file: &Value) -> usize {
    for (what, case) in cases(file) {
        assert_eq!((float(&case["confidence"]), float(&case["margin"])), (0.999, 0.25), "{what}");
        let windows: Vec<history::Window> = list(&case["windows"])
            .iter()
            .map(|w| history::Window { n: int(&w[0]), errors: int(&w[1]) })
            .collect();
        for (window, want) in windows.iter().zip(floats(&case["upper"])) {
            close(
                rate_upper_limit(window.errors, window.n, 1.0 - history::LIMIT_ALPHA),
                want,
                1e-8,
                0.0,
                &what,
            );
        }
        let p0 = history::error_limit(&windows, history::LIMIT_ALPHA).unwrap();
        close(p0, float(&case["p0"]), 1e-8, 0.0, &what);
        let test = OneSample::above(float(&case["p0"]));
        let (mut n, mut errors) = (0, 0);
        for (block, want) in list(&case["blocks"]).iter().zip(floats(&case["log_e"])) {
            (n, errors) = (n + int(&block[0]), errors + int(&block[1]));
            near(test.log_e(n, errors), want, &what);
        }
        near((1.0 / (0.01 - history::LIMIT_ALPHA)).ln(), float(&case["threshold"]), &what);
    }
    count(file)
}

fn prediction_cb(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let bins = u32::try_from(int(&case["bins"])).unwrap();
        let mut past = Past::default();
        let mut log_e = 0.0;
        let weights_before = list(&case["weights_before_block"]);
        for ((block, want_weights), want) in
            list(&case["blocks"]).iter().zip(weights_before).zip(floats(&case["log_e"]))
        {
            let weights = past.weights(bins, float(&case["strength"]));
            for (bin, want) in (0..).zip(floats(want_weights)) {
                near(weights.at(bin), want, &format!("{what}, weight of bin {bin}"));
            }
            let block = Buckets { green: dense(&block["green"]), blue: dense(&block["blue"]) };
            log_e += weights.increment(&block);
            past.learn(&block);
            near(log_e, want, &what);
        }
    }
    count(file)
}

fn ks_band(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let (green, blue) = (dense(&case["green"]), dense(&case["blue"]));
        let got = predictions::distance(&green, &blue, float(&case["alpha"])).unwrap();
        let Distance { observed, lower, upper } = got;
        for (got, name) in [(observed, "distance"), (lower, "lower"), (upper, "upper")] {
            close(got, float(&case[name]), 0.0, 1e-12, &format!("{what}, {name}"));
        }
        let Analysis { ks_reject, ks_accept, .. } = Analysis::default();
        assert_eq!(Some(lower > ks_reject), case["rejects_at_0.15"].as_bool(), "{what}");
        assert_eq!(Some(upper < ks_accept), case["certifies_at_0.10"].as_bool(), "{what}");
    }
    let radii = list(&file["radii"]);
    for row in radii {
        let got = predictions::radius(float(&row["t"]), float(&row["alpha"]));
        close(got, float(&row["radius"]), 0.0, 1e-12, &format!("radius of {row}"));
    }
    count(file) + radii.len()
}

fn psi_of_pairs(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let (green, blue) = (dense(&case["green"]), dense(&case["blue"]));
        let got = psi(&green, &blue, u16::try_from(list(&case["green"]).len()).unwrap()).unwrap();
        for (got, name) in [(got.raw, "psi"), (got.adjusted(), "psi_adj"), (got.bias, "bias")] {
            close(got, float(&case[name]), 0.0, 1e-12, &format!("{what}, {name}"));
        }
        assert_eq!(Some(got.raw_is_shown()), case["show_raw"].as_bool(), "{what}");
    }
    count(file)
}

fn rate_ratio_cs(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let groups: Vec<Errors> = list(&case["groups"])
            .iter()
            .map(|g| Errors { share: float(&g[0]), candidate: int(&g[1]), stable: int(&g[2]) })
            .collect();
        let got = ratio_interval(&groups, float(&case["alpha"]));
        close(got.lower, float(&case["lower"]), 1e-6, 0.0, &what);
        assert_eq!(got.upper.is_some(), case["upper"].is_number(), "{what}");
        close(got.upper.unwrap_or(0.0), case["upper"].as_f64().unwrap_or(0.0), 1e-6, 0.0, &what);
    }
    count(file)
}

fn dispersion(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let errors: Vec<u64> = list(&case["per_second_errors"]).iter().map(int).collect();
        let got = dispersion::dispersion(&errors);
        assert_eq!(got.is_some(), case["phi"].is_number(), "{what}");
        close(got.unwrap_or(0.0), case["phi"].as_f64().unwrap_or(0.0), 1e-12, 0.0, &what);
        let found = Dispersion { seconds: 0, phi: got };
        assert_eq!(Some(found.is_clumped()), case["robust"].as_bool(), "{what}");
    }
    count(file)
}

fn planning(file: &Value) -> usize {
    for (what, case) in cases(file) {
        let effect = Effect {
            stable_rate: float(&case["p_b"]),
            ratio: float(&case["rho"]),
            share: float(&case["split"]),
            alpha: float(&case["alpha"]),
        };
        let got = effect.sample().unwrap();
        close(got.mean, float(&case["mean"]), 1e-12, 0.0, &what);
        close(got.p95, float(&case["p95"]), 1e-12, 0.0, &what);
    }
    count(file)
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
                    total: std::collections::BTreeMap::new(),
                    predictions: histogram("predictions"),
                    events: 0,
                };
                assert_eq!(*got, want, "{what}, {side}");
            }
        }
    }
    let RowCounts { accepted, ignored, malformed } = tally.counts();
    assert_eq!(usize::try_from(accepted + ignored + malformed).unwrap(), count(file));
    count(file)
}
