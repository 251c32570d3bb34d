//! Reads `BlueGreen` documents: YAML in, checked types out, every error with file, line, field and remedy.
//!
//! Strict on purpose: an ignored typing error in a release's settings shows on the day of the bad release. All
//! errors of a file are told at once; only broken YAML hides what comes after it. The file is ours to trust only
//! as far as its mode says: one that others may write must not name programs that we start.

mod advice;
mod checks;
mod fields;
mod schema;
#[cfg(test)]
mod tests;
mod tree;

pub use self::advice::advice;
pub use self::tree::Place;

use crate::api::BlueGreen;
use crate::text::visible;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Why a file is no valid document.
#[derive(Debug)]
pub enum DocumentError {
    /// It cannot be read.
    Unreadable {
        /// The file as it was named.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// It was read, and these are wrong; at least one, in order of place.
    Wrong {
        /// The file as it was named.
        file: String,
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// The field, as in `spec.release.steps[2].share`; empty for the document itself.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// One thing about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The field, as in `spec.release.steps[2].share`.
    pub field: String,
    /// What is the matter.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// Who else may change a document's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Only its owner.
    Owner,
    /// Also its group or everyone.
    Others,
}

/// For which homes a document may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Homes {
    /// One machine only.
    Standalone,
    /// Also a mesh.
    Any,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// Its `BlueGreen` documents, at least one.
    pub documents: Vec<BlueGreen>,
    /// Documents of other kinds, which are not looked at: `Service price`.
    pub others: Vec<String>,
}

/// All documents of a file, at least one.
pub fn read(path: &Path, homes: Homes) -> Result<Vec<BlueGreen>, DocumentError> {
    read_all(path, homes).map(|held| held.documents)
}

/// All that a file holds. Documents of other kinds are an error where only one machine is meant.
pub fn read_all(path: &Path, homes: Homes) -> Result<Held, DocumentError> {
    let file = path.display().to_string();
    let unreadable = |source| DocumentError::Unreadable { file: file.clone(), source };
    let mut open = std::fs::File::open(path).map_err(unreadable)?;
    let meta = open.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let writers = if meta.permissions().mode() & 0o022 == 0 { Writers::Owner } else { Writers::Others };
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know that it is too large, even where it never ends.
    open.by_ref().take(tree::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    parse_all(&file, &bytes, writers, homes)
}

/// All documents of a text, at least one; `file` is its name in errors.
pub fn parse(
    file: &str,
    bytes: &[u8],
    writers: Writers,
    homes: Homes,
) -> Result<Vec<BlueGreen>, DocumentError> {
    parse_all(file, bytes, writers, homes).map(|held| held.documents)
}

fn parse_all(file: &str, bytes: &[u8], writers: Writers, homes: Homes) -> Result<Held, DocumentError> {
    documents(bytes, writers, homes).map_err(|mut problems| {
        problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        DocumentError::Wrong { file: file.to_owned(), problems }
    })
}

/// The text of documents; [`parse`] reads it back to the same.
pub fn write(documents: &[BlueGreen]) -> Result<String, serde_saphyr::ser_error::Error> {
    let texts: Result<Vec<String>, _> = documents.iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}

fn documents(bytes: &[u8], writers: Writers, homes: Homes) -> Result<Held, Vec<Problem>> {
    let text = text(bytes).map_err(|problem| vec![problem])?;
    let trees = tree::parse(text).map_err(|problem| vec![problem])?;
    if trees.is_empty() {
        return Err(vec![whole(
            "the file holds no document",
            "write one that begins with `apiVersion: hueshift.dev/v1alpha1`",
        )]);
    }
    let mut problems = Vec::new();
    let mut whole_documents = Vec::new();
    let mut others = Vec::new();
    for root in &trees {
        if homes == Homes::Any
            && let Some(other) = schema::other(root)
        {
            others.push(other);
            continue;
        }
        let Some(document) = schema::blue_green(root, &mut problems) else { continue };
        let mut notes = checks::errors(&document);
        if homes == Homes::Standalone && document.spec.service.is_some() {
            notes = vec![note(
                "spec.service",
                "is for a mesh, where `hueshift controller` serves it; this is one machine",
                "apply it with kubectl, or write `listen: 127.0.0.1:8080` and endpoints instead",
            )];
        }
        if writers == Writers::Others {
            notes.extend(untrusted_commands(&document));
        }
        problems.extend(notes.into_iter().map(|note| placed(note, root)));
        whole_documents.push((root, document));
    }
    let (roots, documents): (Vec<_>, Vec<_>) = whole_documents.into_iter().unzip();
    for (index, note) in checks::errors_between(&documents) {
        if let Some(root) = roots.get(index) {
            problems.push(placed(note, root));
        }
    }
    if problems.is_empty() && documents.is_empty() {
        problems.push(whole("the file holds no BlueGreen", "name the file that does"));
    }
    if problems.is_empty() { Ok(Held { documents, others }) } else { Err(problems) }
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > tree::MAX_BYTES {
        return Err(whole("the file is larger than 1 MiB", "give `hueshift` the configuration, not data"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Problem { at: place_after(before), ..whole("this byte is not UTF-8 text", "save the file as UTF-8") }
    })?;
    match text.find('\0') {
        Some(at) => {
            let before = bytes.get(..at).unwrap_or_default();
            Err(Problem { at: place_after(before), ..whole("a NUL byte stands here", "remove it") })
        }
        None => Ok(text),
    }
}

/// Whoever may write the file could run any program as us.
fn untrusted_commands(document: &BlueGreen) -> Vec<Note> {
    hueshift_core::color::Color::BOTH
        .into_iter()
        .filter(|color| !document.spec.colors.get(*color).command.is_empty())
        .map(|color| Note {
            field: format!("spec.colors.{color}.command"),
            what: "others than the owner may write this file, so they could run any program as you"
                .to_owned(),
            remedy: "run `chmod go-w` on it, or start the servers yourself".to_owned(),
        })
        .collect()
}

fn placed(note: Note, root: &tree::Node) -> Problem {
    Problem { at: root.place_of(&note.field), field: note.field, what: note.what, remedy: note.remedy }
}

fn whole(what: &str, remedy: &str) -> Problem {
    Problem {
        at: Place { line: 1, column: 1 },
        field: String::new(),
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn place_after(bytes: &[u8]) -> Place {
    let line_start = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = bytes.iter().filter(|b| **b == b'\n').count();
    let column = String::from_utf8_lossy(bytes.get(line_start..).unwrap_or_default()).chars().count();
    Place { line: lines as u64 + 1, column: column as u64 + 1 }
}

fn note(field: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Note {
    Note { field: field.into(), what: what.into(), remedy: remedy.into() }
}

/// Notes in the making.
#[derive(Default)]
struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, field: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(note(field, what, remedy));
    }
}

// === impl DocumentError ===

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentError::Unreadable { file, .. } => write!(f, "cannot read {file}"),
            DocumentError::Wrong { file, problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    let end = if index + 1 < problems.len() { "\n" } else { "" };
                    write!(f, "{file}:{problem}{end}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for DocumentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DocumentError::Unreadable { source, .. } => Some(source),
            DocumentError::Wrong { .. } => None,
        }
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.at.line, self.at.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", visible(&self.field))?;
        }
        // A document may hold anything, its errors go to a terminal.
        write!(f, "{}; {}", visible(&self.what), self.remedy)
    }
}
