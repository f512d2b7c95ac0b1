//! The new process, from its birth to `execve(2)`.
//!
//! It is a copy of one thread of a process that may have many, so it may only do what is safe in
//! a signal handler: system calls on memory that was prepared before. It reports through a page
//! that both share and not through a pipe, because the filter may trap `write(2)`.

use std::{
    ffi::CStr,
    io,
    num::NonZeroUsize,
    os::fd::RawFd,
    ptr::NonNull,
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
};

use libc::{c_char, c_int, c_long, c_ulong};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What the child is about.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Join = 1,
    Session = 2,
    Parent = 3,
    Streams = 4,
    Filter = 5,
    Execute = 6,
}

impl Step {
    /// The rest of a sentence that begins with "cannot start …".
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Join => "joining its cgroup",
            Self::Session => "setsid",
            Self::Parent => "the thread that starts it ended",
            Self::Streams => "standard streams",
            Self::Filter => "installing the seccomp filter",
            Self::Execute => "execve",
        }
    }
}

/// What the child tells.
#[repr(C)]
struct Message {
    step: AtomicU32,
    /// Of the step that failed; 0: none did.
    errno: AtomicI32,
    /// The listener's number in the child.
    listener: AtomicI32,
}

/// A [`Message`] in memory that parent and child share.
pub(super) struct Page(NonNull<Message>);

impl Page {
    const BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<Message>()).unwrap();

    pub(super) fn new() -> io::Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap_anonymous(None, Self::BYTES, prot, MapFlags::MAP_SHARED) }?;
        Ok(Self(start.cast()))
    }

    fn message(&self) -> &Message {
        // SAFETY: the mapping is aligned, zeroed, lives as long as `self`, and is only ever
        // accessed through atomics.
        unsafe { self.0.as_ref() }
    }

    /// The step that failed, and why.
    pub(super) fn failure(&self) -> Option<(Step, io::Error)> {
        let errno = self.message().errno.load(Ordering::Acquire);
        let step = match self.message().step.load(Ordering::Acquire) {
            1 => Step::Join,
            2 => Step::Session,
            3 => Step::Parent,
            4 => Step::Streams,
            5 => Step::Filter,
            _ => Step::Execute,
        };
        match (step, errno) {
            (Step::Execute, 0) => None,
            // Killed on the way.
            (step, 0) => Some((step, nix::errno::Errno::ECANCELED.into())),
            (step, errno) => Some((step, io::Error::from_raw_os_error(errno))),
        }
    }

    pub(super) fn listener(&self) -> RawFd {
        self.message().listener.load(Ordering::Acquire)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped, and nothing borrows from it any more. An error
        // would mean that it was never mapped.
        let _ = unsafe { munmap(self.0.cast(), Self::BYTES.get()) };
    }
}

/// Everything the child needs.
pub(super) struct Child<'a> {
    pub(super) program: &'a CStr,
    /// Ends with a null pointer.
    pub(super) argv: &'a [*const c_char],
    /// Likewise.
    pub(super) envp: &'a [*const c_char],
    /// Standard input, for a process with a session of its own; `None`: it shares ours. All
    /// descriptors here are above 2.
    pub(super) input: Option<RawFd>,
    /// Standard output and error; inherited if there are none.
    pub(super) output: Option<(RawFd, RawFd)>,
    /// `cgroup.procs` of the cgroup to join, unless the process was born there.
    pub(super) join: Option<RawFd>,
    pub(super) filter: Option<&'a libc::sock_fprog>,
    /// Whether to stop before the program, until the parent sends SIGCONT. With a filter it does.
    pub(super) stands_still: bool,
    /// Process id of the parent.
    pub(super) parent: c_int,
    pub(super) page: &'a Page,
}

