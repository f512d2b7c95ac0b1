//! How a demo service meets signals.

use std::mem::MaybeUninit;
use std::ptr;

/// Makes SIGTERM end this process at once, whatever the parent had set up for itself.
///
/// The kernel's own action is kept rather than a handler: it also ends a thread that waits in a
/// system call which a supervisor holds. A parent that ignores or blocks SIGTERM passes that on
/// through `execve` (signal(7)), so both are undone here. SIGPIPE needs no line of ours: the
/// Rust runtime ignores it before `main`, and a write to a closed socket returns `EPIPE`.
///
/// The first process of a container is the exception: the kernel spares it the default action
/// (`pid_namespaces(7)`), so it gets a handler that ends it with the status that a shell would show.
pub fn end_on_sigterm() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let handler: extern "C" fn(libc::c_int) = end;
    let action =
        if std::process::id() == 1 { handler as libc::sighandler_t } else { libc::SIG_DFL };
    // SAFETY: `end` does nothing that a signal handler must not do. `sigemptyset` initialises the whole set before it is
    // read, and both calls get valid pointers or null where the manual page allows null.
    unsafe {
        libc::signal(libc::SIGTERM, action);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}

extern "C" fn end(signal: libc::c_int) {
    // SAFETY: no pointers, and `_exit` may be called in a signal handler (signal-safety(7)).
    unsafe { libc::_exit(128 + signal) }
}
