//! What a guest finds in its memory when it starts.
//!
//! There are two parts, one behind the other: the machine's files (programs with their libraries, the project's
//! binaries and specs, each at the path that it has on the host), kept under target/xtask/initramfs by the hash of what
//! is in it; and a small one that belongs to this one run (the first process, the command, its environment).

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufWriter, Write},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use super::{closure, cpio::Archive};
use crate::elf;

/// How many images are kept: a few sets of binaries take turns while somebody works.
const KEPT_IMAGES: usize = 4;
/// Nobody takes that long to write an image.
const ABANDONED: Duration = Duration::from_secs(3600);
/// More symbolic links than this on the way to one file are a loop, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Files of the host, at the same paths, with every folder and symbolic link on the way to them.
#[derive(Default)]
pub(super) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

#[derive(Clone, PartialEq, Eq)]
enum Node {
    Directory {
        permissions: u32,
    },
    Symlink {
        target: PathBuf,
    },
    /// Python compiles a module anew if its time stamp is not the one it had when it was compiled.
    File {
        permissions: u32,
        modified: u32,
    },
}

impl Tree {
    /// Adds a file, or a folder with all that is in it.
    pub(super) fn add(&mut self, path: &Path) -> Result<()> {
        let real = self
            .place(path, MAX_LINKS)
            .with_context(|| format!("cannot take {} into the virtual machine", path.display()))?;
        if real.is_dir() {
            let entries =
                fs::read_dir(&real).with_context(|| format!("cannot list {}", real.display()))?;
            for entry in entries {
                let entry = entry?.path();
                // A folder may hold links that lead nowhere, sockets and the like: not ours to judge.
                if entry.is_dir() || entry.is_file() {
                    self.add(&entry)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a file if the host has it.
    pub(super) fn add_if_present(&mut self, path: &Path) -> Result<()> {
        if path.exists() { self.add(path) } else { Ok(()) }
    }

    /// Adds a folder without what is in it, or a symbolic link with the folder that it leads to, if the host has it.
    pub(super) fn add_entry_if_present(&mut self, path: &Path) -> Result<()> {
        if path.exists() {
            self.place(path, MAX_LINKS)?;
        }
        Ok(())
    }

    /// Adds a symbolic link that the host need not have, unless something is there already.
    pub(super) fn link(&mut self, path: PathBuf, target: &Path) {
        self.nodes.entry(path).or_insert_with(|| Node::Symlink { target: target.to_owned() });
    }

    /// Adds the libraries of all programs that are in the tree so far.
    pub(super) fn add_libraries(&mut self) -> Result<()> {
        let mut programs = Vec::new();
        for (path, node) in &self.nodes {
            if matches!(node, Node::File { .. }) && elf::is_dynamic(path) {
                programs.push(path.clone());
            }
        }
        for library in closure::libraries(programs.iter().map(PathBuf::as_path))? {
            self.add(&library)?;
        }
        Ok(())
    }

    /// Adds the path itself and what leads to it; returns it without symbolic links.
    fn place(&mut self, path: &Path, links: usize) -> Result<PathBuf> {
        ensure!(path.is_absolute(), "the path is not absolute");
        ensure!(links > 0, "too many symbolic links");
        let mut at = PathBuf::from("/");
        let mut rest = path.components();
        while let Some(component) = rest.next() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => {
                    at.pop();
                    continue;
                }
                _ => continue,
            };
            let next = at.join(name);
            let metadata = next
                .symlink_metadata()
                .with_context(|| format!("cannot find {}", next.display()))?;
            let permissions = metadata.permissions().mode() & 0o7777;
            if metadata.is_symlink() {
                let target = fs::read_link(&next)?;
                let onward = at.join(&target).join(rest.as_path());
                self.nodes.insert(next, Node::Symlink { target });
                return self.place(&onward, links - 1);
            }
            let node = if metadata.is_dir() {
                Node::Directory { permissions }
            } else {
                // The archive has 32 bits for seconds.
                Node::File { permissions, modified: metadata.mtime().try_into().unwrap_or(0) }
            };
            self.nodes.insert(next.clone(), node);
            at = next;
        }
        Ok(at)
    }

    /// The archive of the tree in `folder`, written only if the one that lies there is of other files.
    pub(super) fn image(&self, folder: &Path) -> Result<PathBuf> {
        let mut contents: HashMap<u64, Vec<&Path>> = HashMap::new();
        let mut whole = DefaultHasher::new();
        // A change of this program may change what it writes for the same files.
        env!("CARGO_PKG_VERSION").hash(&mut whole);
        for (path, node) in &self.nodes {
            path.hash(&mut whole);
            match node {
                Node::Directory { permissions } => (0, permissions).hash(&mut whole),
                Node::Symlink { target } => (1, target).hash(&mut whole),
                Node::File { permissions, modified } => {
                    let mut content = DefaultHasher::new();
                    content.write(&read(path)?);
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
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let partial = image.with_extension(format!("{}.partial", std::process::id()));
        self.write(&partial, contents)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, &image)
            .with_context(|| format!("cannot rename {}", partial.display()))?;
        forget_old_images(folder)?;
        Ok(image)
    }

    fn write(&self, file: &Path, contents: HashMap<u64, Vec<&Path>>) -> Result<()> {
        let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, File::create(file)?));
        for (path, node) in &self.nodes {
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
            let Some(Node::File { permissions, modified }) = self.nodes.get(paths[0]) else {
                continue;
            };
            let data = read(paths[0])?;
            let data = if elf::is_elf(&data) {
                elf::without_debug_info(&data).unwrap_or(data)
            } else {
                data
            };
            archive.file(paths, *permissions, *modified, &data)?;
        }
        archive.finish()?.flush()?;
        Ok(())
    }
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
    use std::os::unix::fs::symlink;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("xtask-initramfs-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_on_the_way_are_kept_as_links() {
        let folder = Folder::new("links");
        fs::create_dir(folder.0.join("real")).unwrap();
        fs::write(folder.0.join("real/file"), "x").unwrap();
        symlink("real", folder.0.join("named")).unwrap();
        let mut tree = Tree::default();
        tree.add(&folder.0.join("named/file")).unwrap();
        assert!(tree.nodes[&folder.0.join("named")] == Node::Symlink { target: "real".into() });
        assert!(matches!(tree.nodes[&folder.0.join("real/file")], Node::File { .. }));
        assert!(tree.nodes.contains_key(Path::new("/tmp")) || !folder.0.starts_with("/tmp"));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let folder = Folder::new("loop");
        symlink("b", folder.0.join("a")).unwrap();
        symlink("a", folder.0.join("b")).unwrap();
        let error = format!("{:#}", Tree::default().add(&folder.0.join("a")).unwrap_err());
        assert!(error.contains("too many symbolic links"), "{error}");
    }

    #[test]
    fn the_image_is_reused_until_a_file_changes() {
        let folder = Folder::new("cache");
        let file = folder.0.join("file");
        fs::write(&file, "one").unwrap();
        let images = folder.0.join("images");
        let image = || {
            let mut tree = Tree::default();
            tree.add(&file).unwrap();
            tree.image(&images).unwrap()
        };
        let first = image();
        assert_eq!(first, image());
        fs::write(&file, "two").unwrap();
        let second = image();
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
