//! A folder for a test.

use std::{fs, path::PathBuf};

/// Empty, and removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// With a name that no other test of this process has.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
