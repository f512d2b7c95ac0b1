//! How a demo service meets signals.

use std::mem::MaybeUninit;
use std::ptr;

/// Makes SIGTERM end this process at once, whatever the parent had set up for itself.
///
/// The kernel's own action is kept rather than a handler: it also ends a thread that waits in a
/// system call which a supervisor holds. A parent that ignores or blocks SIGTERM passes that on
/// through `execve` (signal(7)), so both are undone here. SIGPIPE needs no line of ours: the
/// Rust runtime ignores it before `main`, and a write to a closed socket returns `EPIPE`.
pub fn end_on_sigterm() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: SIG_DFL installs no function. `sigemptyset` initialises the whole set before it is
    // read, and both calls get valid pointers or null where the manual page allows null.
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}
