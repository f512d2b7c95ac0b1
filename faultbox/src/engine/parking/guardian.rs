//! What must be done when a tracer has ended, by the runner: notice, reap, and free whoever its
//! end left stopped.
//!
//! A thread that was held is freed by the kernel. But a SIGSTOP that was on its way to a tracer
//! that no longer waited for it stops the thread's whole process, for good. (Other signals are
//! ignored by the program, or handled.) The table says who was parked by SIGSTOP; going by state
//! T alone would continue a service that its owner has stopped.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use faultbox_common::Park;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, SigmaskHow},
};

use super::{
    birth::Newborn,
    clock::now,
    handle::{Shared, Tracer},
    status::Status,
    table::ParkTable,
};

/// How long a tracer may take to end when its connection is closed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often, and after what pauses, stopped processes are looked for: a signal may arrive late.
const HEALING_ROUNDS: u32 = 4;
const HEALING_PAUSE: Duration = Duration::from_millis(5);
/// What a program may take from its release to the renewed entry of its call.
const RESUMING: Duration = Duration::from_millis(100);
/// How old a time may be, in nanoseconds, to tell of a thread that is being parked.
const RECENT: u64 = 10_000_000_000;

/// Has [`Shared::ended`] called, on a thread of its own, when the tracer has ended. Does not keep
/// the handle alive.
pub(super) fn watch(shared: &Arc<Shared>, tracer: &Newborn) -> io::Result<()> {
    let (shared, pid) = (Arc::downgrade(shared), tracer.pid);
    let pidfd = tracer.pidfd.try_clone()?;
    // Signals are for the program's own threads.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = std::thread::Builder::new().name("faultbox-guard".into()).spawn(move || {
        wait(&pidfd, None);
        if let Some(shared) = shared.upgrade() {
            shared.ended(pid);
        }
    });
    before.thread_set_mask()?;
    thread.map(drop)
}

/// Ends a tracer if it has not ended, reaps it, and frees whom it left stopped.
pub(super) fn bury(shared: &Shared, tracer: Tracer) {
    let Newborn { pid, pidfd, control } = tracer.process;
    drop(control);
    if !wait(&pidfd, Some(PATIENCE)) {
        // SAFETY: a child of ours, which has not been reaped.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        wait(&pidfd, None);
    }
    // Before its id can be another's.
    shared.switches.set_tracer(0);
    // SAFETY: all zeros is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = pidfd.as_raw_fd() as libc::id_t;
    // SAFETY: `info` is live and of the right type. The only error is that a program that ignores
    // SIGCHLD has no zombies.
    unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) };
    for round in 0..HEALING_ROUNDS {
        if round > 0 {
            std::thread::sleep(HEALING_PAUSE);
        }
        if !heal(&shared.table) {
            return;
        }
    }
}

/// Continues every process with a thread that was being parked by SIGSTOP and is stopped. Returns
/// whether there are such threads at all.
pub(super) fn heal(table: &ParkTable) -> bool {
    let recent = now().saturating_sub(RECENT);
    let is_stopping = |park: &Park| park.signal == libc::SIGSTOP as u32 && park.until > recent;
    let mut any = false;
    for (tid, _) in table.entries().iter().filter(|(_, park)| is_stopping(park)) {
        let Some(status) = Status::of(*tid) else { continue };
        any = true;
        if status.state == 'T' {
            // SAFETY: no pointers.
            unsafe { libc::kill(status.process as i32, libc::SIGCONT) };
        }
    }
    any
}

/// Gives threads that were freed the time to enter their calls again, where the programs must
/// look them up once more.
pub(super) fn let_resume(table: &ParkTable) {
    let end = Instant::now() + RESUMING;
    let is_waiting = |park: &Park| park.tokens.iter().any(|token| token.until != 0);
    while table.entries().iter().any(|(_, park)| is_waiting(park)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the process's end, at most that long. Returns whether it has ended.
fn wait(pidfd: &OwnedFd, patience: Option<Duration>) -> bool {
    let end = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| PollTimeout::try_from(left).ok());
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left.unwrap_or(PollTimeout::NONE)) {
            Ok(ready) => return ready > 0,
            Err(Errno::EINTR) => {}
            // Nothing else can happen to one valid descriptor, but memory running out.
            Err(_) => return false,
        }
    }
}
