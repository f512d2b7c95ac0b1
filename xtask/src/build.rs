//! `cargo xtask build`: compiles the workspace's programs and puts them into bin/ and bin/linux/, where the specs name
//! them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    artifacts::{self, Kind},
    project::Project,
    run,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// With all optimisations; the dev profile is what tests and demo use.
    #[arg(long)]
    release: bool,
}

/// Builds, and reports where the programs are.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let programs = programs(project, args.release)?;
    eprintln!(
        "{} programs are in {} and {}",
        programs.len(),
        project.bin().display(),
        project.bin().join("linux").display()
    );
    Ok(())
}

/// Builds every program of the workspace but xtask; returns their places in bin/.
pub(crate) fn programs(project: &Project, release: bool) -> Result<Vec<PathBuf>> {
    let mut command = run::cargo();
    command
        .args(["build", "--workspace", "--exclude", "xtask", "--bins"])
        .current_dir(project.root());
    if release {
        command.arg("--release");
    }
    let built = artifacts::build(&mut command)?;
    let folders = [project.bin(), project.bin().join("linux")];
    let mut places = Vec::new();
    for program in built.iter().filter(|artifact| artifact.kind == Kind::Binary && !artifact.test) {
        for folder in &folders {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            place(&program.executable, &folder.join(&program.name))?;
        }
        places.push(folders[0].join(&program.name));
    }
    ensure!(!places.is_empty(), "the workspace has no programs");
    Ok(places)
}

/// Makes `to` another name of the file, or a copy on another file system, in one step: a program that runs keeps its
/// old file, and nobody ever finds half of one.
fn place(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot put {} at {}", from.display(), to.display());
    let source = fs::metadata(from).with_context(context)?;
    if fs::metadata(to).is_ok_and(|old| (old.dev(), old.ino()) == (source.dev(), source.ino())) {
        return Ok(());
    }
    let mut aside = to.as_os_str().to_owned();
    aside.push(".new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    if fs::hard_link(from, &aside).is_err() {
        fs::copy(from, &aside).with_context(context)?;
    }
    fs::rename(&aside, to).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_replaced_and_a_second_time_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("xtask-place-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("built"), folder.join("placed"));
        fs::write(&to, "old").unwrap();
        fs::write(&from, "new").unwrap();
        place(&from, &to).unwrap();
        place(&from, &to).unwrap();
        let content = fs::read_to_string(&to).unwrap();
        let names = fs::read_dir(&folder).unwrap().count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((content.as_str(), names), ("new", 2));
    }
}
