//! Every kind of block, to the letter.

use super::{
    super::{
        Keep, Outcome, TestReport,
        sample::{allowed, call, denied, deny, failed, passed, repetitions, syscall},
    },
    *,
};
use crate::engine::Decision;

mod brief;
mod effects;
mod hints;
mod idle;
mod totals;

const PLAIN: Style = Style { debug: false, only_failures: false, color: false };
const DEBUG: Style = Style { debug: true, ..PLAIN };

fn printed(style: Style, print: impl FnOnce(&mut Terminal<Vec<u8>>) -> io::Result<()>) -> String {
    let mut terminal = Terminal::new(Vec::new(), style);
    print(&mut terminal).unwrap();
    String::from_utf8(terminal.into_inner()).unwrap()
}

/// The block of a test, if it has one.
fn block(terminal: &mut Terminal<Vec<u8>>, report: &TestReport) -> io::Result<()> {
    let keep = Keep { style: terminal.style, ..Keep::default() };
    FinishedRun::of(report, keep).map_or(Ok(()), |run| terminal.test(&run))
}

/// The block of all runs of a test.
fn runs(terminal: &mut Terminal<Vec<u8>>, reports: &[TestReport]) -> io::Result<()> {
    let all = repetitions(reports, terminal.style);
    terminal.runs(&all)
}

/// Compares from the second line on of `expected`, whose first is empty for looks.
#[track_caller]
fn prints(report: &TestReport, style: Style, expected: &str) {
    let text = printed(style, |terminal| block(terminal, report));
    assert!(text == expected[1..], "got:\n{text}\nexpected:{expected}");
}

fn write_failure() -> TestReport {
    passed("test_db_write_failure").until(71, "db", "read").window(
        "db",
        vec![deny("write", "EIO", 2).label("disk failure")],
        |test| {
            test.with(denied("db", "write", "EIO").by(0, Some("disk failure")))
                .with(denied("db", "write", "EIO").by(0, Some("disk failure")))
                .until(88, "db", "write")
        },
    )
}

#[test]
fn without_faults_there_is_a_header_and_the_number_of_calls() {
    prints(
        &passed("test_ping").until(43, "db", "read"),
        PLAIN,
        "
--- PASS: test_ping (200ms, seed=0) ---
  syscall trace (42 events):
",
    );
    prints(&passed("test_nothing"), PLAIN, "\n--- PASS: test_nothing (200ms, seed=0) ---\n");
}

#[test]
fn a_fault_that_fired_shows_its_hits_and_its_rule() {
    prints(
        &write_failure(),
        PLAIN,
        "
--- PASS: test_db_write_failure (200ms, seed=0) ---
  syscall trace (86 events):
    #72  db    write   deny(input/output error)  [disk failure]
    #73  db    write   deny(input/output error)  [disk failure]
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] label=\"disk failure\"
",
    );
}

#[test]
fn a_failure_says_why_where_and_how_to_see_it_again() {
    let mut report = failed("test_flaky_network", "assert_true: expected 200 or 503, got 0")
        .until(49, "inventory", "read")
        .window("orders", vec![deny("connect", "ECONNREFUSED", 1).probability("20%")], |test| {
            test.with(denied("orders", "connect", "ECONNREFUSED").by(0, None))
        })
        .service(
            "inventory",
            0,
            &[
                ("fsync", 1),
                ("read", 14),
                ("write", 9),
                ("openat", 2),
                ("accept4", 4),
                ("close", 1),
                ("fstat", 0),
                ("futex", 1),
                ("bind", 1),
                ("lseek", 1),
            ],
        )
        .service("orders", 1, &[("read", 6), ("write", 5), ("accept4", 2), ("connect", 2)]);
    report.seed = 7;
    report.services[0].output = (1..=25).map(|i| format!("line {i}")).collect();
    report.services[1].output = vec!["\x1b[31mred\r".to_owned(), String::new()];
    let mut expected = "
--- FAIL: test_flaky_network (200ms, seed=7) ---
  reason: assert_true: expected 200 or 503, got 0
  at: fault-test.star:121
  replay: faultbox test fault-test.star --test flaky_network --seed 7
  syscall trace (49 events):
    #50  orders connect deny(connection refused)
  fault rule on orders: connect=deny(ECONNREFUSED) → filter:[connect] probability=20%
  per-service syscall summary:
    inventory 34 total, 0 faulted  [read:14 write:9 accept4:4 openat:2 bind:1 close:1 fsync:1 futex:1 ...]
    orders    15 total, 1 faulted  [read:6 write:5 accept4:2 connect:2]
  output of inventory:
"
    .to_owned();
    expected.extend((6..=25).map(|i| format!("    line {i}\n")));
    expected += "  output of orders:\n    \\x1b[31mred\n\n";
    prints(&report, PLAIN, &expected);
}

