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

use faultbox_common::{Driver, NO_RULE, Object, Outcome, RuleKey};
use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, SigmaskHow},
    },
    time::{ClockId, clock_gettime},
};

use super::{
    caller::Callers,
    filter,
    notification::{self, Answer, Listener, Messages, Notification},
    operand::{self, Seen, View},
};
use crate::engine::{
    Decision, Record, RecordSink, RuleId, Syscall, TargetId, TraceLevel, tables::Tables,
};

/// Answers for the trapped calls of any number of process trees, on one thread.
///
/// A record reaches its sink before the call's answer, and so before anything that the call
/// causes: there is nothing to drain.
///
/// Dropping it ends the service: calls that wait then, and later ones, fail with ENOSYS
/// (`seccomp_unotify(2)`). So the processes must be killed before.
pub(in crate::engine) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    tables: Arc<Tables>,
    level: TraceLevel,
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

struct Watch {
    listener: Listener,
    /// Whether one of its processes may have changed its root directory.
    has_own_root: Cell<bool>,
    /// Whose calls; `None`: nobody's any more, and all of them run.
    subject: Option<Subject>,
}

/// A call that is neither answered nor given up yet, by the number of its watch.
type Serving = Option<(u64, Notification)>;

struct Subject {
    target: u32,
    driver: Driver,
    sink: Arc<dyn RecordSink>,
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
            tables,
            level,
            on_failure,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            stop: AtomicBool::new(false),
            failure: OnceLock::new(),
            watches: Mutex::default(),
        });
        let messages = Messages::new()?;
        // Signals are for the program's own threads.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(messages)
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
    /// or recorded.
    pub(in crate::engine) fn forget(&self, target: u32) {
        for watch in self.shared.watches().all.values_mut() {
            if watch.subject.as_ref().is_some_and(|subject| subject.target == target) {
                watch.subject = None;
            }
        }
    }

    /// Process trees that are alive, as far as their end has been noticed.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.shared.watches().all.len()
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

    fn run(&self, mut messages: Messages) {
        // The call that is being served, and by which watch it came.
        let serving = Cell::new(None);
        let served = catch_unwind(AssertUnwindSafe(|| self.serve_all(&mut messages, &serving)));
        let failure = match served {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(format!("panic: {}", text_of(&*panic))),
        };
        if let Some(failure) = failure {
            let _ = self.failure.set(format!("the supervisor failed: {failure}"));
            // Whatever happens there, waiting calls must not go on waiting.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.on_failure)()));
            let _ = self.kill_callers(&mut messages, serving.get());
        }
        // The kernel ends the waiting calls when their listener closes.
        self.watches().all.clear();
    }

    fn serve_all(&self, messages: &mut Messages, serving: &Cell<Serving>) -> io::Result<()> {
        let mut callers = Callers::default();
        self.each_event(|number, watch| {
            let Some(notification) = watch.listener.receive(messages)? else { return Ok(()) };
            serving.set(Some((number, notification)));
            self.serve(watch, &notification, &mut callers, messages)?;
            serving.set(None);
            Ok(())
        })
    }

    /// Kills everyone who makes a call, or whose call was left behind.
    fn kill_callers(&self, messages: &mut Messages, left: Serving) -> io::Result<()> {
        if let Some((number, notification)) = left
            && let Some(watch) = self.watches().all.get(&number)
        {
            watch.listener.kill_caller(&notification)?;
        }
        self.each_event(|_, watch| match watch.listener.receive(messages)? {
            Some(notification) => watch.listener.kill_caller(&notification),
            None => Ok(()),
        })
    }

    /// Waits for calls, and has each served, until it is time to stop.
    ///
    /// `poll(2)` and not `epoll(7)`, which would not pass on that we are to be woken on the
    /// caller's processor: see [`Listener::new`].
    fn each_event(&self, mut serve: impl FnMut(u64, &Watch) -> io::Result<()>) -> io::Result<()> {
        let entry = |fd: BorrowedFd<'_>| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // Each watch's number is at the place of its descriptor. Behind them is the eventfd.
        let (mut fds, mut numbers) = (Vec::new(), Vec::new());
        let mut is_changed = true;
        while !self.stop.load(Ordering::SeqCst) {
            if is_changed {
                let watches = self.watches();
                numbers = watches.all.keys().copied().collect();
                fds = watches.all.values().map(|watch| entry(watch.listener.as_fd())).collect();
                fds.push(entry(self.wake.as_fd()));
            }
            // SAFETY: as many entries as said. Nobody else closes what they name.
            let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
            match Errno::result(result) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            is_changed = fds.last().is_some_and(|wake| wake.revents != 0);
            if is_changed {
                // Before the next look at the watches.
                let _ = self.wake.read();
            }
            let mut watches = self.watches();
            for (fd, number) in fds.iter().zip(&numbers) {
                let Some(watch) = watches.all.get(number) else { continue };
                if fd.revents & libc::POLLIN != 0 {
                    serve(*number, watch)?;
                } else if fd.revents != 0 {
                    // The last process with this filter has ended (Linux 5.8).
                    watches.all.remove(number);
                    is_changed = true;
                }
            }
        }
        Ok(())
    }

    /// Answers one call.
    fn serve(
        &self,
        watch: &Watch,
        notification: &Notification,
        callers: &mut Callers,
        messages: &mut Messages,
    ) -> io::Result<()> {
        if filter::changes_root(notification.syscall) {
            watch.has_own_root.set(true);
        }
        let answer = match &watch.subject {
            None => Answer::Continue,
            Some(subject) => match self.judge(watch, subject, notification, callers)? {
                Some(answer) => answer,
                None => return Ok(()),
            },
        };
        watch.listener.answer(messages, notification.id, answer)
    }

    /// Decides about a call, counts and records it. `None`: nobody waits any more.
    fn judge(
        &self,
        watch: &Watch,
        subject: &Subject,
        notification: &Notification,
        callers: &mut Callers,
    ) -> io::Result<Option<Answer>> {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let Some(syscall) = Syscall::from_number(notification.syscall) else {
            return Ok(Some(Answer::Continue));
        };
        let key = RuleKey { target: subject.target, syscall: notification.syscall };
        let count = || self.tables.count(subject.target, notification.syscall);
        let wanted = match self.level {
            TraceLevel::Off => false,
            TraceLevel::Default => syscall.is_observed(),
            TraceLevel::All => true,
        };
        if !wanted && !self.tables.has_rules(key) {
            if self.level != TraceLevel::Off {
                count();
            }
            return Ok(Some(Answer::Continue));
        }

        let Some((seen, pid)) = look(watch, subject, syscall, notification, callers)? else {
            return Ok(None);
        };
        let outcome = self.tables.decide(key, &seen.call);
        if self.level == TraceLevel::Off && outcome.errno == 0 {
            return Ok(Some(Answer::Continue));
        }
        count();
        let decision = decision(&seen, outcome);
        if seen.call.object != Object::Ineligible {
            subject.sink.record(Record {
                time: time.tv_sec().cast_unsigned() * 1_000_000_000
                    + time.tv_nsec().cast_unsigned(),
                target: TargetId(subject.target),
                pid,
                tid: notification.tid,
                syscall,
                decision,
                rule: (outcome.rule != NO_RULE).then_some(RuleId(outcome.rule)),
                object: seen.shown,
                size: notification.arguments[2],
            });
        }
        Ok(Some(match decision {
            Decision::Deny(errno) => Answer::Fail(errno.raw()),
            _ => Answer::Continue,
        }))
    }
}

