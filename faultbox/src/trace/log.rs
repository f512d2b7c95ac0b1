//! The log: takes records and happenings as they arrive, hands them out in the order of time.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::time::{ClockId, clock_gettime};

use super::{Event, EventKind, Names, is_faulted};
use crate::engine::{Record, RecordSink};

/// Entries that a log keeps. At some 300 bytes each this is what a test may cost in memory.
const CAPACITY: usize = 1_000_000;
/// On top of it, entries that a flood of ordinary calls cannot crowd out: calls that a rule
/// broke, and what the driver did.
const RESERVE: usize = 100_000;

/// The time of now on the log's clock: `CLOCK_MONOTONIC`, in nanoseconds, as the kernel's
/// `bpf_ktime_get_ns` has it.
pub fn now() -> u64 {
    // clock_gettime(2) can only fail for a clock that does not exist, and this one does.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// The log of one test. Shared by the engine's threads, which hand in records, and the test's
/// own, which hands in everything else and reads.
///
/// What arrives is not in order: each processor reports on its own. So arrivals wait until
/// [`Log::barrier`], which sorts them by time, numbers them and makes them readable.
#[derive(Debug)]
pub struct Log {
    // Two locks, so that readers and barriers never keep the engine's threads waiting. Whoever
    // needs both takes `ordered` first.
    ordered: Mutex<Ordered>,
    arrivals: Mutex<Arrivals>,
    capacity: usize,
    reserve: usize,
}

#[derive(Debug, Default)]
struct Ordered {
    names: Names,
    events: Vec<Event>,
}

#[derive(Debug, Default)]
struct Arrivals {
    pending: Vec<(u64, Arrival)>,
    /// Entries of the log so far, ordered ones included.
    kept: usize,
    dropped: u64,
}

#[derive(Debug)]
enum Arrival {
    Record(Record),
    Happening { service: String, kind: EventKind },
}

/// Locks. No code under these locks leaves its data half-changed, so a panic elsewhere while one
/// was held (a failing test) spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Log {
    fn default() -> Self {
        Self::new(Names::default())
    }
}

impl Log {
    /// An empty log that calls things by these names.
    pub fn new(names: Names) -> Self {
        Self::with_capacity(names, CAPACITY, RESERVE)
    }

    fn with_capacity(names: Names, capacity: usize, reserve: usize) -> Self {
        let ordered = Mutex::new(Ordered { names, events: Vec::new() });
        Self { ordered, arrivals: Mutex::default(), capacity, reserve }
    }

    /// Changes the names; records that wait for a barrier get the new ones.
    pub fn name(&self, change: impl FnOnce(&mut Names)) {
        change(&mut lock(&self.ordered).names);
    }

    /// Notes something that happened now; `service` is empty for what is the driver's own.
    pub fn push(&self, service: &str, kind: EventKind) {
        let arrival = Arrival::Happening { service: service.to_owned(), kind };
        let mut arrivals = lock(&self.arrivals);
        // The clock is read under the lock: a barrier that began later cannot miss this entry.
        self.take(&mut arrivals, now(), arrival, true);
    }

    /// Orders, numbers and makes readable everything that happened before the call. `drain` must
    /// return only when all records of that time have reached [`Log::record`]: it is where
    /// `Engine::drain` is to be called. What happens meanwhile waits for the next barrier, so
    /// that no later arrival can belong before an event that has its number.
    ///
    /// [`Log::record`]: RecordSink::record
    pub fn barrier(&self, drain: impl FnOnce()) {
        let until = now();
        drain();
        let mut ordered = lock(&self.ordered);
        let Ordered { names, events } = &mut *ordered;
        let mut ripe: Vec<_> =
            lock(&self.arrivals).pending.extract_if(.., |(time, _)| *time <= until).collect();
        // Stable: what has the same time stays in the order of arrival.
        ripe.sort_by_key(|(time, _)| *time);
        for (time, arrival) in ripe {
            let (service, kind) = match arrival {
                Arrival::Record(record) => {
                    (names.service(record.target).to_owned(), names.describe(record))
                }
                Arrival::Happening { service, kind } => (service, kind),
            };
            events.push(Event { seq: events.len() as u64 + 1, time, service, kind });
        }
    }

    /// All events up to the last barrier.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.ordered).events.clone()
    }

    /// Reads the events up to the last barrier without copying them. The question must not use
    /// the log itself.
    pub fn read<T>(&self, question: impl FnOnce(&[Event]) -> T) -> T {
        question(&lock(&self.ordered).events)
    }

    /// Takes the events up to the last barrier out of the log and forgets the rest.
    pub fn finish(&self) -> Vec<Event> {
        let mut ordered = lock(&self.ordered);
        let mut arrivals = lock(&self.arrivals);
        arrivals.pending = Vec::new();
        arrivals.kept = 0;
        mem::take(&mut ordered.events)
    }

    /// Entries lost because the log was full. To these come the engine's own losses.
    pub fn dropped(&self) -> u64 {
        lock(&self.arrivals).dropped
    }

    fn take(&self, arrivals: &mut Arrivals, time: u64, arrival: Arrival, important: bool) {
        let room = self.capacity + if important { self.reserve } else { 0 };
        if arrivals.kept < room {
            arrivals.pending.push((time, arrival));
            arrivals.kept += 1;
        } else {
            arrivals.dropped += 1;
        }
    }
}

impl RecordSink for Log {
    fn record(&self, record: Record) {
        let broken = is_faulted(record.decision) || !record.delay.is_zero();
        let time = record.time;
        self.take(&mut lock(&self.arrivals), time, Arrival::Record(record), broken);
    }
}

#[cfg(test)]
mod tests;
