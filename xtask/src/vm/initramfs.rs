//! What a guest finds in its memory when it starts.
//!
//! There are two parts, one behind the other: the machine's files (programs with their libraries, the project's
//! binaries and specs, each at the path that it has on the host), kept under target/xtask/initramfs by the hash of what
//! is in it; and a small one that belongs to this one run (the first process, the command, its environment).

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use crate::tree::{self, Node, Tree};

/// How many images are kept: a few sets of binaries take turns while somebody works.
const KEPT_IMAGES: usize = 4;
/// Nobody takes that long to write an image.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The archive of the tree in `folder`, written only if the one that lies there is of other files.
pub(super) fn image(tree: &Tree, folder: &Path) -> Result<PathBuf> {
    let mut contents: HashMap<u64, Vec<&Path>> = HashMap::new();
    let mut whole = DefaultHasher::new();
    // A change of this program may change what it writes for the same files.
    env!("CARGO_PKG_VERSION").hash(&mut whole);
    for (path, node) in tree.nodes() {
        path.hash(&mut whole);
        match node {
            Node::Directory { permissions } => (0, permissions).hash(&mut whole),
            Node::Symlink { target } => (1, target).hash(&mut whole),
            Node::File { source, permissions, modified } => {
                let mut content = DefaultHasher::new();
                content.write(&read(source)?);
                (permissions, modified).hash(&mut content);
                let content = content.finish();
                content.hash(&mut whole);
                contents.entry(content).or_default().push(path);
            }
        }
    }
    let image = folder.join(format!("{:016x}.cpio", whole.finish()));
    if image.exists() {
        // Its time stamp says when it was used last.
        File::options().append(true).open(&image)?.set_modified(SystemTime::now())?;
        return Ok(image);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let partial = image.with_extension(format!("{}.partial", std::process::id()));
    write(tree, &partial, contents)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, &image).with_context(|| format!("cannot rename {}", partial.display()))?;
    forget_old_images(folder)?;
    Ok(image)
}

fn write(tree: &Tree, file: &Path, contents: HashMap<u64, Vec<&Path>>) -> Result<()> {
    let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, File::create(file)?));
    for (path, node) in tree.nodes() {
        match node {
            Node::Directory { permissions } => archive.directory(path, *permissions)?,
            Node::Symlink { target } => archive.symlink(path, target)?,
            Node::File { .. } => {}
        }
    }
    // After all the folders; equal files (bin/ and bin/linux/) are in memory once.
    let mut contents: Vec<_> = contents.into_values().collect();
    contents.sort();
    for paths in contents {
        let Some(Node::File { source, permissions, modified }) = tree.node(paths[0]) else {
            continue;
        };
        archive.file(paths, *permissions, *modified, &tree::read(source)?)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

/// The part that belongs to one run: [`super::Guest`]'s files below /.faultbox-vm, and /init.
pub(super) fn own_part(
    out: impl Write,
    busybox: &Path,
    init: &str,
    files: &[(&str, String)],
) -> Result<()> {
    let own = Path::new("/.faultbox-vm");
    let mut archive = Archive::new(out);
    archive.directory(own, 0o755)?;
    archive.file([own.join("busybox").as_path()], 0o755, 0, &read(busybox)?)?;
    archive.file([own.join("init").as_path(), Path::new("/init")], 0o755, 0, init.as_bytes())?;
    for (name, text) in files {
        archive.file([own.join(name).as_path()], 0o644, 0, text.as_bytes())?;
    }
    archive.finish()?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Deletes all but the images used last, and what a run that was killed left half written.
fn forget_old_images(folder: &Path) -> Result<()> {
    let mut images = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file that another run has just renamed or deleted is none of ours.
        let Ok(used) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "cpio") {
            images.push((used, path));
        } else if used.elapsed().is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(path);
        }
    }
    images.sort();
    let old = images.len().saturating_sub(KEPT_IMAGES);
    for (_, path) in images.drain(..old) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn the_image_is_reused_until_a_file_changes() {
        let folder = Folder::new("cache");
        let file = folder.0.join("file");
        fs::write(&file, "one").unwrap();
        let images = folder.0.join("images");
        let made = || {
            let mut tree = Tree::default();
            tree.add(&file).unwrap();
            image(&tree, &images).unwrap()
        };
        let first = made();
        assert_eq!(first, made());
        fs::write(&file, "two").unwrap();
        let second = made();
        assert_ne!(first, second);
        assert!(fs::read(&second).unwrap().windows(3).any(|w| w == b"two"));
    }

    #[test]
    fn only_the_last_images_and_what_is_being_written_are_kept() {
        let folder = Folder::new("prune");
        let file = |name: &str, age: u64| {
            let file = File::create(folder.0.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        (0..KEPT_IMAGES as u64 + 3).for_each(|i| file(&format!("{i}.cpio"), 100 * i));
        file("a.1.partial", 10);
        file("b.2.partial", 100_000);
        forget_old_images(&folder.0).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["0.cpio", "1.cpio", "2.cpio", "3.cpio", "a.1.partial"]);
    }
}
