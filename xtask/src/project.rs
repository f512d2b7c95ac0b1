//! Where the project lies, and where its commands keep what they make.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The checkout that the command was started in.
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    /// Finds the checkout that this binary was built from.
    ///
    /// Cargo names xtask's folder in the environment of `cargo run`; a binary started by hand falls back on the folder
    /// it was compiled in.
    pub(crate) fn locate() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = fs::canonicalize(&manifest)
            .with_context(|| {
                format!("cannot find xtask's own folder {}", Path::new(&manifest).display())
            })?
            .parent()
            .context("xtask's folder has no parent")?
            .to_owned();
        Ok(Self { root })
    }

    /// The folder with the workspace's Cargo.toml, without symbolic links.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What xtask itself keeps between two runs: kernels, initramfs images, the nested build. Safe to delete.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target().join("xtask")
    }

    /// Cargo's folder for what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        self.root.join(target)
    }

    /// Container images as files.
    pub(crate) fn images(&self) -> PathBuf {
        self.target().join("images")
    }

    /// Programs that are installed for this project only.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// The crate of the eBPF programs.
    pub(crate) fn ebpf_crate(&self) -> PathBuf {
        self.root.join("faultbox-ebpf")
    }

    /// The binaries as the specs name them.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
}
