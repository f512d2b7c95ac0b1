//! Files that one run has to itself: what its services write below `/tmp`, `/var/tmp` and
//! `/dev/shm` is seen by them alone and is gone with the run, so that no run finds what another
//! has left there, or is writing at the same time.
//!
//! Each run gets a mount namespace (`mount_namespaces(7)`). In it an overlay
//! (`Documentation/filesystems/overlayfs.rst` of the kernel) lies over each of the first two: what
//! this machine has there can be read, and what is changed is kept in memory, at most as much as
//! a tmpfs takes. Shared memory starts empty: older C libraries insist on a tmpfs there. All other
//! files are this machine's.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    sync::LazyLock,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statvfs::statvfs,
};

/// What is laid over.
const OVERLAID: [&str; 2] = ["/tmp", "/var/tmp"];
/// What starts empty.
const EMPTY: &str = "/dev/shm";

/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/mnt";
const NOTHING: Option<&Path> = None;

/// Directories of this machine can be renamed in there, where the kernel knows how. (`xino=on`, so
/// that all files are on one device, would make the kernel write a line to its log for each.)
const OPTIONS: [&str; 2] = ["redirect_dir=on,", ""];

/// Whether a path, which may be of a file that is not there, lies where each run has files of its
/// own.
pub(crate) fn is_private(path: &Path) -> bool {
    DIRECTORIES.iter().any(|directory| path.starts_with(directory))
}

/// Whether such files lie below a directory.
pub(crate) fn has_private(path: &Path) -> bool {
    is_private(path) || DIRECTORIES.iter().any(|directory| directory.starts_with(path))
}

/// Where each run has files of its own, by all the names that they have.
static DIRECTORIES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let named = OVERLAID.into_iter().chain([EMPTY]).map(PathBuf::from);
    named.flat_map(|it| [fs::canonicalize(&it).ok(), Some(it)]).flatten().collect()
});

/// Whether a path lies where shared memory does.
pub(crate) fn is_shared_memory(path: &Path) -> bool {
    path.starts_with(EMPTY)
}

/// Makes namespaces, for the calling thread alone.
#[derive(Debug)]
pub(crate) struct Maker {
    /// A copy of the machine's namespace, in which this thread is from now on. What the machine
    /// unmounts goes there as well, where it says so (`shared` in `mount_namespaces(7)`), and what
    /// is mounted there stays there.
    template: File,
    overlaid: Vec<Directory>,
    empty: Option<Directory>,
}

/// A directory that something is laid over.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    owner: (u32, u32),
    mode: u32,
    /// What is forbidden below it, and so in what lies over it.
    flags: MsFlags,
}

impl Directory {
    /// `None`: there is none.
    fn find(name: &str) -> Option<io::Result<Self>> {
        let path = fs::canonicalize(name).ok()?;
        let about = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
        let wanted = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // These have the same numbers in statvfs(3) and mount(2).
        let flags =
            statvfs(&path).map(|it| MsFlags::from_bits_truncate(it.flags().bits()) & wanted);
        Some(flags.map_err(io::Error::from).map(|flags| Self {
            path,
            owner: (about.uid(), about.gid()),
            mode: about.mode() & 0o7777,
            flags,
        }))
    }
}

impl Maker {
    /// Needs `CAP_SYS_ADMIN`. The thread's working directory is lost. Without `shared_memory` that
    /// stays this machine's.
    pub(crate) fn new(shared_memory: bool) -> io::Result<Self> {
        refuse_user_namespace()?;
        let root = fs::metadata("/")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let template = File::open(OWN)?;
        // As whoever enters a namespace later: after chroot(2) that is outside.
        setns(&template, CloneFlags::CLONE_NEWNS)?;
        let again = fs::metadata("/")?;
        if (root.dev(), root.ino()) != (again.dev(), again.ino()) {
            return Err(io::Error::other("the root directory is not the mount namespace's"));
        }
        mount(NOTHING, "/", NOTHING, MsFlags::MS_SLAVE | MsFlags::MS_REC, NOTHING)?;
        let found = OVERLAID.into_iter().filter_map(Directory::find);
        // One that has two names is one.
        let found = found.map(|it| it.map(|it| (it.path.clone(), it)));
        let overlaid: Vec<_> =
            found.collect::<io::Result<BTreeMap<_, _>>>()?.into_values().collect();
        refuse_mounts_below(&overlaid)?;
        let empty = shared_memory.then(|| Directory::find(EMPTY)).flatten().transpose()?;
        Ok(Self { template, overlaid, empty })
    }

