//! A folder for one test, demo or measurement: configuration, state and logs of everything it starts.
//!
//! Removed at the end; kept, and its place printed, if the test failed or `HUESHIFT_KEEP` is set.

use std::path::{Path, PathBuf};

/// The folder.
#[derive(Debug)]
pub struct Workplace {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

// === impl Workplace ===

impl Workplace {
    /// Makes a folder whose name begins with `name`.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("hueshift-{name}-"))
            .tempdir()
            .expect("a temporary folder");
        let path = folder.path().to_path_buf();
        Workplace { folder: Some(folder), path }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps the folder after the end.
    pub fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("HUESHIFT_KEEP").is_some() {
            self.keep();
            eprintln!("files and logs are kept in {}", self.path.display());
        }
    }
}
