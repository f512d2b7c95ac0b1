//! Connects that a partition refuses only after their check: those that were under way when it
//! began, and those to ports that nobody has declared.
//!
//! Their first packet vanishes, of which a program tells; the socket that waits for an answer is
//! then reset like an open flow, which its connect sees as `ECONNREFUSED`.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use aya::maps::{MapData, RingBuf};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::Partitions;

/// A thread that waits for them. It ends soon after this is dropped.
pub(super) struct Slips {
    stop: Arc<EventFd>,
}

impl Slips {
    pub(super) fn watch(
        ring: RingBuf<MapData>,
        partitions: Weak<Mutex<Partitions>>,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let watcher = Watcher { ring, partitions, stop: Arc::clone(&stop) };
        thread::Builder::new().name("faultbox-slips".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { stop })
    }
}

impl Drop for Slips {
    fn drop(&mut self) {
        // An eventfd that was never written cannot be full. The thread is not waited for: it may
        // be the one that drops the partitions.
        let _ = self.stop.write(1);
    }
}

struct Watcher {
    ring: RingBuf<MapData>,
    partitions: Weak<Mutex<Partitions>>,
    stop: Arc<EventFd>,
}

impl Watcher {
    fn run(mut self) {
        loop {
            let mut fds = [
                PollFd::new(self.ring.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            ];
            let ready = poll(&mut fds, PollTimeout::NONE);
            if ready.is_ok() && fds[1].any() == Some(true) {
                return;
            }
            // What comes from now on wakes this thread again.
            while self.ring.next().is_some() {}
            let Some(partitions) = self.partitions.upgrade() else { return };
            partitions.lock().unwrap_or_else(PoisonError::into_inner).refuse_late();
        }
    }
}
