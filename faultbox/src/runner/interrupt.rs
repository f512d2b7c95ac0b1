//! Ctrl-C and its relatives. The first signal asks every run to stop; nothing else is done in the
//! handler, and nothing else is needed: all waits watch the descriptor that it makes readable.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static EVENT: OnceLock<EventFd> = OnceLock::new();

/// Turns SIGINT, SIGTERM and SIGHUP into a request to stop. To be called once, before any thread
/// that waits on [`descriptor`] exists.
pub(crate) fn install() -> io::Result<()> {
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let event = EVENT.get_or_init(|| event);
    DESCRIPTOR.store(event.as_fd().as_raw_fd(), Ordering::SeqCst);
    let action =
        SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to atomics and calls write(2), both async-signal-safe.
        let before = unsafe { sigaction(signal, &action) }?;
        if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
            // Started by nohup(1): the user wants it to outlive the terminal.
            // SAFETY: puts back the disposition that was there a moment ago.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int) {
    REQUESTED.store(true, Ordering::SeqCst);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: errno belongs to the interrupted code; the descriptor lives as long as the process
    // and eight bytes are what an eventfd takes (eventfd(2)).
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(DESCRIPTOR.load(Ordering::SeqCst), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

/// Whether the user wants the session to end.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Readable from the first signal on, for ever; `None` before [`install`].
pub(crate) fn descriptor() -> Option<BorrowedFd<'static>> {
    EVENT.get().map(AsFd::as_fd)
}
