//! The specific hints, each from what it is derived of.

use std::{num::NonZeroU64, time::Duration};

use super::{
    super::super::{
        RuleReport, TestReport,
        sample::{allowed, call, denied, deny, passed},
    },
    PLAIN, block, printed,
};
use crate::{engine::Decision, spec::FaultAction};

/// The hints between the first and the last, which are always the same.
fn hints(report: &TestReport) -> Vec<String> {
    let text = printed(PLAIN, |terminal| block(terminal, report));
    let hints: Vec<String> =
        text.lines().filter_map(|it| it.strip_prefix("    hint: ")).map(str::to_owned).collect();
    let [first, specific @ .., last] = &*hints else { panic!("{text}") };
    assert!(first.starts_with("the target may use a different syscall variant"), "{text}");
    assert_eq!(last, "run with --debug to see all intercepted syscalls");
    specific.to_vec()
}

/// The hints when this rule on `api` was on while `inside` happened.
fn hints_on_api(rule: RuleReport, inside: impl FnOnce(TestReport) -> TestReport) -> Vec<String> {
    hints(&passed("test_a").window("api", vec![rule], inside))
}

#[test]
fn another_call_for_the_same_work_is_named_in_the_words_of_the_rule() {
    let twice =
        |test: TestReport| test.with(allowed("api", "pwritev2")).with(allowed("api", "pwritev2"));
    assert_eq!(
        hints_on_api(deny("write", "EIO", 0), twice),
        ["api called pwritev2 2 times in this window; target it with pwritev2=deny(...)"]
    );
    let delay = deny("write", "EIO", 0).does(FaultAction::Delay(Duration::from_secs(1)));
    assert_eq!(
        hints_on_api(delay, |test| test.with(allowed("api", "sendmsg"))),
        ["api called sendmsg 1 time in this window; target it with sendto=delay(...)"]
    );
    let mut op = deny("write", "EIO", 0);
    (op.rule.keyword, op.rule.is_op) = ("persist".to_owned(), true);
    assert_eq!(
        hints_on_api(op, twice),
        ["api called pwritev2 2 times in this window; add it to the op persist"]
    );
}

#[test]
fn another_call_on_another_file_or_peer_is_none_for_the_same_work() {
    let rule = deny("write", "EIO", 0).path("/tmp/*.wal");
    let elsewhere = |test: TestReport| test.with(allowed("api", "pwritev2").on("/tmp/x.log"));
    assert_eq!(hints_on_api(rule.clone(), elsewhere), [""; 0]);
    let there = |test: TestReport| test.with(allowed("api", "pwritev2").on("/tmp/x.wal"));
    assert_eq!(hints_on_api(rule, there).len(), 1);
    let rule = deny("write", "EIO", 0).peer("db");
    let elsewhere = |test: TestReport| test.with(allowed("api", "sendto").to("cache.main", None));
    assert_eq!(hints_on_api(rule.clone(), elsewhere), [""; 0]);
    let there = |test: TestReport| test.with(allowed("api", "sendto").to("db.main", None));
    assert_eq!(hints_on_api(rule, there).len(), 1);
}

#[test]
fn a_path_that_misses_is_shown_one_that_was_met() {
    let rule = deny("write", "EIO", 0).path("/tmp/*.wal");
    let calls = |test: TestReport| {
        let test = test
            .with(call("api", "write", Decision::AllowSystemPath).on("/dev/a"))
            .with(call("api", "write", Decision::AllowSystemPath).on("/dev/a"))
            .with(allowed("api", "write").on("/var/lib/x.wal"))
            .with(allowed("api", "write"))
            .with(allowed("db", "write").on("/tmp/other.wal"));
        test.with(allowed("api", "fsync").on("/tmp/y.wal"))
    };
    assert_eq!(
        hints_on_api(rule.clone(), calls),
        ["3 calls matched write but not path /tmp/*.wal; e.g. /var/lib/x.wal"]
    );
    assert_eq!(
        hints_on_api(rule, |test| test.with(allowed("api", "write"))),
        ["1 call matched write, but none on a file, which path= is about"]
    );
}

#[test]
fn a_connection_that_was_open_already_is_told_from_a_connect() {
    let connect = deny("connect", "ECONNREFUSED", 0);
    let pooled = |test: TestReport| {
        test.with(allowed("api", "write").to("db.main", None))
            .with(allowed("api", "recvmsg").to("db.main", None))
            .with(allowed("api", "read"))
    };
    let expected = ["api reused an open connection to db; fault recvfrom/write instead of connect"];
    assert_eq!(hints_on_api(connect.clone(), pooled), expected);
    assert_eq!(hints_on_api(connect.clone().peer("db"), pooled), expected);
    assert_eq!(hints_on_api(connect.clone().peer("cache"), pooled), [""; 0]);
    // The same from the side of the callee, whose rule is about connects of others.
    let mut inbound = connect.clone();
    inbound.inbound = vec!["db.main".to_owned()];
    assert_eq!(hints(&passed("test_a").window("db", vec![inbound], pooled)), expected);
    // A connect that chance has spared was none to a pool.
    let spared = connect.probability("1%").counts(2, 0, 0);
    assert!(!hints_on_api(spared, pooled).join("").contains("reused"));
}

#[test]
fn a_peer_that_misses_is_shown_one_that_was_met() {
    let rule = deny("connect", "ECONNREFUSED", 0).peer("db");
    let calls = |test: TestReport| {
        test.with(allowed("api", "connect").to("cache.main", None))
            .with(allowed("api", "connect").to("cache.main", None))
    };
    assert_eq!(
        hints_on_api(rule, calls),
        ["2 calls matched connect but not to=db; e.g. to cache.main"]
    );
}

#[test]
fn work_through_an_io_uring_is_not_seen() {
    let rings = |test: TestReport| {
        test.with(allowed("api", "io_uring_enter")).with(allowed("api", "io_uring_enter"))
    };
    assert_eq!(
        hints_on_api(deny("write", "EIO", 0), rings),
        [
            "api called io_uring_enter 2 times: what goes through an io_uring is not seen by write=; \
          target the ring with io_uring_enter=deny(...), or switch it off in the service"
        ]
    );
    assert_eq!(hints_on_api(deny("mmap", "ENOMEM", 0), rings), [""; 0]);
}

#[test]
fn counts_that_were_not_reached_are_said() {
    let mut rule = deny("write", "EIO", 0).probability("50%").counts(2, 0, 0);
    rule.rule.options.nth = NonZeroU64::new(3);
    assert_eq!(
        hints_on_api(rule.clone(), |test| test),
        ["write matched only 2 times; nth=3 waits for a later one"]
    );
    rule.rule.options.nth = NonZeroU64::new(2);
    assert!(hints_on_api(rule.clone(), |test| test)[0].contains("probability=50% spared"));
    rule.rule.options.nth = None;
    rule.rule.options.after = 2;
    assert_eq!(
        hints_on_api(rule, |test| test),
        ["write matched only 2 times; after=2 spares them all"]
    );
}

#[test]
fn only_rules_of_windows_in_which_the_calls_were_made_get_hints() {
    let report = passed("test_a")
        .window("api", vec![deny("write", "EIO", 0)], |test| test)
        .with(allowed("api", "pwritev2"))
        .with(denied("api", "pwritev2", "EIO"));
    assert_eq!(hints(&report), [""; 0]);
}
