//! A container of a running test: its processes as this machine sees them, and its network.

use std::{
    fs::{self, File},
    io,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sched::{CloneFlags, setns},
    sys::time::TimeSpec,
};

use super::netns;
use crate::{
    docker::{Container, Docker, DockerError, ignores},
    engine::Exit,
    protocol::{Dialer, Network},
};

/// What the shell adds to a signal to tell that a process died of it, and Docker after it.
const DIED_OF_SIGNAL: i64 = 128;

/// A network namespace, by the file system and inode of its file in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceId(u64, u64);

impl NamespaceId {
    /// That of the calling thread.
    pub(crate) fn own() -> io::Result<Self> {
        Ok(Self::of(&fs::metadata("/proc/thread-self/ns/net")?))
    }

    fn of(file: &fs::Metadata) -> Self {
        Self(file.dev(), file.ino())
    }
}

/// A container that runs, or did.
pub(crate) struct RunningContainer {
    docker: Docker,
    /// As Docker describes it.
    pub(crate) about: Container,
    /// Whether faultbox has started it, and is to stop it.
    pub(crate) is_own: bool,
    /// Its main process.
    pidfd: OwnedFd,
    namespace: Arc<File>,
    namespace_id: NamespaceId,
    /// Whether sockets can be made inside its namespace.
    can_enter: bool,
}

impl RunningContainer {
    /// Takes hold of the main process of a container.
    pub(crate) fn hold(about: Container, is_own: bool, docker: &Docker) -> io::Result<Self> {
        let pid = about.pid;
        // SAFETY: a system call without pointers (pidfd_open(2), Linux 5.3).
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        // Without the right to look at another's namespaces the container is dialed from outside.
        let opened = File::open(format!("/proc/{pid}/ns/net"));
        let (namespace, can_enter) = match opened {
            Ok(file) => {
                let can_enter = can_enter(&file);
                (file, can_enter)
            }
            Err(_) => (File::open("/proc/thread-self/ns/net")?, false),
        };
        let namespace_id = NamespaceId::of(&namespace.metadata()?);
        let namespace = Arc::new(namespace);
        let docker = docker.clone();
        Ok(Self { docker, about, is_own, pidfd, namespace, namespace_id, can_enter })
    }

    /// Its main process.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its network namespace.
    pub(crate) fn namespace(&self) -> &Arc<File> {
        &self.namespace
    }

    /// The same, to be compared.
    pub(crate) fn namespace_id(&self) -> NamespaceId {
        self.namespace_id
    }

    /// Its addresses, each with the id of its network.
    pub(crate) fn addresses(&self) -> Vec<(String, IpAddr)> {
        let networks = self.about.networks.iter();
        let one = |it: &crate::docker::Attachment| {
            let id = it.network.clone();
            it.addresses.clone().into_iter().map(move |address| (id.clone(), address))
        };
        networks.flat_map(one).collect()
    }

    /// How steps and healthchecks reach it: from inside, so that neither a proxy nor address
    /// translation is between, and from an address that nobody else in there has.
    pub(crate) fn dialer(&self) -> Dialer {
        let network = match self.addresses().first() {
            Some((_, address)) if !self.can_enter => Network::Host(*address),
            _ => Network::Inside(Arc::clone(&self.namespace)),
        };
        Dialer { driver: netns::host(), network }
    }

    /// Whether the main process ends within this time.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        let mut descriptors = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut descriptors, Some(TimeSpec::from(patience)), None).is_ok_and(|it| it > 0)
    }

    /// Whether the main process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// The same container, if somebody has started it again.
    pub(crate) fn started_again(&self) -> Option<Self> {
        let about = self.docker.inspect(&self.about.id).ok().filter(|it| it.is_running)?;
        Self::hold(about, self.is_own, &self.docker).ok()
    }

    /// How it ended, once it has.
    pub(crate) fn exit(&self) -> Exit {
        // Docker notices a moment later than the kernel says.
        for _ in 0..100 {
            match self.docker.exit_code(&self.about.id) {
                Ok(Some(code)) if code > DIED_OF_SIGNAL && code < DIED_OF_SIGNAL + 65 => {
                    return Exit::Signal((code - DIED_OF_SIGNAL) as i32);
                }
                Ok(Some(code)) => return Exit::Code(code as i32),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(_) => break,
            }
        }
        Exit::Code(-1)
    }

    /// Asks it to end, as its image wants to be asked. The first process of a container does not
    /// get signals that it has no handler for: that one is not asked.
    pub(crate) fn ask_to_end(&self) -> Result<(), DockerError> {
        let Container { id, pid, stop_signal, .. } = &self.about;
        if ignores(*pid, *stop_signal) {
            return self.kill();
        }
        self.signal(*stop_signal).or_else(|_| self.docker.signal(id, *stop_signal))
    }

    /// Ends it. The kernel ends its other processes with the first.
    pub(crate) fn kill(&self) -> Result<(), DockerError> {
        self.signal(libc::SIGKILL).or_else(|_| self.docker.signal(&self.about.id, libc::SIGKILL))
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        let descriptor = self.pidfd.as_raw_fd();
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: without information about the signal the kernel makes its own
        // (pidfd_send_signal(2), Linux 5.1).
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, none, 0) };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // It has ended meanwhile.
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// Whether a thread of ours may enter this namespace.
fn can_enter(namespace: &File) -> bool {
    thread::scope(|scope| {
        let enter = || setns(namespace, CloneFlags::CLONE_NEWNET).is_ok();
        let thread = thread::Builder::new().spawn_scoped(scope, enter);
        thread.is_ok_and(|it| it.join().unwrap_or(false))
    })
}
