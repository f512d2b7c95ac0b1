//! The process that cleans up after a runner that had no chance to: `kill -9`, the OOM killer.
//!
//! It is forked before anything exists that would need cleaning, and knows the places that the
//! session will use. It sleeps on a pipe whose other end only the runner has; when that closes,
//! the runner is gone, and whatever it has left is removed. After an orderly end that is nothing.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::{SigHandler, Signal, signal},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid},
};

use super::session::SessionPaths;

/// The janitor of this session, seen from the runner.
#[derive(Debug)]
pub(crate) struct Janitor {
    pipe: Option<OwnedFd>,
    pid: Pid,
}

impl Janitor {
    /// Forks the janitor. Must be called while the process has one thread only.
    pub(crate) fn start(paths: &SessionPaths) -> io::Result<Self> {
        // Close-on-exec, so that no service keeps the runner's end open.
        let (watched, held) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: there is one thread, so the child may do whatever the parent could.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self { pipe: Some(held), pid: child }),
            ForkResult::Child => {
                drop(held);
                // A failure to detach is no reason not to clean: the worst is to be killed along.
                let _ = detach(&watched);
                let code = i32::from(wait_and_clean(watched, paths).is_err());
                // SAFETY: `_exit(2)` ends the process without running the exit handlers and
                // buffers that belong to the parent.
                unsafe { libc::_exit(code) }
            }
        }
    }
}

impl Drop for Janitor {
    /// Tells the janitor that the end is here, and waits for it.
    fn drop(&mut self) {
        self.pipe = None;
        let _ = waitpid(self.pid, None);
    }
}

/// Makes the calling process one that neither a terminal nor a reader of the runner's output
/// notices, holding nothing but the pipe.
fn detach(watched: &OwnedFd) -> io::Result<()> {
    setsid()?;
    let ignored =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];
    for number in ignored {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    let pipe = watched.as_raw_fd() as u32;
    for (first, last) in [(3, pipe - 1), (pipe + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: whatever is open there is a copy of the parent's, and nothing in this
            // process refers to it any more (close_range(2), Linux 5.9).
            unsafe { libc::close_range(first, last, 0) };
        }
    }
    let name = c"faultbox-sweep";
    // SAFETY: PR_SET_NAME reads a string of at most 16 bytes (prctl(2)).
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    Ok(())
}

fn wait_and_clean(watched: OwnedFd, paths: &SessionPaths) -> io::Result<()> {
    let mut watched = File::from(watched);
    let mut nothing = [0];
    // Nobody ever writes: this returns at the end of the runner.
    while let Err(error) = watched.read(&mut nothing) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    paths.clean()
}
