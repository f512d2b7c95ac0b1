//! Files of this machine that go elsewhere, into a guest's memory or into an image: with every folder and symbolic link
//! on the way to them, and with the libraries that programs need.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{closure, elf};

/// More symbolic links than this on the way to one file are a loop, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Files of this machine, mostly at the same paths, with every folder and symbolic link on the way to them.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder.
    Directory {
        /// Its mode's last twelve bits.
        permissions: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: PathBuf,
    },
    /// A file.
    File {
        /// Where this machine has it.
        source: PathBuf,
        /// Its mode's last twelve bits.
        permissions: u32,
        /// When it was last modified, in seconds after the epoch: Python compiles a module anew if that is not the time
        /// at which it was when it was compiled.
        modified: u32,
    },
}

impl Tree {
    /// Adds a file, or a folder with all that is in it.
    pub(crate) fn add(&mut self, path: &Path) -> Result<()> {
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
    pub(crate) fn add_if_present(&mut self, path: &Path) -> Result<()> {
        if path.exists() { self.add(path) } else { Ok(()) }
    }

    /// Adds a folder without what is in it, or a symbolic link with the folder that it leads to, if the host has it.
    pub(crate) fn add_entry_if_present(&mut self, path: &Path) -> Result<()> {
        if path.exists() {
            self.place(path, MAX_LINKS)?;
        }
        Ok(())
    }

    /// Adds a symbolic link that the host need not have, unless something is there already.
    pub(crate) fn link(&mut self, path: PathBuf, target: &Path) {
        self.nodes.entry(path).or_insert_with(|| Node::Symlink { target: target.to_owned() });
    }

    /// Adds a file under another path than its own, in a folder that anybody may read.
    pub(crate) fn add_as(&mut self, source: &Path, path: &Path) -> Result<()> {
        let metadata =
            fs::metadata(source).with_context(|| format!("cannot find {}", source.display()))?;
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            let folder = folder.to_owned();
            self.nodes.entry(folder).or_insert(Node::Directory { permissions: 0o755 });
        }
        let node = Node::File {
            source: source.to_owned(),
            permissions: metadata.permissions().mode() & 0o7777,
            modified: metadata.mtime().try_into().unwrap_or(0),
        };
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    /// Takes out what `other` has in the same way.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.nodes.retain(|path, node| other.nodes.get(path) != Some(node));
    }

    /// Everything that is in the tree: folders before what is in them.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// What is at the path.
    pub(crate) fn node(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Adds the libraries of all programs that are in the tree so far.
    pub(crate) fn add_libraries(&mut self) -> Result<()> {
        let mut programs = Vec::new();
        for node in self.nodes.values() {
            if let Node::File { source, .. } = node
                && elf::is_dynamic(source)
            {
                programs.push(source.clone());
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
                Node::File {
                    source: next.clone(),
                    permissions,
                    // An initramfs has 32 bits for seconds.
                    modified: metadata.mtime().try_into().unwrap_or(0),
                }
            };
            self.nodes.insert(next.clone(), node);
            at = next;
        }
        Ok(at)
    }
}

/// The file's bytes as they are taken along: programs and libraries without their debug information.
pub(crate) fn read(source: &Path) -> Result<Vec<u8>> {
    let data = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    Ok(if elf::is_elf(&data) { elf::without_debug_info(&data).unwrap_or(data) } else { data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use std::os::unix::fs::symlink;

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
    fn a_program_under_another_path_brings_its_libraries() {
        let mut tree = Tree::default();
        let own = std::env::current_exe().unwrap();
        tree.add_as(&own, Path::new("/somewhere/else/program")).unwrap();
        tree.add_libraries().unwrap();
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path).collect();
        assert!(paths.contains(&Path::new("/somewhere/else")), "{paths:?}");
        assert!(paths.iter().any(|path| path.ends_with("libc.so.6")), "{paths:?}");
        assert!(!paths.contains(&own.as_path()), "{paths:?}");
    }

    #[test]
    fn what_another_tree_has_is_taken_out() {
        let folder = Folder::new("subtract");
        let (one, two) = (folder.0.join("one"), folder.0.join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let (mut tree, mut other) = (Tree::default(), Tree::default());
        tree.add(&one).unwrap();
        tree.add(&two).unwrap();
        other.add(&one).unwrap();
        tree.subtract(&other);
        assert_eq!(tree.nodes().map(|(path, _)| path).collect::<Vec<_>>(), [two.as_path()]);
    }
}
