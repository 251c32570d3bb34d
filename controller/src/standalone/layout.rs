//! Names of everything inside a state directory, in one place.
//!
//! Envoy and the controller meet in this directory, so all paths are absolute. It is private to its user
//! (0700): whoever can write here decides where traffic goes.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket that Linux takes, without its closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// A state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It cannot be made or entered.
    #[error("cannot use {} as state directory; choose another one with --state DIR", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its sockets would have names that the system does not take.
    #[error(
        "the state directory {} is too deep: {} would have {length} bytes, a socket's path may have 107; \
         choose a shorter one with --state DIR", root.display(), socket.display()
    )]
    TooDeep {
        /// The directory.
        root: PathBuf,
        /// The longest socket.
        socket: PathBuf,
        /// Bytes of its path.
        length: usize,
    },
}

// === impl Layout ===

impl Layout {
    /// Names inside `root`; nothing is touched.
    pub fn at(root: &Path) -> io::Result<Layout> {
        Ok(Layout { root: std::path::absolute(root)? })
    }

    /// Makes the directories, or says why it cannot.
    pub fn create(root: &Path) -> Result<Layout, LayoutError> {
        let unusable = |source| LayoutError::Unusable { path: root.to_owned(), source };
        let layout = Layout::at(root).map_err(unusable)?;
        let socket = layout.admin_socket();
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(LayoutError::TooDeep { root: layout.root, socket, length });
        }
        for folder in ["", "xds", "state", "history", "log", "run"] {
            let path = layout.root.join(folder);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(unusable)?;
        }
        std::fs::set_permissions(&layout.root, std::fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        Ok(layout)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the one `up` that owns the directory.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the command line talks to `up`.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Where the filters report.
    pub fn report_socket(&self) -> PathBuf {
        self.root.join("report.sock")
    }

    /// Envoy's own administration.
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("envoy-admin.sock")
    }

    /// A file that Envoy reads.
    pub fn xds(&self, name: &str) -> PathBuf {
        self.root.join("xds").join(name)
    }

    /// The routes of one service.
    pub fn routes(&self, service: &str) -> PathBuf {
        self.xds(&format!("routes-{service}.json"))
    }

    /// What is remembered of one service.
    pub fn state(&self, service: &str) -> PathBuf {
        self.root.join("state").join(format!("{service}.json"))
    }

    /// The judge's checkpoint of one service.
    pub fn checkpoint(&self, service: &str) -> PathBuf {
        self.root.join("state").join(format!("{service}.judge.json"))
    }

    /// The mesh key.
    pub fn mesh_key(&self) -> PathBuf {
        self.root.join("state").join("mesh-key.json")
    }

    /// Records of finished releases of one service.
    pub fn history(&self, service: &str) -> PathBuf {
        self.root.join("history").join(service)
    }

    /// The log of a program that we started.
    pub fn log(&self, program: &str) -> PathBuf {
        self.root.join("log").join(format!("{program}.log"))
    }

    /// Who a program that we started is.
    pub fn pid(&self, program: &str) -> PathBuf {
        self.root.join("run").join(format!("{program}.json"))
    }

    /// All [`Layout::pid`] files are here.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_too_deep_for_sockets_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(100));
        let error = Layout::create(&deep).unwrap_err().to_string();
        assert!(error.contains("107") && error.contains("--state DIR"), "{error}");
        assert!(!deep.exists());
    }
}
