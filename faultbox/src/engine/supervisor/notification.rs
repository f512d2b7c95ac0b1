//! The conversation with the kernel about calls that wait: `seccomp_unotify(2)`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use libc::{seccomp_notif, seccomp_notif_resp, seccomp_notif_sizes};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of `linux/seccomp.h`.
const SYNC_WAKE_UP: usize = 1;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    /// Names this one call.
    pub(super) id: u64,
    /// Thread, in our process id namespace.
    pub(super) tid: u32,
    /// Number on this architecture.
    pub(super) syscall: u32,
    /// As in the registers.
    pub(super) arguments: [u64; 6],
    /// Where in its program the thread will go on.
    pub(super) pointer: u64,
    /// When it was received: `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) time: u64,
}

impl Notification {
    /// Whether this may be the other call, started again by the kernel after a signal.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        (self.tid, self.syscall, self.pointer, self.arguments)
            == (other.tid, other.syscall, other.pointer, other.arguments)
    }
}

/// What time it is: `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn now() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// What a clock of this kernel says.
pub(super) fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("the kernel has this clock, and time is ours to write");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// What to do with a call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Run it (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`, Linux 5.5).
    Continue,
    /// Fail it with this error.
    Fail(u16),
    /// Skip it and report this result.
    Return(i64),
    /// Skip it and send its process a signal, process id first. One who survives that sees it
    /// interrupted.
    Crash(u32, i32),
    /// Have its signals handled, and then the call started again, whatever their handlers say of
    /// restarting. Only for a thread that has a signal to handle and still waits since that was
    /// seen: others would be shown error 513.
    Restart,
}

/// `ERESTARTNOINTR` of the kernel, which no program may see.
const RESTART: i32 = 513;

/// Memory for the kernel's messages, in the running kernel's sizes: they grow over time.
pub(super) struct Messages {
    request: Vec<u64>,
    response: Vec<u64>,
}

impl Messages {
    pub(super) fn new() -> io::Result<Self> {
        let mut sizes =
            seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        let (call, get) = (libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES);
        // SAFETY: `sizes` is live and of the type that this operation fills in.
        Errno::result(unsafe { libc::syscall(call, get, 0, &raw mut sizes) })?;
        let words = |theirs: u16, ours: usize| ours.max(theirs.into()).div_ceil(size_of::<u64>());
        Ok(Self {
            request: vec![0; words(sizes.seccomp_notif, size_of::<seccomp_notif>())],
            response: vec![0; words(sizes.seccomp_notif_resp, size_of::<seccomp_notif_resp>())],
        })
    }
}

/// Where the trapped calls of one process tree arrive.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// From Linux 6.6 on, caller and supervisor wake each other up on the same processor: one of
    /// them always sleeps, and on a virtual machine waking up another processor takes longer
    /// than the call.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let this = Self(fd);
        let flags = SYNC_WAKE_UP as *mut libc::c_void;
        // Without, it is slower. SAFETY: the argument is a number.
        let _ = unsafe { this.ioctl(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) };
        this
    }

    /// Receives a call. Blocks unless the descriptor is readable. `None`: its thread was killed
    /// or interrupted before we came.
    pub(super) fn receive(&self, messages: &mut Messages) -> io::Result<Option<Notification>> {
        // The kernel wants zeros, for extensions.
        messages.request.fill(0);
        let to = messages.request.as_mut_ptr();
        // SAFETY: as much aligned memory as the kernel said it writes.
        let result = unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, to.cast()) };
        match result {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // SAFETY: the memory is large enough, aligned, and any bits are a valid `seccomp_notif`.
        let request = unsafe { &*to.cast::<seccomp_notif>() };
        Ok(Some(Notification {
            id: request.id,
            tid: request.pid,
            syscall: request.data.nr.cast_unsigned(),
            arguments: request.data.args,
            pointer: request.data.instruction_pointer,
            time: now(),
        }))
    }

    /// Whether the call still waits. If so, its thread's id has not been given to another one
    /// since, and what was learnt about that id holds.
    pub(super) fn is_waiting(&self, mut id: u64) -> io::Result<bool> {
        // SAFETY: the kernel reads a word.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, (&raw mut id).cast()) } {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is a call to receive.
    pub(super) fn has_more(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
            && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
    }

    /// Answers a call. False: its thread has been killed or interrupted meanwhile.
    pub(super) fn answer(
        &self,
        messages: &mut Messages,
        id: u64,
        answer: Answer,
    ) -> io::Result<bool> {
        if let Answer::Crash(process, signal) = answer {
            // It waits, so the process has its id still.
            if !self.is_waiting(id)? {
                return Ok(false);
            }
            send(process, signal)?;
        }
        messages.response.fill(0);
        let at = messages.response.as_mut_ptr();
        // SAFETY: as much zeroed and aligned memory as the kernel reads.
        let response = unsafe { &mut *at.cast::<seccomp_notif_resp>() };
        response.id = id;
        match answer {
            Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Fail(errno) => response.error = -i32::from(errno),
            Answer::Return(value) => response.val = value,
            Answer::Crash(..) => response.error = -libc::EINTR,
            Answer::Restart => response.error = -RESTART,
        }
        // SAFETY: as above.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, at.cast()) } {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills the process that made a call, if that still waits.
    pub(super) fn kill_caller(&self, call: &Notification) -> io::Result<()> {
        if self.is_waiting(call.id)? {
            // Needs no descriptor and no memory, whose lack may be what has failed; for the id to
            // be another's already, all ids would have to be given out since the last line.
            send(call.tid, libc::SIGKILL)?;
        }
        Ok(())
    }

    /// # Safety
    /// `argument` must be what the request takes.
    unsafe fn ioctl(&self, request: libc::Ioctl, argument: *mut libc::c_void) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) }).map(drop)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a process a signal, by the id of any of its threads. One that has ended is no error.
fn send(id: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    match Errno::result(unsafe { libc::kill(id.cast_signed(), signal) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Why trapped calls cannot be served here; `None`: they can.
pub(super) fn unavailable() -> Option<String> {
    let action = libc::SECCOMP_RET_USER_NOTIF;
    let (call, get) = (libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL);
    // SAFETY: the kernel reads a word.
    if let Err(error) = Errno::result(unsafe { libc::syscall(call, get, 0, &raw const action) }) {
        return Some(format!("seccomp user notification is not available: {}", error.desc()));
    }
    // Linux 5.6, and so what we need of 5.5, too. The descriptor is wrong on purpose.
    // SAFETY: no pointers.
    let result = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, -1, -1, 0) });
    match result {
        Ok(_) | Err(Errno::EBADF) => None,
        Err(error) => Some(format!("pidfd_getfd is not available: {}", error.desc())),
    }
}
