//! Effects other than an error, and the options of rules.

use std::{num::NonZeroU64, time::Duration};

use nix::sys::signal::Signal;

use super::{
    super::super::sample::{call, denied, deny, failed, passed},
    PLAIN, prints,
};
use crate::{engine::Decision, spec::FaultAction};

const HALF: Duration = Duration::from_millis(500);

#[test]
fn a_delay_shows_how_late_the_call_was() {
    let mut slow = deny("write", "EIO", 1).label("slow WAL").does(FaultAction::Delay(HALF));
    slow.rule.keyword = "wal_write".to_owned();
    slow = slow.path("/tmp/*.wal");
    let report = passed("test_slow").until(56, "inventory", "read").window(
        "inventory",
        vec![slow],
        |test| {
            test.with(
                call("inventory", "write", Decision::Delay(HALF))
                    .by(0, Some("slow WAL"))
                    .op("wal_write")
                    .on("/tmp/inventory.wal")
                    .late(HALF),
            )
        },
    );
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_slow (200ms, seed=0) ---
  syscall trace (56 events):
    #57  inventory wal_write(write) delay(500ms)  [slow WAL]  /tmp/inventory.wal  (+500ms)
  fault rule on inventory: wal_write=delay(500ms) → filter:[write,writev,pwrite64] path=/tmp/*.wal label=\"slow WAL\"
",
    );
}

#[test]
fn a_call_that_was_delayed_and_denied_shows_both() {
    let minute = Duration::from_millis(91_500);
    let delay = deny("connect", "EIO", 1).does(FaultAction::Delay(minute));
    let report = passed("test_both").window(
        "api",
        vec![delay, deny("connect", "ECONNREFUSED", 1)],
        |test| {
            test.with(denied("api", "connect", "ECONNREFUSED").by(0, Some("down")).late(minute))
                .with(
                    denied("api", "connect", "ECONNREFUSED")
                        .by(0, None)
                        .to("db.main", Some("db"))
                        .late(HALF),
                )
        },
    );
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_both (200ms, seed=0) ---
  syscall trace (2 events):
    #2  api   connect deny(connection refused)  [down]  (+1m31.5s)
    #3  api   connect deny(connection refused)  → db.main  (+500ms)
  fault rule on api: connect=delay(1m31.5s) → filter:[connect]
  fault rule on api: connect=deny(ECONNREFUSED) → filter:[connect]
",
    );
}

#[test]
fn skipped_calls_and_crashes_are_hits() {
    let report = passed("test_lies")
        .window("db", vec![deny("fsync", "EIO", 1).does(FaultAction::Return(0))], |test| {
            test.with(call("db", "fsync", Decision::Return(0)).by(0, None).on("/x"))
        })
        .window(
            "db",
            vec![deny("write", "EIO", 1).does(FaultAction::Crash(Signal::SIGKILL))],
            |test| test.with(call("db", "write", Decision::Crash(Signal::SIGKILL)).by(1, None)),
        );
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_lies (200ms, seed=0) ---
  syscall trace (2 events):
    #2  db    fsync   returns(0)  /x
    #5  db    write   crash(KILL)
  fault rule on db: fsync=returns(0) → filter:[fsync,fdatasync]
  fault rule on db: write=crash(KILL) → filter:[write,writev,pwrite64]
",
    );
}

#[test]
fn options_stand_in_their_order_and_labels_are_escaped() {
    let mut rule = deny("connect", "EIO", 1).peer("db").probability("50%").label("a \"b\" \\ c\n");
    rule.rule.options.nth = NonZeroU64::new(3);
    rule.rule.options.max_hits = NonZeroU64::new(4);
    let mut after = deny("read", "EIO", 1).path("/tmp/[a-c]/**");
    after.rule.options.after = 2;
    prints(
        &passed("test_a").window("api", vec![rule, after], |test| test),
        PLAIN,
        "
--- PASS: test_a (200ms, seed=0) ---
  fault rule on api: connect=deny(EIO) → filter:[connect] to=db probability=50% nth=3 max_hits=4 label=\"a \\\"b\\\" \\\\ c\\n\"
  fault rule on api: read=deny(EIO) → filter:[read,readv,pread64] path=/tmp/[a-c]/** after=2
",
    );
}

#[test]
fn a_strict_failure_is_replayed_strictly() {
    let mut report = failed("test_a", "no fault fired: db fsync=deny(EIO)");
    report.strict_faults = true;
    prints(
        &report,
        PLAIN,
        "
--- FAIL: test_a (200ms, seed=0) ---
  reason: no fault fired: db fsync=deny(EIO)
  at: fault-test.star:121
  replay: faultbox test fault-test.star --test a --seed 0 --strict-faults
",
    );
}

#[test]
fn without_counts_there_is_no_summary_of_zeros() {
    let report = failed("test_a", "x").service("db", 0, &[]).service("api", 0, &[]);
    prints(
        &report,
        PLAIN,
        "
--- FAIL: test_a (200ms, seed=0) ---
  reason: x
  at: fault-test.star:121
  replay: faultbox test fault-test.star --test a --seed 0
",
    );
}
