//! Knowing at once that a service listens, from the calls that the engine records: it is about to
//! `listen(2)`, or to `accept(2)`.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::engine::{Record, RecordSink, Syscall, TargetId};

/// Passes records on, and wakes up who waits for services when one of them listens: once for each
/// of these calls, because a healthcheck that does not pass makes the next `accept`.
pub(crate) struct Listening {
    next: Arc<dyn RecordSink>,
    known: Mutex<HashSet<(TargetId, Syscall)>>,
    wake: EventFd,
}

impl Listening {
    /// Nobody listens.
    pub(crate) fn new(next: Arc<dyn RecordSink>) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { next, known: Mutex::default(), wake })
    }

    /// Whether a service has begun to since the last time somebody asked.
    pub(crate) fn take(&self) -> bool {
        self.wake.read().is_ok()
    }
}

impl RecordSink for Listening {
    fn record(&self, record: Record) {
        let (target, call) = (record.target, record.syscall);
        let listens = matches!(call.name(), "listen" | "accept" | "accept4");
        self.next.record(record);
        let is_new = || {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert((target, call))
        };
        if listens && is_new() {
            // Fails only when there are already 2⁶⁴ - 1 to be read.
            let _ = self.wake.write(1);
        }
    }
}

/// Readable when a service has begun to listen.
impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