impl Child<'_> {
    /// Becomes the program, or ends.
    ///
    /// # Safety
    /// Only in a new process with a single thread and all signals blocked.
    pub(super) unsafe fn run(&self) -> ! {
        // SAFETY: system calls only, as the caller promises.
        unsafe {
            self.prepare();
            self.at(Step::Execute);
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            self.give_up()
        }
    }

    unsafe fn prepare(&self) {
        // SAFETY: as for `run`; every pointer is to memory that the parent prepared.
        unsafe {
            self.at(Step::Join);
            if let Some(procs) = self.join {
                // "0" means the writer.
                self.check(libc::write(procs, c"0".as_ptr().cast(), 1) as c_long);
            }
            if self.input.is_some() {
                self.at(Step::Session);
                self.check(libc::setsid().into());
            }
            self.at(Step::Parent);
            self.check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong).into());
            if libc::getppid() != self.parent {
                // It died before the line above, so nobody will kill us.
                *libc::__errno_location() = libc::ESRCH;
                self.give_up();
            }
            self.at(Step::Streams);
            if let Some(input) = self.input {
                self.check(libc::dup2(input, 0).into());
            }
            if let Some((out, err)) = self.output {
                self.check(libc::dup2(out, 1).into());
                self.check(libc::dup2(err, 2).into());
            }
            // Linux 5.11. Before, descriptors that others forgot to mark go on to the program.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            reset_signals();
            if let Some(filter) = self.filter {
                self.at(Step::Filter);
                self.supervise(filter);
            } else if self.stands_still {
                self.stand_still();
            }
        }
    }

    /// Installs the filter and stands still until the parent has the listener: any call from
    /// then on may be trapped. Setting up comes before, and `tgkill` is never trapped.
    unsafe fn supervise(&self, filter: &libc::sock_fprog) {
        // SAFETY: as for `run`.
        unsafe {
            let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
            let listener = install(filter);
            self.check(listener);
            self.page.message().listener.store(listener as i32, Ordering::Release);
            self.check(libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGSTOP));
        }
    }

    /// Stops until the parent sends SIGCONT.
    unsafe fn stand_still(&self) {
        // SAFETY: as for `run`.
        unsafe { self.check(libc::kill(libc::getpid(), libc::SIGSTOP).into()) }
    }

    fn at(&self, step: Step) {
        self.page.message().step.store(step as u32, Ordering::Release);
    }

    unsafe fn check(&self, result: c_long) {
        if result < 0 {
            // SAFETY: as for `run`.
            unsafe { self.give_up() }
        }
    }

    unsafe fn give_up(&self) -> ! {
        // SAFETY: `errno` is a thread-local; `_exit` is a system call, and never trapped.
        unsafe {
            self.page.message().errno.store(*libc::__errno_location(), Ordering::Release);
            libc::_exit(127)
        }
    }
}

/// Installs a filter with a listener, and returns the listener's number or -1.
unsafe fn install(filter: &libc::sock_fprog) -> c_long {
    let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Linux 5.19: a signal that arrives while the supervisor thinks does not restart the call,
    // which would make Go programs, preempted by signals all the time, spin.
    let mut flags = plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let set = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the filter lives and is only read.
    let attempt = |flags: c_ulong| unsafe {
        libc::syscall(libc::SYS_seccomp, set, flags, std::ptr::from_ref(filter))
    };
    // SAFETY: a thread-local.
    let errno = || unsafe { *libc::__errno_location() };
    let mut result = attempt(flags);
    if result < 0 && errno() == libc::EINVAL {
        flags = plain;
        result = attempt(flags);
    }
    if result < 0 && errno() == libc::EACCES {
        // Without CAP_SYS_ADMIN a filter needs the promise that set-user-ID programs, which it
        // could fool, gain nothing. With it they go on to work.
        // SAFETY: changes only this process.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0) };
        result = attempt(flags);
    }
    result
}

/// `execve(2)` resets handlers but leaves ignored signals ignored (SIGPIPE, in Rust programs).
unsafe fn reset_signals() {
    /// The kernel's `struct sigaction`, whose members differ in order but not in what zero means:
    /// `SIG_DFL`, no flags, an empty mask. Not the C library's, which keeps two signals to itself.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Bytes of the kernel's signal sets.
    const SET: usize = 8;
    let (action, nothing) = (DEFAULT.as_ptr(), std::ptr::null_mut::<u64>());
    // SAFETY: the kernel reads no more than the constant holds, and writes nothing.
    unsafe {
        for signal in 1..=64 {
            // Fails for SIGKILL and SIGSTOP.
            libc::syscall(libc::SYS_rt_sigaction, signal, action, nothing, SET);
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, action, nothing, SET);
    }
}