/// What became of the call, in one word: as in `faultbox-ebpf/src/report.rs`.
fn decision(seen: &Seen, outcome: Outcome) -> Decision {
    if outcome.errno != 0 {
        let errno = crate::engine::Errno::from_raw(outcome.errno);
        Decision::Deny(errno.expect("rules are made from errors of the table"))
    } else if seen.call.object == Object::SystemFile {
        Decision::AllowSystemPath
    } else if seen.call.peer.driver != 0 && outcome.rule == NO_RULE {
        Decision::AllowDriver
    } else {
        Decision::Allow
    }
}

/// Looks at a call's operand, and returns it with the process's id. `None`: nobody waits any
/// more. Not being able to look at one who waits is an error: the call can neither be denied nor
/// spared in good faith.
fn look(
    watch: &Watch,
    subject: &Subject,
    syscall: Syscall,
    notification: &Notification,
    callers: &mut Callers,
) -> io::Result<Option<(Seen, u32)>> {
    let tid = notification.tid;
    let attempt = |callers: &mut Callers| {
        let caller = callers.get(tid)?;
        let has_own_root = watch.has_own_root.get();
        let view = View { caller, has_own_root, driver: &subject.driver };
        let seen = operand::look(view, syscall, notification)?;
        io::Result::Ok((seen, caller.process()))
    };
    // A remembered thread may have ended and another one got its id.
    let seen = attempt(callers).or_else(|_| {
        callers.forget(tid);
        attempt(callers)
    });
    // Only now is it certain that it was the caller we looked at.
    if !watch.listener.is_waiting(notification.id)? {
        callers.forget(tid);
        return Ok(None);
    }
    seen.map(Some).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot look at {syscall} of thread {tid}, which waits: {error}"),
        )
    })
}

/// What a panic says.
fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
