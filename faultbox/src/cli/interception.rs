//! Lines on standard error about calls that rules hit.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::SystemTime,
};

use crate::{
    engine::{Decision, Object, Record, RecordSink},
    report::{Level, decision_text, log_line},
    runner,
};

/// How many lines may wait for whoever reads standard error.
const WAITING: usize = 1 << 16;

/// Takes records without ever waiting: the program's calls must not depend on how fast standard
/// error is read. What does not fit is counted.
#[derive(Debug)]
pub(super) struct Interceptions {
    lines: SyncSender<(SystemTime, Record)>,
    lost: Arc<AtomicU64>,
    /// With calls that no rule hit.
    is_debug: bool,
}

/// The thread that prints. Ends with the last of those who give it something to print.
#[derive(Debug)]
pub(super) struct Printer {
    thread: JoinHandle<()>,
    lost: Arc<AtomicU64>,
}

/// Starts printing. With `is_debug` every recorded call is worth a line.
pub(super) fn start(is_debug: bool) -> io::Result<(Arc<Interceptions>, Printer)> {
    let (lines, waiting) = sync_channel(WAITING);
    let thread = thread::Builder::new().name("printer".to_owned()).spawn(|| print(waiting))?;
    let lost = Arc::<AtomicU64>::default();
    let printer = Printer { thread, lost: Arc::clone(&lost) };
    Ok((Arc::new(Interceptions { lines, lost, is_debug }), printer))
}

impl RecordSink for Interceptions {
    fn record(&self, record: Record) {
        let is_wanted = self.is_debug || record.rule.is_some();
        if is_wanted && self.lines.try_send((SystemTime::now(), record)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Printer {
    /// Waits for the last line. Everyone who might have another must be gone.
    pub(super) fn finish(self) {
        // A panic in there has been printed already.
        let _ = self.thread.join();
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            runner::message(format_args!(
                "warning: {lost} intercepted calls are not shown: standard error was read too slowly"
            ));
        }
    }
}

fn print(waiting: Receiver<(SystemTime, Record)>) {
    for (time, record) in waiting {
        runner::message(line(time, &record));
    }
}

fn line(time: SystemTime, record: &Record) -> String {
    // In the message and not among the fields, where spaces would need quotes: our own words,
    // which nobody can confuse (language.md 2.8).
    let message = format!(
        "syscall intercepted  name={}  decision={}",
        record.syscall,
        decision_text(record.decision)
    );
    let mut fields = Vec::new();
    let place;
    match &record.object {
        Object::File(path) => {
            place = path.to_string_lossy().into_owned();
            fields.push(("path", &*place));
        }
        Object::Socket(Some(peer)) => {
            place = peer.to_string();
            fields.push(("peer", &*place));
        }
        _ => {}
    }
    let delay = format!("{:?}", record.delay);
    if !record.delay.is_zero() && !matches!(record.decision, Decision::Delay(_)) {
        fields.push(("delay", &*delay));
    }
    log_line(time, Level::Info, "engine", &message, &fields)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Errno, RuleId, Syscall, TargetId};

    fn record(decision: Decision, object: Object) -> Record {
        Record {
            time: 0,
            target: TargetId(0),
            pid: 1,
            tid: 1,
            syscall: Syscall::from_name("write").unwrap(),
            decision,
            delay: Duration::ZERO,
            rule: Some(RuleId(0)),
            object,
            size: 0,
        }
    }

    #[test]
    fn a_line_is_as_the_contract_has_it() {
        let denied = Decision::Deny(Errno::from_name("EIO").unwrap());
        let time = SystemTime::now();
        let plain = line(time, &record(denied, Object::Stream));
        let expected =
            "INF [engine] syscall intercepted  name=write  decision=deny(input/output error)";
        assert_eq!(plain.split_once(' ').unwrap().1, expected);
        let on_file = line(time, &record(denied, Object::File("/tmp/a b".into())));
        assert!(on_file.ends_with(&format!("{expected}  path=\"/tmp/a b\"")), "{on_file}");
        let late = Record {
            delay: Duration::from_millis(5),
            ..record(denied, Object::Socket(Some("127.0.0.1:80".parse().unwrap())))
        };
        let late = line(time, &late);
        assert!(late.ends_with("peer=127.0.0.1:80  delay=5ms"), "{late}");
    }

    #[test]
    fn calls_without_a_rule_are_for_debugging() {
        let (sink, printer) = start(false).unwrap();
        sink.record(Record { rule: None, ..record(Decision::Allow, Object::None) });
        assert_eq!(sink.lost.load(Ordering::Relaxed), 0);
        drop(sink);
        printer.finish();
    }
}
