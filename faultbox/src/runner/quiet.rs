//! Knowing when the services have come to rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    engine::{Record, RecordSink},
    trace::Log,
};

/// Nothing recorded for this long is rest.
const REST: Duration = Duration::from_millis(10);
/// Some programs never rest; they are waited for no longer.
const PATIENCE: Duration = Duration::from_millis(250);

/// Passes records on to the log and remembers when the last one came.
#[derive(Debug)]
pub(crate) struct Quiet {
    log: Arc<Log>,
    created: Instant,
    /// Nanoseconds since then.
    last: AtomicU64,
}

impl Quiet {
    /// Nothing has come yet.
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, created: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Returns when nothing has come for 10 ms, or after 250 ms.
    pub(crate) fn wait(&self) {
        let begin = Instant::now();
        loop {
            let last = self.created + Duration::from_nanos(self.last.load(Ordering::Relaxed));
            let now = Instant::now();
            let rest_ends = last + REST;
            if now >= rest_ends || now >= begin + PATIENCE {
                return;
            }
            thread::sleep(rest_ends.min(begin + PATIENCE) - now);
        }
    }
}

impl RecordSink for Quiet {
    fn record(&self, record: Record) {
        let elapsed = self.created.elapsed().as_nanos() as u64;
        self.last.fetch_max(elapsed, Ordering::Relaxed);
        self.log.record(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Decision, Object, Syscall, TargetId};

    fn record() -> Record {
        Record {
            time: 0,
            target: TargetId(0),
            pid: 1,
            tid: 1,
            syscall: Syscall::from_name("read").unwrap(),
            decision: Decision::Allow,
            delay: std::time::Duration::ZERO,
            rule: None,
            object: Object::None,
            size: 0,
        }
    }

    #[test]
    fn rest_is_ten_milliseconds_without_a_record() {
        let quiet = Quiet::new(Arc::default());
        quiet.record(record());
        let begin = Instant::now();
        quiet.wait();
        assert!(begin.elapsed() >= Duration::from_millis(9));
        quiet.wait();
        assert!(begin.elapsed() < Duration::from_millis(200));
    }

    #[test]
    fn the_restless_are_not_waited_for() {
        let quiet = Quiet::new(Arc::default());
        // As if records came for a minute: a thread that hands them in may itself be kept waiting.
        quiet.last.store(60_000_000_000, Ordering::Relaxed);
        let begin = Instant::now();
        quiet.wait();
        let took = begin.elapsed();
        assert!((250..2000).contains(&took.as_millis()), "{took:?}");
    }
}