#[test]
fn a_reason_cannot_fake_lines_of_the_report_and_names_are_quoted_for_the_shell() {
    let mut report = failed("test_it", "assert_eq: \"a\n1 passed, 0 failed\x1b[2J\" != 1");
    report.file = "my spec.star".to_owned();
    if let Outcome::Failed { location, .. } = &mut report.outcome {
        *location = None;
    }
    prints(
        &report,
        PLAIN,
        "
--- FAIL: test_it (200ms, seed=0) ---
  reason: assert_eq: \"a
          1 passed, 0 failed\\x1b[2J\" != 1
  replay: faultbox test 'my spec.star' --test it --seed 0
",
    );
}

#[test]
fn several_faults_have_a_line_each() {
    let report = passed("test_everything_broken").until(7, "db", "read").window(
        "db",
        vec![deny("read", "EIO", 0), deny("write", "EIO", 1)],
        |test| test.with(denied("db", "write", "EIO").by(0, None)),
    );
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_everything_broken (200ms, seed=0) ---
  syscall trace (7 events):
    #8  db    write   deny(input/output error)
  fault rule on db: read=deny(EIO) → filter:[read,readv,pread64]
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64]
",
    );
}

#[test]
fn an_op_shows_under_its_name_with_the_call_and_the_file() {
    let mut persist = deny("write", "EIO", 1).label("persist failure");
    persist.rule.keyword = "persist".to_owned();
    persist.rule.is_op = true;
    persist.rule.syscalls.extend([syscall("fsync"), syscall("fdatasync")]);
    let report = passed("test_persist_failure").window("inventory", vec![persist], |test| {
        test.with(
            denied("inventory", "write", "EIO")
                .by(0, Some("persist failure"))
                .op("persist")
                .on("/tmp/inventory.wal"),
        )
        .with(denied("db", "fsync", "EIO").by(0, None))
    });
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_persist_failure (200ms, seed=0) ---
  syscall trace (2 events):
    #2  inventory persist(write) deny(input/output error)  [persist failure]  /tmp/inventory.wal
    #3  db        fsync          deny(input/output error)
  fault rule on inventory: persist=deny(EIO) → filter:[write,writev,pwrite64,fsync,fdatasync] label=\"persist failure\"
",
    );
}

#[test]
fn an_inbound_connect_names_the_interface_and_an_outbound_one_does_not() {
    let mut rule = deny("connect", "ECONNREFUSED", 2).label("Redis down");
    rule.inbound = vec!["redis.main".to_owned()];
    let report =
        passed("test_redis_down").until(60, "api", "read").window("redis", vec![rule], |test| {
            test.with(
                denied("api", "connect", "ECONNREFUSED")
                    .by(0, Some("Redis down"))
                    .to("redis.main", Some("redis")),
            )
            .with(denied("redis", "connect", "ECONNREFUSED").by(0, None).to("api.public", None))
        });
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_redis_down (200ms, seed=0) ---
  syscall trace (61 events):
    #61  api   connect deny(connection refused)  [Redis down]  → redis.main
    #62  redis connect deny(connection refused)
  fault rule on redis: connect=deny(ECONNREFUSED) → filter:[connect] (in: redis.main) label=\"Redis down\"
",
    );
}

