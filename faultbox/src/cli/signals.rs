//! Signals to faultbox, as something to wait for beside others.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd, siginfo},
};

/// The signals that ask faultbox to end; they interrupt nothing from now on. Readable when there
/// are some.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Takes them over. To be called while the process has one thread only, since others would go
    /// on to get them. One that is ignored, as `nohup(1)` does with SIGHUP, stays ignored.
    pub(super) fn take_over() -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&wanted, flags)?))
    }

    /// The next one, if there is any.
    pub(super) fn next(&self) -> Option<siginfo> {
        // An interruption is one of them that is looked for again at the next wait.
        self.0.read_signal().ok().flatten()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
