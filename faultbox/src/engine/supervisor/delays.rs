//! Calls that are made to wait: until when, and what they are told then.
//!
//! A signal that its thread has to handle interrupts the wait. The kernel starts the call again
//! after the handler, and then it arrives as a new one; it must be recognised, because it has been
//! decided about, counted and recorded already, and has only the rest left to wait.

use std::collections::{BTreeSet, HashMap};

use super::notification::{Answer, Notification};

/// How long after its time an interrupted call is remembered, in nanoseconds. Its handler may take
/// that long; or the call never comes again, because the handler went elsewhere (`siglongjmp`).
const REMEMBERED: u64 = 60_000_000_000;

/// Interrupted calls of one thread that are remembered: handlers make calls, which are
/// interrupted in turn.
const NESTED: usize = 8;

/// Threads with interrupted calls above which it is looked for some to forget.
const MANY: usize = 64;

/// A call that has been decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// By which watch it came.
    pub(super) watch: u64,
    pub(super) call: Notification,
    /// When to answer: `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) due: u64,
    pub(super) answer: Answer,
}

struct Interrupted {
    held: Held,
    /// The thread's stack pointer, if known: it tells the call from an equal one of the handler.
    stack: Option<u64>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Delays {
    /// By thread, which makes one call at a time.
    waiting: HashMap<u32, Held>,
    /// The same in the order of their time.
    order: BTreeSet<(u64, u32)>,
    /// By thread, the innermost call last.
    interrupted: HashMap<u32, Vec<Interrupted>>,
}

impl Delays {
    /// Has a call wait.
    pub(super) fn hold(&mut self, held: Held) {
        let tid = held.call.tid;
        self.order.insert((held.due, tid));
        if let Some(before) = self.waiting.insert(tid, held)
            && before.due != held.due
        {
            self.order.remove(&(before.due, tid));
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the next call is to be answered.
    pub(super) fn next(&self) -> Option<u64> {
        self.order.first().map(|(due, _)| *due)
    }

    /// A call whose time has come. It does not wait any more.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Held> {
        let (due, tid) = *self.order.first()?;
        if due > now {
            return None;
        }
        self.remove(tid)
    }

    /// Calls that wait, of the watches that are asked for. They do not wait any more.
    pub(super) fn take(&mut self, wanted: impl Fn(u64) -> bool) -> Vec<Held> {
        let tids: Vec<u32> =
            self.waiting.values().filter(|it| wanted(it.watch)).map(|it| it.call.tid).collect();
        tids.into_iter().filter_map(|tid| self.remove(tid)).collect()
    }

    /// Calls that wait.
    pub(super) fn all(&self) -> Vec<Held> {
        self.waiting.values().copied().collect()
    }

    /// A thread's call waits no more.
    pub(super) fn remove(&mut self, tid: u32) -> Option<Held> {
        let held = self.waiting.remove(&tid)?;
        self.order.remove(&(held.due, tid));
        Some(held)
    }

    /// A call has been interrupted, and may be started again.
    pub(super) fn interrupt(&mut self, held: Held, stack: Option<u64>) {
        let tid = held.call.tid;
        if self.waiting.get(&tid).is_some_and(|it| it.call.id == held.call.id) {
            self.remove(tid);
        }
        if self.interrupted.len() >= MANY {
            // What has just been interrupted is the best clock that is at hand.
            let now = held.call.time;
            self.interrupted.retain(|_, calls| calls.iter().any(|it| !it.is_over(now)));
        }
        let calls = self.interrupted.entry(tid).or_default();
        if calls.len() == NESTED {
            calls.remove(0);
        }
        calls.push(Interrupted { held, stack });
    }

    /// What was decided about a call that has just arrived, when it was first made. `stack` finds
    /// the thread's stack pointer.
    ///
    /// An earlier call of the thread cannot be waiting any more.
    pub(super) fn resume(
        &mut self,
        watch: u64,
        call: &Notification,
        stack: impl FnOnce() -> Option<u64>,
    ) -> Option<Held> {
        if let Some(before) = self.waiting.get(&call.tid).copied() {
            self.interrupt(before, None);
        }
        let calls = self.interrupted.get_mut(&call.tid)?;
        calls.retain(|it| !it.is_over(call.time));
        let repeated = |it: &Interrupted| it.held.watch == watch && call.repeats(&it.held.call);
        let mut found = None;
        if calls.iter().any(repeated) {
            let stack = stack();
            let same =
                |it: &Interrupted| it.stack.is_none() || stack.is_none() || it.stack == stack;
            found = calls.iter().rposition(|it| repeated(it) && same(it));
        }
        let held = found.map(|at| calls.remove(at).held);
        if calls.is_empty() {
            self.interrupted.remove(&call.tid);
        }
        held.map(|held| Held { call: *call, ..held })
    }
}

impl Interrupted {
    fn is_over(&self, now: u64) -> bool {
        self.held.due.saturating_add(REMEMBERED) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH: u64 = 1;

    fn call(tid: u32, id: u64) -> Notification {
        Notification { id, tid, syscall: 1, arguments: [3; 6], pointer: 0x1000, time: 5 }
    }

    fn held(call: Notification, due: u64) -> Held {
        Held { watch: WATCH, call, due, answer: Answer::Continue }
    }

    #[test]
    fn calls_are_due_in_the_order_of_their_time() {
        let mut delays = Delays::default();
        for (tid, due) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            delays.hold(held(call(tid, tid.into()), due));
        }
        assert_eq!(delays.next(), Some(10));
        let mut due = Vec::new();
        while let Some(held) = delays.take_due(25) {
            due.push(held.call.tid);
        }
        assert_eq!(due, [2, 4, 3]);
        assert_eq!((delays.next(), delays.is_empty()), (Some(30), false));
        assert_eq!(delays.take(|watch| watch == WATCH).len(), 1);
        assert!(delays.is_empty() && delays.next().is_none());
    }

