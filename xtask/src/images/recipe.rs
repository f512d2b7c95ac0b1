//! What an image is made of: its folder in specs/qa, and the files of this machine that the folder names.

use std::{
    fs::{self, Permissions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    project::Project,
    run,
    tree::{self, Node, Tree},
};

/// An image of specs/qa.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Its folder.
    pub(super) folder: &'static str,
    /// Its own name, which nobody else uses.
    pub(super) name: &'static str,
    /// The name under which specs know it, if that is another. Somebody else may have an image of that name.
    pub(super) alias: Option<&'static str>,
}

impl Image {
    const fn new(folder: &'static str, name: &'static str, alias: Option<&'static str>) -> Self {
        Self { folder, name, alias }
    }
}

/// The folder of the image that most others are made from.
pub(super) const BASE: &str = "base";

/// All images, each behind the one that it is made from.
pub(super) const IMAGES: [Image; 8] = [
    Image::new(BASE, "faultbox/base:12", None),
    Image::new("api", "faultbox/api:qa", Some("company/api:latest")),
    Image::new("search", "faultbox/search:qa", Some("company/search:latest")),
    Image::new("redis", "faultbox/redis:7", Some("redis:7")),
    Image::new("postgres", "faultbox/postgres:15", None),
    Image::new("static", "faultbox/static:qa", None),
    Image::new("forking", "faultbox/forking:qa", None),
    Image::new("nonroot", "faultbox/nonroot:qa", None),
];

/// The program that is also compiled without shared libraries.
pub(super) const STATIC: &str = "inventory-svc";
/// The file that lists what of this machine goes into an image.
const HOST_FILES: &str = "host-files";
/// Where those files are in the folder that Docker gets.
const ROOTFS: &str = "rootfs";

/// Everything that goes into one image.
pub(super) struct Recipe {
    pub(super) image: &'static Image,
    /// The folder in specs/qa.
    folder: PathBuf,
    /// The files in it, but for the list.
    own: Tree,
    /// The files of this machine.
    host: Tree,
    content: String,
}

impl Recipe {
    /// Reads the image's folder; `others` are the recipes of those that it may be made from.
    pub(super) fn read(project: &Project, image: &'static Image, others: &[Self]) -> Result<Self> {
        let folder = project.root().join("specs/qa").join(image.folder);
        let dockerfile = folder.join("Dockerfile");
        let text = fs::read_to_string(&dockerfile)
            .with_context(|| format!("cannot read {}", dockerfile.display()))?;
        let from =
            parent(&text).with_context(|| format!("{} has no FROM", dockerfile.display()))?;
        let parent = others.iter().find(|other| other.image.name == from);
        ensure!(
            parent.is_some() || from == "scratch",
            "{} starts from {from}, which is none of ours",
            dockerfile.display()
        );

        let mut host = Tree::default();
        let list = folder.join(HOST_FILES);
        let lines =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            add(project, &mut host, line)
                .with_context(|| format!("{} names {line}", list.display()))?;
        }
        host.add_libraries()?;
        if let Some(parent) = parent {
            host.subtract(&parent.host);
        }
        let mut own = Tree::default();
        add_folder(&mut own, &folder, Path::new("/"))?;

        let mut hasher = DefaultHasher::new();
        // A change of this program may change what it makes of the same files.
        (env!("CARGO_PKG_VERSION"), 1, parent.map(|parent| &parent.content)).hash(&mut hasher);
        hash(&own, &mut hasher)?;
        hash(&host, &mut hasher)?;
        let content = format!("{:016x}", hasher.finish());
        Ok(Self { image, folder, own, host, content })
    }

    /// A hash of all that goes into the image, what it is made from included.
    pub(super) fn content(&self) -> String {
        self.content.clone()
    }

    /// Writes the folder that Docker gets: the image's own files, and this machine's below rootfs/.
    pub(super) fn stage(&self, context: &Path) -> Result<()> {
        if context.exists() {
            fs::remove_dir_all(context)
                .with_context(|| format!("cannot empty {}", context.display()))?;
        }
        write(&self.own, context)
            .and_then(|()| write(&self.host, &context.join(ROOTFS)))
            .with_context(|| format!("cannot copy what {} names", self.folder.display()))
    }
}

