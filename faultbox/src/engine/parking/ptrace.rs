//! `ptrace(2)`, as far as the tracer needs it, with signals as the numbers that they are: nix has
//! no real-time signals, and the C library's wrapper treats some requests specially.
//!
//! A tracee that died meanwhile is ESRCH, which every caller may ignore: its end is reported by
//! `waitpid(2)`.

use std::ptr::null_mut;

use libc::c_void;
use nix::errno::Errno;

/// Children and threads of a tracee are born traced; exec is told, so that the thread that
/// disappears in it is noticed.
const OPTIONS: usize = (libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC) as usize;

/// Signals that are looked at in one queue: as many as will ever be there.
const QUEUE: usize = 32;

/// `struct __ptrace_peeksiginfo_args` of `include/uapi/linux/ptrace.h`.
#[repr(C)]
struct Peek {
    offset: u64,
    flags: u32,
    count: i32,
}

/// `PTRACE_PEEKSIGINFO_SHARED`: the process's queue, not the thread's.
const SHARED: u32 = 1;

/// # Safety
/// `address` and `data` must be what the request takes.
unsafe fn ptrace(
    request: u32,
    tid: u32,
    address: *mut c_void,
    data: *mut c_void,
) -> Result<i64, Errno> {
    // SAFETY: the caller's promise.
    Errno::result(unsafe { libc::syscall(libc::SYS_ptrace, request as usize, tid, address, data) })
}

/// Attaches without stopping the thread (Linux 3.4).
pub(super) fn seize(tid: u32) -> Result<(), Errno> {
    // SAFETY: the data are bits.
    unsafe { ptrace(libc::PTRACE_SEIZE, tid, null_mut(), OPTIONS as *mut c_void) }.map(drop)
}

/// Lets a stopped thread run, with a signal or, for 0, without.
pub(super) fn resume(tid: u32, signal: u32) {
    // SAFETY: the data are a number. See above for the error.
    let _ = unsafe { ptrace(libc::PTRACE_CONT, tid, null_mut(), signal as usize as *mut c_void) };
}

/// Leaves a thread in its group-stop, where SIGCONT finds it (Linux 3.4).
pub(super) fn listen(tid: u32) {
    // SAFETY: takes nothing. See above for the error.
    let _ = unsafe { ptrace(libc::PTRACE_LISTEN, tid, null_mut(), null_mut()) };
}

/// How the signal came about at which the thread is stopped (`SI_KERNEL` and so on).
pub(super) fn signal_code(tid: u32) -> Result<i32, Errno> {
    // SAFETY: all zeros is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `siginfo_t`.
    unsafe { ptrace(libc::PTRACE_GETSIGINFO, tid, null_mut(), (&raw mut info).cast()) }?;
    Ok(info.si_code)
}

/// What the last event was about: a new thread's id, or the one a thread had before its exec.
pub(super) fn event_message(tid: u32) -> Result<u32, Errno> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one word.
    unsafe { ptrace(libc::PTRACE_GETEVENTMSG, tid, null_mut(), (&raw mut message).cast()) }?;
    Ok(message as u32)
}

/// Signals that a stopped thread blocks, as bits from signal 1 on (Linux 3.11).
pub(super) fn blocked(tid: u32) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    let size = size_of_val(&mask) as *mut c_void;
    // SAFETY: the kernel writes one mask of this size.
    unsafe { ptrace(libc::PTRACE_GETSIGMASK, tid, size, (&raw mut mask).cast()) }?;
    Ok(mask)
}

/// Signals that wait for a stopped thread or its process, in the same form (Linux 3.10).
pub(super) fn pending(tid: u32) -> Result<u64, Errno> {
    // SAFETY: all zeros is a valid `siginfo_t`.
    let mut queue: [libc::siginfo_t; QUEUE] = unsafe { std::mem::zeroed() };
    let mut mask = 0;
    for flags in [0, SHARED] {
        let mut peek = Peek { offset: 0, flags, count: QUEUE as i32 };
        let (at, to) = ((&raw mut peek).cast(), queue.as_mut_ptr().cast());
        // SAFETY: the kernel writes no more than `count` elements of `queue`.
        let count = unsafe { ptrace(libc::PTRACE_PEEKSIGINFO, tid, at, to) }?;
        mask |=
            queue.iter().take(count as usize).fold(0, |mask, it| mask | bit(it.si_signo as u32));
    }
    Ok(mask)
}

/// A signal's bit in such a mask.
pub(super) fn bit(signal: u32) -> u64 {
    1_u64.checked_shl(signal.wrapping_sub(1)).unwrap_or(0)
}
