//! `cargo xtask images`: makes the container images of specs/qa from this machine's own files, without any registry.
//!
//! What is up to date, by a hash of all that goes into an image, is not made again. The images are in the engine
//! afterwards, and as files and folders below target/images, for the virtual machines. Names that others may use, such as redis:7,
//! are given to ours only if nobody else has them.

mod engine;
mod flat;
mod recipe;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::flat::Flat;
use self::{
    engine::Images,
    recipe::{IMAGES, Image, Recipe},
};
use crate::{artifacts, project::Project, run, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these, by the names of their folders in specs/qa, and what they are made from.
    names: Vec<String>,
}

/// Makes the images, and says what is new.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let started = Instant::now();
    let made = make(project, &args.names)?;
    eprintln!(
        "images: {made} made anew, all others up to date, in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Makes the named images, or all; returns how many were not up to date.
pub(crate) fn make(project: &Project, names: &[String]) -> Result<usize> {
    let wanted = selected(names)?;
    setup::docker()?;
    setup::servers()?;
    engine::check()?;
    build_programs(project)?;
    let mut present = Images::look_up(&wanted)?;
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut replaced = Vec::new();
    let mut made = 0;
    for image in wanted {
        let recipe = Recipe::read(project, image, &recipes)?;
        let old = present.get(image.name).map(|old| old.id.clone());
        if update(project, &recipe, &mut present)? {
            made += 1;
            replaced.extend(old);
        }
        recipes.push(recipe);
    }
    // Those that others were made from can go only after these.
    for old in replaced.iter().rev().filter(|old| !present.has(old)) {
        engine::remove(old);
    }
    Ok(made)
}

/// An image as a file, for an engine that does not have it.
pub(crate) struct Saved {
    /// What `docker save` has written.
    pub(crate) file: PathBuf,
    /// The image's name in it.
    pub(crate) name: &'static str,
    /// The name under which specs know the image, if that is another.
    pub(crate) alias: Option<&'static str>,
    /// The same in a folder, if whoever made it was root.
    pub(crate) flat: Option<Flat>,
}

/// The files of the named images and of what they are made from, or of all.
///
/// # Errors
/// If one was never made.
pub(crate) fn saved(project: &Project, names: &[String]) -> Result<Vec<Saved>> {
    let mut saved = Vec::new();
    for image in selected(names)? {
        let file = file_of(project, image, "tar");
        if !file.exists() {
            bail!("{} is missing; `cargo xtask images` makes it", file.display());
        }
        let flat = Flat::open(&project.images().join(image.folder));
        saved.push(Saved { file, name: image.name, alias: image.alias, flat });
    }
    Ok(saved)
}

/// The images of that name, or all, each behind those that it is made from.
fn selected(names: &[String]) -> Result<Vec<&'static Image>> {
    for name in names {
        if !IMAGES.iter().any(|image| image.folder == name) {
            let all: Vec<_> = IMAGES.iter().map(|image| image.folder).collect();
            bail!("there is no image {name}; specs/qa has {}", all.join(", "));
        }
    }
    let wanted = |image: &&Image| {
        names.is_empty()
            || image.folder == recipe::BASE
            || names.iter().any(|name| image.folder == name)
    };
    Ok(IMAGES.iter().filter(wanted).collect())
}

/// Compiles what the images contain.
fn build_programs(project: &Project) -> Result<()> {
    artifacts::build(
        run::cargo()
            .args(["build", "--package", "faultbox-specs", "--bins"])
            .current_dir(project.root()),
    )?;
    let target = recipe::target()?;
    // A target that is named has a folder of its own, so nothing else is built anew for the other flags.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    artifacts::build(
        run::cargo()
            .args([
                "build",
                "--package",
                "faultbox-specs",
                "--bin",
                recipe::STATIC,
                "--target",
                &target,
            ])
            .env(flags, "-C target-feature=+crt-static")
            .current_dir(project.root()),
    )?;
    Ok(())
}

/// Makes the image unless it is there as it should be; returns whether it was not.
fn update(project: &Project, recipe: &Recipe, present: &mut Images) -> Result<bool> {
    let image = recipe.image;
    let content = recipe.content();
    let found = present.get(image.name);
    if found.is_some_and(|found| found.folder.is_none()) {
        bail!(
            "the image {} on this machine was not made by `cargo xtask images`: give it another name (`docker tag`, `docker rmi`)",
            image.name
        );
    }
    let stale = found.is_none_or(|found| found.content.as_deref() != Some(&content));
    if stale {
        eprintln!("images: making {}", image.name);
        let folder = project.images().join("context");
        recipe.stage(&folder)?;
        let id = engine::build(&folder, image, &content)?;
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
        present.insert(image, &id, &content);
    }
    let id =
        present.get(image.name).context("the image is not there after it was made")?.id.clone();
    if let Some(alias) = image.alias {
        name(image, alias, &id, present)?;
    }
    save(project, image, &content)?;
    Ok(stale)
}

/// Gives the image its second name, unless that is somebody else's.
fn name(image: &Image, alias: &str, id: &str, present: &Images) -> Result<()> {
    match present.get(alias) {
        Some(other) if other.folder.is_none() => {
            eprintln!(
                "images: {alias} on this machine is somebody else's and is kept: specs that name it start that one, and ours is {}",
                image.name
            );
            Ok(())
        }
        Some(ours) if ours.id == id => Ok(()),
        _ => engine::tag(image.name, alias),
    }
}

/// Writes the image's file, unless the one that is there has the same content.
fn save(project: &Project, image: &Image, content: &str) -> Result<()> {
    let (file, noted) = (file_of(project, image, "tar"), file_of(project, image, "content"));
    if file.exists() && fs::read_to_string(&noted).is_ok_and(|noted| noted == content) {
        return Ok(());
    }
    fs::create_dir_all(project.images())
        .with_context(|| format!("cannot create {}", project.images().display()))?;
    let partial = file_of(project, image, "partial");
    engine::save(image.name, &partial)?;
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        Flat::make(&partial, &project.images().join(image.folder))?;
    }
    fs::rename(&partial, &file).with_context(|| format!("cannot rename {}", partial.display()))?;
    fs::write(&noted, content).with_context(|| format!("cannot write {}", noted.display()))
}

fn file_of(project: &Project, image: &Image, extension: &str) -> PathBuf {
    project.images().join(Path::new(image.folder).with_extension(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_is_made_from_comes_before_it() {
        let folders = |names: &[&str]| -> Vec<_> {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            selected(&names).unwrap().iter().map(|image| image.folder).collect()
        };
        assert_eq!(folders(&["redis", "api"]), ["base", "api", "redis"]);
        assert_eq!(folders(&[]).len(), IMAGES.len());
    }

    #[test]
    fn an_image_that_there_is_not_is_named_with_those_that_there_are() {
        let error = selected(&["mysql".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("mysql") && error.contains("postgres"), "{error}");
    }
}
