//! Knowing at once that a service listens, from the calls that the engine records: it is about to
//! `listen(2)`, or to `accept(2)`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::engine::{Record, RecordSink};

/// Passes records on, and wakes up who waits for services when one of them listens.
pub(crate) struct Listening {
    next: Arc<dyn RecordSink>,
    wake: EventFd,
}

impl Listening {
    /// Nobody listens.
    pub(crate) fn new(next: Arc<dyn RecordSink>) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { next, wake })
    }

    /// Whether a service has begun to since the last time somebody asked.
    pub(crate) fn take(&self) -> bool {
        self.wake.read().is_ok()
    }
}

impl RecordSink for Listening {
    fn record(&self, record: Record) {
        let listens = matches!(record.syscall.name(), "listen" | "accept" | "accept4");
        self.next.record(record);
        if listens {
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
