//! Knowing when the services have come to rest.
//!
//! They rest when all their threads are asleep at one moment: nothing but time, what the kernel does
//! for them meanwhile (`io_uring`), or somebody outside wakes them up then. Threads are looked at
//! several times. One that sleeps each time, and has not been switched away from in between
//! (`voluntary_ctxt_switches` of `proc_pid_status(5)`), slept all the while; so if all of them did,
//! they slept together at the end of the first look. (A third look is for the thread that is about to
//! sleep, and shows so already.) A call that waits for the supervisor is no sleep, and is asked for
//! after the first.

use std::{
    fs,
    ops::Deref,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{cgroup, service::RunningService};
use crate::{
    engine::{Record, RecordSink},
    trace::Log,
};

/// Nothing recorded for this long is taken for rest, too: some programs never sleep.
const REST: Duration = Duration::from_millis(10);
/// Others never stop making calls; they are waited for no longer.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(100);

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

    /// Returns when the services sleep, or nothing has come for 10 ms, or after 250 ms.
    pub(crate) fn wait<S: Deref<Target = Vec<RunningService>>>(&self, services: &S) {
        self.wait_for(|| are_asleep(services));
    }

    fn wait_for(&self, mut are_asleep: impl FnMut() -> bool) {
        let begin = Instant::now();
        loop {
            let last = self.created + Duration::from_nanos(self.last.load(Ordering::Relaxed));
            let now = Instant::now();
            if now >= last + REST || now >= begin + PATIENCE || are_asleep() {
                return;
            }
            thread::sleep(PAUSE);
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

/// Whether there was a moment just now at which all threads of the services slept.
fn are_asleep(services: &[RunningService]) -> bool {
    let look = || {
        let targets = services.iter().map(|it| it.target.cgroup());
        let sleepers = targets.map(|it| it.and_then(|cgroup| sleepers(&cgroup)));
        sleepers.collect::<Option<Vec<_>>>()
    };
    let Some(first) = look() else { return false };
    services.iter().all(|it| it.target.is_idle())
        && (0..2).all(|_| look().is_some_and(|again| again == first))
}

/// All threads in a cgroup, each with how often it was switched to and from; `None` if not all of
/// them sleep.
fn sleepers(root: &Path) -> Option<Vec<(u32, u64)>> {
    let mut all = Vec::new();
    for directory in cgroup::tree(root) {
        // In a threaded cgroup (`cgroups(7)`) this fails, and the threads are above it.
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            // How one is shown that is in none of our PID namespaces.
            if process == "0" {
                return None;
            }
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
                let id = thread.file_name().to_str()?.parse().ok()?;
                all.push((id, switches(&status)?));
            }
        }
    }
    Some(all)
}

/// How often a thread was switched to and from, from its `status`; `None` if it does not sleep.
fn switches(status: &str) -> Option<u64> {
    let mut sum = 0;
    for line in status.lines() {
        match line.split_once(':')? {
            // Sleeping, stopped, or dead.
            ("State", state) if !"STZX".contains(state.trim().chars().next()?) => return None,
            ("voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches", count) => {
                sum += count.trim().parse::<u64>().ok()?;
            }
            _ => {}
        }
    }
    Some(sum)
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
        quiet.wait_for(|| false);
        assert!(begin.elapsed() >= Duration::from_millis(9));
        quiet.wait_for(|| false);
        assert!(begin.elapsed() < Duration::from_millis(200));
    }

    #[test]
    fn the_restless_are_not_waited_for() {
        let quiet = Quiet::new(Arc::default());
        // As if records came for a minute: a thread that hands them in may itself be kept waiting.
        quiet.last.store(60_000_000_000, Ordering::Relaxed);
        let begin = Instant::now();
        quiet.wait_for(|| false);
        let took = begin.elapsed();
        assert!((250..2000).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn who_sleeps_is_not_waited_for() {
        let quiet = Quiet::new(Arc::default());
        quiet.last.store(60_000_000_000, Ordering::Relaxed);
        let mut looks = 0;
        let begin = Instant::now();
        quiet.wait_for(|| {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
        assert!(begin.elapsed() < PATIENCE);
    }

    #[test]
    fn only_a_thread_that_sleeps_has_a_count() {
        let status = |state: &str| {
            format!(
                "Name:\tmy: db\nState:\t{state}\nPid:\t7\nvoluntary_ctxt_switches:\t41\n\
                 nonvoluntary_ctxt_switches:\t1\n"
            )
        };
        assert_eq!(switches(&status("S (sleeping)")), Some(42));
        assert_eq!(switches(&status("Z (zombie)")), Some(42));
        assert_eq!(switches(&status("R (running)")), None);
        assert_eq!(switches(&status("D (disk sleep)")), None);
    }
}