    /// A namespace with directories that are a run's own. Its mounts are gone when nobody is in it
    /// any more and the descriptor is closed. Needs overlayfs.
    pub(crate) fn make(&self) -> io::Result<OwnedFd> {
        setns(&self.template, CloneFlags::CLONE_NEWNS)?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let made = self.populate().and_then(|()| File::open(OWN));
        // Staying would keep what is in it.
        setns(&self.template, CloneFlags::CLONE_NEWNS)?;
        Ok(made?.into())
    }

    fn populate(&self) -> io::Result<()> {
        let Some(first) = self.overlaid.first() else {
            return Err(io::Error::other("there is neither /tmp nor /var/tmp"));
        };
        // Opened before anything lies over them.
        let lower = self.overlaid.iter().map(|it| look_at(&it.path));
        let lower = lower.collect::<io::Result<Vec<_>>>()?;
        // Where changes are kept. It lies under the first overlay, so nobody sees it.
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &first.path, tmpfs, MsFlags::empty(), Some("mode=0700"))?;
        let changes = look_at(&first.path)?;
        for (number, (directory, lower)) in self.overlaid.iter().zip(&lower).enumerate() {
            let place = |kind| link(&changes).join(format!("{kind}{number}"));
            let (upper, work) = (place("upper"), place("work"));
            fs::create_dir(&work)?;
            fs::create_dir(&upper)?;
            // The directory as services see it is as the upper one is.
            let (user, group) = directory.owner;
            chown(&upper, Some(user), Some(group))?;
            fs::set_permissions(&upper, fs::Permissions::from_mode(directory.mode))?;
            lay_over(directory, &link(lower), &upper, &work)?;
        }
        if let Some(Directory { path, flags, .. }) = &self.empty {
            mount(tmpfs, path, tmpfs, *flags, Some("mode=1777"))?;
        }
        Ok(())
    }
}

fn lay_over(directory: &Directory, lower: &Path, upper: &Path, work: &Path) -> io::Result<()> {
    let (lower, upper, work) = (lower.display(), upper.display(), work.display());
    let overlay = Some("overlay");
    let mut result = Ok(());
    for more in OPTIONS {
        let options = format!("{more}lowerdir={lower},upperdir={upper},workdir={work}");
        result = mount(overlay, &directory.path, overlay, directory.flags, Some(&*options));
        if result != Err(Errno::EINVAL) {
            break;
        }
    }
    result.map_err(|error| match error {
        Errno::ENODEV => io::Error::other("this kernel has no overlayfs"),
        _ => io::Error::other(format!("overlayfs: {}", error.desc())),
    })
}

/// There overlayfs may not mark what it keeps as it otherwise does, and services would see errors
/// where they remove a directory of this machine's.
fn refuse_user_namespace() -> io::Result<()> {
    /// In the first user namespace ids are what they are (`user_namespaces(7)`).
    const ALL: [&str; 3] = ["0", "0", "4294967295"];
    let map = fs::read_to_string("/proc/thread-self/uid_map")?;
    if map.split_whitespace().eq(ALL) {
        return Ok(());
    }
    Err(io::Error::other("faultbox runs in a user namespace"))
}

/// An overlay shows what is in one file system only.
fn refuse_mounts_below(directories: &[Directory]) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    // proc(5): the fifth field is where it is mounted.
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        let at = Path::new(at);
        let is_below = |it: &&Directory| at.starts_with(&it.path) && at != it.path;
        if let Some(Directory { path, .. }) = directories.iter().find(is_below) {
            let (path, at) = (path.display(), at.display());
            let text = format!("a file system is mounted below {path}: {at}");
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
