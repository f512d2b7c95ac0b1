//! The thread that answers.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use faultbox_common::Driver;
use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, SigmaskHow},
    },
};

use super::{
    desk::Desk,
    judge::{Judge, Subject, Watch},
    notification::{self, Listener, now},
};
use crate::engine::{RecordSink, TraceLevel, tables::Tables};

/// Answers for the trapped calls of any number of process trees, on one thread.
///
/// A record reaches its sink before the call's answer, and so before anything that the call
/// causes: there is nothing to drain.
///
/// Dropping it ends the service: delayed calls run, and later ones fail with ENOSYS
/// (`seccomp_unotify(2)`). So the processes must be killed before.
pub(in crate::engine) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    judge: Judge,
    on_failure: Arc<dyn Fn() + Send + Sync>,
    wake: EventFd,
    stop: AtomicBool,
    failure: OnceLock<String>,
    watches: Mutex<Watches>,
}

/// What the thread waits for, by a number of its own. Locked while a call is served.
#[derive(Default)]
struct Watches {
    last: u64,
    all: BTreeMap<u64, Watch>,
}

/// What to poll.
#[derive(Default)]
struct Doors {
    /// Each watch's listener, and behind them the eventfd.
    fds: Vec<libc::pollfd>,
    /// The watches' numbers, each at the place of its listener.
    numbers: Vec<u64>,
    /// Whether the watches are the same as when this was made.
    is_current: bool,
}

