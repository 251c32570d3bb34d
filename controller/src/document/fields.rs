//! Reads the fields of one mapping and tells everything that is wrong with them, instead of the first thing.
//!
//! A reader is a function `(&Node, path, &mut Problems) -> Option<T>`; `None` means that it has told why. So a
//! mapping goes on with its other fields after a bad one. Which fields there are is `schema`'s business.

use super::Problem;
use super::tree::{Node, Place, Value};

/// What was found wrong so far.
pub(super) type Problems = Vec<Problem>;

/// The fields of one mapping, each to be asked for by name.
pub(super) struct Fields<'n> {
    entries: &'n [(String, Place, Node)],
    at: Place,
    path: String,
    known: Vec<&'static str>,
}

/// Tells one problem.
pub(super) fn tell(
    out: &mut Problems,
    at: Place,
    path: &str,
    what: impl Into<String>,
    remedy: impl Into<String>,
) {
    out.push(Problem { at, field: path.to_owned(), what: what.into(), remedy: remedy.into() });
}

// === impl Fields ===

impl<'n> Fields<'n> {
    /// The mapping at `node`, or `None` and a problem.
    pub(super) fn of(node: &'n Node, path: &str, out: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => {
                Some(Fields { entries, at: node.at, path: path.to_owned(), known: Vec::new() })
            }
            other => {
                tell(
                    out,
                    node.at,
                    path,
                    format!("a mapping is wanted here, not {}", other.name()),
                    "write `field: value` lines, indented under it",
                );
                None
            }
        }
    }

    /// A field that must be there; `example` is what the remedy shows.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl FnOnce(&Node, &str, &mut Problems) -> Option<T>,
        out: &mut Problems,
    ) -> Option<T> {
        match self.take(name) {
            Some(node) => read(node, &self.path_to(name), out),
            None => {
                tell(out, self.at, &self.path_to(name), "is missing", format!("add `{name}: {example}`"));
                None
            }
        }
    }

    /// A field that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&Node, &str, &mut Problems) -> Option<T>,
        out: &mut Problems,
    ) -> Option<T> {
        match self.take(name) {
            None => Some(default),
            Some(Node { at, value: Value::Null }) => {
                tell(
                    out,
                    *at,
                    &self.path_to(name),
                    "has no value",
                    "give it one, or leave the line out for the default",
                );
                None
            }
            Some(node) => read(node, &self.path_to(name), out),
        }
    }

    /// Tells every field that nobody asked for.
    pub(super) fn no_others(self, out: &mut Problems) {
        for (key, at, _) in self.entries.iter().filter(|(key, _, _)| !self.known.contains(&key.as_str())) {
            let remedy = match nearest(key, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            tell(out, *at, &self.path_to(key), "is not a known field", remedy);
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _, _)| key == name).map(|(_, _, node)| node)
    }

    fn path_to(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

// === impl Value ===

impl Value {
    /// What it is, for "… is wanted here, not …".
    pub(super) fn name(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(_, written) => format!("the number `{written}`"),
            Value::Text(text) => format!("the text `{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Each item of a list, by one reader.
pub(super) fn list<T>(
    node: &Node,
    path: &str,
    mut read: impl FnMut(&Node, &str, &mut Problems) -> Option<T>,
    out: &mut Problems,
) -> Option<Vec<T>> {
    let Value::List(items) = &node.value else {
        tell(
            out,
            node.at,
            path,
            format!("a list is wanted here, not {}", node.value.name()),
            "write one `- item` per line under it, or [a, b]",
        );
        return None;
    };
    // Every item is read, so that every bad one is told, before one of them fails the list.
    let read: Vec<Option<T>> =
        items.iter().enumerate().map(|(index, item)| read(item, &format!("{path}[{index}]"), out)).collect();
    read.into_iter().collect()
}

/// Any text. A number or a truth value is refused rather than rewritten: a revision 1.10 is not 1.1.
pub(super) fn text(node: &Node, path: &str, out: &mut Problems) -> Option<String> {
    let (what, remedy) = match &node.value {
        Value::Text(text) => return Some(text.clone()),
        Value::Number(_, written) => {
            (format!("`{written}` is a number"), format!("write it in quotes: \"{written}\""))
        }
        Value::Bool(value) => {
            (format!("`{value}` is a truth value"), format!("write it in quotes: \"{value}\""))
        }
        Value::Null => ("has no value".to_owned(), "give it one".to_owned()),
        Value::List(_) | Value::Map(_) => (
            format!("a text is wanted here, not {}", node.value.name()),
            "write one value on the line".to_owned(),
        ),
    };
    tell(out, node.at, path, what, remedy);
    None
}

/// One of a few words.
pub(super) fn word<T: Copy>(node: &Node, path: &str, words: &[(&str, T)], out: &mut Problems) -> Option<T> {
    let written = text(node, path, out)?;
    let found = words.iter().find(|(word, _)| *word == written);
    if found.is_none() {
        let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        tell(out, node.at, path, format!("`{written}` is not known"), format!("write {}", list.join(" or ")));
    }
    found.map(|(_, value)| *value)
}

/// `true` or `false`.
pub(super) fn truth(node: &Node, path: &str, out: &mut Problems) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        ref other => {
            tell(
                out,
                node.at,
                path,
                format!("a truth value is wanted here, not {}", other.name()),
                "write true or false, without quotes",
            );
            None
        }
    }
}

/// Any number.
pub(super) fn number(node: &Node, path: &str, out: &mut Problems) -> Option<f64> {
    match node.value {
        Value::Number(value, _) => Some(value),
        ref other => {
            tell(
                out,
                node.at,
                path,
                format!("a number is wanted here, not {}", other.name()),
                "write it plainly, such as 0.01, without quotes or a unit",
            );
            None
        }
    }
}

/// A whole number from 0.
pub(super) fn count(node: &Node, path: &str, out: &mut Problems) -> Option<u64> {
    let value = number(node, path, out)?;
    // Up to here every whole number has its own f64.
    if value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value) {
        return Some(value as u64);
    }
    tell(out, node.at, path, format!("{} is not a count", node.value.name()), "write a whole number from 0");
    None
}

/// A text that `parse` understands; a bare number gets the remedy `with_unit`.
pub(super) fn quantity<T>(
    node: &Node,
    path: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
    with_unit: impl FnOnce(&str) -> String,
    out: &mut Problems,
) -> Option<T> {
    if let Value::Number(_, written) = &node.value {
        tell(out, node.at, path, format!("`{written}` has no unit"), format!("write {}", with_unit(written)));
        return None;
    }
    match parse(&text(node, path, out)?) {
        Ok(value) => Some(value),
        Err(told) => {
            let (what, remedy) = told.split_once("; ").unwrap_or((&told, "see the documentation"));
            tell(out, node.at, path, what, remedy);
            None
        }
    }
}

/// The known name that was probably meant: at most two typing errors away, or the same but for case and dashes.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let bare = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let allowed = if name.len() < 5 { 1 } else { 2 };
    known
        .iter()
        .map(|candidate| (distance(&bare(name), &bare(candidate)), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance; names are short, so the table's one row is all it keeps.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = *cell;
            before = substitute.min(before + 1).min(*cell + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or(0).max(if b.is_empty() { a.chars().count() } else { 0 })
}
