//! YAML text to a tree in which every node knows its place.
//!
//! The tree is kept, instead of reading straight into the types, so that *all* errors of a document can be told
//! at once, each with line and field; a derived reader stops at the first. What YAML itself allows is the
//! library's business (duplicate keys, aliases, budgets against bombs); what a field may hold is `schema`'s.

use super::Problem;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// Largest document that is read. Hand-written configuration is a few kB.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Most `BlueGreen` documents in one file.
pub(super) const MAX_DOCUMENTS: usize = 256;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// One value with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub at: Place,
    pub value: Value,
}

/// What YAML can say.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// With the text as written: `1.10` is 1.1, but a revision named 1.10 is not.
    Number(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Place, Node)>),
}

/// One tree per document of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_depth: 16,
            max_nodes: 50_000,
            max_events: 150_000,
            max_aliases: 256,
            max_anchors: 256,
            max_total_scalar_bytes: MAX_BYTES,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options) {
        Ok(documents) => Ok(documents.into_iter().map(|document| settle(document, text)).collect()),
        Err(error) => Err(told(&error)),
    }
}

/// The library's error in our words where its own speak of its settings, without its place (we print ours).
fn told(error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or(Place { line: 1, column: 1 }, place);
    let (what, remedy) = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => (
            format!("`{}` is given twice", key.as_deref().unwrap_or("a field")),
            "keep one of them".to_owned(),
        ),
        serde_saphyr::Error::Budget { .. } => (
            "the document is larger or more deeply nested than configuration ever is".to_owned(),
            format!("write it plainly, with few anchors and at most {MAX_DOCUMENTS} documents"),
        ),
        other => {
            let text = other.to_string();
            let what = text.split(" at line ").next().unwrap_or_default();
            (format!("not valid YAML: {what}"), "correct the syntax at or before this place".to_owned())
        }
    };
    Problem { at, field: String::new(), what, remedy }
}

/// A value as the library gives it, numbers without their text.
enum Raw {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

/// Takes places out of the library's wrapper and fetches the text of numbers.
fn settle(raw: Spanned<Raw>, text: &str) -> Node {
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Text(value) => Value::Text(value),
        Raw::Number(value) => {
            let span = raw.defined.span();
            let written = span.byte_offset().zip(span.byte_len()).and_then(|(from, len)| {
                let (from, len) = (usize::try_from(from).ok()?, usize::try_from(len).ok()?);
                text.get(from..from.checked_add(len)?)
            });
            Value::Number(value, written.map_or_else(|| value.to_string(), |w| w.trim().to_owned()))
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| settle(item, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let at = place(key.referenced);
                    (key.value, at, settle(value, text))
                })
                .collect(),
        ),
    };
    Node { at: place(raw.referenced), value }
}

fn place(location: serde_saphyr::Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

// === impl Node ===

impl Node {
    /// Where the field named by `path` (as in `spec.release.steps[2].share`) stands, or the nearest thing around it.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut at = self.at;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match &node.value {
                Value::Map(entries) => entries
                    .iter()
                    .find(|(key, _, _)| key == part)
                    .map(|(_, key_at, value)| (if value.is_plain() { value.at } else { *key_at }, value)),
                Value::List(items) => part
                    .strip_suffix(']')
                    .and_then(|index| index.parse::<usize>().ok())
                    .and_then(|index| items.get(index))
                    .map(|item| (item.at, item)),
                _ => None,
            };
            let Some((next_at, next_node)) = next else { break };
            (at, node) = (next_at, next_node);
        }
        at
    }

    fn is_plain(&self) -> bool {
        !matches!(self.value, Value::List(_) | Value::Map(_))
    }
}

// === impl Raw ===

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Raw, D::Error> {
                Raw::deserialize(from)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
                Ok(Raw::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Number(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Raw, E> {
                Ok(Raw::Text(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        from.deserialize_any(AnyValue)
    }
}
