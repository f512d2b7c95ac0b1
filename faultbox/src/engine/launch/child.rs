//! The new process, from its birth to `execve(2)`.
//!
//! It shares the memory of a process whose threads go on, or has a copy of it with whatever locks
//! they held. So it may do nothing but system calls on what was prepared before. It reports
//! through a page that both share and not through a pipe, because the filter may trap `write(2)`.

use std::{
    cell::Cell,
    ffi::CStr,
    io,
    os::fd::RawFd,
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
};

use libc::{c_char, c_int};
use syscalls::{Errno, Sysno};

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
    Mounts = 7,
    Directory = 8,
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
            Self::Mounts => "entering its mount namespace",
            Self::Directory => "entering the working directory",
        }
    }
}

/// What the child tells. All zeros: nothing yet.
#[repr(C)]
pub(super) struct Page {
    step: AtomicU32,
    /// Of the step that failed; 0: none did.
    errno: AtomicI32,
    /// The listener's number in the child.
    listener: AtomicI32,
}

impl Page {
    /// The step that failed, and why.
    pub(super) fn failure(&self) -> Option<(Step, io::Error)> {
        let errno = self.errno.load(Ordering::Acquire);
        let step = match self.step.load(Ordering::Acquire) {
            1 => Step::Join,
            2 => Step::Session,
            3 => Step::Parent,
            4 => Step::Streams,
            5 => Step::Filter,
            7 => Step::Mounts,
            8 => Step::Directory,
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
        self.listener.load(Ordering::Acquire)
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
    pub(super) join: Cell<Option<RawFd>>,
    /// A mount namespace to enter, the path of the working directory there, and the directory
    /// itself where there is none of that path.
    pub(super) mounts: Option<(RawFd, &'a CStr, RawFd)>,
    pub(super) filter: Option<&'a libc::sock_fprog>,
    /// Whether to stop before the program, until the parent sends SIGCONT. With a filter it does.
    pub(super) stands_still: bool,
    /// Process id of the parent.
    pub(super) parent: c_int,
    pub(super) page: &'a Page,
}

/// What a system call returned, or the number of its error.
type Returned = Result<usize, i32>;

/// A system call without the C library, whose `errno` the parent may be using.
unsafe fn call<const N: usize>(number: Sysno, arguments: [usize; N]) -> Returned {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let [first, second, third, fourth, fifth, sixth] = all;
    // SAFETY: the caller says that the arguments are right for this call.
    unsafe { syscalls::syscall!(number, first, second, third, fourth, fifth, sixth) }
        .map_err(Errno::into_raw)
}

impl Child<'_> {
    /// Becomes the program, or ends.
    ///
    /// # Safety
    /// Only in a new process with a single thread and all signals blocked.
    pub(super) unsafe fn run(&self) -> ! {
        // SAFETY: system calls only, as the caller promises; every pointer is to memory that the
        // parent prepared.
        unsafe {
            let error = match self.prepare() {
                Ok(()) => {
                    self.at(Step::Execute);
                    let (argv, envp) = (self.argv.as_ptr() as usize, self.envp.as_ptr() as usize);
                    call(Sysno::execve, [self.program.as_ptr() as usize, argv, envp]).err()
                }
                Err(error) => Some(error),
            };
            self.page.errno.store(error.unwrap_or_default(), Ordering::Release);
            loop {
                // Never trapped.
                let _ = call(Sysno::exit_group, [127]);
            }
        }
    }

    unsafe fn prepare(&self) -> Result<(), i32> {
        // SAFETY: as for `run`.
        unsafe {
            self.at(Step::Join);
            if let Some(procs) = self.join.get() {
                // "0" means the writer.
                call(Sysno::write, [procs as usize, c"0".as_ptr() as usize, 1])?;
            }
            if self.input.is_some() {
                self.at(Step::Session);
                call(Sysno::setsid, [])?;
            }
            if let Some((namespace, path, directory)) = self.mounts {
                self.at(Step::Mounts);
                call(Sysno::setns, [namespace as usize, libc::CLONE_NEWNS as usize])?;
                self.at(Step::Directory);
                if call(Sysno::chdir, [path.as_ptr() as usize]).is_err() {
                    call(Sysno::fchdir, [directory as usize])?;
                }
            }
            self.at(Step::Parent);
            let (option, signal) = (libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize);
            call(Sysno::prctl, [option, signal])?;
            if call(Sysno::getppid, [])? != self.parent as usize {
                // It died before the line above, so nobody will kill us.
                return Err(libc::ESRCH);
            }
            self.at(Step::Streams);
            if let Some(input) = self.input {
                call(Sysno::dup3, [input as usize, 0, 0])?;
            }
            if let Some((out, err)) = self.output {
                call(Sysno::dup3, [out as usize, 1, 0])?;
                call(Sysno::dup3, [err as usize, 2, 0])?;
            }
            // Linux 5.11. Before, descriptors that others forgot to mark go on to the program.
            let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
            let _ = call(Sysno::close_range, [3, u32::MAX as usize, flags]);
            reset_signals();
            if let Some(filter) = self.filter {
                self.at(Step::Filter);
                self.supervise(filter)?;
            } else if self.stands_still {
                stand_still()?;
            }
            Ok(())
        }
    }

    /// Installs the filter and stands still until the parent has the listener: any call from
    /// then on may be trapped. Setting up comes before, and `tgkill` is never trapped.
    unsafe fn supervise(&self, filter: &libc::sock_fprog) -> Result<(), i32> {
        // SAFETY: as for `run`.
        unsafe {
            let (process, thread) = (call(Sysno::getpid, [])?, call(Sysno::gettid, [])?);
            let listener = install(filter)?;
            self.page.listener.store(listener as i32, Ordering::Release);
            call(Sysno::tgkill, [process, thread, libc::SIGSTOP as usize]).map(drop)
        }
    }

    fn at(&self, step: Step) {
        self.page.step.store(step as u32, Ordering::Release);
    }
}

/// Stops until the parent sends SIGCONT.
unsafe fn stand_still() -> Result<(), i32> {
    // SAFETY: as for `Child::run`.
    unsafe {
        let process = call(Sysno::getpid, [])?;
        call(Sysno::kill, [process, libc::SIGSTOP as usize]).map(drop)
    }
}

/// Installs a filter with a listener, and returns the listener's number.
unsafe fn install(filter: &libc::sock_fprog) -> Returned {
    let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as usize;
    // Linux 5.19: a signal that arrives while the supervisor thinks does not restart the call,
    // which would make Go programs, preempted by signals all the time, spin.
    let mut flags = plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as usize;
    let set = libc::SECCOMP_SET_MODE_FILTER as usize;
    let filter = std::ptr::from_ref(filter) as usize;
    // SAFETY: the filter lives and is only read.
    let attempt = |flags| unsafe { call(Sysno::seccomp, [set, flags, filter]) };
    let mut result = attempt(flags);
    if result == Err(libc::EINVAL) {
        flags = plain;
        result = attempt(flags);
    }
    if result == Err(libc::EACCES) {
        // Without CAP_SYS_ADMIN a filter needs the promise that set-user-ID programs, which it
        // could fool, gain nothing. With it they go on to work.
        // SAFETY: changes only this process.
        let _ = unsafe { call(Sysno::prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1]) };
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
    let action = DEFAULT.as_ptr() as usize;
    // SAFETY: the kernel reads no more than the constant holds, and writes nothing. Dispositions
    // are not shared with the parent, as memory is.
    unsafe {
        for signal in 1..=64 {
            // Fails for SIGKILL and SIGSTOP.
            let _ = call(Sysno::rt_sigaction, [signal, action, 0, SET]);
        }
        let _ = call(Sysno::rt_sigprocmask, [libc::SIG_SETMASK as usize, action, 0, SET]);
    }
}
