//! A rollback as a JSON Patch: it must land while others write to the same object, so it carries no
//! `resourceVersion` and tests only what is ours, at the place where it changes it.
//!
//! All managed routes carry the same plan, so the name alone does not say which of them stands at an index. A pin is
//! therefore tested by its color header too, and a weighted default by its subsets: removing what passes the test of
//! a pin never removes a default, and a number never lands at the other color.

use super::entry::{Kind, Survey, http_name, marked_names, subset};
use super::{Managed, RouteError, rewrite};
use hueshift_core::contract::COLOR_HEADER;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use serde_json::Value;

/// The patch that turns the object as last seen into what [`rewrite`] says. It fails, and changes nothing, when the
/// list was reordered or our fields were changed since; then read again. Empty: nothing to do.
///
/// # Errors
/// As [`rewrite`].
pub fn rollback_patch(vs: &Value, managed: &Managed) -> Result<Patch, RouteError> {
    let wanted = rewrite(vs, managed)?;
    let survey = Survey::take(vs, managed)?;
    let wanted = wanted.pointer("/spec/http").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if survey.http == wanted {
        return Ok(Patch(Vec::new()));
    }
    let mut work = Work { managed, tests: Vec::new(), edits: Vec::new() };
    if wanted.len() == survey.http.len() {
        // The same pins at the same places, if there are any: everything is changed where it stands.
        for (at, (now, then)) in survey.http.iter().zip(wanted).enumerate() {
            work.change(at, now, then);
        }
        return Ok(work.finish());
    }
    let rows = survey.http.iter().zip(&survey.kinds).enumerate();
    let (pins, kept): (Vec<_>, Vec<_>) = rows.partition(|(_, (_, kind))| matches!(kind, Kind::Pin(_)));
    // Each kept route becomes a block of the wanted list: new pins, and itself.
    let mut rest = wanted.iter().enumerate();
    let mut added = Vec::new();
    for (at, (now, kind)) in kept {
        let mut block = matches!(kind, Kind::Default(_)).then(|| managed.pins().len()).unwrap_or(0);
        for (to, then) in rest.by_ref() {
            if block == 0 {
                work.change(at, now, then);
                break;
            }
            block -= 1;
            added.push((to, then));
        }
    }
    for (at, (now, _)) in pins.into_iter().rev() {
        work.test(at, now);
        work.edit(PatchOperation::Remove(RemoveOperation { path: pointer(at, &[]) }));
    }
    for (to, then) in added {
        work.edit(PatchOperation::Add(AddOperation { path: pointer(to, &[]), value: then.clone() }));
    }
    Ok(work.finish())
}

/// A patch in the making: all tests come first, at the indexes of the object as it was seen.
struct Work<'a> {
    managed: &'a Managed,
    tests: Vec<PatchOperation>,
    edits: Vec<PatchOperation>,
}

impl Work<'_> {
    /// Changes a route where it stands, in its smallest parts.
    fn change(&mut self, at: usize, now: &Value, then: &Value) {
        if now == then {
            return;
        }
        self.test(at, now);
        for mut edit in json_patch::diff(now, then).0 {
            let (PatchOperation::Add(AddOperation { path, .. })
            | PatchOperation::Remove(RemoveOperation { path })
            | PatchOperation::Replace(ReplaceOperation { path, .. })) = &mut edit
            else {
                continue;
            };
            let mut whole = pointer(at, &[]);
            whole.append(&*path);
            *path = whole;
            self.edit(edit);
        }
    }

    fn edit(&mut self, edit: PatchOperation) {
        self.edits.push(edit);
    }

    /// What makes this route ours, and which one it is. A route without our mark is tested as a whole.
    fn test(&mut self, at: usize, route: &Value) {
        let names = marked_names(route, self.managed).collect::<Vec<_>>();
        if names.is_empty() {
            self.tests.push(test(pointer(at, &[]), route));
            return;
        }
        if let Some(name) = http_name(route) {
            self.tests.push(test(pointer(at, &["name".to_owned()]), &Value::from(name)));
        }
        for (entry, name) in names {
            let step = |field: &[&str]| {
                let mut path = vec!["match".to_owned(), entry.to_string()];
                path.extend(field.iter().map(|field| (*field).to_owned()));
                pointer(at, &path)
            };
            self.tests.push(test(step(&["name"]), &Value::from(name)));
            if let Some(color) = route.pointer(&format!("/match/{entry}/headers/{COLOR_HEADER}")) {
                self.tests.push(test(step(&["headers", COLOR_HEADER]), color));
            }
        }
        for (place, destination) in
            route.get("route").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            if let Some(subset) = subset(destination) {
                let path =
                    ["route".to_owned(), place.to_string(), "destination".to_owned(), "subset".to_owned()];
                self.tests.push(test(pointer(at, &path), &Value::from(subset)));
            }
        }
    }

    fn finish(mut self) -> Patch {
        self.tests.append(&mut self.edits);
        Patch(self.tests)
    }
}

fn test(path: PointerBuf, value: &Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path, value: value.clone() })
}

/// `/spec/http/<at>/…`
fn pointer(at: usize, steps: &[String]) -> PointerBuf {
    let head = ["spec".to_owned(), "http".to_owned(), at.to_string()];
    PointerBuf::from_tokens(head.iter().chain(steps))
}
