//! `cargo xtask build`: compiles the workspace's programs and puts them into bin/ and bin/linux/, where the specs name
//! them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
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
    places.extend(go_api(project)?);
    Ok(places)
}

/// Compiles specs/servers/go-api.go into bin/; `None` where there is no Go.
fn go_api(project: &Project) -> Result<Option<PathBuf>> {
    if !run::installed("go") {
        eprintln!(
            "note: bin/go-api is not built: there is no go; `cargo xtask setup --servers` installs it"
        );
        return Ok(None);
    }
    let scratch = project.scratch();
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let built = scratch.join("go-api");
    // Without cgo, and so without the C library: what specs/servers/go.star is about.
    run::check(
        Command::new("go")
            .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
            .arg(&built)
            .arg("specs/servers/go-api.go")
            .env("CGO_ENABLED", "0")
            .current_dir(project.root()),
    )?;
    let places = [project.bin(), project.bin().join("linux")].map(|folder| folder.join("go-api"));
    for to in &places {
        place(&built, to)?;
    }
    let [first, _] = places;
    Ok(Some(first))
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
