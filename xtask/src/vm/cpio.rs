//! Writing an initramfs: the "newc" form of a cpio archive, as the kernel unpacks it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive under construction. Everything in it belongs to root; folders and links have the time stamp 0.
pub(super) struct Archive<W> {
    out: W,
    inodes: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inodes: 0 }
    }

    /// A folder; its parent must have been added before.
    pub(super) fn directory(&mut self, path: &Path, permissions: u32) -> io::Result<()> {
        self.inodes += 1;
        self.entry(path, DIRECTORY | permissions, self.inodes, 2, 0, &[])
    }

    /// A symbolic link that leads to `target`.
    pub(super) fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.inodes += 1;
        self.entry(path, SYMLINK | 0o777, self.inodes, 1, 0, target.as_os_str().as_bytes())
    }

    /// A file under all of the given names, which become hard links to each other. It was last modified so many seconds
    /// after the epoch.
    pub(super) fn file<'p>(
        &mut self,
        paths: impl IntoIterator<Item = &'p Path>,
        permissions: u32,
        modified: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let paths: Vec<_> = paths.into_iter().collect();
        self.inodes += 1;
        for (i, path) in paths.iter().enumerate() {
            // The first name carries the content; the kernel links the others to it by the inode's number.
            let data = if i == 0 { data } else { &[] };
            let links = paths.len() as u32;
            self.entry(path, REGULAR | permissions, self.inodes, links, modified, data)?;
        }
        Ok(())
    }

    /// Ends the archive; another one may follow it in the same file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, 0, 1, 0, &[])?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &Path,
        mode: u32,
        inode: u32,
        links: u32,
        modified: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
        let size = u32::try_from(data.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} has more than 4 GiB", path.display()),
            )
        })?;
        let length = name.len() as u32 + 1;
        write!(self.out, "070701")?;
        for field in [inode, mode, 0, 0, links, modified, size, 0, 0, 0, 0, length, 0] {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name)?;
        // The header's 110 bytes, the name and its NUL end at a multiple of 4; so does the content.
        self.zeros(1 + padding(110 + length as usize))?;
        self.out.write_all(data)?;
        self.zeros(padding(data.len()))
    }

    fn zeros(&mut self, count: usize) -> io::Result<()> {
        self.out.write_all(&[0; 4][..count])
    }
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory(Path::new("/etc"), 0o755).unwrap();
        archive.symlink(Path::new("/bin"), Path::new("usr/bin")).unwrap();
        archive
            .file([Path::new("/etc/one"), Path::new("/etc/second")], 0o640, 1_700_000_000, b"hello")
            .unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn every_entry_starts_at_a_multiple_of_four() {
        let data = sample();
        assert_eq!(data.len() % 4, 0);
        let starts: Vec<_> =
            data.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 5);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }

    #[test]
    fn busybox_reads_it_back() {
        let busybox =
            crate::setup::busybox().expect("busybox-static: `cargo xtask setup --vm` installs it");
        let mut child = Command::new(busybox)
            .args(["cpio", "-tv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        for wanted in ["drwxr-xr-x", "bin -> usr/bin", "-rw-r-----", "etc/one"] {
            assert!(listed.contains(wanted), "{wanted} is not in:\n{listed}");
        }
    }
}
