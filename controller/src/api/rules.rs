//! What the API server refuses, and the sentence that it says: the mirror of `document/checks.rs` in the Common
//! Expression Language.
//!
//! One mistake gives one complaint: a rule that looks at several fields is silent while one of them is refused by its
//! own rule. Numbers, names and words here and there are kept equal by the test that lets both judge the same
//! documents.

use super::schema::Refused::{Forbidden, Invalid, Missing};
use super::schema::{is_share, is_time, percent, rule, rule_at, shorter};
use serde_json::{Value, json};

/// Of the whole `BlueGreen`. That a name is one at all is the API server's own rule.
pub(super) fn blue_green() -> Value {
    json!([
        rule_at(".spec", Missing, "has(self.spec)", "name a service and two colors"),
        rule(
            "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
            "metadata.name: write 1 to 63 lowercase letters, digits or dashes, without dots, such as price-model",
        ),
    ])
}

/// Of `spec`. What one machine needs is known to the schema only so that it can be refused with a sentence.
pub(super) fn spec() -> Value {
    let mut rules = vec![
        rule_at(
            ".listen",
            Forbidden,
            "!has(self.listen)",
            "it is for one machine (`hueshift up`); in a cluster name a Service instead: `service: my-model`",
        ),
        rule_at(
            ".service",
            Missing,
            "has(self.listen) || has(self.service)",
            "name the Service whose requests are split, such as `service: my-model`",
        ),
        rule_at(
            ".colors",
            Missing,
            "has(self.colors)",
            "name the two workloads: `colors: {blue: {workload: {name: my-model-blue}}, green: \
             {workload: {name: my-model-green}}}`",
        ),
    ];
    for color in ["blue", "green"] {
        let at = format!("self.colors.{color}");
        let silent = format!("has(self.listen) || !has(self.colors) || !has({at})");
        rules.push(rule_at(
            &format!(".colors.{color}"),
            Forbidden,
            format!("{silent} || (!has({at}.endpoints) && !has({at}.command))"),
            "endpoints and command are for one machine (`hueshift up`); in a cluster name a workload: \
             `workload: {name: my-model-blue}`",
        ));
        rules.push(rule_at(
            &format!(".colors.{color}.workload"),
            Missing,
            format!(
                "{silent} || has({at}.endpoints) || has({at}.command) || has({at}.workload) || \
                 (has({at}.labels) && {at}.labels.size() > 0 && has({at}.revision) && {at}.revision != '')"
            ),
            "name the Deployment that runs this color, such as `workload: {name: my-model-blue}`, or write its \
             pods' labels and a revision",
        ));
    }
    Value::Array(rules)
}

/// Of `spec.colors`.
pub(super) fn colors() -> Value {
    let missing = "both colors are named, also when only one runs: `workload: {name: my-model-green}`";
    let both = "!has(self.blue) || !has(self.green)";
    let both_have = |field: &str| format!("{both} || !has(self.blue.{field}) || !has(self.green.{field})");
    json!([
        rule_at(".blue", Missing, "has(self.blue)", missing),
        rule_at(".green", Missing, "has(self.green)", missing),
        rule_at(
            ".green.workload",
            Invalid,
            format!(
                "{} || !has(self.blue.workload.name) || !has(self.green.workload.name) || \
                 self.blue.workload.name != self.green.workload.name || \
                 (has(self.blue.workload.kind) ? self.blue.workload.kind : 'Deployment') != \
                 (has(self.green.workload.kind) ? self.green.workload.kind : 'Deployment')",
                both_have("workload")
            ),
            "give each color a workload of its own: with one for both a rollback would change nothing",
        ),
        rule_at(
            ".green.labels",
            Invalid,
            format!(
                "{} || self.blue.labels.size() == 0 || self.blue.labels != self.green.labels",
                both_have("labels")
            ),
            "give each color a label of its own, such as `color: green`: with blue's both would choose the same pods",
        ),
    ])
}

/// Of a workload.
pub(super) fn workload() -> Value {
    json!([rule_at(".name", Missing, "has(self.name)", "name a Deployment, such as `name: my-model-blue`")])
}

/// Of a color. Of a Deployment we can read which pods are its own and what they run; of anything else not.
pub(super) fn color() -> Value {
    let told = "(has(self.labels) && self.labels.size() > 0 && has(self.revision) && self.revision != '')";
    json!([rule_at(
        ".workload",
        Invalid,
        format!(
            "!has(self.workload) || ((!has(self.workload.apiVersion) || self.workload.apiVersion == 'apps/v1') && \
             (!has(self.workload.kind) || self.workload.kind == 'Deployment')) || {told}"
        ),
        "name a Deployment (apps/v1); of anything else also write the color's labels and revision",
    )])
}