#[test]
fn a_window_opened_by_fault_start_shows_the_last_call_that_went_well() {
    let mut report = passed("test_fault_mid_operation")
        .with(allowed("db", "pwrite64"))
        .with(allowed("api", "write"))
        .with(call("db", "write", Decision::AllowDriver))
        .with(allowed("db", "read"))
        .window("db", vec![deny("write", "EIO", 2)], |test| {
            test.with(denied("db", "write", "EIO").by(0, None))
                .with(allowed("db", "write"))
                .with(denied("db", "write", "EIO").by(0, None))
        });
    report.windows[0].imperative = true;
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_fault_mid_operation (200ms, seed=0) ---
  syscall trace (7 events):
    #1  db    pwrite64 allow
    #6  db    write    deny(input/output error)
    #8  db    write    deny(input/output error)
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64]
",
    );
}

#[test]
fn debug_shows_every_call_every_count_and_every_service() {
    let report = passed("test_debug")
        .with(call("db", "openat", Decision::AllowSystemPath).on("/etc/hosts"))
        .window("db", vec![deny("write", "EIO", 1)], |test| {
            test.with(denied("db", "write", "EIO").by(0, None)).with(call(
                "db",
                "write",
                Decision::AllowDriver,
            ))
        })
        .window("db", vec![deny("write", "EIO", 2)], |test| test)
        .service("db", 1, &[("write", 2)]);
    prints(
        &report,
        DEBUG,
        "
--- PASS: test_debug (200ms, seed=0) ---
  syscall trace (3 events):
    #1  db    openat  allow (system path)  /etc/hosts
    #3  db    write   deny(input/output error)
    #4  db    write   allow (driver)
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] (3 hits) ×2
  per-service syscall summary:
    db    2 total, 1 faulted  [write:2]
",
    );
}

#[test]
fn a_long_trace_is_cut_after_fifty_lines_and_debug_shows_it_all() {
    let mut report = passed("test_flood").window("db", vec![deny("write", "EIO", 170)], |test| {
        (0..170).fold(test, |test, _| test.with(denied("db", "write", "EIO").by(0, None)))
    });
    let text = printed(PLAIN, |terminal| block(terminal, &report));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 50 + 1 + 1);
    assert_eq!(lines[51], "    #51  db    write   deny(input/output error)");
    assert_eq!(lines[52], "    … 120 more (use --debug)");
    report.services.clear();
    let text = printed(DEBUG, |terminal| block(terminal, &report));
    assert_eq!(text.lines().count(), 2 + 170 + 1);
    assert!(!text.contains("more (use"));
}

#[test]
fn what_was_lost_and_what_is_odd_is_said() {
    let mut report = passed("test_lossy").until(3, "db", "read");
    report.dropped = 12;
    report.warnings = vec!["db exited during the test (signal SIGSEGV)".to_owned()];
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_lossy (200ms, seed=0) ---
  syscall trace (2 events):
  WARNING: 12 trace records dropped (counters are exact)
  WARNING: db exited during the test (signal SIGSEGV)
",
    );
}

#[test]
fn colour_marks_verdicts_and_warnings_and_only_when_asked_for() {
    let mut odd = failed("test_a", "x");
    odd.dropped = 1;
    let style = Style { color: true, ..PLAIN };
    let text = printed(style, |terminal| {
        block(terminal, &odd)?;
        block(terminal, &passed("test_b"))
    });
    assert!(text.starts_with("--- \x1b[31mFAIL\x1b[0m: test_a ("), "{text:?}");
    assert!(text.contains("\n  \x1b[33mWARNING\x1b[0m: 1 trace record dropped"), "{text:?}");
    assert!(text.contains("\n--- \x1b[32mPASS\x1b[0m: test_b ("), "{text:?}");
    let plain = printed(PLAIN, |terminal| block(terminal, &odd));
    assert!(!plain.contains('\x1b'));
}
