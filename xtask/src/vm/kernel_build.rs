//! `cargo xtask vm kernel`: builds the 6.1 kernel with error injection from Debian's source package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::{debian::Archive, kernel};
use crate::{project::Project, run, setup};

const FRAGMENT: &str = include_str!("../../kernel.config");
const SOURCE_PACKAGE: &str = "linux-source-6.1";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Stop when the configuration is complete.
    #[arg(long)]
    config_only: bool,
}

/// Builds the image and puts it where `cargo xtask vm` looks for it.
pub(super) fn run(project: &Project, args: &Args) -> Result<()> {
    setup::kernel_build()?;
    let source = source(project)?;
    configure(&source)?;
    if args.config_only {
        eprintln!("vm kernel: configured in {}", source.display());
        return Ok(());
    }
    let jobs = thread::available_parallelism()?;
    eprintln!("vm kernel: compiling with {jobs} jobs: about 15 minutes on 2 cores");
    run::check(make(&source).arg(format!("-j{jobs}")).arg("bzImage"))?;
    let folder = kernel::own_folder(project);
    fs::create_dir_all(&folder)?;
    let image = folder.join("bzImage-6.1-error-injection");
    fs::copy(source.join("arch/x86/boot/bzImage"), &image)
        .with_context(|| format!("cannot write {}", image.display()))?;
    eprintln!("vm kernel: wrote {}; {} can be deleted", image.display(), source.display());
    Ok(())
}

/// The unpacked source, fetched if it is not there.
fn source(project: &Project) -> Result<PathBuf> {
    let folder = project.scratch().join("linux");
    let source = folder.join(SOURCE_PACKAGE);
    if source.join("Makefile").is_file() {
        return Ok(source);
    }
    eprintln!("vm kernel: fetching {SOURCE_PACKAGE} from Debian's bookworm (140 MB)");
    let archive = Archive::open(&project.scratch().join("apt"), "bookworm")?;
    let tarball = archive.unpack(SOURCE_PACKAGE)?.join(format!("usr/src/{SOURCE_PACKAGE}.tar.xz"));
    fs::create_dir_all(&folder)?;
    run::check(Command::new("tar").arg("-xf").arg(&tarball).arg("-C").arg(&folder))?;
    archive.close();
    ensure!(source.join("Makefile").is_file(), "{} is not a kernel's source", source.display());
    Ok(source)
}

/// Lays our options over the default configuration, and checks that they have survived the dependencies.
fn configure(source: &Path) -> Result<()> {
    run::check(make(source).arg("x86_64_defconfig"))?;
    let fragment = source.join("faultbox.config");
    fs::write(&fragment, FRAGMENT)?;
    run::check(
        Command::new("scripts/kconfig/merge_config.sh")
            .args(["-m", ".config", "faultbox.config"])
            .current_dir(source),
    )?;
    run::check(make(source).arg("olddefconfig"))?;
    let config = fs::read_to_string(source.join(".config"))?;
    let lost = lost_options(FRAGMENT, &config);
    ensure!(
        lost.is_empty(),
        "this source does not take these options of xtask/kernel.config: {}",
        lost.join(", ")
    );
    Ok(())
}

fn make(source: &Path) -> Command {
    let mut command = Command::new("make");
    // Fixed names in place of this machine's, so that two builds differ as little as can be.
    command
        .arg("-s")
        .current_dir(source)
        .env("KBUILD_BUILD_USER", "faultbox")
        .env("KBUILD_BUILD_HOST", "faultbox");
    command.stdout(std::io::stderr());
    command
}

/// The lines of the fragment that do not hold in the configuration.
fn lost_options<'f>(fragment: &'f str, config: &str) -> Vec<&'f str> {
    fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter(|line| match line.split_once('=') {
            // An option that is off, or that depends on one that is off, is a comment or not there at all.
            Some((name, "n")) => config
                .lines()
                .any(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))),
            _ => !config.lines().any(|l| l == *line),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_did_not_take_are_named() {
        let config =
            "CONFIG_BPF=y\n# CONFIG_DRM is not set\nCONFIG_SOUND=y\nCONFIG_LSM=\"capability\"\n";
        let fragment = "# why\nCONFIG_BPF=y\nCONFIG_DRM=n\nCONFIG_FB=n\nCONFIG_SOUND=n\nCONFIG_LSM=\"capability,bpf\"\n";
        assert_eq!(
            lost_options(fragment, config),
            ["CONFIG_SOUND=n", "CONFIG_LSM=\"capability,bpf\""]
        );
    }

    #[test]
    fn the_fragment_asks_for_error_injection() {
        assert!(FRAGMENT.lines().any(|line| line == "CONFIG_FUNCTION_ERROR_INJECTION=y"));
    }
}
