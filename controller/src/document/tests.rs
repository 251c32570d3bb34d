//! A table of wrong documents with the sentence that each must give, and the round trip.
//!
//! Each wrong document is the good one with one edit, so that a line number in an expected sentence means
//! something. The sentences are compared whole: they are what people read.

use super::*;
use crate::api::{CustomSpec, KeySpec, PredictionsMode, PredictionsSpec, ReleaseSpec, StepSpec};
use hueshift_core::share::Bps;
use proptest::prelude::*;
use std::time::Duration;

const GOOD: &str = "\
apiVersion: hueshift.dev/v1alpha1
kind: BlueGreen
metadata:
  name: price
spec:
  listen: 127.0.0.1:8080
  colors:
    blue:
      endpoints: [127.0.0.1:9001, 127.0.0.1:9002]
      revision: v1
    green:
      endpoints: [127.0.0.1:9003]
      revision: v2
      command: [serve, --port, \"9003\"]
  session:
    keys:
    - header: x-session-id
    - cookie: sid
    mode: move
  release:
    steps:
    - share: 5%
      minTime: 30s
    - share: 25%
    - share: 50%
    advance: certified
    soak: {holdback: 5%, time: 5m}
    drainDeadline: 1m
    deadline: 1h
    onInconclusive: hold
  analysis:
    alpha: 0.01
    beta: 0.05
    ratioMargin: 1.25
    errorFloor: 0.001
    absoluteCertificate: true
    predictions: {header: x-prediction, min: 0, max: 1, bins: 20, mode: effect}
    fuse: {enabled: true, healthyErrorRate: 0.02, height: 24}
    custom: {name: fallbacks, clientErrors: true, header: x-fallback}
";

/// (what the good document says, what this one says instead, the sentences)
const WRONG: &[(&str, &str, &[&str])] = &[
    // The document itself.
    (
        "hueshift.dev/v1alpha1",
        "hueshift.dev/v2",
        &[
            "f.yaml:1:13: apiVersion: `hueshift.dev/v2` is not known to this version; write `hueshift.dev/v1alpha1`",
        ],
    ),
    (
        "kind: BlueGreen",
        "kind: Rollout",
        &["f.yaml:2:7: kind: `Rollout` is not known to this version; write `BlueGreen`"],
    ),
    ("kind: BlueGreen\n", "", &["f.yaml:1:1: kind: is missing; add `kind: BlueGreen`"]),
    (
        "metadata:\n  name: price\n",
        "metadata: price\n",
        &[
            "f.yaml:3:11: metadata: a mapping is wanted here, not the text `price`; write `field: value` lines, indented under it",
        ],
    ),
    (
        "name: price",
        "name: Price_Model",
        &[
            "f.yaml:4:9: metadata.name: `Price_Model` is not a service name; write 1 to 63 lowercase letters, digits or dashes, such as price-model",
        ],
    ),
    // Shape.
    (
        "  listen: 127.0.0.1:8080\n",
        "",
        &[
            "f.yaml:6:3: spec.listen: is missing; add `listen: 127.0.0.1:8080` (one machine) or `service: my-model` (a mesh)",
        ],
    ),
    (
        "advance: certified",
        "advanced: certified",
        &["f.yaml:26:5: spec.release.advanced: is not a known field; did you mean `advance`?"],
    ),
    (
        "drainDeadline: 1m",
        "drain_deadline: 1m",
        &["f.yaml:28:5: spec.release.drain_deadline: is not a known field; did you mean `drainDeadline`?"],
    ),
    (
        "    revision: v1\n",
        "    revision: v1\n      replicas: 3\n",
        &[
            "f.yaml:11:7: spec.colors.blue.replicas: is not a known field; known here: endpoints, revision, workload, command, labels",
        ],
    ),
    (
        "    mode: move\n",
        "    mode:\n",
        &["f.yaml:19:9: spec.session.mode: has no value; give it one, or leave the line out for the default"],
    ),
    (
        "mode: move",
        "mode: sticky",
        &["f.yaml:19:11: spec.session.mode: `sticky` is not known; write `move` or `keep`"],
    ),
    (
        "revision: v1",
        "revision: 1.10",
        &["f.yaml:10:17: spec.colors.blue.revision: `1.10` is a number; write it in quotes: \"1.10\""],
    ),
    (
        "revision: v1",
        "revision: true",
        &["f.yaml:10:17: spec.colors.blue.revision: `true` is a truth value; write it in quotes: \"true\""],
    ),
    (
        "[127.0.0.1:9003]",
        "127.0.0.1:9003",
        &[
            "f.yaml:12:18: spec.colors.green.endpoints: a list is wanted here, not the text `127.0.0.1:9003`; write one `- item` per line under it, or [a, b]",
        ],
    ),
    (
        "\"9003\"]",
        "9003]",
        &["f.yaml:14:32: spec.colors.green.command[2]: `9003` is a number; write it in quotes: \"9003\""],
    ),
    (
        "absoluteCertificate: true",
        "absoluteCertificate: yes",
        &[
            "f.yaml:36:26: spec.analysis.absoluteCertificate: a truth value is wanted here, not the text `yes`; write true or false, without quotes",
        ],
    ),
    (
        "alpha: 0.01",
        "alpha: 1%",
        &[
            "f.yaml:32:12: spec.analysis.alpha: a number is wanted here, not the text `1%`; write it plainly, such as 0.01, without quotes or a unit",
        ],
    ),
    (
        "minTime: 30s",
        "minRequests: 2.5",
        &[
            "f.yaml:23:20: spec.release.steps[0].minRequests: the number `2.5` is not a count; write a whole number from 0",
        ],
    ),
    (
        "- cookie: sid",
        "- sid",
        &[
            "f.yaml:18:7: spec.session.keys[1]: a session key is wanted here, not the text `sid`; write one of `header: NAME`, `cookie: NAME`, `query: NAME`",
        ],
    ),
    (
        "- cookie: sid",
        "- body: sid",
        &[
            "f.yaml:18:7: spec.session.keys[1]: `body` is not a place of session keys; write one of `header: NAME`, `cookie: NAME`, `query: NAME`",
        ],
    ),
    (
        "- cookie: sid",
        "- {cookie: sid, header: h}",
        &[
            "f.yaml:18:7: spec.session.keys[1]: a session key has one place, not 2; write one of `header: NAME`, `cookie: NAME`, `query: NAME`",
        ],
    ),
    // Units.
    ("share: 5%", "share: 5", &["f.yaml:22:14: spec.release.steps[0].share: `5` has no unit; write \"5%\""]),
    (
        "share: 5%",
        "share: 5.123%",
        &[
            "f.yaml:22:14: spec.release.steps[0].share: `5.123%` is not a share; write a percentage from 0% to 100% with at most two decimals, such as 5% or 0.25%",
        ],
    ),
    (
        "share: 5%",
        "share: 500%",
        &[
            "f.yaml:22:14: spec.release.steps[0].share: `500%` is not a share; write a percentage from 0% to 100% with at most two decimals, such as 5% or 0.25%",
        ],
    ),
    (
        "share: 5%",
        "share: -5%",
        &[
            "f.yaml:22:14: spec.release.steps[0].share: `-5%` is not a share; write a percentage from 0% to 100% with at most two decimals, such as 5% or 0.25%",
        ],
    ),
    (
        "minTime: 30s",
        "minTime: 30",
        &["f.yaml:23:16: spec.release.steps[0].minTime: `30` has no unit; write 30s, 30m or 30h"],
    ),
    (
        "minTime: 30s",
        "minTime: -30s",
        &[
            "f.yaml:23:16: spec.release.steps[0].minTime: `-30s` is not a duration; write numbers with units, such as 250ms, 30s, 5m or 1h30m",
        ],
    ),
    (
        "deadline: 1h",
        "deadline: 1 hour",
        &[
            "f.yaml:29:15: spec.release.deadline: `1 hour` is not a duration; write numbers with units, such as 250ms, 30s, 5m or 1h30m",
        ],
    ),
    (
        "deadline: 1h",
        "deadline: 18446744073709551615d",
        &[
            "f.yaml:29:15: spec.release.deadline: `18446744073709551615d` is not a duration; write numbers with units, such as 250ms, 30s, 5m or 1h30m",
        ],
    ),
    // Addresses.
    (
        "listen: 127.0.0.1:8080",
        "listen: localhost:8080",
        &[
            "f.yaml:6:11: spec.listen: `localhost:8080` is not an address; names are not resolved here; write 127.0.0.1:8080",
        ],
    ),
    (
        "listen: 127.0.0.1:8080",
        "listen: 127.0.0.1:0",
        &["f.yaml:6:11: spec.listen: port 0 is no fixed port; write the port, such as 127.0.0.1:8080"],
    ),
    (
        "127.0.0.1:9002]",
        "127.0.0.1:99999]",
        &[
            "f.yaml:9:35: spec.colors.blue.endpoints[1]: `127.0.0.1:99999` is not an address; write an IP address and a port, such as 127.0.0.1:9001",
        ],
    ),
    (
        "[127.0.0.1:9003]",
        "[0.0.0.0:9003]",
        &[
            "f.yaml:12:19: spec.colors.green.endpoints[0]: `0.0.0.0:9003` is not the address of one server; write where the server is reached, such as 127.0.0.1:9001",
        ],
    ),
    (
        "[127.0.0.1:9003]",
        "[]",
        &[
            "f.yaml:12:7: spec.colors.green.endpoints: is empty; name at least one server, such as 127.0.0.1:9001",
        ],
    ),
    (
        "127.0.0.1:9003]",
        "127.0.0.1:9001]",
        &[
            "f.yaml:12:19: spec.colors.green.endpoints[0]: `127.0.0.1:9001` is spec.colors.blue.endpoints[0] already; give each color servers of its own: otherwise a rollback changes nothing",
        ],
    ),
    (
        "127.0.0.1:9003]",
        "127.0.0.1:8080]",
        &[
            "f.yaml:12:19: spec.colors.green.endpoints[0]: `127.0.0.1:8080` is spec.listen itself: requests would run in a circle; name the model server's own address",
        ],
    ),
    // Colors and sessions.
    (
        "revision: v2",
        "revision: \" \"",
        &["f.yaml:13:17: spec.colors.green.revision: is empty; name what runs there, such as v1 or a commit"],
    ),
    (
        "revision: v2",
        "revision: \"v2\\e[2J\"",
        &[
            "f.yaml:13:17: spec.colors.green.revision: is longer than 128 characters or holds control characters; write a short name, such as v1 or a commit",
        ],
    ),
    (
        "command: [serve,",
        "command: [\"\",",
        &["f.yaml:14:17: spec.colors.green.command[0]: is empty; name the program to start"],
    ),
    (
        "mode: move",
        "mode: keep",
        &[
            "f.yaml:19:11: spec.session.mode: `keep` needs pins, which this version's filter does not carry yet; write `move`: sessions follow the lottery and change at most once per release",
        ],
    ),
    (
        "header: x-session-id",
        "header: \"x session\"",
        &[
            "f.yaml:17:15: spec.session.keys[0].header: `x session` is not a header name; write 1 to 64 letters, digits or dashes, such as x-session-id",
        ],
    ),
    (
        "header: x-session-id",
        "header: Cookie",
        &[
            "f.yaml:17:15: spec.session.keys[0].header: is the whole cookie header, which changes with every cookie; write `cookie: NAME` for the one that holds the session",
        ],
    ),
    (
        "header: x-session-id",
        "header: X-Hueshift-Color",
        &[
            "f.yaml:17:15: spec.session.keys[0].header: `X-Hueshift-Color` is Hueshift's own; name one that your clients send",
        ],
    ),
    (
        "- cookie: sid",
        "- header: X-Session-ID",
        &["f.yaml:18:15: spec.session.keys[1].header: `X-Session-ID` is listed already; keep one of them"],
    ),
    // The ramp.
    (
        "share: 5%",
        "share: 0%",
        &[
            "f.yaml:22:14: spec.release.steps[0].share: 0 % sends the candidate nothing; write a share above 0%, such as 5%",
        ],
    ),
    (
        "share: 50%",
        "share: 100%",
        &[
            "f.yaml:25:14: spec.release.steps[2].share: 100 % is the cutover, which follows the last step by itself; end the steps below it, such as at 50%",
        ],
    ),
    (
        "share: 50%",
        "share: 97%",
        &[
            "f.yaml:25:14: spec.release.steps[2].share: 97 % is more than the 95 % that the cutover leaves beside its holdback; end the steps lower, or lower spec.release.soak.holdback",
        ],
    ),
    (
        "share: 50%",
        "share: 25%",
        &[
            "f.yaml:25:14: spec.release.steps[2].share: 25 % does not rise above the 25 % before it; order the steps by rising share, each once",
        ],
    ),
    (
        "    - share: 5%\n      minTime: 30s\n    - share: 25%\n    - share: 50%\n",
        "      []\n",
        &[
            "f.yaml:21:5: spec.release.steps: is empty: the cutover would be the first that the candidate sees; write at least one, such as `- share: 5%`",
        ],
    ),
    (
        "minTime: 30s",
        "minTime: 2h",
        &[
            "f.yaml:23:16: spec.release.steps[0].minTime: is not shorter than spec.release.deadline: the step could never pass; shorten it, or lengthen the deadline",
        ],
    ),
    (
        "deadline: 1h",
        "deadline: 0s",
        &[
            "f.yaml:23:16: spec.release.steps[0].minTime: is not shorter than spec.release.deadline: the step could never pass; shorten it, or lengthen the deadline",
            "f.yaml:29:15: spec.release.deadline: 0s leaves a step no time at all; write how long a step may take, such as 1h",
        ],
    ),
    (
        "time: 5m",
        "time: 31d",
        &["f.yaml:27:32: spec.release.soak.time: is longer than 30d; write 30d or less"],
    ),
    (
        "{holdback: 5%,",
        "{holdback: 60%,",
        &[
            "f.yaml:27:22: spec.release.soak.holdback: 60 % leaves the old color more than the new one; write 50% or less, such as 5%",
        ],
    ),
    // The judge.
    (
        "alpha: 0.01",
        "alpha: 0",
        &[
            "f.yaml:32:12: spec.analysis.alpha: 0 is out of range; write more than 0, at most 0.1; 0.01 is one false rollback in a hundred healthy releases",
        ],
    ),
    (
        "beta: 0.05",
        "beta: 0.5",
        &[
            "f.yaml:33:11: spec.analysis.beta: 0.5 is out of range; write more than 0, at most 0.2, such as 0.05",
        ],
    ),
    (
        "ratioMargin: 1.25",
        "ratioMargin: 0.9",
        &[
            "f.yaml:34:18: spec.analysis.ratioMargin: 0.9 is out of range; write 1 to 10; 1.25 accepts a quarter more errors than stable",
        ],
    ),
    (
        "errorFloor: 0.001",
        "errorFloor: .inf",
        &[
            "f.yaml:35:17: not valid YAML: non-finite float `.inf` rejected by the configured policy; correct the syntax at or before this place",
        ],
    ),
    (
        "absoluteCertificate: true",
        "latency: {tolerance: 0.9, warmup: 11m}",
        &[
            "f.yaml:36:26: spec.analysis.latency.tolerance: 0.9 is out of range; write 1 to 4; 1.19 accepts that an answer takes a fifth longer",
            "f.yaml:36:39: spec.analysis.latency.warmup: 11m is out of range; write 10m or less: no latency is judged meanwhile, such as 30s",
        ],
    ),
    (
        "absoluteCertificate: true",
        "slo: {}",
        &["f.yaml:36:10: spec.analysis.slo.errorRate: is missing; add `errorRate: 0.05`"],
    ),
    (
        "absoluteCertificate: true",
        "slo: {errorRate: 5}",
        &[
            "f.yaml:36:22: spec.analysis.slo.errorRate: 5 is out of range; write more than 0, at most 0.5, such as 0.05",
        ],
    ),
    (
        "height: 24",
        "height: 3",
        &[
            "f.yaml:38:59: spec.analysis.fuse.height: 3 is out of range; write 5 to 60; 24 trips falsely once in e^24 requests",
        ],
    ),
    (
        "header: x-prediction, ",
        "",
        &["f.yaml:37:18: spec.analysis.predictions.header: is missing; add `header: x-prediction`"],
    ),
    (
        "header: x-prediction,",
        "header: 'x prediction',",
        &[
            "f.yaml:37:27: spec.analysis.predictions.header: `x prediction` is not a header name of your models; write 1 to 64 letters, digits or dashes, such as x-prediction",
        ],
    ),
    (
        "max: 1,",
        "max: -1,",
        &[
            "f.yaml:37:54: spec.analysis.predictions.max: -1 is out of range; write a largest prediction above the least one, both within ±1e12, such as `min: 0` and `max: 1`",
        ],
    ),
    (
        "bins: 20",
        "bins: 65",
        &["f.yaml:37:63: spec.analysis.predictions.bins: 65 is out of range; write 2 to 64, such as 20"],
    ),
    (
        "mode: effect",
        "mode: drift",
        &["f.yaml:37:73: spec.analysis.predictions.mode: `drift` is not known; write `effect` or `equality`"],
    ),
    (
        "clientErrors: true, header: x-fallback",
        "clientErrors: false",
        &[
            "f.yaml:39:5: spec.analysis.custom: counts nothing; say which answers are counted: `clientErrors: true`, or `header: x-fallback`, or both",
        ],
    ),
    (
        "header: x-fallback}",
        "header: x-hueshift-a}",
        &[
            "f.yaml:39:59: spec.analysis.custom.header: `x-hueshift-a` is not a header name of your models; write 1 to 64 letters, digits or dashes, such as x-fallback",
        ],
    ),
    (
        "name: fallbacks,",
        "name: 4xx,",
        &[
            "f.yaml:39:20: spec.analysis.custom.name: `4xx` is no short name; write 1 to 32 letters, digits or dashes, a letter first, such as clientErrors",
        ],
    ),
    // Several at once, in the order of the file.
    (
        "name: price\nspec:\n  listen: 127.0.0.1:8080",
        "name: -x\nspec:\n  lisen: 1\n  listen: host",
        &[
            "f.yaml:4:9: metadata.name: `-x` is not a service name; write 1 to 63 lowercase letters, digits or dashes, such as price-model",
            "f.yaml:6:3: spec.lisen: is not a known field; did you mean `listen`?",
            "f.yaml:7:11: spec.listen: `host` is not an address; write an IP address and a port, such as 127.0.0.1:8080",
        ],
    ),
    // YAML.
    (
        "  name: price\n",
        "  name: price\n  name: other\n",
        &["f.yaml:5:3: `name` is given twice; keep one of them"],
    ),
    (
        "\"9003\"]",
        "\"9003\"",
        &[
            "f.yaml:15:10: not valid YAML: illegal placement of ':' indicator; correct the syntax at or before this place",
        ],
    ),
    (
        "kind: BlueGreen",
        "kind: *other",
        &[
            "f.yaml:2:7: not valid YAML: alias references unknown anchor; correct the syntax at or before this place",
        ],
    ),
    ("revision: v1", "revision: \0", &["f.yaml:10:17: a NUL byte stands here; remove it"]),
];

fn sentences(bytes: &[u8], writers: Writers) -> Vec<String> {
    match parse("f.yaml", bytes, writers, Homes::Standalone) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn the_good_document_is_good() {
    assert_eq!(sentences(GOOD.as_bytes(), Writers::Owner), Vec::<String>::new());
    let documents = parse("f.yaml", GOOD.as_bytes(), Writers::Owner, Homes::Standalone).unwrap();
    let [document] = documents.as_slice() else { panic!("one document") };
    assert_eq!(document.spec.session.keys[1], KeySpec::Cookie("sid".into()));
    assert_eq!(document.spec.release.soak.time, Duration::from_secs(300));
    assert_eq!(document.spec.colors.green.command, ["serve", "--port", "9003"]);
}

#[test]
fn every_wrong_document_gets_its_sentences() {
    let mut misses = String::new();
    for (from, to, expected) in WRONG {
        assert_eq!(GOOD.matches(from).count(), 1, "the edit of {from:?} must be unique");
        let text = GOOD.replacen(from, to, 1);
        let found = sentences(text.as_bytes(), Writers::Owner);
        if found != *expected {
            misses += &format!("{from:?} -> {to:?}\n  wanted {expected:#?}\n  found  {found:#?}\n");
        }
    }
    assert!(misses.is_empty(), "{misses}");
}

#[test]
fn only_name_listen_and_colors_must_be_said() {
    let short = GOOD.split("  session:").next().unwrap();
    let documents = parse("f.yaml", short.as_bytes(), Writers::Owner, Homes::Standalone).unwrap();
    assert_eq!(documents[0].spec.release, ReleaseSpec::default());
}

#[test]
fn two_services_of_a_file_share_neither_name_nor_port() {
    let twice = format!("{GOOD}---\n{GOOD}");
    assert_eq!(
        sentences(twice.as_bytes(), Writers::Owner),
        [
            "f.yaml:44:9: metadata.name: `price` is the name of an earlier document of this file; give each service its own name",
            "f.yaml:46:11: spec.listen: `127.0.0.1:8080` is taken by `price` in this file; give each service its own port",
        ]
    );
    let other =
        GOOD.replace("name: price", "name: chat").replace("listen: 127.0.0.1:8080", "listen: 0.0.0.0:8080");
    assert_eq!(
        sentences(format!("{GOOD}---\n{other}").as_bytes(), Writers::Owner),
        [
            "f.yaml:46:11: spec.listen: `0.0.0.0:8080` is taken by `price` in this file; give each service its own port"
        ]
    );
}

#[test]
fn a_file_that_others_may_write_starts_no_program() {
    assert_eq!(
        sentences(GOOD.as_bytes(), Writers::Others),
        [
            "f.yaml:14:7: spec.colors.green.command: others than the owner may write this file, so they could run any program as you; run `chmod go-w` on it, or start the servers yourself"
        ]
    );
}

#[test]
fn what_is_no_text_or_no_document_is_told() {
    let none = "f.yaml:1:1: the file holds no document; write one that begins with `apiVersion: hueshift.dev/v1alpha1`";
    assert_eq!(sentences(b"", Writers::Owner), [none]);
    assert_eq!(sentences(b"# nothing yet\n---\n", Writers::Owner), [none]);
    assert_eq!(
        sentences(b"a: \xff", Writers::Owner),
        ["f.yaml:1:4: this byte is not UTF-8 text; save the file as UTF-8"]
    );
    assert_eq!(
        sentences(&vec![b'#'; 1024 * 1024 + 1], Writers::Owner),
        ["f.yaml:1:1: the file is larger than 1 MiB; give `hueshift` the configuration, not data"]
    );
    assert_eq!(
        sentences(b"- 1", Writers::Owner),
        ["f.yaml:1:1: a mapping is wanted here, not a list; write `field: value` lines, indented under it"]
    );
}

#[test]
fn bombs_are_refused_before_they_grow() {
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let inner = vec![format!("*a{}", level - 1); 10].join(",");
        laughs += &format!("a{level}: &a{level} [{inner}]\n");
    }
    for bomb in
        [laughs, "[".repeat(500_000), "- ".repeat(500_000), "{a: ".repeat(1_000), "---\na: 1\n".repeat(2_000)]
    {
        let found = sentences(bomb.as_bytes(), Writers::Owner);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn a_hostile_document_cannot_steer_the_terminal() {
    let text = GOOD.replace("advance: certified", "\"adv\\e[2J\\n\": certified");
    let found = sentences(text.as_bytes(), Writers::Owner);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("spec.release.adv\\u{1b}[2J\\n: is not a known field"), "{found:?}");
}

#[test]
fn an_endless_or_missing_file_is_an_error_and_not_a_hang() {
    let told = |path: &str| read(Path::new(path), Homes::Standalone).unwrap_err().to_string();
    assert_eq!(
        told("/dev/zero"),
        "/dev/zero:1:1: the file is larger than 1 MiB; give `hueshift` the configuration, not data"
    );
    assert_eq!(told("/no/such.yaml"), "cannot read /no/such.yaml");
    assert_eq!(told("/tmp"), "cannot read /tmp");
}

#[test]
fn advice_names_what_is_probably_not_meant() {
    let text = GOOD
        .replace("    keys:\n    - header: x-session-id\n    - cookie: sid\n", "")
        .replace("share: 5%", "share: 30%")
        .replace("share: 25%", "share: 40%")
        .replace("advance: certified", "advance: unsuspicious")
        .replace("onInconclusive: hold", "onInconclusive: promote")
        .replace("enabled: true", "enabled: false");
    let documents = parse("f.yaml", text.as_bytes(), Writers::Owner, Homes::Standalone).unwrap();
    let fields: Vec<String> = advice(&documents[0]).into_iter().map(|note| note.field).collect();
    assert_eq!(
        fields,
        [
            "spec.session.keys",
            "spec.release.steps[0].share",
            "spec.release.steps[1]",
            "spec.release.steps[2]",
            "spec.release.onInconclusive",
            "spec.analysis.fuse.enabled",
        ]
    );
    let good = parse("f.yaml", GOOD.as_bytes(), Writers::Owner, Homes::Standalone).unwrap();
    assert_eq!(advice(&good[0]), []);
}

prop_compose! {
    fn any_document()(
        name in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?",
        revisions in ("[ -~]{0,20}[!-~]", "(true|~|1\\.10|0x1f|null|- a|a: b|#x|'|\"|\\*a|yes|2026-01-01)"),
        ports in (1u16..1000, 1000u16..2000, 2000u16..3000),
        command in prop::collection::vec("[^\\x00]{1,8}", 0..4),
        header in prop::option::of("[A-Za-z][A-Za-z0-9-]{0,20}x"),
        shares in prop::collection::btree_set(1u16..=9_500, 1..6),
        times in (0u64..1_000_000, 1_000_001u64..100_000_000, 0u64..1_000_000),
        rates in (0.000_1f64..0.1, 0.000_1f64..0.2, 1.0f64..10.0, 0.01f64..0.49, 5.0f64..60.0),
        flags in (any::<bool>(), any::<bool>()),
    ) -> BlueGreen {
        let mut document = parse("f.yaml", GOOD.as_bytes(), Writers::Owner, Homes::Standalone).unwrap().remove(0);
        document.metadata.name = Some(name);
        let spec = &mut document.spec;
        spec.listen = Some(format!("[::1]:{}", ports.0));
        spec.colors.blue.endpoints = vec![format!("10.0.0.1:{}", ports.1)];
        spec.colors.green.endpoints = vec![format!("[fe80::1]:{}", ports.2), format!("10.0.0.2:{}", ports.2)];
        spec.colors.blue.revision = revisions.0;
        spec.colors.green.revision = revisions.1;
        spec.colors.blue.command = command;
        spec.session.keys = header.into_iter().map(KeySpec::Header).chain([KeySpec::Query("s".into())]).collect();
        spec.release.steps = shares
            .into_iter()
            .map(|bps| StepSpec { share: Bps::new(bps).unwrap(), min_time: Duration::from_millis(times.0), min_requests: u64::from(bps) })
            .collect();
        spec.release.deadline = Duration::from_millis(times.1);
        spec.release.drain_deadline = Duration::from_millis(times.2);
        (spec.analysis.alpha, spec.analysis.beta, spec.analysis.ratio_margin) = (rates.0, rates.1, rates.2);
        (spec.analysis.fuse.healthy_error_rate, spec.analysis.fuse.height) = (rates.3, rates.4);
        (spec.analysis.fuse.enabled, spec.analysis.absolute_certificate) = flags;
        spec.analysis.predictions = flags.0.then(|| PredictionsSpec {
            min: -rates.2,
            max: rates.4,
            bins: 2 + ports.0 % 63,
            mode: if flags.1 { PredictionsMode::Effect } else { PredictionsMode::Equality },
            ..PredictionsSpec::of("x-prediction")
        });
        spec.analysis.custom = flags.1.then(|| CustomSpec {
            name: "fallbacks".to_owned(),
            client_errors: flags.0,
            header: Some("x-fallback".to_owned()),
        });
        document
    }
}

proptest! {
    #[test]
    fn writing_and_reading_back_is_identity(document in any_document()) {
        let text = write(std::slice::from_ref(&document)).unwrap();
        let read = parse("f.yaml", text.as_bytes(), Writers::Owner, Homes::Standalone);
        prop_assert!(read.is_ok(), "{}\n{text}", read.unwrap_err());
        prop_assert_eq!(read.unwrap(), vec![document]);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(edits in prop::collection::vec((0usize..GOOD.len(), any::<u8>()), 0..8)) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        let _ = sentences(&bytes, Writers::Others);
    }
}

const IN_A_MESH: &str = "\
apiVersion: hueshift.dev/v1alpha1
kind: BlueGreen
metadata: {name: price, namespace: models, labels: {team: price}}
spec:
  service: price
  colors:
    blue: {workload: {name: price-blue}}
    green: {workload: {name: price-green}}
";

fn in_any_home(text: &str) -> Result<Held, String> {
    parse_all("f.yaml", text.as_bytes(), Writers::Owner, Homes::Any).map_err(|error| error.to_string())
}

#[test]
fn a_document_for_a_mesh_is_read_and_one_machine_refuses_it_with_the_reason() {
    let read = in_any_home(IN_A_MESH).unwrap().documents.remove(0);
    assert_eq!(read.key(), "models/price");
    assert_eq!(read.virtual_service(), Some("price"));
    assert_eq!(
        sentences(IN_A_MESH.as_bytes(), Writers::Owner),
        [
            "f.yaml:5:12: spec.service: is for a mesh, where `hueshift controller` serves it; this is one machine; apply it with kubectl, or write `listen: 127.0.0.1:8080` and endpoints instead"
        ]
    );
}

#[test]
fn other_kinds_are_named_and_passed_over_but_a_slip_in_our_own_is_told() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: price}\nspec: {ports: [{port: 80}]}\n---\n";
    let policy =
        "apiVersion: hueshift.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: careful}\nspec: {}\n---\n";
    let held = in_any_home(&format!("{service}{policy}{IN_A_MESH}")).unwrap();
    assert_eq!(held.others, ["Service price", "ReleasePolicy careful"]);
    assert_eq!(held.documents.len(), 1);
    let slip = in_any_home(&IN_A_MESH.replace("kind: BlueGreen", "kind: Bluegreen")).unwrap_err();
    assert_eq!(slip, "f.yaml:2:7: kind: `Bluegreen` is not known to this version; write `BlueGreen`");
    let slip = in_any_home(&IN_A_MESH.replace("hueshift.dev", "hueshit.dev")).unwrap_err();
    assert!(slip.starts_with("f.yaml:1:13: apiVersion: `hueshit.dev/v1alpha1` is not known"), "{slip}");
    assert_eq!(
        in_any_home(service).unwrap_err(),
        "f.yaml:1:1: the file holds no BlueGreen; name the file that does"
    );
}

#[test]
fn what_only_a_mesh_can_have_wrong_is_told() {
    let told = |from: &str, to: &str| {
        assert!(IN_A_MESH.contains(from));
        in_any_home(&IN_A_MESH.replace(from, to)).unwrap_err()
    };
    let namespace = "is not the plain name of an object in the document's own namespace; write only the name: a BlueGreen may not touch another namespace";
    assert_eq!(
        told("service: price", "service: other/price"),
        format!("f.yaml:5:12: spec.service: `other/price` {namespace}")
    );
    assert_eq!(
        told("service: price", "service: price.other"),
        format!("f.yaml:5:12: spec.service: `price.other` {namespace}")
    );
    assert_eq!(
        told("price-green", "price-blue"),
        "f.yaml:8:13: spec.colors.green.workload: is blue's as well: otherwise a rollback changes nothing; give each color a workload of its own"
    );
    assert_eq!(
        told("{workload: {name: price-blue}}", "{endpoints: [\"127.0.0.1:9001\"]}").lines().count(),
        2,
        "an address is one machine's, and the workload is missing"
    );
}
