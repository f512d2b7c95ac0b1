//! Cgroups for the processes that are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// A cgroup below the root of the hierarchy, removed at the end.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        // proc(5): the fifth field is where the file system is mounted.
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let root =
            mount.and_then(|line| line.split(' ').nth(4)).context("there is no cgroup v2")?;
        let path = Path::new(root).join(format!("faultbox-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes have been reaped, but the kernel may need a moment to notice.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
