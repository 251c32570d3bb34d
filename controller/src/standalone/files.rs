//! Files that are whole or absent: write beside, sync, rename.
//!
//! A reader (Envoy, the next `up`) never sees half a file, whenever we die. What cannot be read is set aside
//! under another name, so that a person can look at it and nothing is silently dropped.

use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    /// The file that was in the way.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What reading a file that must be valid JSON came to.
#[derive(Debug)]
pub enum Loaded<T> {
    /// There is none.
    Absent,
    /// It is this.
    Value(T),
    /// It was unreadable and is now under another name.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

/// Replaces `path` by `contents`, durably.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    write_synced(&beside, contents).map_err(|source| WriteError { path: beside.clone(), source })?;
    fs::rename(&beside, path)
        .and_then(|()| sync_folder(path))
        .map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Writes `path` unless it exists already. Says whether it wrote.
pub fn write_once(path: &Path, contents: &[u8]) -> Result<bool, WriteError> {
    if path.exists() {
        return Ok(false);
    }
    replace(path, contents).map(|()| true)
}

/// Replaces `path` unless it holds just that: Envoy takes every rename as news.
pub fn replace_if_changed(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    match fs::read(path) {
        Ok(now) if now == contents => Ok(()),
        _ => replace(path, contents),
    }
}

/// Reads JSON; sets an unreadable file aside as `<name>.corrupt-<now>`.
pub fn load<T: DeserializeOwned>(path: &Path, now: u64) -> io::Result<Loaded<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Loaded::Value(value)),
        Err(error) => {
            let mut to = path.as_os_str().to_owned();
            to.push(format!(".corrupt-{now}"));
            let to = PathBuf::from(to);
            fs::rename(path, &to)?;
            Ok(Loaded::SetAside { to, why: error.to_string() })
        }
    }
}

fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    // Keys and state are nobody else's business.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// A rename is durable once the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_the_way_of_the_new_file_withholds_the_write_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.json");
        replace(&path, b"1").unwrap();
        fs::create_dir(folder.path().join("routes.json.new")).unwrap();
        let error = replace(&path, b"2").unwrap_err();
        assert!(error.to_string().ends_with("routes.json.new"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"1");
        fs::remove_dir(folder.path().join("routes.json.new")).unwrap();
        replace(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_not_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, b"{\"half").unwrap();
        let Loaded::SetAside { to, .. } = load::<u32>(&path, 7).unwrap() else { panic!("not set aside") };
        assert_eq!(fs::read(&to).unwrap(), b"{\"half");
        assert!(matches!(load::<u32>(&path, 7).unwrap(), Loaded::Absent));
    }

    #[test]
    fn a_record_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.json");
        assert!(write_once(&path, b"first").unwrap());
        assert!(!write_once(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }
}