/// Of `spec.routing.routes`.
pub(super) fn routes() -> Value {
    json!([
        rule("self.all(name, name != '')", "write what `spec.http[].name` says, or leave routes out for all"),
        rule("self.all(name, self.exists_one(other, other == name))", "name each route once"),
    ])
}

/// Of `spec.session`.
pub(super) fn session() -> Value {
    let name = |key: &str, kind: &str, fold: bool| {
        let text = format!("{key}.{kind}");
        let text = if fold { format!("{text}.lowerAscii()") } else { text };
        format!("has({key}.{kind}) ? '{kind} ' + {text}")
    };
    let id = |key: &str| {
        format!(
            "({} : {} : {} : '')",
            name(key, "header", true),
            name(key, "cookie", false),
            name(key, "query", false)
        )
    };
    json!([
        rule_at(
            ".mode",
            Forbidden,
            "!has(self.mode) || self.mode != 'keep'",
            "keep needs pins, which this version's filter does not carry yet; write move: sessions follow the \
             lottery and change at most once per release",
        ),
        rule_at(
            ".keys",
            Invalid,
            "!has(self.keys) || self.keys.size() <= 4",
            "name at most 4, those that most clients send",
        ),
        rule_at(
            ".keys",
            Invalid,
            format!(
                "!has(self.keys) || self.keys.map(k, {}).all(id, id == '' || self.keys.map(k, {}).exists_one(o, o == id))",
                id("k"),
                id("k")
            ),
            "name each session key once",
        ),
    ])
}

/// Of one session key.
pub(super) fn session_key() -> Value {
    let one = "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.query) ? 1 : 0) == 1";
    let token = r"^[!#$%&\'*+.^_`|~0-9A-Za-z-]{1,64}$";
    json!([
        rule(one, "write one of `header: NAME`, `cookie: NAME`, `query: NAME`"),
        rule(
            format!("!({one}) || !has(self.header) || self.header.matches('{token}')"),
            "write a header name of 1 to 64 letters, digits or dashes, such as x-session-id",
        ),
        rule(
            format!("!({one}) || !has(self.cookie) || self.cookie.matches('{token}')"),
            "write a cookie name of 1 to 64 letters, digits or dashes, such as sid",
        ),
        rule(
            format!("!({one}) || !has(self.query) || self.query.matches('{token}')"),
            "write a query parameter's name of 1 to 64 letters, digits or dashes, such as session",
        ),
        rule(
            format!("!({one}) || !has(self.header) || self.header.lowerAscii() != 'cookie'"),
            "the cookie header changes with every cookie: write `cookie: NAME` for the one that holds the session",
        ),
        rule(
            format!(
                "!({one}) || !(has(self.header) ? self.header : has(self.cookie) ? self.cookie : self.query).lowerAscii()\
                 .matches('^(x-)?hueshift-')"
            ),
            "this name is Hueshift's own: name one that your clients send",
        ),
    ])
}

/// Of `spec.release`.
pub(super) fn release() -> Value {
    let shares_valid = format!("self.steps.all(s, has(s.share) && {})", is_share("s.share"));
    let holdback_valid =
        format!("(!has(self.soak) || !has(self.soak.holdback) || {})", is_share("self.soak.holdback"));
    let holdback =
        format!("(has(self.soak) && has(self.soak.holdback) ? {} : 5.0)", percent("self.soak.holdback"));
    let share = percent("s.share");
    let ordered = format!(
        "self.steps.map(s, {share}).isSorted() && self.steps.map(s, {share}).all(x, self.steps.exists_one(s, {share} == x))"
    );
    let within = format!("self.steps.all(s, {share} > 0.0 && {share} < 100.0)");
    let deadline_valid = format!("(!has(self.deadline) || {})", is_time("self.deadline"));
    let deadline = "(has(self.deadline) ? self.deadline : '1h')";
    let no_time = format!("{deadline} in ['0d', '0h', '0m', '0s', '0ms']");
    json!([
        rule_at(
            ".steps",
            Invalid,
            "!has(self.steps) || self.steps.size() > 0",
            "write at least one, such as `- share: 5%`: without, the cutover would be the first that the candidate sees",
        ),
        rule_at(
            ".steps",
            Invalid,
            "!has(self.steps) || self.steps.size() <= 20",
            "write at most 20: fewer steps learn as much",
        ),
        rule_at(
            ".steps",
            Invalid,
            format!("!has(self.steps) || !({shares_valid}) || {within}"),
            "write shares above 0% and below 100%: the cutover follows the last step by itself",
        ),
        rule_at(
            ".steps",
            Invalid,
            format!("!has(self.steps) || !({shares_valid}) || !({within}) || ({ordered})"),
            "order the steps by rising share, each once",
        ),
        rule_at(
            ".steps",
            Invalid,
            format!(
                "!has(self.steps) || !({shares_valid}) || !({within}) || !{holdback_valid} || {holdback} > 50.0 || \
                 self.steps.all(s, {share} + {holdback} <= 100.0)"
            ),
            "end the steps at what the cutover leaves beside its holdback, or lower soak.holdback",
        ),
        rule_at(".deadline", Invalid, format!("!({no_time})"), "write how long a step may take, such as 1h",),
        rule_at(
            ".steps",
            Invalid,
            format!(
                "!has(self.steps) || !{deadline_valid} || {no_time} || \
                 self.steps.all(s, !has(s.minTime) || !{} || {})",
                is_time("s.minTime"),
                shorter("s.minTime", deadline),
            ),
            "write each minTime shorter than the deadline, or its step could never pass",
        ),
    ])
}

