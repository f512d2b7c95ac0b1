//! Starting a process inside a target: with `clone3(2)` straight into its cgroup where the
//! kernel can (Linux 5.7), and behind the supervisor's filter where one is wanted.
//!
//! How the process is made is in `birth.rs`, what happens in it before `execve(2)` in `child.rs`,
//! the process itself in `process.rs`, and what a failed start is called in `image.rs`.

use std::{
    cell::Cell,
    env,
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::OpenOptionsExt as _,
        },
    },
    path::PathBuf,
    ptr,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use super::supervisor::Filter;

mod birth;
mod child;
mod image;
mod process;
#[cfg(test)]
pub(super) mod tests;

pub use process::{Exit, Process};

use birth::{Born, METHODS, Memory, Method};
use child::{Child, Step};

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
    /// A mount namespace to enter first (`setns(2)`, which wants `CAP_SYS_ADMIN` and
    /// `CAP_SYS_CHROOT`); ours, if there is none. The working directory is the one that has the
    /// path of ours there, and else ours itself.
    pub mounts: Option<Arc<OwnedFd>>,
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
    let program = CString::new(launch.program.as_os_str().as_bytes())
        .map_err(|_| fail("its path contains a zero byte", Errno::EINVAL.into()))?;
    let (argv, envp) = (pointers(&launch.arguments), pointers(&launch.environment));
    let descriptor = |fd| beyond_standard(fd).map_err(|error| fail("descriptors", error));
    let null = File::open("/dev/null").map_err(|error| fail("/dev/null", error))?;
    let input = descriptor(null.as_fd())?;
    let output = match &launch.output {
        Some((out, err)) => Some((descriptor(out.as_fd())?, descriptor(err.as_fd())?)),
        None => None,
    };
    let mounts = match &launch.mounts {
        Some(namespace) => {
            // None, if it was removed; and one that the kernel has told contains no zero byte.
            let path = env::current_dir().unwrap_or_default().into_os_string().into_vec();
            let path = CString::new(path).unwrap_or_default();
            let mut options = File::options();
            let options = options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
            let here = options.open(".").map_err(|e| fail("the working directory", e))?;
            Some((descriptor(namespace.as_fd())?, path, descriptor(here.as_fd())?))
        }
        None => None,
    };
    let filter = supervision.as_ref().and_then(|supervision| supervision.filter);
    let prepared = filter.map(Filter::program);
    let memory = Memory::new().map_err(|error| fail("memory", error))?;
    let raw = |fd: &OwnedFd| fd.as_raw_fd();
    let child = Child {
        program: &program,
        argv: &argv,
        envp: &envp,
        input: (terminal == Terminal::Detached).then(|| raw(&input)),
        output: output.as_ref().map(|(out, err)| (raw(out), raw(err))),
        join: Cell::new(None),
        mounts: mounts.as_ref().map(|(namespace, path, here)| (raw(namespace), &**path, raw(here))),
        filter: prepared.as_ref(),
        stands_still: supervision.is_some(),
        parent: std::process::id().cast_signed(),
        page: memory.page(),
    };
    // Everything above is the child's, too, until it runs the program or ends: see `birth.rs`.
    let born = birth::of(methods, cgroup, &child, &memory);
    let Born { process, executed } = born.map_err(|(what, error)| fail(what, error))?;
    if let Some(supervision) = supervision {
        // A child that ended instead of stopping has said why in the page.
        if process.stopped().map_err(|e| fail("waiting for the new process", e))? {
            let listener = match supervision.filter {
                Some(_) => Some(
                    process
                        .take_descriptor(memory.page().listener())
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
    match memory.page().failure() {
        None => Ok(process),
        Some((Step::Execute, error)) => {
            Err(SpawnError(image::cannot_execute(&launch.program, &error)))
        }
        Some((step, error)) => Err(fail(step.describe(), error)),
    }
}

/// A duplicate that `dup3(2)` onto 0 to 2 cannot collide with.
fn beyond_standard(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: a descriptor that was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}
