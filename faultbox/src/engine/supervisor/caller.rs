//! The thread that waits for an answer, and what can be learnt about it from outside.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::Mode,
    unistd::{AccessFlags, faccessat},
};

/// Threads that are remembered. Each holds two descriptors of ours, of which a process may have
/// no more than 1024 by default.
const REMEMBERED: usize = 128;

/// The longest path that the kernel takes, with its zero: `PATH_MAX`.
const LONGEST_PATH: usize = 4096;

/// A thread. Holds a folder of its in `/proc`, which stays this thread's and errs after its end,
/// even when another thread has got its id.
pub(super) struct Caller {
    tid: u32,
    process: u32,
    /// `/proc/TID/fd`. Each name on the way to an entry costs half a microsecond.
    folder: OwnedFd,
    /// Of the thread, or before Linux 6.9 of its process.
    pidfd: OnceCell<OwnedFd>,
    /// The file of the last descriptor that was looked at. Never taken for granted: it may be
    /// another file's by now. It says which question to ask first.
    last: RefCell<Option<(RawFd, OpenFile)>>,
}

/// An open file, as far as its `/proc` entry tells.
#[derive(Clone)]
pub(super) struct OpenFile {
    /// Its path from our root, or a name like `socket:[123]`.
    pub(super) link: PathBuf,
    /// `S_IFMT` bits; 0 without a path.
    pub(super) kind: u32,
    /// Whether it has no name in the file system any more, as far as that is known.
    pub(super) is_deleted: bool,
}

impl OpenFile {
    /// Whether it is a socket.
    pub(super) fn is_socket(&self) -> bool {
        self.link.as_os_str().as_bytes().starts_with(b"socket:")
    }
}

impl Caller {
    /// The thread with this id at the moment.
    fn open(tid: u32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(format!("/proc/{tid}/fd").as_str(), flags, Mode::empty())?;
        let pidfd = OnceCell::new();
        // Works for the first thread of a process only, which most are.
        let process = match pidfd_open(tid, 0) {
            Ok(fd) => {
                let _ = pidfd.set(fd);
                tid
            }
            Err(_) => process_of(tid)?,
        };
        Ok(Self { tid, process, folder, pidfd, last: RefCell::default() })
    }

