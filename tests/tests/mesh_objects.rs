//! Our objects against a real API server: what it refuses and how it says so, what it accepts, and what it shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use hueshift::api::{BlueGreen, BlueGreenStatus, StatusProblem};
use hueshift::document::{Homes, Writers, parse};
use hueshift::mesh::status::{Facts, fields, told};
use hueshift_tests::clock::wait_for;
use hueshift_tests::cluster::api::ADMIN;
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::tests;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let tests = tests![
        every_wrong_document_is_refused_with_one_sentence,
        every_right_document_is_accepted_as_it_was_written,
        lint_and_the_api_server_agree,
        a_record_does_not_change,
        every_status_that_we_tell_fits_and_is_shown,
    ];
    suite::main(Parts::default(), tests)
}

/// What the API server adds when a value has another type, so that rules could not look at it. No complaint.
const REMARK: &str = "* <nil>: Invalid value: null: some validation rules were not checked because the object was \
                      invalid; correct the existing errors to complete validation";

/// A path from this package's folder.
fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Our definitions, served: established alone does not mean that the API server's discovery tells of them.
async fn definitions(cluster: &Cluster) {
    let file = folder("../istio/base/crds.yaml").display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &file]);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=180s"]);
    wait_for("the definitions to be served", Duration::from_secs(20), async || {
        let words =
            ["get", "bluegreens.hueshift.dev,releases.hueshift.dev,releasepolicies.hueshift.dev", "-A"];
        cluster.try_kubectl(ADMIN, &words, "").status.success().then_some(())
    })
    .await;
}

/// The documents of a folder, in order of their names.
fn documents(folder: &str) -> Vec<(String, PathBuf)> {
    let folder = self::folder(folder);
    let files = fs::read_dir(&folder).expect("the folder");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let name = |file: &Path| file.file_stem().expect("a name").to_string_lossy().into_owned();
    files.into_iter().map(|file| (name(&file), file)).collect()
}

async fn every_wrong_document_is_refused_with_one_sentence(cluster: Arc<Cluster>) {
    definitions(&cluster).await;
    cluster.kubectl(&["create", "namespace", "refused"]);
    let mut all = String::new();
    for (name, file) in documents("refused") {
        let words = ["-n", "refused", "apply", "-f", &file.display().to_string()];
        let output = cluster.try_kubectl(ADMIN, &words, "");
        assert!(!output.status.success(), "{name} is accepted");
        let said = String::from_utf8(output.stderr).expect("text");
        let said = said.replace(&format!("error when creating \"{}\": ", file.display()), "");
        let lines: Vec<&str> = said.lines().filter(|line| *line != REMARK).collect();
        let complaints = lines.iter().filter(|line| line.starts_with("* ")).count();
        assert!(complaints <= 1, "{name} gets more than one complaint:\n{said}");
        let sentence = lines.join(" ").replace(": * ", ": ").replace(":  * ", ": ");
        writeln!(all, "{name}\n    {sentence}").expect("a text");
    }
    let golden = folder("refused/sentences.txt");
    if std::env::var_os("HUESHIFT_WRITE_GOLDEN").is_some() {
        fs::write(&golden, &all).expect("the golden file");
    }
    let expected = fs::read_to_string(&golden).expect("the golden file");
    let changed: Vec<&str> =
        all.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    assert!(
        all == expected,
        "the API server says something else than tests/refused/sentences.txt; look at it, and if it is better run this \
         with HUESHIFT_WRITE_GOLDEN=1:\n{}",
        changed.join("\n")
    );
}