    #[test]
    fn a_call_that_starts_again_keeps_its_time_and_is_found_once() {
        let mut delays = Delays::default();
        let first = held(call(1, 10), 100);
        delays.hold(first);
        delays.interrupt(first, Some(0x7000));
        assert!(delays.is_empty() && delays.next().is_none());
        let again = call(1, 11);
        assert_eq!(delays.resume(WATCH, &call(2, 12), || Some(0x7000)), None, "another thread");
        assert_eq!(delays.resume(2, &again, || Some(0x7000)), None, "another process tree");
        let other = Notification { arguments: [4; 6], ..again };
        assert_eq!(delays.resume(WATCH, &other, || Some(0x7000)), None, "another call");
        assert_eq!(delays.resume(WATCH, &again, || Some(0x6000)), None, "the handler's");
        assert_eq!(delays.resume(WATCH, &again, || Some(0x7000)), Some(held(again, 100)));
        assert_eq!(delays.resume(WATCH, &again, || Some(0x7000)), None, "once only");
        assert!(delays.interrupted.is_empty());
    }

    #[test]
    fn a_call_that_the_kernel_interrupted_is_known_by_its_threads_next_one() {
        let mut delays = Delays::default();
        delays.hold(held(call(1, 10), 100));
        let handlers = Notification { syscall: 2, ..call(1, 11) };
        assert_eq!(delays.resume(WATCH, &handlers, || None), None);
        assert!(delays.is_empty() && delays.next().is_none());
        assert_eq!(delays.resume(WATCH, &call(1, 12), || None), Some(held(call(1, 12), 100)));
    }

    #[test]
    fn what_never_starts_again_is_forgotten() {
        let mut delays = Delays::default();
        delays.interrupt(held(call(1, 10), 100), None);
        let late = Notification { time: 101 + REMEMBERED, ..call(1, 11) };
        assert_eq!(delays.resume(WATCH, &late, || None), None);
        assert!(delays.interrupted.is_empty());
        for tid in 0..1000 {
            let call = Notification { time: u64::from(tid) * REMEMBERED, ..call(tid, 1) };
            delays.interrupt(held(call, call.time), None);
        }
        assert!(delays.interrupted.len() <= MANY);
        for id in 0..100 {
            delays.interrupt(held(call(1, id), 100), None);
        }
        assert_eq!(delays.interrupted[&1].len(), NESTED);
    }
}