impl Supervisor {
    /// Starts the thread. `level` says which of the trapped calls are counted and recorded:
    /// [`TraceLevel::Off`], only those that fail, is also for an engine whose raw tracepoints see
    /// the others. (They do not see these, because seccomp comes before them.)
    ///
    /// `on_failure` is called on the thread, once, if it can no longer do what it promised, when
    /// [`Supervisor::failure`] has the reason: it should kill every supervised process, and must
    /// not call the supervisor for anything but the reason. Whoever is left is killed at the next
    /// trapped call.
    pub(in crate::engine) fn start(
        tables: Arc<Tables>,
        level: TraceLevel,
        on_failure: Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Self> {
        if let Some(why) = notification::unavailable() {
            return Err(io::Error::other(why));
        }
        let shared = Arc::new(Shared {
            judge: Judge { tables, level },
            on_failure,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            stop: AtomicBool::new(false),
            failure: OnceLock::new(),
            watches: Mutex::default(),
        });
        let desk = Desk::new()?;
        // Signals are for the program's own threads.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(desk)
        });
        before.thread_set_mask()?;
        Ok(Self { shared, thread: Some(thread?) })
    }

    /// Answers for a process tree from now on, as one target's.
    pub(in crate::engine) fn add(
        &self,
        target: u32,
        driver: Driver,
        sink: Arc<dyn RecordSink>,
        listener: OwnedFd,
    ) -> io::Result<()> {
        let mut watches = self.shared.watches();
        // Looked at under the lock that the failing thread takes after it has said so.
        if let Some(failure) = self.failure() {
            return Err(io::Error::other(failure));
        }
        watches.last += 1;
        let number = watches.last;
        let subject = Some(Subject { target, driver, sink });
        let (listener, has_own_root) = (Listener::new(listener), Cell::new(false));
        watches.all.insert(number, Watch { listener, has_own_root, subject });
        drop(watches);
        self.shared.wake.write(1)?;
        Ok(())
    }

    /// From the return of this on, calls of the target's processes run without being looked at
    /// or recorded. Those that are delayed run now.
    pub(in crate::engine) fn forget(&self, target: u32) {
        for watch in self.shared.watches().all.values_mut() {
            if watch.subject.as_ref().is_some_and(|subject| subject.target == target) {
                watch.subject = None;
            }
        }
        // Fails only when there are already 2⁶⁴ - 1 wake-ups to be read.
        let _ = self.shared.wake.write(1);
    }

    /// Whether no call of the target's waits to be looked at. One that is being looked at is waited
    /// for.
    pub(in crate::engine) fn is_idle(&self, target: u32) -> bool {
        let watches = self.shared.watches();
        let of_target =
            |it: &&Watch| it.subject.as_ref().is_some_and(|subject| subject.target == target);
        !watches.all.values().filter(of_target).any(|watch| watch.listener.has_more())
    }

    /// Process trees that are alive, as far as their end has been noticed.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.shared.watches().all.len()
    }

    /// How long the thread has kept a processor busy.
    #[cfg(test)]
    pub(super) fn busy(&self) -> std::time::Duration {
        use std::os::unix::thread::JoinHandleExt as _;
        let thread = self.thread.as_ref().expect("runs until the drop").as_pthread_t();
        let mut clock = 0;
        // SAFETY: the thread has not been joined, and the memory is live.
        assert_eq!(unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) }, 0);
        std::time::Duration::from_nanos(notification::nanoseconds(clock.into()))
    }

    /// Why the thread no longer answers, if so.
    pub(in crate::engine) fn failure(&self) -> Option<String> {
        self.shared.failure.get().cloned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Fails only when there are already 2⁶⁴ - 1 wake-ups to be read.
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // Its panics have been caught.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut desk: Desk) {
        be_prompt();
        let served = catch_unwind(AssertUnwindSafe(|| self.serve_all(&mut desk)));
        let failure = match served {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(format!("panic: {}", text_of(&*panic))),
        };
        if let Some(failure) = failure {
            let _ = self.failure.set(format!("the supervisor failed: {failure}"));
            // Whatever happens there, waiting calls must not go on waiting.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.on_failure)()));
            let _ = self.kill_callers(&mut desk);
        }
        // The kernel ends the waiting calls when their listener closes.
        self.watches().all.clear();
    }

    fn serve_all(&self, desk: &mut Desk) -> io::Result<()> {
        let mut doors = Doors::default();
        while !self.stop.load(Ordering::SeqCst) {
            self.wait(&mut doors, desk.alarm())?;
            let mut watches = self.watches();
            Self::receive(&mut doors, &mut watches, desk)?;
            let find = |number| watches.all.get(&number);
            if !doors.is_current {
                desk.release(|watch| watch.subject.is_none(), find)?;
            }
            desk.serve(&self.judge, find)?;
        }
        let watches = self.watches();
        desk.release(|_| true, |number| watches.all.get(&number))
    }

    /// Kills everyone who waits for an answer, and who makes a call later.
    fn kill_callers(&self, desk: &mut Desk) -> io::Result<()> {
        let mut doors = Doors::default();
        loop {
            let watches = self.watches();
            desk.kill_callers(|number| watches.all.get(&number))?;
            drop(watches);
            if self.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            self.wait(&mut doors, None)?;
            Self::receive(&mut doors, &mut self.watches(), desk)?;
        }
    }

    /// Waits for calls, for being woken, or until a time of `CLOCK_MONOTONIC`.
    ///
    /// `poll(2)` and not `epoll(7)`, which would not pass on that we are to be woken on the
    /// caller's processor: see [`Listener::new`].
    fn wait(&self, doors: &mut Doors, until: Option<u64>) -> io::Result<()> {
        if !doors.is_current {
            let entry = |fd: BorrowedFd<'_>| libc::pollfd {
                fd: fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            let watches = self.watches();
            doors.numbers = watches.all.keys().copied().collect();
            doors.fds = watches.all.values().map(|watch| entry(watch.listener.as_fd())).collect();
            doors.fds.push(entry(self.wake.as_fd()));
        }
        let left = until.map(|until| timespec(until.saturating_sub(now())));
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (fds, mask) = (&mut doors.fds, std::ptr::null());
        // SAFETY: as many entries as said. Nobody else closes what they name. The time, if any,
        // is live.
        let n = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, left, mask) };
        match Errno::result(n) {
            Ok(_) => {}
            Err(Errno::EINTR) => fds.iter_mut().for_each(|fd| fd.revents = 0),
            Err(error) => return Err(error.into()),
        }
        doors.is_current = fds.last().is_some_and(|wake| wake.revents == 0);
        if !doors.is_current {
            // Before the next look at the watches.
            let _ = self.wake.read();
        }
        Ok(())
    }

    /// Receives every call that has arrived, and lets go of listeners without processes.
    fn receive(doors: &mut Doors, watches: &mut Watches, desk: &mut Desk) -> io::Result<()> {
        for (fd, number) in doors.fds.iter().zip(&doors.numbers) {
            let Some(watch) = watches.all.get(number) else { continue };
            if fd.revents & libc::POLLIN != 0 {
                desk.receive(*number, watch)?;
            } else if fd.revents != 0 {
                // The last process with this filter has ended (Linux 5.8).
                watches.all.remove(number);
                desk.forget(*number);
                doors.is_current = false;
            }
        }
        Ok(())
    }
}

/// Has this thread run as soon as there is something to do. Each moment that it is kept from
/// running is one by which calls take longer than their rules say, and in which a signal without
/// `SA_RESTART` makes a call fail that has not been received yet.
fn be_prompt() {
    let priority = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the structure is live; both change only this thread.
    unsafe {
        // By default a timer may be 50 µs late.
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0);
        // Needs CAP_SYS_NICE. Without, on a machine with other work to do, it is later.
        libc::sched_setscheduler(0, policy, &raw const priority);
    }
}

/// A number of nanoseconds; of more than a day, a day.
fn timespec(nanoseconds: u64) -> libc::timespec {
    const SECOND: u64 = 1_000_000_000;
    let nanoseconds = nanoseconds.min(86_400 * SECOND);
    libc::timespec {
        tv_sec: (nanoseconds / SECOND) as libc::time_t,
        tv_nsec: (nanoseconds % SECOND) as libc::c_long,
    }
}

/// What a panic says.
fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
