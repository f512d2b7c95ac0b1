//! Files that one run has to itself: what its services write below `/tmp`, `/var/tmp` and
//! `/dev/shm` is seen by them alone and is gone with the run, so that no run finds what another
//! has left there, or is writing at the same time.
//!
//! Each run gets a mount namespace (`mount_namespaces(7)`). In it an overlay
//! (`Documentation/filesystems/overlayfs.rst` of the kernel) lies over each of the first two: what
//! this machine has there can be read, and what is changed is kept in memory, at most as much as
//! a tmpfs takes. Shared memory starts empty. All other files are this machine's.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statvfs::statvfs,
};

/// What is laid over.
const OVERLAID: [&str; 2] = ["/tmp", "/var/tmp"];
/// What starts empty.
const EMPTY: &str = "/dev/shm";

/// All directories of which each run has its own.
pub(crate) const DIRECTORIES: [&str; 3] = [OVERLAID[0], OVERLAID[1], EMPTY];

/// Whether a path, which may be of a file that is not there, lies where each run has files of its
/// own.
pub(crate) fn is_private(path: &Path) -> bool {
    DIRECTORIES.iter().any(|directory| path.starts_with(directory))
}

/// Makes namespaces, each like the one that this thread was in at first.
#[derive(Debug)]
pub(crate) struct Maker {
    host: File,
}

impl Maker {
    /// For the calling thread alone.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { host: File::open("/proc/thread-self/ns/mnt")? })
    }

    /// A namespace with directories that are a run's own. Its mounts are gone when nobody is in it
    /// any more and the descriptor is closed. Needs `CAP_SYS_ADMIN` and overlayfs.
    ///
    /// The thread's working directory is lost.
    pub(crate) fn make(&self) -> io::Result<OwnedFd> {
        let root = fs::metadata("/")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let made = populate().and_then(|()| File::open("/proc/thread-self/ns/mnt"));
        setns(&self.host, CloneFlags::CLONE_NEWNS)?;
        let again = fs::metadata("/")?;
        if (root.dev(), root.ino()) != (again.dev(), again.ino()) {
            // After chroot(2), whoever enters a namespace is outside.
            return Err(io::Error::other("the root directory is not the mount namespace's"));
        }
        Ok(made?.into())
    }
}

fn populate() -> io::Result<()> {
    let nothing = None::<&Path>;
    // What is mounted here stays here, and what the machine unmounts meanwhile goes here, too.
    mount(nothing, "/", nothing, MsFlags::MS_SLAVE | MsFlags::MS_REC, nothing)?;
    let below: Vec<_> = OVERLAID.iter().map(Path::new).filter(|it| is_own(it)).collect();
    let Some(first) = below.first() else {
        return Err(io::Error::other("there is no /tmp"));
    };
    refuse_mounts_below(&below)?;
    // Opened before anything lies over them.
    let lower = below.iter().map(|it| look_at(it)).collect::<io::Result<Vec<_>>>()?;
    // Where changes are kept. It lies under the first overlay, so nobody sees it.
    mount(Some("tmpfs"), *first, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))?;
    let changes = look_at(first)?;
    for (number, (directory, lower)) in below.iter().zip(&lower).enumerate() {
        let place = |kind| link(&changes).join(format!("{kind}{number}"));
        let (upper, work) = (place("upper"), place("work"));
        fs::DirBuilder::new().mode(0o700).create(&work)?;
        fs::create_dir(&upper)?;
        // The directory as services see it is as the upper one is.
        let about = lower.metadata()?;
        std::os::unix::fs::chown(&upper, Some(about.uid()), Some(about.gid()))?;
        fs::set_permissions(&upper, about.permissions())?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            link(lower).display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), *directory, Some("overlay"), flags_of(lower)?, Some(&*options))
            .map_err(|error| with_hint(error.into()))?;
    }
    if is_own(Path::new(EMPTY)) {
        let flags = flags_of(&look_at(Path::new(EMPTY))?)?;
        mount(Some("tmpfs"), EMPTY, Some("tmpfs"), flags, Some("mode=1777"))?;
    }
    Ok(())
}

/// Whether it is a directory, and not one by another name.
fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())
}

/// An overlay shows what is in one file system only.
fn refuse_mounts_below(directories: &[&Path]) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    // proc(5): the fifth field is where it is mounted.
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        let is_below = |it: &&&Path| Path::new(at).starts_with(it) && Path::new(at) != **it;
        if let Some(directory) = directories.iter().find(is_below) {
            let text = format!("a file system is mounted below {}: {at}", directory.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

fn look_at(directory: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(directory)
}

/// A path to what is open, whatever lies over it by now.
fn link(file: &File) -> PathBuf {
    format!("/proc/thread-self/fd/{}", file.as_raw_fd()).into()
}

/// What is forbidden below a directory is forbidden in what lies over it.
fn flags_of(directory: &File) -> io::Result<MsFlags> {
    let wanted = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // These have the same numbers in statvfs(3) and mount(2).
    let flags = statvfs(&link(directory))?.flags().bits();
    Ok(MsFlags::from_bits_truncate(flags) & wanted)
}

fn with_hint(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENODEV) => io::Error::other("this kernel has no overlayfs"),
        _ => io::Error::other(format!("overlayfs: {error}")),
    }
}
