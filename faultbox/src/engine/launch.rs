//! Starting a process inside a target: with `clone3(2)` straight into its cgroup where the
//! kernel can (Linux 5.7), and behind the supervisor's filter where one is wanted.
//!
//! What happens in the new process before `execve(2)` is in `child.rs`, the process itself in
//! `process.rs`, and what a failed start is called in `image.rs`.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    ptr,
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{SigSet, SigmaskHow},
    unistd::pipe2,
};

use super::supervisor::Filter;

mod child;
mod image;
mod process;
#[cfg(test)]
pub(super) mod tests;

pub use process::{Exit, Process};

use child::{Child, Page, Step};

/// What to start and how. Unless it shares our terminal, the process gets a session of its own.
/// It gets SIGKILL when the thread that started it dies, default signal dispositions and an empty signal mask. It inherits no
/// descriptors but 0 to 2, and the working directory. The program is not searched for in `PATH`.
#[derive(Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Arguments, the program's own name first.
    pub arguments: Vec<CString>,
    /// The whole environment, as `NAME=value`.
    pub environment: Vec<CString>,
    /// Standard output and error, inherited if there are none; standard input is `/dev/null`,
    /// unless the terminal is shared.
    pub output: Option<(OwnedFd, OwnedFd)>,
}

/// Why a process could not be started; names the program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpawnError(pub String);

/// What a process has to do with the terminal of the one that starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// Nothing: it has a session of its own and `/dev/null` as standard input.
    Detached,
    /// It stays in our session and process group, with our standard input: whoever presses Ctrl-C
    /// means both.
    Shared,
}

/// What is to be done with a process before it runs its program.
pub(super) struct Supervision<'a> {
    /// Which calls are to be trapped, if any.
    pub(super) filter: Option<&'a Filter>,
    /// Called while the process stands still, between the filter and `execve(2)`, with the
    /// filter's listener. From its return on trapped calls must be answered, because `execve` may
    /// be one of them. An error ends the process.
    pub(super) hand_over: &'a mut dyn FnMut(Option<OwnedFd>) -> io::Result<()>,
}

/// Ways of making a process, from the newest kernel's to the oldest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `clone3(2)` with `CLONE_PIDFD | CLONE_INTO_CGROUP`: Linux 5.7.
    IntoCgroup,
    /// `clone3(2)` with `CLONE_PIDFD`: Linux 5.3. The child moves itself into the cgroup.
    Clone,
    /// `clone(2)` as `fork(2)` does, and `pidfd_open(2)`: where a sandbox hides `clone3`.
    Fork,
}

const METHODS: &[Method] = &[Method::IntoCgroup, Method::Clone, Method::Fork];

/// `linux/sched.h`. libc declares it as an `int`, into which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// As [`start`], for a process that shares our terminal.
pub(super) fn start_in_terminal(
    launch: &Launch,
    cgroup: Option<BorrowedFd<'_>>,
    supervision: Option<Supervision<'_>>,
) -> Result<Process, SpawnError> {
    start_with(METHODS, launch, cgroup, supervision, Terminal::Shared)
}

/// Starts a process in the cgroup whose directory is given, under supervision if asked.
/// Returns when the program is running, that is after a successful `execve(2)`.
///
/// Call it from a thread that outlives the process: the process is killed when that thread ends.
pub(super) fn start(
    launch: &Launch,
    cgroup: Option<BorrowedFd<'_>>,
    supervision: Option<Supervision<'_>>,
) -> Result<Process, SpawnError> {
    start_by(METHODS, launch, cgroup, supervision)
}

fn start_by(
    methods: &[Method],
    launch: &Launch,
    cgroup: Option<BorrowedFd<'_>>,
    supervision: Option<Supervision<'_>>,
) -> Result<Process, SpawnError> {
    start_with(methods, launch, cgroup, supervision, Terminal::Detached)
}

fn start_with(
    methods: &[Method],
    launch: &Launch,
    cgroup: Option<BorrowedFd<'_>>,
    supervision: Option<Supervision<'_>>,
    terminal: Terminal,
) -> Result<Process, SpawnError> {
    let fail = |what: &str, error: io::Error| {
        let text = image::os_text(&error);
        SpawnError(format!("cannot start {}: {what}: {text}", launch.program.display()))
    };
    let page = Page::new().map_err(|e| fail("shared memory", e))?;
    let filter = supervision.as_ref().and_then(|supervision| supervision.filter);
    let (process, executed) =
        spawn(methods, launch, cgroup, (supervision.is_some(), filter), terminal, &page)
            .map_err(|(what, error)| fail(what, error))?;
    if let Some(supervision) = supervision {
        // A child that ended instead of stopping has said why in the page.
        if process.stopped().map_err(|e| fail("waiting for the new process", e))? {
            let listener = match supervision.filter {
                Some(_) => Some(
                    process
                        .take_descriptor(page.listener())
                        .map_err(|e| fail("fetching the seccomp listener", e))?,
                ),
                None => None,
            };
            (supervision.hand_over)(listener).map_err(|e| fail("the supervisor", e))?;
            process.signal(libc::SIGCONT);
        }
    }
    // Closed by a successful `execve(2)`, or by the end of the process.
    let read = File::from(executed).read(&mut [0]);
    read.map_err(|e| fail("waiting for the program", e))?;
    match page.failure() {
        None => Ok(process),
        Some((Step::Execute, error)) => {
            Err(SpawnError(image::cannot_execute(&launch.program, &error)))
        }
        Some((step, error)) => Err(fail(step.describe(), error)),
    }
}