/// Of `spec.release.soak`.
pub(super) fn soak() -> Value {
    json!([rule_at(
        ".holdback",
        Invalid,
        format!(
            "!has(self.holdback) || !{} || {} <= 50.0",
            is_share("self.holdback"),
            percent("self.holdback")
        ),
        "write 50% or less, such as 5%: more would leave the old color more than the new one",
    )])
}

/// Of `spec.analysis`.
pub(super) fn analysis() -> Value {
    json!([
        rule_at(
            ".alpha",
            Invalid,
            "!has(self.alpha) || (self.alpha > 0.0 && self.alpha <= 0.1)",
            "write more than 0, at most 0.1; 0.01 is one false rollback in a hundred healthy releases",
        ),
        rule_at(
            ".beta",
            Invalid,
            "!has(self.beta) || (self.beta > 0.0 && self.beta <= 0.2)",
            "write more than 0, at most 0.2, such as 0.05",
        ),
        rule_at(
            ".ratioMargin",
            Invalid,
            "!has(self.ratioMargin) || (self.ratioMargin >= 1.0 && self.ratioMargin <= 10.0)",
            "write 1 to 10; 1.25 accepts a quarter more errors than stable",
        ),
        rule_at(
            ".errorFloor",
            Invalid,
            "!has(self.errorFloor) || (self.errorFloor > 0.0 && self.errorFloor <= 0.1)",
            "write more than 0, at most 0.1, such as 0.001",
        ),
    ])
}

/// Of `spec.analysis.latency`.
pub(super) fn latency() -> Value {
    json!([
        rule_at(
            ".tolerance",
            Invalid,
            "!has(self.tolerance) || (self.tolerance >= 1.0 && self.tolerance <= 4.0)",
            "write 1 to 4; 1.19 accepts that an answer takes a fifth longer",
        ),
        rule_at(
            ".warmup",
            Invalid,
            format!(
                "!has(self.warmup) || !{} || (!self.warmup.contains('d') && duration(self.warmup) <= duration('10m'))",
                is_time("self.warmup")
            ),
            "write 10m or less: no latency is judged meanwhile, such as 30s",
        ),
    ])
}

/// Of `spec.analysis.slo`.
pub(super) fn slo() -> Value {
    json!([
        rule_at(
            ".errorRate",
            Missing,
            "has(self.errorRate)",
            "name the error rate that the candidate may not exceed, such as `errorRate: 0.05`",
        ),
        rule_at(
            ".errorRate",
            Invalid,
            "!has(self.errorRate) || (self.errorRate > 0.0 && self.errorRate <= 0.5)",
            "write more than 0, at most 0.5, such as 0.05",
        ),
    ])
}

/// Of `spec.analysis.predictions`.
pub(super) fn predictions() -> Value {
    let (min, max) = ("(has(self.min) ? self.min : 0.0)", "(has(self.max) ? self.max : 1.0)");
    json!([
        rule_at(
            ".header",
            Missing,
            "has(self.header)",
            "name the response header that carries the prediction, such as `header: x-prediction`",
        ),
        response_header("x-prediction"),
        rule_at(
            ".max",
            Invalid,
            format!("{min} < {max} && {min} >= -1000000000000.0 && {max} <= 1000000000000.0"),
            "write a largest prediction above the least one, both within ±1e12, such as `min: 0` and `max: 1`",
        ),
        rule_at(
            ".bins",
            Invalid,
            "!has(self.bins) || (self.bins >= 2 && self.bins <= 64)",
            "write 2 to 64, such as 20",
        ),
    ])
}

