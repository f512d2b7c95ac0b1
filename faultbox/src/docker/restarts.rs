//! Notices that a container has been started again: its cgroup is removed when it ends and made
//! again, as another one with the same name, when it starts.
//!
//! `inotify(7)` tells of directories that are made in a cgroup, because it is by `mkdir(2)` that
//! they are. Every directory on the way is watched, so it may vanish and come again as well.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
    },
};

use super::{DockerError, cgroup::inode};
use crate::runner;

/// Watches over one cgroup until it is dropped; behind that, nothing is called any more.
#[derive(Debug)]
pub(crate) struct Restarts {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Restarts {
    /// Calls `restarted`, on a thread of its own, whenever the cgroup at this path is another one
    /// than before, beginning with the one whose inode number is `known`: mostly while it has no
    /// process yet. What it is called with is the path.
    pub(crate) fn watch(
        cgroup: &Path,
        known: u64,
        restarted: impl Fn(&Path) + Send + 'static,
    ) -> Result<Self, DockerError> {
        let system = |error: io::Error| DockerError::System {
            what: format!("watch for restarts at {}", cgroup.display()),
            error,
        };
        let mut watcher = Watcher::new(cgroup, known).map_err(|it| system(it.into()))?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_flags(flags).map_err(|it| system(it.into()))?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("restarts".to_owned())
            .spawn(move || {
                if let Err(error) = watcher.run(&stopped, &restarted) {
                    runner::message(format_args!(
                        "warning: restarts at {} are not noticed any more: {error}",
                        watcher.cgroup.display()
                    ));
                }
            })
            .map_err(system)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Restarts {
    fn drop(&mut self) {
        // A counter at its limit is readable as well.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // It has said itself why it ended.
            let _ = thread.join();
        }
    }
}

struct Watcher {
    inotify: Inotify,
    /// The directories above the cgroup that may vanish, the highest first.
    above: Vec<Above>,
    cgroup: PathBuf,
    known: u64,
}

struct Above {
    path: PathBuf,
    /// What is on the way in it.
    next: OsString,
    /// How it is watched, and which inode number it had then.
    watch: Option<(WatchDescriptor, u64)>,
}

impl Watcher {
    fn new(cgroup: &Path, known: u64) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut above: Vec<_> = cgroup
            .ancestors()
            .skip(1)
            .zip(cgroup.ancestors())
            // Those that are no cgroups do not come and go.
            .take_while(|(path, _)| !path.exists() || runner::cgroup::is_cgroup(path))
            .map(|(path, next)| Above {
                path: path.to_owned(),
                next: next.file_name().unwrap_or_default().to_owned(),
                watch: None,
            })
            .collect();
        above.reverse();
        let mut watcher = Self { inotify, above, cgroup: cgroup.to_owned(), known };
        watcher.watch_all()?;
        Ok(watcher)
    }

    /// Goes on until it is stopped.
    fn run(&mut self, stop: &EventFd, restarted: &dyn Fn(&Path)) -> nix::Result<()> {
        loop {
            self.watch_all()?;
            // Looked at behind the watches: what is made from now on is told.
            if let Some(found) = inode(&self.cgroup).filter(|it| *it != self.known) {
                self.known = found;
                restarted(&self.cgroup);
            }
            if self.wait(stop)? {
                return Ok(());
            }
        }
    }

    /// Waits until something on the way has come or gone; whether it was stopped instead.
    fn wait(&self, stop: &EventFd) -> nix::Result<bool> {
        loop {
            let mut descriptors = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut descriptors, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if descriptors[0].any() == Some(true) {
                return Ok(true);
            }
            match self.inotify.read_events() {
                Ok(events) if events.iter().any(|it| self.is_on_the_way(it)) => return Ok(false),
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_on_the_way(&self, event: &InotifyEvent) -> bool {
        let name = event.name.as_deref();
        // One without a name says that some were lost, or that a directory is gone.
        name.is_none_or(|name: &OsStr| self.above.iter().any(|it| it.next == name))
    }

    /// Watches every directory above that is there, from the highest on: the next one is looked at
    /// only when its coming and going is told.
    fn watch_all(&mut self) -> nix::Result<()> {
        for above in &mut self.above {
            loop {
                let found = inode(&above.path);
                if above.watch.as_ref().map(|(_, inode)| *inode) == found {
                    break;
                }
                if let Some((watch, _)) = above.watch.take() {
                    // Gone by itself if its directory is.
                    let _ = self.inotify.rm_watch(watch);
                }
                let Some(inode) = found else { break };
                let flags =
                    AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
                match self.inotify.add_watch(&above.path, flags) {
                    Ok(watch) => above.watch = Some((watch, inode)),
                    // Gone again; what is above tells when it comes.
                    Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