/// The first image that a Dockerfile names.
fn parent(dockerfile: &str) -> Option<&str> {
    dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")).map(str::trim)
}

/// Adds what one line of a list names.
fn add(project: &Project, tree: &mut Tree, line: &str) -> Result<()> {
    if line.starts_with('/') && line.ends_with('/') {
        return tree.add_entry_if_present(Path::new(line.trim_end_matches('/')));
    }
    if line.starts_with('/') {
        return tree.add(Path::new(line));
    }
    let target = project.target();
    let (folder, name) = match line.split_once('/') {
        Some(("bin", name)) => (target.join("debug"), name),
        Some(("static", name)) => (target.join(self::target()?).join("debug"), name),
        _ => bail!("a line is an absolute path, bin/NAME or static/NAME"),
    };
    tree.add_as(&folder.join(name), &Path::new("/usr/local/bin").join(name))
}

/// Adds the files of a folder of specs/qa, with those in its folders.
fn add_folder(tree: &mut Tree, folder: &Path, place: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            add_folder(tree, &path, &place.join(&name))?;
        } else if name != HOST_FILES {
            tree.add_as(&path, &place.join(&name))?;
        }
    }
    Ok(())
}

/// What the machine compiles for.
pub(super) fn target() -> Result<String> {
    let text = run::output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it compiles for")?.to_owned())
}

fn hash(tree: &Tree, hasher: &mut DefaultHasher) -> Result<()> {
    for (path, node) in tree.nodes() {
        path.hash(hasher);
        match node {
            Node::Directory { permissions } => (0, permissions).hash(hasher),
            Node::Symlink { target } => (1, target).hash(hasher),
            Node::File { source, permissions, .. } => {
                (2, permissions).hash(hasher);
                hasher.write(&tree::read(source)?);
            }
        }
    }
    Ok(())
}

fn write(tree: &Tree, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (path, node) in tree.nodes() {
        let place = folder.join(path.strip_prefix("/")?);
        fs::create_dir_all(place.parent().context("a file is in no folder")?)?;
        match node {
            Node::Directory { permissions } => {
                fs::create_dir_all(&place)?;
                fs::set_permissions(&place, Permissions::from_mode(*permissions))?;
            }
            Node::Symlink { target } => symlink(target, &place)?,
            Node::File { source, permissions, .. } => {
                fs::write(&place, tree::read(source)?)?;
                fs::set_permissions(&place, Permissions::from_mode(*permissions))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_its_folder_and_starts_from_nothing_or_from_one_before_it() {
        let project = Project::locate().unwrap();
        let folder = project.root().join("specs/qa");
        for (number, image) in IMAGES.iter().enumerate() {
            let text = fs::read_to_string(folder.join(image.folder).join("Dockerfile")).unwrap();
            let from = parent(&text).unwrap();
            let before = IMAGES[..number].iter().any(|other| other.name == from);
            assert!(from == "scratch" || before, "{} starts from {from}", image.folder);
            assert!(folder.join(image.folder).join(HOST_FILES).exists(), "{}", image.folder);
        }
        let folders =
            fs::read_dir(&folder).unwrap().filter(|it| it.as_ref().unwrap().path().is_dir());
        assert_eq!(folders.count(), IMAGES.len());
    }

    #[test]
    fn a_staged_folder_has_the_files_with_their_modes() {
        let folder = std::env::temp_dir().join(format!("xtask-stage-{}", std::process::id()));
        let mut tree = Tree::default();
        tree.add(Path::new("/bin/sh")).unwrap();
        tree.add_as(Path::new("/bin/sh"), Path::new("/opt/own/shell")).unwrap();
        write(&tree, &folder).unwrap();
        let shell = fs::metadata(folder.join("opt/own/shell")).unwrap();
        let same = fs::read(folder.join("opt/own/shell")).unwrap()
            == tree::read(Path::new("/bin/sh")).unwrap();
        let links = fs::symlink_metadata("/bin").unwrap().is_symlink()
            == fs::symlink_metadata(folder.join("bin")).unwrap().is_symlink();
        fs::remove_dir_all(&folder).unwrap();
        assert!(same && links);
        assert_eq!(shell.permissions().mode() & 0o111, 0o111);
    }
}