/// Of a field `header` that names one of the models' response headers.
fn response_header(example: &str) -> Value {
    let token = r"^[!#$%&\'*+.^_`|~0-9A-Za-z-]{1,64}$";
    rule_at(
        ".header",
        Invalid,
        format!(
            "!has(self.header) || (self.header.matches('{token}') && \
             !self.header.lowerAscii().matches('^(x-)?hueshift-'))"
        ),
        &format!(
            "write a header name of 1 to 64 letters, digits or dashes that your models send, such as {example}"
        ),
    )
}

/// Of `spec.analysis.custom`.
pub(super) fn custom() -> Value {
    json!([
        rule(
            "(has(self.clientErrors) && self.clientErrors) || has(self.header)",
            "say which answers are counted: `clientErrors: true`, or `header: x-fallback`, or both",
        ),
        rule_at(
            ".name",
            Invalid,
            "!has(self.name) || self.name.matches('^[A-Za-z][A-Za-z0-9-]{0,31}$')",
            "write 1 to 32 letters, digits or dashes, a letter first, such as clientErrors",
        ),
        response_header("x-fallback"),
    ])
}

/// Of `spec.analysis.fuse`.
pub(super) fn fuse() -> Value {
    json!([
        rule_at(
            ".healthyErrorRate",
            Invalid,
            "!has(self.healthyErrorRate) || (self.healthyErrorRate > 0.0 && self.healthyErrorRate < 0.5)",
            "write more than 0, less than 0.5, such as 0.02",
        ),
        rule_at(
            ".height",
            Invalid,
            "!has(self.height) || (self.height >= 5.0 && self.height <= 60.0)",
            "write 5 to 60; 24 trips falsely once in e^24 requests",
        ),
    ])
}

/// Of a `ReleasePolicy`'s `spec`.
pub(super) fn policy() -> Value {
    json!([
        rule(
            "has(self.maxAlpha) || has(self.maxBeta) || has(self.maxRatioMargin) || has(self.maxErrorFloor) \
             || has(self.maxLatencyTolerance) || has(self.largestStep) || has(self.minHoldback) || has(self.minSoak) || has(self.advance) \
             || has(self.trustedPrincipals)",
            "it asks nothing: set at least one of maxAlpha, maxBeta, maxRatioMargin, maxErrorFloor, \
             maxLatencyTolerance, largestStep, minHoldback, minSoak, advance, trustedPrincipals",
        ),
        rule_at(
            ".maxAlpha",
            Invalid,
            "!has(self.maxAlpha) || (self.maxAlpha > 0.0 && self.maxAlpha <= 0.1)",
            "write more than 0, at most 0.1, such as 0.01",
        ),
        rule_at(
            ".maxBeta",
            Invalid,
            "!has(self.maxBeta) || (self.maxBeta > 0.0 && self.maxBeta <= 0.2)",
            "write more than 0, at most 0.2, such as 0.05",
        ),
        rule_at(
            ".maxRatioMargin",
            Invalid,
            "!has(self.maxRatioMargin) || self.maxRatioMargin >= 1.0",
            "write 1 or more, such as 1.25",
        ),
        rule_at(
            ".maxErrorFloor",
            Invalid,
            "!has(self.maxErrorFloor) || (self.maxErrorFloor > 0.0 && self.maxErrorFloor <= 0.1)",
            "write more than 0, at most 0.1, such as 0.001",
        ),
        rule_at(
            ".maxLatencyTolerance",
            Invalid,
            "!has(self.maxLatencyTolerance) || (self.maxLatencyTolerance >= 1.0 && self.maxLatencyTolerance <= 4.0)",
            "write 1 to 4, such as 1.19",
        ),
        rule_at(
            ".largestStep",
            Invalid,
            format!(
                "!has(self.largestStep) || !{} || {} > 0.0",
                is_share("self.largestStep"),
                percent("self.largestStep")
            ),
            "write more than 0%, such as 25%",
        ),
        rule_at(
            ".minHoldback",
            Invalid,
            format!(
                "!has(self.minHoldback) || !{} || {} <= 50.0",
                is_share("self.minHoldback"),
                percent("self.minHoldback")
            ),
            "write 50% or less, such as 5%",
        ),
    ])
}

/// Of a `Release`'s `spec`: a record is evidence.
pub(super) fn release_facts() -> Value {
    json!([
        rule_at(".number", Invalid, "self.number > 0", "releases are counted from 1"),
        rule("self == oldSelf", "it is a record of what happened and does not change"),
    ])
}

/// Of a step.
pub(super) fn step() -> Value {
    json!([rule_at(".share", Missing, "has(self.share)", "write the candidate's share, such as `share: 5%`")])
}
