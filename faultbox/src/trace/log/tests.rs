//! Logs under arrivals that are out of order, concurrent, or too many.

use std::{
    path::PathBuf,
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    super::{Channel, RuleName},
    *,
};
use crate::engine::{Decision, Driver, Errno, Object, RuleId, Syscall, TargetId};

fn syscall(name: &str) -> Syscall {
    Syscall::from_name(name).unwrap()
}

fn record(time: u64, decision: Decision) -> Record {
    Record {
        time,
        target: TargetId(1),
        pid: 10,
        tid: 11,
        syscall: syscall("write"),
        decision,
        delay: std::time::Duration::ZERO,
        rule: None,
        object: Object::None,
        size: 3,
    }
}

fn names() -> Names {
    let mut names = Names::default();
    names.add_service(TargetId(1), "db");
    names.add_service(TargetId(2), "api");
    names
}

fn times(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.time).collect()
}

#[test]
fn records_are_numbered_by_time_however_they_arrive() {
    let log = Log::new(names());
    for time in [30, 10, 20] {
        log.record(record(time, Decision::Allow));
    }
    assert!(log.events().is_empty(), "nothing is readable before the barrier");
    log.barrier(|| log.record(record(5, Decision::Allow)));
    let events = log.events();
    assert_eq!(times(&events), [5, 10, 20, 30]);
    assert_eq!(events.iter().map(|it| it.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(events.iter().all(|it| it.service == "db"));
}

#[test]
fn what_happens_during_a_barrier_waits_for_the_next() {
    let log = Log::new(names());
    log.record(record(1, Decision::Allow));
    let mut late = 0;
    log.barrier(|| {
        late = now() + 1;
        log.record(record(late + 1, Decision::Allow));
    });
    assert_eq!(times(&log.events()), [1]);
    log.record(record(late, Decision::Allow));
    while now() <= late + 1 {}
    log.barrier(|| ());
    assert_eq!(times(&log.events()), [1, late, late + 1]);
    assert_eq!(log.events().last().unwrap().seq, 3);
}

#[test]
fn happenings_and_records_share_one_clock() {
    let log = Log::new(names());
    let before = now();
    log.push("db", EventKind::ServiceReady);
    let after = now();
    log.record(record(after, Decision::Allow));
    log.record(record(before - 1, Decision::Allow));
    log.barrier(|| ());
    let events = log.events();
    assert_eq!(events[1].kind, EventKind::ServiceReady);
    assert!((before..=after).contains(&events[1].time));
}

#[test]
fn a_record_is_told_in_the_specs_words() {
    let log = Log::new(names());
    log.name(|names| {
        names.add_interface("127.0.0.1:5432".parse().unwrap(), "db.main");
        names.add_rule(
            RuleId(7),
            RuleName {
                service: "db".to_owned(),
                window: 2,
                op: Some("persist".to_owned()),
                label: Some("disk".to_owned()),
                is_trace: false,
            },
        );
    });
    let refused = Decision::Deny(Errno::from_name("ECONNREFUSED").unwrap());
    log.record(Record {
        target: TargetId(2),
        syscall: syscall("connect"),
        rule: Some(RuleId(7)),
        object: Object::Socket(Some("[::1]:5432".parse().unwrap())),
        ..record(1, refused)
    });
    log.record(Record {
        rule: Some(RuleId(7)),
        object: Object::File(PathBuf::from("/tmp/x.wal")),
        ..record(2, Decision::AllowDriver)
    });
    log.record(Record { target: TargetId(9), rule: Some(RuleId(9)), ..record(3, Decision::Allow) });
    log.barrier(|| ());
    let events = log.events();
    assert_eq!(events[0].service, "api");
    assert_eq!(
        events[0].kind,
        EventKind::Syscall {
            syscall: syscall("connect"),
            pid: 10,
            tid: 11,
            decision: refused,
            op: Some("persist".to_owned()),
            label: Some("disk".to_owned()),
            path: None,
            channel: Some(Channel::Internet),
            peer: Some("[::1]:5432".parse().unwrap()),
            peer_interface: Some("db.main".to_owned()),
            rule_target: Some("db".to_owned()),
            window: Some(2),
            size: 3,
            latency: Duration::ZERO,
        }
    );
    let EventKind::Syscall { path, rule_target, decision, .. } = &events[1].kind else {
        panic!("{:?}", events[1]);
    };
    assert_eq!(path.as_deref(), Some("/tmp/x.wal"));
    assert_eq!(*rule_target, None, "the rule was declared on the service itself");
    assert_eq!(*decision, Decision::AllowDriver);
    assert_eq!(events[2].service, "", "nothing is known of this target or rule");
}

#[test]
fn what_ran_on_the_drivers_connections_is_told_apart() {
    let log = Log::new(names());
    let v4 = std::net::Ipv4Addr::new(127, 66, 0, 1).to_ipv6_mapped().octets();
    log.name(|names| names.set_driver(Driver { v4, v6: [0; 16] }));
    let eio = Decision::Deny(Errno::from_name("EIO").unwrap());
    let peers = ["127.66.0.1:4000", "127.0.0.1:4000", "127.66.0.1:4000"];
    for (i, (peer, decision)) in
        peers.into_iter().zip([Decision::Allow, Decision::Allow, eio]).enumerate()
    {
        let object = Object::Socket(Some(peer.parse().unwrap()));
        log.record(Record { object, ..record(i as u64, decision) });
    }
    log.barrier(|| ());
    let decisions: Vec<_> = log.read(|events| {
        events
            .iter()
            .map(|event| match event.kind {
                EventKind::Syscall { decision, .. } => decision,
                _ => panic!("{event:?}"),
            })
            .collect()
    });
    assert_eq!(decisions, [Decision::AllowDriver, Decision::Allow, eio]);
}

#[test]
fn a_flood_is_dropped_and_counted_but_not_what_rules_broke() {
    let log = Log::with_capacity(names(), 3, 2);
    for time in 0..10 {
        log.record(record(time, Decision::Allow));
    }
    let eio = Decision::Deny(Errno::from_name("EIO").unwrap());
    log.record(record(10, eio));
    log.push("", EventKind::ServiceReady);
    assert_eq!(log.dropped(), 7);
    log.record(record(11, eio));
    assert_eq!(log.dropped(), 8, "the reserve is bounded, too");
    log.barrier(|| ());
    assert_eq!(log.events().len(), 5);
    log.record(record(12, Decision::Allow));
    assert_eq!(log.dropped(), 9, "ordered events count as well");
}

#[test]
fn what_somebody_watches_for_is_dropped_last_and_counted_apart() {
    let log = Log::with_capacity(names(), 3, 2);
    let (service, call) = (|name: &str| name == "db", |name: &str| name == "write");
    log.watch(&[Watch { service: &service, syscall: &call }]);
    let read = |time| Record { syscall: syscall("read"), ..record(time, Decision::Allow) };
    for time in 0..5 {
        log.record(read(time));
    }
    assert_eq!((log.dropped(), log.missed()), (2, 0));
    for time in 5..9 {
        log.record(record(time, Decision::Allow));
    }
    assert_eq!((log.dropped(), log.missed()), (4, 2), "the reserve is bounded, too");
    log.record(Record { target: TargetId(2), ..record(9, Decision::Allow) });
    assert_eq!((log.dropped(), log.missed()), (5, 2), "another service's writes are not watched");
    log.watch(&[]);
    log.record(record(10, Decision::Allow));
    assert_eq!((log.dropped(), log.missed()), (6, 2));
    log.barrier(|| ());
    assert_eq!(log.events().len(), 5);
}

#[test]
fn each_event_knows_how_many_its_service_has_had() {
    let log = Log::new(names());
    for (time, target) in [(1, 1), (2, 2), (3, 1)] {
        log.record(Record { target: TargetId(target), ..record(time, Decision::Allow) });
    }
    log.barrier(|| ());
    assert_eq!([0, 1, 2, 3].map(|index| log.count_of_service(index)), [1, 1, 2, 0]);
}

#[test]
fn times_are_on_the_calendar_as_well() {
    let log = Log::new(names());
    let (time, before) = (now(), SystemTime::now());
    let difference = |a: SystemTime, b| a.duration_since(b).unwrap_or_else(|it| it.duration());
    assert!(difference(log.calendar(time), before) < Duration::from_secs(5));
    let second = Duration::from_secs(1);
    assert_eq!(difference(log.calendar(time), log.calendar(time - 1_000_000_000)), second);
}

/// Stands in for the engine: `drain` returns when every record whose time is taken has arrived.
#[derive(Default)]
struct Gate(RwLock<()>);

impl Gate {
    fn report(&self, log: &Log, tid: u32) {
        let _in_flight = self.0.read().unwrap();
        log.record(Record { tid, ..record(now(), Decision::Allow) });
    }

    fn drain(&self) {
        drop(self.0.write().unwrap());
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_when_many_report_while_one_reads() {
    const THREADS: usize = 4;
    const BARRIERS: u64 = 50;
    // Far below the log's capacity, should the reader get no turn.
    const MOST: u64 = 100_000;
    let (log, gate, stop) = (Log::new(names()), Gate::default(), AtomicBool::new(false));
    let write = |writer: usize| {
        let mut count = 0;
        while count < MOST && !stop.load(Ordering::Relaxed) {
            if count % 10 == 0 {
                let name = format!("{writer} {count}");
                log.push("db", EventKind::StepSend { step: name });
            } else {
                gate.report(&log, writer as u32);
            }
            count += 1;
        }
        count
    };
    let written: Vec<u64> = thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> =
            (0..THREADS).map(|writer| scope.spawn(move || write(writer))).collect();
        for _ in 0..BARRIERS {
            log.barrier(|| gate.drain());
            thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    log.barrier(|| gate.drain());
    assert_eq!(log.dropped(), 0);
    let events = log.finish();
    assert!(written.iter().all(|it| *it > 0), "{written:?}");
    assert_eq!(events.len() as u64, written.iter().sum::<u64>());
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    assert!(events.is_sorted_by_key(|event| event.time));
    assert!(log.events().is_empty());
    for (writer, count) in written.into_iter().enumerate() {
        let prefix = format!("{writer} ");
        let steps: Vec<u64> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::StepSend { step } => step.strip_prefix(&prefix),
                _ => None,
            })
            .map(|it| it.parse().unwrap())
            .collect();
        assert_eq!(steps, (0..count).step_by(10).collect::<Vec<_>>());
    }
}
