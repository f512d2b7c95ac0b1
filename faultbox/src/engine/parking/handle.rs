//! The runner's handle to the tracer: when there is one, and for which cgroups.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{birth, error::ParkingError, guardian, message::Reply, table::ParkTable};

/// How long a tracer may take to seize a cgroup. A thousand threads take 6 ms.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a cgroup is to be seized by a tracer that ends meanwhile.
const ATTEMPTS: u32 = 5;
/// A tracer that ends sooner than this …
const SHORT_LIFE: Duration = Duration::from_millis(100);
/// … so many times in a row will not be started again.
const SHORT_LIVES: u32 = 100;

/// What the programs must know: `faultbox_common::Control`.
pub(in crate::engine) trait Switches: Send + Sync {
    /// `Control::tracer`: threads whose tracer this process is can be parked; 0: nobody can.
    fn set_tracer(&self, pid: u32);
    /// `Control::parks`: threads may be parked.
    fn set_parks(&self, on: bool);
}

/// Makes threads wait: starts the tracer when it is needed first, has it end when it no longer
/// is, and replaces it if it dies. Dropping it ends the tracer at once: threads that wait go on.
pub(in crate::engine) struct Parking(Arc<Shared>);

/// Somebody needs the threads of a cgroup to be traced. Dropping the last lease of all has the
/// tracer end as soon as no thread waits; until then all threads stay traced.
#[must_use = "threads are only parked while there is a lease"]
pub(in crate::engine) struct Lease {
    shared: Arc<Shared>,
    number: u64,
}

pub(super) struct Shared {
    pub(super) table: ParkTable,
    wakes: OwnedFd,
    pub(super) switches: Box<dyn Switches>,
    restarts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) tracer: Option<Tracer>,
    /// The cgroup of each lease.
    leases: BTreeMap<u64, PathBuf>,
    last: u64,
    short_lives: u32,
    is_closed: bool,
    failure: Option<String>,
}

/// The process, not yet reaped.
pub(super) struct Tracer {
    pub(super) process: birth::Newborn,
    born: Instant,
}

