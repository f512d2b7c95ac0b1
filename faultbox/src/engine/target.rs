//! Whose calls are observed and broken.

use std::{
    collections::HashMap,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use faultbox_common::Driver;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    Engine, EngineError, Launch, Process, RecordSink, SpawnError, Syscall, engine::State, launch,
    supervisor::Filter,
};

/// A target of one engine, in rules and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

/// How a process is started.
type Start = fn(
    &Launch,
    Option<BorrowedFd<'_>>,
    Option<launch::Supervision<'_>>,
) -> Result<Process, SpawnError>;

/// The cgroups of all targets, for the day the supervisor fails.
#[derive(Default)]
pub(super) struct Cgroups(Mutex<HashMap<u32, PathBuf>>);

impl Cgroups {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a target's cgroup.
    pub(super) fn of(&self, target: TargetId) -> Option<PathBuf> {
        self.lock().get(&target.0).cloned()
    }

    /// Kills every process of every target (`cgroup.kill`, Linux 5.14): without their supervisor
    /// they would go on with calls that fail for no reason.
    pub(super) fn kill_all(&self) {
        for cgroup in self.lock().values() {
            // A cgroup that is gone has no processes left.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
    }
}

/// A cgroup with its descendants, or a supervised process tree: its calls are observed and
/// broken until this is dropped.
pub struct Target {
    engine: Engine,
    name: String,
    id: TargetId,
    driver: Driver,
    sink: Arc<dyn RecordSink>,
    /// Of a container that is not running: none, for now.
    cgroup: Mutex<Option<Cgroup>>,
    filter: Option<Filter>,
}

struct Cgroup {
    directory: Arc<fs::File>,
    path: PathBuf,
    id: u64,
    depth: u32,
}

impl Cgroup {
    /// `path` is a directory below the mount point of cgroup v2.
    fn open(path: &Path) -> io::Result<Self> {
        let directory = fs::File::open(path)?;
        if statfs(path)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(io::Error::other("not a cgroup v2 directory"));
        }
        // The kernel's id of a cgroup is the inode number of its directory (kernfs).
        let id = directory.metadata()?.ino();
        Ok(Self { depth: depth(path)?, path: path.to_owned(), directory: Arc::new(directory), id })
    }
}

/// How many cgroups lie above this one, the root included.
pub(super) fn depth(path: &Path) -> io::Result<u32> {
    /// Where cgroup v2 is mounted, and how deep the directory is that is seen there. Read again
    /// only for a path that is below none: the text is long, and a night asks thousands of times.
    static MOUNTS: Mutex<Vec<(PathBuf, u32)>> = Mutex::new(Vec::new());
    let path = path.canonicalize()?;
    let mut mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let find = |mounts: &[(PathBuf, u32)]| {
        let below = |(at, root): &(PathBuf, u32)| Some(root + count(path.strip_prefix(at).ok()?));
        mounts.iter().filter_map(below).max()
    };
    if find(&mounts).is_none() {
        *mounts = cgroup_mounts()?;
    }
    find(&mounts).ok_or_else(|| io::Error::other("not below a cgroup v2 mount"))
}

fn cgroup_mounts() -> io::Result<Vec<(PathBuf, u32)>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // proc(5): the fourth field is the root of the mount in its file system, the fifth where it
    // is mounted; in a cgroup namespace the former is not `/`.
    let found = mounts.lines().filter_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| (at.into(), count(Path::new(root))))
    });
    Ok(found.collect())
}

fn count(path: &Path) -> u32 {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).count() as u32
}

