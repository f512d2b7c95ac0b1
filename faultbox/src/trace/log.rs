//! The log: takes records and happenings as they arrive, hands them out in the order of time.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};

use super::{Event, EventKind, Names, is_faulted};
use crate::engine::{Record, RecordSink, Syscall, TargetId};

/// Entries that a log keeps. At some 300 bytes each this is what a test may cost in memory.
const CAPACITY: usize = 1_000_000;
/// On top of it, entries that a flood of ordinary calls cannot crowd out: calls that a rule
/// broke, that somebody watches for, and what the driver did.
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
    /// The same moment on the calendar and on the log's clock.
    epoch: (SystemTime, u64),
}

/// Calls that somebody wants to see every one of.
pub struct Watch<'a> {
    /// Of which services.
    pub service: &'a dyn Fn(&str) -> bool,
    /// Which calls, by name.
    pub syscall: &'a dyn Fn(&str) -> bool,
}

#[derive(Debug, Default)]
struct Ordered {
    names: Names,
    events: Vec<Event>,
    /// For each event, how many its service has had up to and with it.
    counts: Vec<u32>,
    per_service: HashMap<String, u32>,
}

#[derive(Debug, Default)]
struct Arrivals {
    pending: Vec<(u64, Arrival)>,
    /// Entries of the log so far, ordered ones included.
    kept: usize,
    dropped: u64,
    watched: HashSet<(TargetId, Syscall)>,
    /// Of the entries dropped, those that were watched for.
    missed: u64,
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
        let ordered = Mutex::new(Ordered { names, ..Ordered::default() });
        let epoch = (SystemTime::now(), now());
        Self { ordered, arrivals: Mutex::default(), capacity, reserve, epoch }
    }

    /// A time on the calendar, and what the log's clock showed then.
    pub fn epoch(&self) -> (SystemTime, u64) {
        self.epoch
    }

    /// What a time of the log's clock is on the calendar, as if nobody had set the machine's
    /// clock since the log was made.
    pub fn calendar(&self, time: u64) -> SystemTime {
        let (calendar, clock) = self.epoch;
        match time.checked_sub(clock) {
            Some(later) => calendar + Duration::from_nanos(later),
            None => calendar - Duration::from_nanos(clock - time),
        }
    }

    /// From now on such calls are dropped last, and [`Log::missed`] says how many were. Replaces
    /// what was watched for before.
    pub fn watch(&self, watches: &[Watch<'_>]) {
        let ordered = lock(&self.ordered);
        let mut calls = HashSet::new();
        for watch in watches {
            for target in ordered.names.targets(watch.service) {
                let meant = Syscall::all().filter(|it| (watch.syscall)(it.name()));
                calls.extend(meant.map(|call| (target, call)));
            }
        }
        lock(&self.arrivals).watched = calls;
    }

    /// Calls that were watched for and lost all the same, because the log was full.
    pub fn missed(&self) -> u64 {
        lock(&self.arrivals).missed
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
        let Ordered { names, events, counts, per_service } = &mut *ordered;
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
            let count = match per_service.get_mut(&service) {
                Some(count) => count,
                None => per_service.entry(service.clone()).or_default(),
            };
            *count += 1;
            counts.push(*count);
            events.push(Event { seq: events.len() as u64 + 1, time, service, kind });
        }
    }

    /// All events up to the last barrier.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.ordered).events.clone()
    }

    /// How many events there are up to the last barrier.
    pub fn count(&self) -> usize {
        lock(&self.ordered).events.len()
    }

    /// Reads the events up to the last barrier without copying them. The question must not use
    /// the log itself.
    pub fn read<T>(&self, question: impl FnOnce(&[Event]) -> T) -> T {
        question(&lock(&self.ordered).events)
    }

    /// How many events the service of this one has had, up to and with it; by the event's index.
    pub fn count_of_service(&self, index: usize) -> u32 {
        lock(&self.ordered).counts.get(index).copied().unwrap_or_default()
    }

    /// Takes the events up to the last barrier out of the log and forgets the rest.
    pub fn finish(&self) -> Vec<Event> {
        let mut ordered = lock(&self.ordered);
        let mut arrivals = lock(&self.arrivals);
        arrivals.pending = Vec::new();
        arrivals.kept = 0;
        ordered.counts = Vec::new();
        ordered.per_service = HashMap::new();
        mem::take(&mut ordered.events)
    }

    /// Entries lost because the log was full. To these come the engine's own losses.
    pub fn dropped(&self) -> u64 {
        lock(&self.arrivals).dropped
    }

    fn take(&self, arrivals: &mut Arrivals, time: u64, arrival: Arrival, important: bool) {
        let is_watched = || match &arrival {
            Arrival::Record(it) => arrivals.watched.contains(&(it.target, it.syscall)),
            Arrival::Happening { .. } => true,
        };
        let has_room = arrivals.kept < self.capacity
            || arrivals.kept < self.capacity + self.reserve && (important || is_watched());
        if has_room {
            arrivals.pending.push((time, arrival));
            arrivals.kept += 1;
        } else {
            arrivals.dropped += 1;
            arrivals.missed += u64::from(is_watched());
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