impl Parking {
    /// `parked` is the hash map of `faultbox_common::Park` by thread id, `wakes` the ring buffer
    /// of `faultbox_common::Wake`. Starts nothing.
    pub(in crate::engine) fn new(
        parked: OwnedFd,
        wakes: OwnedFd,
        switches: Box<dyn Switches>,
    ) -> Self {
        Self(Arc::new(Shared {
            table: ParkTable::new(parked),
            wakes,
            switches,
            restarts: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// Has every thread of a cgroup (its directory) and its descendants traced, now and later.
    /// When it returns, calls of these threads can be delayed.
    pub(in crate::engine) fn begin(&self, cgroup: &Path) -> Result<Lease, ParkingError> {
        if !is_initial_namespace() {
            return Err(ParkingError::Namespace);
        }
        let mut state = self.0.lock();
        let reply = self.0.seize(&mut state, cgroup);
        let begun = reply.and_then(|reply| match reply {
            Reply { errno: 0, refusals, .. } if refusals.is_empty() => Ok(()),
            Reply { errno: 0, refusals, .. } => Err(ParkingError::Refused(refusals)),
            Reply { errno, .. } => Err(ParkingError::Cgroup {
                path: cgroup.to_owned(),
                error: io::Error::from_raw_os_error(errno),
            }),
        });
        if let Err(error) = begun {
            if state.tracer.is_none() && !state.leases.is_empty() {
                state.failure = Some(error.to_string());
            }
            self.0.rest(&mut state);
            return Err(error);
        }
        state.last += 1;
        let number = state.last;
        state.leases.insert(number, cgroup.to_owned());
        Ok(Lease { shared: Arc::clone(&self.0), number })
    }

    /// How often the tracer died although it was needed, and was started again. Calls that were
    /// waiting ended their wait then.
    pub(in crate::engine) fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    /// Why calls are no longer delayed, if so; until all leases are dropped.
    pub(in crate::engine) fn failure(&self) -> Option<String> {
        self.0.lock().failure.clone()
    }

    /// Its process id, while there is one.
    #[cfg(test)]
    pub(super) fn tracer(&self) -> Option<u32> {
        self.0.lock().tracer.as_ref().map(|tracer| tracer.process.pid)
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.leases.clear();
        self.0.end(&mut state);
        self.0.stop_looking();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.leases.remove(&self.number);
        self.shared.rest(&mut state);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.number)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a cgroup seized, by a tracer that is started if need be.
    fn seize(self: &Arc<Self>, state: &mut State, cgroup: &Path) -> Result<Reply, ParkingError> {
        // The tracer that we ask may be about to end, because it was idle or because it dies.
        // Another one can only seize when that one's end has detached its threads.
        let mut attempts = 0;
        loop {
            let started = if state.tracer.is_none() { self.start(state) } else { Ok(()) };
            if let Err(error) = started {
                self.end(state);
                return Err(ParkingError::Start(error));
            }
            let Some(tracer) = &state.tracer else { continue };
            let error = match tracer.process.control.seize(cgroup, PATIENCE) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            self.end(state);
            attempts += 1;
            if error.kind() == io::ErrorKind::TimedOut || attempts == ATTEMPTS {
                return Err(ParkingError::Silent(error));
            }
        }
    }

    /// Starts a tracer for the leases that there are.
    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let process = birth::start(self.table.as_fd(), self.wakes.as_fd())?;
        let pid = process.pid;
        let watched = guardian::watch(self, &process);
        state.tracer = Some(Tracer { process, born: Instant::now() });
        if let Err(error) = watched {
            self.end(state);
            return Err(error);
        }
        self.switches.set_parks(true);
        self.switches.set_tracer(pid);
        if !state.leases.is_empty() {
            // Whether or not it lives to seize them.
            self.restarts.fetch_add(1, Ordering::Relaxed);
        }
        let control = state.tracer.as_ref().map(|tracer| &tracer.process.control);
        for cgroup in state.leases.values() {
            // Who cannot be traced any more, because somebody else was quicker, is counted by the
            // programs as undelayed; a cgroup may be gone.
            if let Some(control) = control {
                control.seize(cgroup, PATIENCE)?;
            }
        }
        state.failure = None;
        Ok(())
    }

    /// Ends the tracer, in whatever state it is, and its effects.
    fn end(&self, state: &mut State) {
        if let Some(tracer) = state.tracer.take() {
            guardian::bury(self, tracer);
        }
    }

    /// Has the tracer end when nobody needs it.
    fn rest(&self, state: &mut State) {
        if !state.leases.is_empty() || state.is_closed {
            return;
        }
        state.failure = None;
        state.short_lives = 0;
        if state.tracer.as_ref().is_some_and(|tracer| tracer.process.control.idle().is_ok()) {
            return;
        }
        // It has ended, or does not listen.
        self.end(state);
        self.stop_looking();
    }

    /// Has the programs no longer look for parked threads, when those that were have gone on.
    fn stop_looking(&self) {
        guardian::let_resume(&self.table);
        self.switches.set_parks(false);
    }

    /// The tracer `pid` has ended: cleans up behind it, and starts another if one is needed.
    /// Called by the guardian, and too late if somebody else has noticed.
    pub(super) fn ended(self: &Arc<Self>, pid: u32) {
        let mut state = self.lock();
        let Some(tracer) = state.tracer.take_if(|tracer| tracer.process.pid == pid) else { return };
        let age = tracer.born.elapsed();
        guardian::bury(self, tracer);
        if state.leases.is_empty() {
            self.stop_looking();
            return;
        }
        state.short_lives = if age < SHORT_LIFE { state.short_lives + 1 } else { 0 };
        let mut reason = "it is killed again and again".to_owned();
        while state.short_lives < SHORT_LIVES {
            match self.start(&mut state) {
                Ok(()) => return,
                Err(error) => reason = error.to_string(),
            }
            self.end(&mut state);
            state.short_lives += 1;
        }
        state.failure = Some(format!("the process that holds delayed threads is gone: {reason}"));
    }
}

/// Whether ids are the ones that programs see: `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
fn is_initial_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() == "pid:[4026531836]")
}
