//! Building blocks of the objects' schemas: every text and list is bounded, and what is likely to be written wrong is
//! refused by a rule with a sentence, not by a pattern with its regular expression.
//!
//! The bounds are there for the API server, which refuses a definition whose rules might cost too much. A text that
//! is longer than its bound is told in the server's own words; so bounds are generous and rules are strict.

use super::ColorSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Longest text of a share or a time; far longer than any that a rule lets pass.
const QUANTITY: u32 = 32;

/// A rule of the Common Expression Language and the sentence that it is refused with.
pub(super) fn rule(rule: impl Into<String>, message: &str) -> Value {
    json!({"rule": rule.into(), "message": message})
}

/// What the API server says before the sentence.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    /// "Invalid value".
    Invalid,
    /// "Required value".
    Missing,
    /// "Forbidden".
    Forbidden,
}

/// A rule that is told of a field below the one that has it.
pub(super) fn rule_at(field: &str, refused: Refused, rule: impl Into<String>, message: &str) -> Value {
    let reason = match refused {
        Refused::Invalid => "FieldValueInvalid",
        Refused::Missing => "FieldValueRequired",
        Refused::Forbidden => "FieldValueForbidden",
    };
    json!({"rule": rule.into(), "message": message, "fieldPath": field, "reason": reason})
}

/// `blue` and `green`; that both are there is a rule's business, which has a sentence for it.
#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = super::rules::colors()))]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Colors {
    /// The environment named blue.
    blue: Option<ColorSpec>,
    /// The environment named green.
    green: Option<ColorSpec>,
}

/// A text of so many characters.
fn text(longest: u32) -> Schema {
    json_schema!({"type": "string", "maxLength": longest})
}

fn ruled(mut schema: Schema, rules: Vec<Value>) -> Schema {
    schema.insert("x-kubernetes-validations".to_owned(), Value::Array(rules));
    schema
}

/// A word.
pub(super) fn word(_: &mut SchemaGenerator) -> Schema {
    text(64)
}

/// One line for people.
pub(super) fn line(_: &mut SchemaGenerator) -> Schema {
    text(1024)
}

/// A sentence or a few.
pub(super) fn prose(_: &mut SchemaGenerator) -> Schema {
    text(8192)
}

/// What runs somewhere, in its owner's words.
pub(super) fn revision(_: &mut SchemaGenerator) -> Schema {
    ruled(
        text(256),
        vec![rule(
            r"self.size() <= 128 && self.matches('^[^\\x00-\\x1f\\x7f]*$')",
            "write a short name without control characters, such as v1 or a commit",
        )],
    )
}

/// The name of an object in the document's own namespace.
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    ruled(
        text(256),
        vec![
            rule("!self.contains('/')", "write only the name: a BlueGreen may not touch another namespace"),
            rule(
                "self.contains('/') || (self.size() <= 253 && \
                 self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
                "write an object's name: lowercase letters, digits or dashes, such as my-model",
            ),
        ],
    )
}

/// The name of a Service in the document's own namespace; never a host name, which could point elsewhere.
pub(super) fn service_name(_: &mut SchemaGenerator) -> Schema {
    ruled(
        text(256),
        vec![
            rule(
                "!self.contains('/') && !self.contains('.')",
                "write only the Service's name, no host name: a BlueGreen may not touch another namespace",
            ),
            rule(
                "self.contains('/') || self.contains('.') || \
                 (self.size() <= 63 && self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$'))",
                "write a Service's name: lowercase letters, digits or dashes, such as my-model",
            ),
        ],
    )
}

/// An `apiVersion`.
pub(super) fn api_version(_: &mut SchemaGenerator) -> Schema {
    text(128)
}

/// A share, `5%`.
pub(super) fn share(_: &mut SchemaGenerator) -> Schema {
    ruled(
        text(QUANTITY),
        vec![rule(
            is_share("self"),
            "write a percentage from 0% to 100% with at most two decimals, such as 5% or 0.25%",
        )],
    )
}

/// A time, `1h30m`.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    ruled(
        text(QUANTITY),
        vec![rule(
            is_time("self"),
            "write a time of at most 30d as numbers with units, largest first, such as 250ms, 30s, 5m or 1h30m",
        )],
    )
}

/// Labels of pods or namespaces.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [rule(
            "self.all(name, name.size() <= 317 && self[name].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
            "write labels as Kubernetes knows them: letters, digits, dashes, underscores or dots, such as color: green",
        )],
    })
}

/// Mesh identities as an AuthorizationPolicy writes them.
pub(super) fn principals(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "maxLength": 512},
        "x-kubernetes-validations": [rule(
            "self.all(p, p.matches('^[^/]+/ns/[^/]+/sa/[^/]+$'))",
            "write principals as TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT",
        )],
    })
}

/// A label selector as Kubernetes has it.
pub(super) fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": labels(generator),
            "matchExpressions": {
                "type": "array",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317},
                        "operator": {"type": "string", "maxLength": 16},
                        "values": {
                            "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "x-kubernetes-validations": [rule(
                        "self.operator in ['Exists', 'DoesNotExist'] ? (!has(self.values) || self.values.size() == 0) : \
                         (self.operator in ['In', 'NotIn'] && has(self.values) && self.values.size() > 0)",
                        "write operator In or NotIn with values, or Exists or DoesNotExist without",
                    )],
                },
            },
        },
    })
}