/// Makes the process. Returns it with a pipe that ends when the program runs.
fn spawn(
    methods: &[Method],
    launch: &Launch,
    cgroup: Option<BorrowedFd<'_>>,
    (stands_still, filter): (bool, Option<&Filter>),
    terminal: Terminal,
    page: &Page,
) -> Result<(Process, OwnedFd), (&'static str, io::Error)> {
    /// A process started by another thread meanwhile would inherit our end of the pipe, and we
    /// would wait for its `execve(2)`, too.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let program = CString::new(launch.program.as_os_str().as_bytes())
        .map_err(|_| ("its path contains a zero byte", Errno::EINVAL.into()))?;
    let argv = pointers(&launch.arguments);
    let envp = pointers(&launch.environment);
    let null = File::open("/dev/null").map_err(|e| ("/dev/null", e))?;
    let input = beyond_standard(null.as_fd())?;
    let output = match &launch.output {
        Some((out, err)) => Some((beyond_standard(out.as_fd())?, beyond_standard(err.as_fd())?)),
        None => None,
    };
    let raw = |fd: &OwnedFd| fd.as_raw_fd();
    let prepared = filter.map(Filter::program);
    let mut child = Child {
        program: &program,
        argv: &argv,
        envp: &envp,
        input: (terminal == Terminal::Detached).then(|| raw(&input)),
        output: output.as_ref().map(|(out, err)| (raw(out), raw(err))),
        join: None,
        filter: prepared.as_ref(),
        stands_still,
        parent: std::process::id().cast_signed(),
        page,
    };

    let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (executed, held_until_exec) = pipe2(OFlag::O_CLOEXEC).map_err(|e| ("pipe", e.into()))?;
    let process = clone_by(methods, cgroup, &mut child)?;
    drop(held_until_exec);
    drop(one);
    Ok((process, executed))
}

/// A duplicate that `dup2(2)` onto 0 to 2 cannot collide with.
fn beyond_standard(fd: BorrowedFd<'_>) -> Result<OwnedFd, (&'static str, io::Error)> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3)).map_err(|e| ("descriptors", e.into()))?;
    // SAFETY: a descriptor that was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Makes the process by the first of the methods that this kernel knows.
fn clone_by(
    methods: &[Method],
    cgroup: Option<BorrowedFd<'_>>,
    child: &mut Child<'_>,
) -> Result<Process, (&'static str, io::Error)> {
    let mut unknown = Errno::ENOSYS;
    for &method in methods {
        if method == Method::IntoCgroup && cgroup.is_none() {
            continue;
        }
        let procs = match cgroup {
            Some(cgroup) if method != Method::IntoCgroup => {
                Some(open_at(cgroup, c"cgroup.procs").map_err(|e| ("joining its cgroup", e))?)
            }
            _ => None,
        };
        child.join = procs.as_ref().map(AsRawFd::as_raw_fd);
        match clone_once(method, cgroup, child) {
            Ok(process) => return Ok(process),
            // Not known, or a flag or the structure's size is not. A sandbox may say EPERM.
            Err(error @ (Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG | Errno::EPERM)) => {
                unknown = error;
            }
            Err(error) if method == Method::IntoCgroup => {
                return Err(("joining its cgroup", error.into()));
            }
            Err(error) => return Err(("new process", error.into())),
        }
    }
    Err(("new process", unknown.into()))
}

fn open_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(directory, name, flags, nix::sys::stat::Mode::empty())?)
}

fn clone_once(
    method: Method,
    cgroup: Option<BorrowedFd<'_>>,
    child: &Child<'_>,
) -> Result<Process, Errno> {
    // No handler of ours may run in the child, on data that is no longer shared with us. The
    // child unblocks when all dispositions are default.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let mut pidfd: RawFd = -1;
    let result = if method == Method::Fork {
        // SAFETY: without CLONE_VM this is `fork(2)`: the child has a copy of our memory, and
        // `Child::run` keeps to what is allowed there. No pointers are passed.
        unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }
    } else {
        // SAFETY: all zeros is a valid `clone_args`.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = libc::CLONE_PIDFD as u64;
        args.pidfd = &raw mut pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let (Method::IntoCgroup, Some(cgroup)) = (method, cgroup) {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: as above; `args` and `pidfd` are live, and no stack is given as none is shared.
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) }
    };
    if result == 0 {
        // SAFETY: we are the new process and have one thread.
        unsafe { child.run() }
    }
    let cloned = Errno::result(result);
    before.thread_set_mask()?;
    let pid = cloned? as u32;
    if method == Method::Fork {
        return Process::open(pid);
    }
    // SAFETY: the kernel made the descriptor for us.
    Ok(Process::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}
