//! Starting the tracer process.
//!
//! It is forked and does not execute a program: faultbox is a library as well, and nothing says
//! that the program it is part of could be started in another role. So it is a copy of a process
//! that had threads, of which only the one that forked lives on, and whatever lock another one
//! held stays locked. It is made by the C library's `fork(3)`, which (unlike the raw call that
//! `launch` uses) leaves `malloc` usable in the child, in glibc as well as musl; and it keeps away
//! from everything of the standard library that locks: streams, the environment, threads.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use libc::{c_int, c_ulong};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, SigmaskHow, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    message::{Control, Reply},
    table::ParkTable,
    tracer::Tracer,
};

/// Its name (`comm`), at most 15 bytes.
pub(super) const NAME: &std::ffi::CStr = c"faultbox-tracer";

/// How long a new process may take to say that it is there. Much longer than it needs, even on a
/// machine that is out of memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exit codes, for `strace` and the curious: nobody reads them.
const EXIT_DONE: c_int = 0;
const EXIT_FAILED: c_int = 1;
const EXIT_PANIC: c_int = 101;

/// A tracer that is ready, as its parent sees it. To be reaped.
pub(super) struct Newborn {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) control: Control,
}

/// What it inherits.
struct Heritage {
    parked: RawFd,
    wakes: RingBuf<MapData>,
    control: Control,
}

/// Starts it.
pub(super) fn start(parked: BorrowedFd<'_>, wakes: BorrowedFd<'_>) -> io::Result<Newborn> {
    // Made here, because the library may want locks for it. The position in the buffer is part of
    // the memory shared with the kernel: a new tracer goes on where the last one ended.
    let ring = || RingBuf::try_from(Map::RingBuf(MapData::from_fd(wakes.try_clone_to_owned()?)?));
    let ring = ring().map_err(|error: MapError| io::Error::other(error))?;
    let (control, end) = Control::pair()?;
    let heritage = Heritage { parked: parked.as_raw_fd(), wakes: ring, control: end };

    watch_for_panics();
    // The child keeps them blocked for ever: it is not to be ended by Ctrl-C or SIGTERM before
    // the runner decides what becomes of those who wait, and no handler of the runner's may run
    // in it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: the child does what the head of this file promises, and never returns.
    let forked = Errno::result(unsafe { libc::fork() });
    if forked == Ok(0) {
        live(heritage);
    }
    before.thread_set_mask()?;
    let pid = forked?;
    drop(heritage);
    // SAFETY: no pointers. Our child is there until we reap it (Linux 5.3).
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let outcome = pidfd.map_err(io::Error::from).and_then(|pidfd| {
        // SAFETY: a descriptor that was just made for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) };
        let hello = control.answer(PATIENCE)?;
        if hello.errno != 0 {
            return Err(io::Error::from_raw_os_error(hello.errno));
        }
        Ok(Newborn { pid: pid as u32, pidfd, control })
    });
    if outcome.is_err() {
        // SAFETY: our child, which nobody has reaped.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
    outcome
}

/// Whether this process is a tracer.
static IS_TRACER: AtomicBool = AtomicBool::new(false);

/// Has a tracer that panics end at once. Before there is one: in it, setting the hook would wait for
/// ever if another thread of ours has just been panicking, as the lock of that hook is copied, too.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_TRACER.load(Ordering::Relaxed) {
                exit(EXIT_PANIC);
            }
            before(panic);
        }));
    });
}

/// The child's life. Never unwinds into the caller's code.
fn live(heritage: Heritage) -> ! {
    IS_TRACER.store(true, Ordering::Relaxed);
    let code = catch_unwind(AssertUnwindSafe(|| trace(heritage)));
    exit(code.unwrap_or(EXIT_PANIC))
}

fn trace(heritage: Heritage) -> c_int {
    let Heritage { parked, wakes, control } = heritage;
    let kept = [parked, wakes.as_fd().as_raw_fd(), control.as_fd().as_raw_fd()];
    let children = match settle_in(kept) {
        Ok(children) => children,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = control.reply(&Reply { errno, ..Reply::default() });
            return EXIT_FAILED;
        }
    };
    // SAFETY: inherited with the number, which nothing else in this process owns: what was made
    // from it in the parent is never dropped here.
    let table = ParkTable::new(unsafe { OwnedFd::from_raw_fd(parked) });
    let hello = control.reply(&Reply::default());
    let end = hello.and_then(|()| Tracer::new(table, wakes, control, children).serve());
    if end.is_ok() { EXIT_DONE } else { EXIT_FAILED }
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(code) }
}

fn settle_in(kept: [RawFd; 3]) -> io::Result<SignalFd> {
    // SAFETY: system calls on this process; the name is a string that lives for ever.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // By default the kernel may let a sleeper sleep 50 µs longer.
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as c_ulong);
        // Away from the terminal and its signals. Fails only for a leader, which a child is not.
        Errno::result(libc::setsid())?;
        // An ignored SIGCHLD would reap tracees without us.
        if libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    // Not to keep a directory of the runner's busy.
    let _ = std::env::set_current_dir("/");
    // Best effort: lowering needs CAP_SYS_RESOURCE.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    close_others(kept)?;
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Closes every descriptor but these (`close_range(2)`, Linux 5.9): the engine's programs and
/// links, so that the end of this process takes no time; a pipe whose reader waits for its end.
fn close_others(mut kept: [RawFd; 3]) -> io::Result<()> {
    let close = |first: u32, last: u32| {
        // SAFETY: of what is closed nothing is ever used or dropped in this process.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
    };
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept.map(|fd| fd as u32) {
        if first < fd {
            close(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close(first, u32::MAX)?;
    Ok(())
}