    /// Process (thread group) id.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    fn is_alive(&self) -> bool {
        let nothing = nix::fcntl::AtFlags::empty();
        faccessat(&self.folder, "../stat", AccessFlags::F_OK, nothing).is_ok()
    }

    fn link(&self, name: &CStr) -> Result<PathBuf, Errno> {
        let mut text = [0u8; LONGEST_PATH];
        let (at, to) = (self.folder.as_raw_fd(), text.as_mut_ptr().cast());
        // SAFETY: `text` is as long as said.
        let length = unsafe { libc::readlinkat(at, name.as_ptr(), to, text.len()) };
        let length = Errno::result(length)? as usize;
        Ok(Path::new(OsStr::from_bytes(&text[..length])).to_owned())
    }

    /// Whether a descriptor was a socket when last looked at.
    pub(super) fn was_socket(&self, descriptor: RawFd) -> bool {
        let last = self.last.borrow();
        last.as_ref().is_some_and(|(it, file)| *it == descriptor && file.is_socket())
    }

    /// The file behind a descriptor of the thread; `None`: there is none.
    pub(super) fn file(&self, descriptor: RawFd) -> io::Result<Option<OpenFile>> {
        let file = self.look_at(descriptor)?;
        *self.last.borrow_mut() = file.clone().map(|file| (descriptor, file));
        Ok(file)
    }

    fn look_at(&self, descriptor: RawFd) -> io::Result<Option<OpenFile>> {
        if descriptor < 0 {
            return Ok(None);
        }
        let name = CString::new(descriptor.to_string())?;
        let link = match self.link(&name) {
            Ok(link) => link,
            Err(Errno::ENOENT) if self.is_alive() => return Ok(None),
            Err(Errno::ENOENT) => return Err(Errno::ESRCH.into()),
            Err(error) => return Err(error.into()),
        };
        if !link.has_root() {
            return Ok(Some(OpenFile { link, kind: 0, is_deleted: false }));
        }
        if let Some((_, last)) = &*self.last.borrow()
            && last.link == link
            && last.kind == libc::S_IFREG
            && !last.is_deleted
        {
            // What has the path of a regular file is one: nobody has put a FIFO in its place
            // since this thread's last call.
            return Ok(Some(last.clone()));
        }
        match self.status(&name) {
            Ok(status) => {
                let is_deleted = status.stx_nlink == 0 || self.is_gone(&status, &link);
                let kind = u32::from(status.stx_mode) & libc::S_IFMT;
                Ok(Some(OpenFile { link, kind, is_deleted }))
            }
            // Closed since by another thread.
            Err(Errno::ENOENT) if self.is_alive() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a file has not got the name any more that its link ends in: it may have others, and
    /// on an overlay it seems to have this one still. Or else the name just ends like that.
    fn is_gone(&self, status: &libc::statx, link: &Path) -> bool {
        let link = link.as_os_str().as_bytes();
        if !link.ends_with(b" (deleted)") {
            return false;
        }
        let place = |file: &libc::statx| (file.stx_dev_major, file.stx_dev_minor, file.stx_ino);
        let named = CString::new([b"../root", link].concat()).ok();
        let named = named.and_then(|it| self.status(&it).ok());
        named.is_none_or(|it| place(&it) != place(status))
    }

    /// What there is to know of the file that an entry leads to. Asks no file server (NFS, FUSE):
    /// that could be the very process that waits for us.
    fn status(&self, name: &CStr) -> Result<libc::statx, Errno> {
        // SAFETY: all zeros is a valid `statx`.
        let mut status: libc::statx = unsafe { std::mem::zeroed() };
        let (at, flags) = (self.folder.as_raw_fd(), libc::AT_STATX_DONT_SYNC);
        let mask = libc::STATX_TYPE | libc::STATX_NLINK | libc::STATX_INO;
        // SAFETY: the name ends in zero, and `status` is live and of the right type.
        let result = unsafe { libc::statx(at, name.as_ptr(), flags, mask, &raw mut status) };
        Errno::result(result)?;
        if status.stx_mask & libc::STATX_NLINK == 0 {
            // Not known: as most files have it.
            status.stx_nlink = 1;
        }
        Ok(status)
    }

    /// The working directory, from our root.
    pub(super) fn working_directory(&self) -> io::Result<PathBuf> {
        Ok(self.link(c"../cwd")?)
    }

    /// A path from our root as one from the thread's.
    pub(super) fn as_seen(&self, path: PathBuf) -> io::Result<PathBuf> {
        let root = self.link(c"../root")?;
        if root == Path::new("/") {
            return Ok(path);
        }
        Ok(path.strip_prefix(&root).map(|rest| Path::new("/").join(rest)).unwrap_or(path))
    }

    /// A duplicate of a descriptor (`pidfd_getfd(2)`); `None`: it is not open any more.
    pub(super) fn duplicate(&self, descriptor: RawFd) -> io::Result<Option<OwnedFd>> {
        let pidfd = self.pidfd()?.as_raw_fd();
        // SAFETY: no pointers.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, descriptor, 0) };
        match Errno::result(result) {
            // SAFETY: a descriptor that was just made for us.
            Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
            Err(Errno::EBADF) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn pidfd(&self) -> io::Result<&OwnedFd> {
        if self.pidfd.get().is_none() {
            // A thread may have descriptors of its own, and outlive the first one of its process.
            let fd = pidfd_open(self.tid, libc::PIDFD_THREAD)
                .or_else(|_| pidfd_open(self.process, 0))?;
            let _ = self.pidfd.set(fd);
        }
        Ok(self.pidfd.get().expect("just set"))
    }

    /// Reads its memory (`process_vm_readv(2)`). Returns how many bytes could be read: fewer, if
    /// there is a hole.
    pub(super) fn read(&self, address: u64, to: &mut [u8]) -> io::Result<usize> {
        let ours = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
        let theirs = libc::iovec { iov_base: address as *mut _, iov_len: to.len() };
        let tid = self.tid.cast_signed();
        // SAFETY: writes at most `to.len()` bytes to `to`; the other address is the kernel's to
        // check.
        let n = unsafe { libc::process_vm_readv(tid, &raw const ours, 1, &raw const theirs, 1, 0) };
        match Errno::result(n) {
            Ok(n) => Ok(n as usize),
            Err(Errno::EFAULT) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a path, without its zero. Empty: not readable, and the call will fail by itself.
    pub(super) fn read_path(&self, address: u64) -> io::Result<Vec<u8>> {
        let mut path = vec![0; LONGEST_PATH];
        let mut used = 0;
        while used < LONGEST_PATH {
            // To the end of the page, because the next one may not be there.
            let at = address.wrapping_add(used as u64);
            let piece = (LONGEST_PATH - (at as usize % LONGEST_PATH)).min(LONGEST_PATH - used);
            let n = self.read(at, &mut path[used..used + piece])?;
            if let Some(end) = path[used..used + n].iter().position(|&b| b == 0) {
                path.truncate(used + end);
                return Ok(path);
            }
            if n < piece {
                break;
            }
            used += n;
        }
        Ok(Vec::new())
    }
}

fn pidfd_open(pid: u32, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })?;
    // SAFETY: a descriptor that was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The process of a thread.
fn process_of(tid: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|id| id.trim().parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{tid}/status has no Tgid"))
    })
}

/// Threads that have called before.
#[derive(Default)]
pub(super) struct Callers(HashMap<u32, Caller>);

impl Callers {
    /// The thread with this id, which may have ended since it was remembered.
    pub(super) fn get(&mut self, tid: u32) -> io::Result<&Caller> {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&tid) {
            self.0.clear();
        }
        match self.0.entry(tid) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                Ok(entry.insert(Caller::open(tid)?))
            }
        }
    }

    /// Forgets a thread.
    pub(super) fn forget(&mut self, tid: u32) {
        self.0.remove(&tid);
    }
}