impl Target {
    pub(super) fn new(
        engine: Engine,
        name: &str,
        cgroup: Option<&Path>,
        driver: Driver,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Self, EngineError> {
        let mut target = Self::running(engine, name, driver, sink)?;
        let inner = &target.engine.inner;
        let mut state = inner.lock();
        state.running.remove(&target.id.0);
        let needs_cgroup = state.kernel.is_some();
        drop(state);
        target.filter = match inner.coverage.supervised() {
            [] => None,
            syscalls => Some(Filter::new(syscalls)),
        };
        match cgroup {
            Some(cgroup) => target.bind(cgroup, false)?,
            None if needs_cgroup => {
                return Err(EngineError(format!(
                    "{name}: faults in the kernel need a cgroup of their own (cgroup v2, writable)"
                )));
            }
            None => {}
        }
        Ok(target)
    }

    pub(super) fn running(
        engine: Engine,
        name: &str,
        driver: Driver,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Self, EngineError> {
        let inner = Arc::clone(&engine.inner);
        let mut state = inner.lock();
        let index = state
            .free_targets
            .pop()
            .ok_or_else(|| EngineError(format!("{name}: too many services at once")))?;
        inner.tables.clear_calls(index);
        state.running.insert(index, name.to_owned());
        drop(state);
        inner.sinks.add(index, Arc::clone(&sink));
        Ok(Self {
            engine,
            name: name.to_owned(),
            id: TargetId(index),
            driver,
            sink,
            cgroup: Mutex::default(),
            filter: None,
        })
    }

    /// Makes it the target of this cgroup and its descendants, in place of the one before: that
    /// of a container that was started, or started again. Rules that are on apply there at once, but
    /// not to the runtime that prepares the container's first process.
    ///
    /// # Errors
    ///
    /// When the directory is not one of cgroup v2, or has a target already; the one before stays.
    pub fn rebind(&self, cgroup: &Path) -> Result<(), EngineError> {
        self.bind(cgroup, true)
    }

    /// With `foreign`, somebody else starts the cgroup's processes.
    fn bind(&self, cgroup: &Path, foreign: bool) -> Result<(), EngineError> {
        let name = &self.name;
        let new = Cgroup::open(cgroup).map_err(|error| {
            EngineError(format!("{name}: cannot use cgroup {}: {error}", cgroup.display()))
        })?;
        let inner = &self.engine.inner;
        let mut state = inner.lock();
        let mut current = self.lock_cgroup();
        if let Some(kernel) = &mut state.kernel {
            if current.as_ref().is_some_and(|old| old.id == new.id) {
                return Ok(());
            }
            let added = kernel.add_target(new.id, new.depth, self.id.0, self.driver, foreign);
            added.map_err(EngineError::from)?;
            if let Some(old) = &*current {
                kernel.remove_target(old.id, old.depth);
            }
        }
        inner.cgroups.lock().insert(self.id.0, new.path.clone());
        *current = Some(new);
        Ok(())
    }

    fn lock_cgroup(&self) -> MutexGuard<'_, Option<Cgroup>> {
        self.cgroup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name in rules and records.
    pub fn id(&self) -> TargetId {
        self.id
    }

    /// The cgroup's directory.
    pub fn cgroup(&self) -> Option<PathBuf> {
        self.engine.inner.cgroups.of(self.id)
    }

    /// Starts a process inside the target: in its cgroup, and under the supervisor if that
    /// serves any call.
    ///
    /// # Errors
    ///
    /// When the program cannot be executed, naming it.
    pub fn spawn(&self, launch: &Launch) -> Result<Process, SpawnError> {
        self.spawn_by(launch::start, launch)
    }

    /// As [`Target::spawn`], but the process stays in the caller's session and process group,
    /// with its standard input: signals from the terminal reach both.
    ///
    /// # Errors
    ///
    /// As for [`Target::spawn`].
    pub fn spawn_in_terminal(&self, launch: &Launch) -> Result<Process, SpawnError> {
        self.spawn_by(launch::start_in_terminal, launch)
    }

    fn spawn_by(&self, start: Start, launch: &Launch) -> Result<Process, SpawnError> {
        let directory = self.lock_cgroup().as_ref().map(|cgroup| Arc::clone(&cgroup.directory));
        let cgroup = directory.as_ref().map(|directory| directory.as_fd());
        let is_delayed = self.engine.is_delayed(self.id);
        let mut hand_over = |listener| {
            if is_delayed {
                // Before the program's first call, so that a delay hits that one as well.
                self.engine.park(self.id).map(drop).map_err(io::Error::other)?;
            }
            match (&self.engine.inner.supervisor, listener) {
                (Some(supervisor), Some(listener)) => {
                    supervisor.add(self.id.0, self.driver, Arc::clone(&self.sink), listener)
                }
                _ => Ok(()),
            }
        };
        let filter = self.filter.as_ref();
        let supervision = (is_delayed || filter.is_some())
            .then_some(launch::Supervision { filter, hand_over: &mut hand_over });
        start(launch, cgroup, supervision)
    }

    /// Whether no call waits for the supervisor to look at it, and each that it has looked at was
    /// answered, unless it is delayed.
    pub fn is_idle(&self) -> bool {
        self.engine.inner.supervisor.as_ref().is_none_or(|it| it.is_idle(self.id.0))
    }

    /// Calls so far, exact, for every call that the trace level counts.
    pub fn calls(&self) -> Vec<(Syscall, u64)> {
        self.engine.inner.calls(self.id.0).into_iter().collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let inner = &self.engine.inner;
        let mut state = inner.lock();
        let State { kernel, places, .. } = &mut *state;
        let cgroup = self.cgroup.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(kernel), Some(cgroup)) = (&mut *kernel, cgroup) {
            kernel.remove_target(cgroup.id, cgroup.depth);
        }
        places.forget(&inner.tables, self.id.0, |key, set| {
            // Only a full table refuses, and an empty set takes no place in it.
            let _ = inner.publish(kernel.as_mut(), key, set);
        });
        if let Some(supervisor) = &inner.supervisor {
            supervisor.forget(self.id.0);
        }
        inner.cgroups.lock().remove(&self.id.0);
        inner.sinks.remove(self.id.0);
        state.running.remove(&self.id.0);
        state.free_targets.insert(0, self.id.0);
    }
}
