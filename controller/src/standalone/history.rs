//! The records of finished releases, for readers: works with and without a running `up`, and changes nothing.
//!
//! The writer's side, which sets aside what it cannot read, is `store`.

use crate::home::Versioned;
use crate::view::ReleaseRecord;
use std::fs;
use std::io;
use std::path::Path;

/// All records below a state directory, and a sentence for each file that is none. `None`: there is no history.
pub fn all(root: &Path) -> io::Result<Option<(Vec<ReleaseRecord>, Vec<String>)>> {
    let services = match fs::read_dir(root.join("history")) {
        Ok(services) => services,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    let mut problems = Vec::new();
    for service in services {
        let service = service?.path();
        if !service.is_dir() {
            continue;
        }
        for file in fs::read_dir(&service)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match Versioned::<ReleaseRecord>::read(&fs::read(&path)?) {
                Ok(record) => records.push(record),
                Err(error) => problems.push(format!("{} cannot be read: {error}", path.display())),
            }
        }
    }
    problems.sort();
    Ok(Some((records, problems)))
}
