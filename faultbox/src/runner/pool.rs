//! Runs side by side, whose results come in the order of their numbers.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// How many results, for each that is worked on, may wait for an earlier one. What they hold is
/// memory, and a run that takes long must not have the whole night's pile up behind it.
const AHEAD: usize = 8;

/// Does the work of the numbers below `count`, at most `side_by_side` at a time, and gives
/// `consume` the results in order. What `consume` has not asked for when it returns may not be
/// done at all.
pub(crate) fn in_order<R: Send, T>(
    side_by_side: usize,
    count: usize,
    work: impl Fn(usize) -> R + Sync,
    consume: impl FnOnce(&mut dyn Iterator<Item = R>) -> T,
) -> T {
    let next = AtomicUsize::new(0);
    let gate = Gate { taken: Mutex::new(Some(0)), changed: Condvar::new() };
    let (sender, receiver) = mpsc::channel();
    let (work, next, gate) = (&work, &next, &gate);
    thread::scope(|scope| {
        // However this ends, nobody waits for what will not be taken.
        let _close = CloseOnDrop(gate);
        let workers: Vec<_> = (0..side_by_side.min(count))
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(move || {
                    let _close = CloseOnPanic(gate);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count || !gate.admits(number, AHEAD * side_by_side) {
                            return;
                        }
                        // Nobody listens any more when `consume` has returned.
                        let _ = sender.send((number, work(number)));
                    }
                })
            })
            .collect();
        drop(sender);
        let mut early = BTreeMap::new();
        let mut results = (0..count).map_while(|wanted| {
            loop {
                if let Some(result) = early.remove(&wanted) {
                    gate.take();
                    return Some(result);
                }
                // All have ended without it only if one of them panicked.
                let (number, result) = receiver.recv().ok()?;
                early.insert(number, result);
            }
        });
        let end = consume(&mut results);
        gate.close();
        for worker in workers {
            if let Err(panic) = worker.join() {
                resume_unwind(panic);
            }
        }
        end
    })
}

/// Keeps workers from getting too far ahead of who takes their results.
struct Gate {
    /// How many results have been taken; `None`: no more are wanted.
    taken: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Gate {
    /// Waits until `number` may be worked on; false when it is not wanted any more.
    fn admits(&self, number: usize, ahead: usize) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let too_early = |taken: &mut Option<usize>| taken.is_some_and(|it| number >= it + ahead);
        let taken = self.changed.wait_while(taken, too_early);
        taken.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.map(|it| it + 1);
        self.changed.notify_all();
    }

    fn close(&self) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_all();
    }
}

/// Closes a gate when it is dropped.
struct CloseOnDrop<'a>(&'a Gate);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Closes a gate when it is dropped by a panic: the result of that number will never come.
struct CloseOnPanic<'a>(&'a Gate);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Duration};

    use super::*;

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        for side_by_side in [1, 2, 8, 100] {
            let work = |number: usize| {
                thread::sleep(Duration::from_micros((number as u64 * 7919) % 300));
                number * 2
            };
            let all: Vec<_> = in_order(side_by_side, 60, work, |results| results.collect());
            assert_eq!(all, (0..60).map(|it| it * 2).collect::<Vec<_>>(), "{side_by_side}");
        }
    }

    #[test]
    fn they_are_worked_on_side_by_side_and_no_more_than_asked() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::SeqCst);
        };
        in_order(3, 12, work, |results| results.count());
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn nobody_gets_far_ahead_of_a_slow_one() {
        let (furthest, is_slow) = (AtomicUsize::new(0), AtomicBool::new(true));
        let work = |number| {
            furthest.fetch_max(number, Ordering::SeqCst);
            while number == 0 && is_slow.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(100));
                is_slow.store(false, Ordering::SeqCst);
                assert!(furthest.load(Ordering::SeqCst) < 2 * AHEAD);
            }
        };
        assert_eq!(in_order(2, 1000, work, |results| results.count()), 1000);
    }

    #[test]
    fn what_is_not_asked_for_is_not_done() {
        let done = AtomicUsize::new(0);
        let work = |_| done.fetch_add(1, Ordering::SeqCst);
        in_order(2, 1_000_000, work, |results| results.take(3).count());
        assert!(done.into_inner() <= 3 + 2 * AHEAD + 2);
    }

    #[test]
    #[should_panic(expected = "this one")]
    fn a_panic_is_passed_on() {
        in_order(2, 1000, |number| assert!(number != 4, "this one"), |results| results.count());
    }

    #[test]
    fn nothing_to_do_is_done_at_once() {
        assert_eq!(in_order(4, 0, |_| (), |results| results.count()), 0);
    }
}
