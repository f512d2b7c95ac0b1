//! Taking single files out of Debian's packages without installing anything: apt works in a folder of ours, with a list
//! of sources of its own, so the system's configuration neither matters nor changes.

use std::{
    fs,
    io::stderr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{run, setup};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of Debian, such as `sid`, with its package lists in a folder of ours.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Loads the package lists of the suite.
    pub(super) fn open(folder: &Path, suite: &str) -> Result<Self> {
        ensure!(
            run::installed("apt-get") && run::installed("dpkg-deb"),
            "this machine has neither apt-get nor dpkg-deb"
        );
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install the package debian-archive-keyring"
        );
        let archive = Self { folder: folder.join(suite) };
        for sub in ["state/lists/partial", "cache/archives/partial", "none"] {
            let sub = archive.folder.join(sub);
            fs::create_dir_all(&sub).with_context(|| format!("cannot create {}", sub.display()))?;
        }
        let mirror = setup::mirror().unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
        let sources = archive.folder.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        fs::write(archive.folder.join("state/status"), "")?;
        fs::write(archive.folder.join("apt.conf"), configuration(&archive.folder))?;
        run::check(archive.apt("apt-get").args(["update", "-qq"]).stdout(stderr()))
            .with_context(|| format!("cannot load the package lists of Debian's {suite}"))?;
        Ok(archive)
    }

    /// The names of all packages that start with `prefix`.
    pub(super) fn packages(&self, prefix: &str) -> Result<Vec<String>> {
        let names = run::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads the package and unpacks it; returns the folder, which the next package will take over.
    pub(super) fn unpack(&self, package: &str) -> Result<PathBuf> {
        let (files, unpacked) = (self.folder.join("files"), self.folder.join("unpacked"));
        for folder in [&files, &unpacked] {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot empty {}", folder.display()))?;
            }
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        run::check(
            self.apt("apt-get")
                .args(["download", "-qq", package])
                .current_dir(&files)
                .stdout(stderr()),
        )
        .with_context(|| format!("cannot download {package}"))?;
        let deb = fs::read_dir(&files)?
            .next()
            .with_context(|| format!("apt-get has left no file of {package}"))??
            .path();
        run::check(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))
            .with_context(|| format!("cannot unpack {package}"))?;
        Ok(unpacked)
    }

    /// Deletes the package lists and what was unpacked.
    pub(super) fn close(self) {
        // What cannot be deleted lies in target/ and is overwritten next time.
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// One of apt's programs, working in our folder.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }
}

/// What makes apt work in `folder` and nowhere else.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none";
Dir::Etc::preferences "{folder}/none/preferences";
Dir::Etc::preferencesparts "{folder}/none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
APT::Architecture "amd64";
// apt's own user need not be able to enter the checkout.
APT::Sandbox::User "";
Acquire::Languages "none";
"#
    )
}