async fn every_right_document_is_accepted_as_it_was_written(cluster: Arc<Cluster>) {
    definitions(&cluster).await;
    cluster.kubectl(&["create", "namespace", "accepted"]);
    for (name, file) in documents("accepted") {
        let words = ["-n", "accepted", "apply", "-f", &file.display().to_string()];
        let output = cluster.try_kubectl(ADMIN, &words, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
    // No default is written into the document, so that GitOps sees no difference.
    let api: Api<BlueGreen> = Api::namespaced(cluster.client.clone(), "accepted");
    let spec = cluster.kubectl(&["-n", "accepted", "get", "bg", "price", "-o", "jsonpath={.spec}"]);
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
    let colors =
        json!({"blue": {"workload": {"name": "price-blue"}}, "green": {"workload": {"name": "price-green"}}});
    assert_eq!(spec, json!({"service": "price", "colors": colors}));
    // And we read what is not written as the defaults.
    let read = api.get("price").await.expect("our own type");
    assert_eq!(read.spec.release, hueshift::api::ReleaseSpec::default());
    assert_eq!(read.key(), "accepted/price");
}

async fn lint_and_the_api_server_agree(_: Arc<Cluster>) {
    for (folder, right) in [("refused", false), ("accepted", true)] {
        for (name, file) in documents(folder) {
            let text = fs::read_to_string(&file).expect("text");
            if !text.contains("kind: BlueGreen") {
                continue;
            }
            let read = parse(&name, text.as_bytes(), Writers::Owner, Homes::Any);
            assert_eq!(read.is_ok(), right, "{name}: lint says {read:?}");
        }
    }
}

async fn a_record_does_not_change(cluster: Arc<Cluster>) {
    definitions(&cluster).await;
    cluster.kubectl(&["create", "namespace", "records"]);
    let file = folder("accepted/release.yaml").display().to_string();
    cluster.kubectl(&["-n", "records", "apply", "-f", &file]);
    let patch = r#"{"spec": {"revision": "v3"}}"#;
    let words = ["-n", "records", "patch", "rel", "price-7", "--type=merge", "-p", patch];
    let output = cluster.try_kubectl(ADMIN, &words, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("spec: Invalid value: it is a record of what happened and does not change"),
        "{said}"
    );
}

async fn every_status_that_we_tell_fits_and_is_shown(cluster: Arc<Cluster>) {
    definitions(&cluster).await;
    cluster.kubectl(&["create", "namespace", "told"]);
    let file = folder("accepted/smallest.yaml").display().to_string();
    cluster.kubectl(&["-n", "told", "apply", "-f", &file]);
    let api: Api<BlueGreen> = Api::namespaced(cluster.client.clone(), "told");
    let document = api.get("price").await.expect("the object");
    let view: hueshift::view::View =
        serde_json::from_str(include_str!("../../controller/tests/views/two-services.json")).expect("a view");
    let long = StatusProblem { reason: "R".repeat(200), text: "ü".repeat(20_000) };
    let problems = vec![long; 40];
    let facts = |view, problems| Facts {
        generation: document.metadata.generation,
        view,
        refusal: None,
        plugins: problems,
        hidden: &[],
        now_ms: 1_795_467_000_000,
    };
    let put = async |status: &BlueGreenStatus, phase: &str| {
        let mut fields = fields(status);
        fields.insert("phase".to_owned(), json!(phase));
        fields.insert("liveColor".to_owned(), json!("blue"));
        fields.insert("state".to_owned(), json!({"anything": {"that": ["we", "keep"]}}));
        let patch = Patch::Merge(json!({"status": fields}));
        api.patch_status("price", &PatchParams::default(), &patch).await.expect("a status that fits")
    };
    let first = told(&facts(None, &[]), &BlueGreenStatus::default()).status;
    put(&first, "Idle").await;
    let open = told(&facts(view.services.first(), &problems), &first).status;
    put(&open, "Progressing").await;
    let table = cluster.kubectl(&["-n", "told", "get", "hueshift"]);
    let row = table.lines().nth(1).expect("a row");
    assert!(table.starts_with("NAME "), "{table}");
    for shown in ["bluegreen.hueshift.dev/price", "Progressing", "blue", "continue", "720/4"] {
        assert!(row.contains(shown), "no {shown} in\n{table}");
    }
    let wide = cluster.kubectl(&["-n", "told", "get", "bg", "-o", "wide"]);
    assert!(wide.contains("WAITS FOR") && wide.contains("about 40 more candidate sessions"), "{wide}");
    // What a script waits for: not yet, and then it is.
    let ready = |timeout| ["-n", "told", "wait", "bg/price", "--for=condition=Ready", timeout];
    assert!(!cluster.try_kubectl(ADMIN, &ready("--timeout=1s"), "").status.success());
    let ended = told(&facts(view.services.get(1), &[]), &open).status;
    let object = put(&ended, "Idle").await;
    cluster.kubectl(&ready("--timeout=60s"));
    cluster.kubectl(&["-n", "told", "wait", "bg/price", "--for=condition=Succeeded=False", "--timeout=60s"]);
    // What was written reads back as it was told: the next time nothing is written.
    let read = object.status.expect("a status");
    let again = told(&facts(view.services.get(1), &[]), &read);
    assert_eq!(again.urgency, hueshift::mesh::status::Urgency::Never, "{:?}\n{:?}", again.status, read);
}