/// Anything: what the controller keeps for itself.
pub(super) fn kept(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The judge's checkpoint.
pub(super) fn checkpoint(_: &mut SchemaGenerator) -> Schema {
    text(u32::try_from(super::ReleaseStatus::MAX_CHECKPOINT).unwrap_or(u32::MAX))
}

/// A moment.
pub(super) fn moment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// `blue` or `green`.
pub(super) fn color(_: &mut SchemaGenerator) -> Schema {
    one_of(&["blue", "green"])
}

/// See [`super::SessionMode`].
pub(super) fn session_mode(_: &mut SchemaGenerator) -> Schema {
    one_of(&["move", "keep"])
}

/// See [`super::Advance`].
pub(super) fn advance(_: &mut SchemaGenerator) -> Schema {
    one_of(&["certified", "unsuspicious"])
}

/// See [`super::PredictionsMode`].
pub(super) fn predictions_mode(_: &mut SchemaGenerator) -> Schema {
    one_of(&["effect", "equality"])
}

/// See [`super::OnInconclusive`].
pub(super) fn on_inconclusive(_: &mut SchemaGenerator) -> Schema {
    one_of(&["hold", "promote", "rollback"])
}

/// One of a few words. No `enum`: the API server's own complaint comes with a second one, about unchecked rules.
fn one_of(words: &[&str]) -> Schema {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    ruled(
        text(64),
        vec![rule(format!("self in [{}]", quoted.join(", ")), &format!("write {}", words.join(" or ")))],
    )
}

/// Conditions as every Kubernetes object has them.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    })
}

/// One place of a session key.
fn session_key(_: &mut SchemaGenerator) -> Schema {
    let name = json!({"type": "string", "maxLength": 256});
    json_schema!({
        "type": "object",
        "properties": {"header": name, "cookie": name, "query": name},
        "x-kubernetes-validations": super::rules::session_key(),
    })
}

/// Addresses and words of programs, which only one machine knows.
pub(super) fn endpoints(_: &mut SchemaGenerator) -> Schema {
    texts(256, 64)
}

/// See [`endpoints`].
pub(super) fn command(_: &mut SchemaGenerator) -> Schema {
    texts(256, 4096)
}

/// Names of http routes.
pub(super) fn routes(_: &mut SchemaGenerator) -> Schema {
    let mut schema = texts(64, 256);
    schema.insert("x-kubernetes-validations".to_owned(), super::rules::routes());
    schema
}

/// The session's keys. The rule allows fewer than the bound, and says so in a sentence.
pub(super) fn session_keys(generator: &mut SchemaGenerator) -> Schema {
    let key = session_key(generator);
    json_schema!({"type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic", "items": key})
}

/// The ramp; see [`session_keys`].
pub(super) fn steps(generator: &mut SchemaGenerator) -> Schema {
    list::<super::StepSpec>(generator, 32)
}

/// What a release waits for.
pub(super) fn waiting_on(generator: &mut SchemaGenerator) -> Schema {
    list::<super::StatusWaiting>(generator, 16)
}

/// What a person should look at.
pub(super) fn problems(generator: &mut SchemaGenerator) -> Schema {
    list::<super::StatusProblem>(generator, 16)
}

/// A list of so many.
fn list<T: JsonSchema>(generator: &mut SchemaGenerator, most: u32) -> Schema {
    let items = generator.subschema_for::<T>();
    json_schema!({"type": "array", "maxItems": most, "x-kubernetes-list-type": "atomic", "items": items})
}

/// A list of so many texts.
fn texts(most: u32, longest: u32) -> Schema {
    json_schema!({
        "type": "array", "maxItems": most, "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "maxLength": longest},
    })
}

/// Whether a text is a share.
pub(super) fn is_share(text: &str) -> String {
    format!("{text}.matches('^(100([.]0{{1,2}})?|0{{0,2}}[0-9]{{1,2}}([.][0-9]{{1,2}})?) *%$')")
}

/// A share as percent, once it is known to be one.
pub(super) fn percent(text: &str) -> String {
    format!("double({text}.replace('%', '').trim())")
}

/// Whether a text is a time of at most 30 days.
///
/// The language's own durations know no days, and taking a text apart costs more than the API server allows; so days
/// go only with what is left of a day.
pub(super) fn is_time(text: &str) -> String {
    format!(
        "({text}.contains('d') \
         ? {text}.matches('^(30d|[12]?[0-9]d(([01]?[0-9]|2[0-3])h)?([0-5]?[0-9]m)?([0-5]?[0-9]s)?([0-9]{{1,3}}ms)?)$') \
         : {text} != '' && {text}.matches('^([0-9]{{1,3}}h)?([0-9]{{1,5}}m)?([0-9]{{1,7}}s)?([0-9]{{1,10}}ms)?$') \
         && duration({text}) <= duration('720h'))"
    )
}

/// Whether a time is shorter than another, as far as days let it be known; both are times.
pub(super) fn shorter(text: &str, than: &str) -> String {
    format!(
        "({text}.contains('d') ? ({than}.contains('d') || duration({than}) > duration('24h')) \
         : ({than}.contains('d') || duration({text}) < duration({than})))"
    )
}
