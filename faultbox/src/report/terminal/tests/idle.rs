//! Rules and windows that hit nothing.

use super::{
    super::super::sample::{allowed, call, denied, deny, passed},
    PLAIN, printed, prints, runs,
};
use crate::{engine::Decision, spec::FaultAction};

#[test]
fn rules_that_never_fired_are_a_warning_with_hints_and_the_summary() {
    let report = passed("test_fsync")
        .until(10, "db", "pwritev2")
        .window("db", vec![deny("fsync", "EIO", 0)], |test| test.until(20, "db", "write"))
        .service("db", 0, &[("connect", 5), ("write", 45), ("read", 30)]);
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_fsync (200ms, seed=0) ---
  syscall trace (18 events):
  fault rule on db: fsync=deny(EIO) → filter:[fsync,fdatasync]
  WARNING: fault rules were installed but no injections fired
    hint: the target may use a different syscall variant (e.g., pwrite64 instead of write)
    hint: run with --debug to see all intercepted syscalls
  per-service syscall summary:
    db    80 total, 0 faulted  [write:45 read:30 connect:5]
",
    );
}

#[test]
fn hints_name_what_the_service_did_in_the_window() {
    let report = passed("test_hints")
        .until(5, "db", "pwritev2")
        .window("db", vec![deny("write", "ECONNRESET", 0).counts(0, 0, 3)], |test| {
            test.with(allowed("db", "pwritev2"))
                .with(allowed("db", "sendmsg"))
                .with(allowed("db", "sendmsg"))
                .with(allowed("api", "sendto"))
                .with(call("db", "sendto", Decision::AllowDriver))
                .with(allowed("db", "write").on("/tmp/x"))
        })
        .window(
            "api",
            vec![deny("connect", "ECONNREFUSED", 0).probability("1%").counts(12, 0, 0)],
            |test| test,
        )
        .service("db", 0, &[("write", 1)]);
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_hints (200ms, seed=0) ---
  syscall trace (10 events):
  fault rule on db: write=deny(ECONNRESET) → filter:[write,writev,pwrite64]
  fault rule on api: connect=deny(ECONNREFUSED) → filter:[connect] probability=1%
  WARNING: fault rules were installed but no injections fired
    hint: the target may use a different syscall variant (e.g., pwrite64 instead of write)
    hint: db called sendmsg 2 times in this window; target it with sendto=deny(...)
    hint: db called pwritev2 1 time in this window; target it with pwritev2=deny(...)
    hint: 1 write call went to files, which never fail with ECONNRESET; for files use e.g. EIO
    hint: connect matched 12 times, but probability=1% spared each of them; try another --seed or a higher probability
    hint: 3 matching calls spared on the test's own connections; include_driver=True hits them, too
    hint: run with --debug to see all intercepted syscalls
  per-service syscall summary:
    db    1 total, 0 faulted  [write:1]
",
    );
}

#[test]
fn windows_that_say_the_same_are_counted_and_idle_ones_noted() {
    let again = |fired| vec![deny("read", "EIO", fired), deny("write", "EIO", fired)];
    let report = passed("test_windows")
        .window("db", again(1), |test| test.with(denied("db", "read", "EIO").by(0, None)))
        .window("db", again(0), |test| test)
        .window("db", again(0), |test| test)
        .window("api", vec![deny("connect", "ECONNREFUSED", 0)], |test| test)
        .window("db", again(3), |test| test);
    prints(
        &report,
        PLAIN,
        "
--- PASS: test_windows (200ms, seed=0) ---
  syscall trace (1 events):
    #2  db    read    deny(input/output error)
  fault rule on db: read=deny(EIO) → filter:[read,readv,pread64] ×3
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] ×3
  fault rule on api: connect=deny(ECONNREFUSED) → filter:[connect]
  fault rule on db: read=deny(EIO) → filter:[read,readv,pread64]
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64]
  note: no hits in window: db read,write ×2
  note: no hits in window: api connect
",
    );
}

#[test]
fn a_rule_that_only_allows_is_no_fault_that_failed_to_fire() {
    let allow = deny("write", "EIO", 0).does(FaultAction::Allow);
    prints(
        &passed("test_allow").window("db", vec![allow], |test| test),
        PLAIN,
        "
--- PASS: test_allow (200ms, seed=0) ---
  fault rule on db: write=allow() → filter:[write,writev,pwrite64]
",
    );
}

#[test]
fn runs_that_all_passed_without_a_hit_still_warn() {
    let idle = passed("test_a").window("db", vec![deny("fsync", "EIO", 0)], |test| test);
    let text = printed(PLAIN, |terminal| runs(terminal, &[idle.clone(), idle]));
    assert!(text.starts_with("--- PASS: test_a (2/2 runs) ---\n  fault rule on db: "), "{text}");
    assert!(text.contains("  WARNING: fault rules were installed but no injections fired\n"));
}
