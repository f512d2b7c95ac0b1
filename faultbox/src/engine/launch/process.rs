//! A started process.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A started process, held by its pidfd. Dropping one that [`Process::wait`] has not seen end
/// kills it with SIGKILL and waits for its end; its own children are left alone.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    exit: Option<Exit>,
}

impl Process {
    pub(super) fn new(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, exit: None }
    }

    /// Holds a child of ours that nobody has reaped (`pidfd_open(2)`, Linux 5.3).
    pub(super) fn open(pid: u32) -> Result<Self, Errno> {
        // SAFETY: no pointers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: a descriptor that was just made for us.
        Ok(Self::new(pid, unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal (`pidfd_send_signal(2)`, Linux 5.1). A process that has ended is no error.
    pub fn signal(&self, signal: i32) {
        let (call, fd) = (libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd());
        // SAFETY: without a `siginfo_t` there are no pointers. ESRCH is the case of the last
        // sentence above, and for a child of ours there is no other.
        unsafe { libc::syscall(call, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    }

    /// Waits for its end at most this long and reaps it; `None`: still running. May be called
    /// again after the end.
    ///
    /// In a program that ignores SIGCHLD the kernel forgets how children ended: that reads as
    /// exit code -1.
    pub fn wait(&mut self, timeout: Duration) -> Option<Exit> {
        if self.exit.is_none() && self.has_ended_within(timeout) {
            self.exit = Some(self.reap());
        }
        self.exit
    }

    fn has_ended_within(&self, timeout: Duration) -> bool {
        // Beyond what the clock can say: for ever.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut fds, left.map(TimeSpec::from), None) {
                Ok(ready) => return ready > 0,
                Err(Errno::EINTR) => {}
                // Nothing else can happen to one valid descriptor, but memory running out.
                Err(_) => return false,
            }
        }
    }

    fn reap(&self) -> Exit {
        match self.wait_for(libc::WEXITED) {
            Ok((libc::CLD_EXITED, code)) => Exit::Code(code),
            Ok((_, signal)) => Exit::Signal(signal),
            Err(_) => Exit::Code(-1),
        }
    }

    /// Waits until it has stopped itself. False: it has ended instead. Consumes neither.
    pub(super) fn stopped(&self) -> io::Result<bool> {
        let (what, _) = self.wait_for(libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT)?;
        Ok(what == libc::CLD_STOPPED)
    }

    /// `waitid(2)`: what happened (`CLD_*`), and the exit code or signal. Not nix's, which knows
    /// no real-time signals.
    fn wait_for(&self, options: i32) -> io::Result<(i32, i32)> {
        loop {
            // SAFETY: all zeros is a valid `siginfo_t`.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let id = self.pidfd.as_raw_fd() as libc::id_t;
            // SAFETY: `info` is live and of the right type.
            let result = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) };
            match Errno::result(result) {
                // SAFETY: `waitid` fills in the members for a child.
                Ok(_) => return Ok((info.si_code, unsafe { info.si_status() })),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A duplicate of one of its descriptors (`pidfd_getfd(2)`, Linux 5.6).
    pub(super) fn take_descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        let (call, fd) = (libc::SYS_pidfd_getfd, self.pidfd.as_raw_fd());
        // SAFETY: no pointers.
        let copy = Errno::result(unsafe { libc::syscall(call, fd, number, 0) })?;
        // SAFETY: a descriptor that was just made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.signal(libc::SIGKILL);
            self.reap();
        }
    }
}

/// Readable when the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
