//! Events as specs see them, and what can be asserted of them.

use std::{path::PathBuf, time::Duration};

use super::{DB, Recorder, call_with, indented, reason, test};
use crate::{
    engine::{Decision, Errno, Object, Record, RecordSink, RuleId, Syscall, TargetId},
    trace::{EventKind, RuleName},
};

/// A host whose log has four events: a read of a file, a connect that a rule of `db` denied, a
/// write that was delayed, and the end of `db`.
fn logged() -> Recorder {
    let host = Recorder::default();
    host.log.name(|names| {
        names.add_service(TargetId(1), "db");
        names.add_service(TargetId(2), "api");
        names.add_interface("127.0.0.1:5432".parse().unwrap(), "db.main");
        let (op, label) = (Some("persist".to_owned()), Some("full \"disk\"".to_owned()));
        let rule = RuleName { service: "db".to_owned(), window: 0, op, label, is_trace: false };
        names.add_rule(RuleId(7), rule);
        let rule =
            RuleName { service: "db".to_owned(), window: 1, op: None, label: None, is_trace: true };
        names.add_rule(RuleId(8), rule);
    });
    let record = |time, target, call: &str, decision, rule: Option<u32>, object| Record {
        time,
        target: TargetId(target),
        pid: 10,
        tid: 11,
        syscall: Syscall::from_name(call).unwrap(),
        decision,
        delay: Duration::ZERO,
        rule: rule.map(RuleId),
        object,
        size: 3,
    };
    let file = Object::File(PathBuf::from("/tmp/a.wal"));
    host.log.record(record(1, 1, "read", Decision::Allow, None, file));
    let refused = Decision::Deny(Errno::from_name("ECONNREFUSED").unwrap());
    let peer = Object::Socket(Some("127.0.0.1:5432".parse().unwrap()));
    host.log.record(record(2, 2, "connect", refused, Some(7), peer));
    let delay = Duration::from_millis(500);
    host.log.record(Record {
        delay,
        ..record(3, 1, "write", Decision::Delay(delay), Some(7), Object::Stream)
    });
    host.log.record(record(4, 1, "msync", Decision::Allow, Some(8), Object::None));
    host.log.push("db", EventKind::ServiceExited { how: "exit code 3".to_owned() });
    host
}

/// What a test of these lines returns, with that log.
fn evaluated(lines: &str) -> Result<Option<String>, String> {
    call_with(&test(lines), logged()).0.map_err(|failure| failure.reason)
}

#[track_caller]
fn holds(condition: &str) {
    let result = evaluated(&format!("e = events()\nassert_true({condition})"));
    assert_eq!(result, Ok(None), "{condition}");
}

#[test]
fn an_event_is_read_by_attribute_and_by_key() {
    for condition in [
        "len(e) == 5",
        "e[0].seq == 1 and e[0][\"seq\"] == 1",
        "e[0].type == \"syscall\" and e[0][\"type\"] == \"syscall\"",
        "e[0].event_type == \"syscall.read\"",
        "e[0].service == \"db\"",
        "e[0].syscall == \"read\" and e[0].fields[\"syscall\"] == \"read\"",
        "e[0].pid == \"10\" and e[0].tid == \"11\"",
        "e[0].path == \"/tmp/a.wal\" and e[0].data[\"path\"] == \"/tmp/a.wal\"",
        "e[0].dest == \"\" and e[0].label == \"\" and e[0].nothing == \"\"",
        "\"path\" in e[0] and \"type\" in e[0] and \"dest\" not in e[0] and 1 not in e[0]",
        "hasattr(e[0], \"path\") and not hasattr(e[0], \"dest\")",
        "e[0].get(\"path\") == \"/tmp/a.wal\" and e[0].get(\"seq\") == 1",
        "e[0].get(\"dest\") == None and e[0].get(\"dest\", \"-\") == \"-\"",
        "e[1].dest == \"127.0.0.1:5432\" and e[1].dest_service == \"db.main\"",
        "e[1].decision == \"deny(connection refused)\" and e[1].target == \"db\"",
        "e[1].path == \"socket:tcp\" and e[2].path == \"pipe\" and \"path\" not in e[3]",
        "e[1].op == \"persist\" and e[1].label == \"full \\\"disk\\\"\"",
        "e[2].decision == \"delay(500ms)\" and e[2].latency_ms == \"500\"",
        "e[3].decision == \"trace\"",
        "e[4].type == \"service_exited\" and e[4].exit_code == \"3\" and e[4].signal == \"\"",
        "e[4].vector_clock == {\"db\": 4} and e[1].vector_clock == {\"api\": 1}",
        "e[0].timestamp.endswith(\"Z\") and e[0].timestamp < e[4].timestamp",
        "e[0] == events()[0] and e[0] != e[1] and e[0] in events()",
        "{e[0]: 1}[events()[0]] == 1",
        "\"path=\\\"/tmp/a.wal\\\"\" in str(e[0]) and type(e[0]) == \"event\"",
    ] {
        holds(condition);
    }
    let error = evaluated("events()[0][\"dest\"]").unwrap_err();
    assert!(error.contains("dest"), "{error}");
}

#[test]
fn filters_are_globs_and_all_must_match() {
    for (filters, seqs) in [
        ("", "[1, 2, 3, 4, 5]"),
        ("service = \"db\"", "[1, 3, 4, 5]"),
        ("service = db", "[1, 3, 4, 5]"),
        ("service = \"*b\", syscall = \"*r*\"", "[1, 3]"),
        ("type = \"service_*\"", "[5]"),
        ("event_type = \"lifecycle.exited\"", "[5]"),
        ("decision = \"deny*\"", "[2]"),
        ("decision = \"deny(connection refused)\"", "[2]"),
        ("decision = \"deny(ECONNREFUSED)\"", "[2]"),
        ("decision = \"deny(EIO)\"", "[]"),
        ("path = \"*.wal\"", "[1]"),
        ("path = \"*\"", "[1, 2, 3]"),
        ("op = \"persist\", label = \"full*\"", "[2, 3]"),
        ("dest_service = \"db.*\"", "[2]"),
        ("exit_code = \"3\"", "[5]"),
        ("where = lambda e: e.seq > 3", "[4, 5]"),
        ("service = \"db\", where = lambda e: e.syscall == \"write\"", "[3]"),
        ("where = None", "[1, 2, 3, 4, 5]"),
    ] {
        let result = evaluated(&format!("return [e.seq for e in events({filters})]"));
        assert_eq!(result, Ok(Some(seqs.to_owned())), "{filters}");
    }
}

#[test]
fn filters_that_could_never_match_are_refused() {
    for (call, text) in [
        ("events(service = \"bd\")", "events(): service \"bd\" is not declared; did you mean: db?"),
        (
            "events(type = \"sycall\")",
            "events(): unknown event type \"sycall\"; did you mean: syscall?",
        ),
        (
            "assert_never(syscall = \"raed\")",
            "assert_never(): unknown system call \"raed\"; did you mean: read?",
        ),
        ("events(pid = 10)", "events(): pid= must be a string, got int"),
        ("events(\"db\")", "events(): filters need their names, as in service=\"db\""),
        ("events(where = 1)", "events(): where= must be a function with one parameter, got int"),
        (
            "events(where = lambda: True)",
            "events(): where= must be a function with one parameter, not lambda",
        ),
        (
            "assert_eventually(within = \"5\")",
            "assert_eventually(): bad duration \"5\"; use e.g. \"2s\"",
        ),
        (
            "assert_before(first = {})",
            "assert_before(): needs first= and then=, each a dict of filters or a function of an \
             event",
        ),
        (
            "assert_before(first = {}, then = {}, service = \"db\")",
            "assert_before(): unknown keyword \"service\"; valid: first, then",
        ),
        (
            "events(where = lambda e: db.main.send(data = \"PING\"))",
            "db.main.send(): a function that looks at events cannot do anything to the test",
        ),
    ] {
        assert_eq!(evaluated(call).unwrap_err(), text);
    }
    let outside = super::statement_error("events()");
    assert_eq!(outside, "events(): only valid while a test is running");
}

#[test]
fn assertions_say_what_they_looked_for_and_what_they_found() {
    for lines in [
        "assert_eventually(service = \"db\", syscall = \"write\")",
        "assert_eventually(where = lambda e: e.exit_code == \"3\")",
        "assert_never(service = \"db\", decision = \"deny*\")",
        "assert_before(first = {\"syscall\": \"read\"}, then = {\"syscall\": \"write\"})",
        "assert_before({\"syscall\": \"read\"}, lambda e: e.seq > e.first.seq)",
        "assert_before(first = lambda e: e.syscall == \"connect\",\n    then = {\"syscall\": \"write\"})",
    ] {
        assert_eq!(evaluated(lines), Ok(None), "{lines}");
    }
    for (lines, text) in [
        (
            "assert_eventually(service = \"db\", syscall = \"connect\")",
            "assert_eventually: no matching event (filters: service=\"db\", syscall=\"connect\")",
        ),
        (
            "assert_eventually(service = \"db\", where = lambda e: False)",
            "assert_eventually: no matching event (filters: service=\"db\", where=lambda)",
        ),
        (
            "assert_eventually(op = \"x\", within = \"20ms\")",
            "assert_eventually: no matching event within 20ms (filters: op=\"x\")",
        ),
        (
            "assert_never(type = \"service_exited\")",
            "assert_never: event(seq=5, type=\"service_exited\", service=\"db\", exit_code=\"3\") \
             matches (filters: type=\"service_exited\")",
        ),
        (
            "assert_before(first = {\"type\": \"service_exited\"}, then = {\"pid\": \"10\"})",
            "assert_before: event(seq=1, type=\"syscall\", service=\"db\", syscall=\"read\", \
             pid=\"10\", tid=\"11\", decision=\"allow\", path=\"/tmp/a.wal\") (then) does not come \
             after event(seq=5, type=\"service_exited\", service=\"db\", exit_code=\"3\") (first)",
        ),
        (
            "assert_before(first = {\"op\": \"x\"}, then = {})",
            "assert_before: no event matches first (filters: op=\"x\")",
        ),
        (
            "assert_before(first = {}, then = {\"op\": \"x\"})",
            "assert_before: no event matches then (filters: op=\"x\")",
        ),
    ] {
        assert_eq!(evaluated(lines).unwrap_err(), text);
    }
}

#[test]
fn what_happens_while_assert_eventually_waits_counts() {
    // The first condition is asked before the event is there.
    let lines = "assert_eventually(type = \"step_recv\", within = \"60s\")";
    let host = logged();
    let log = std::sync::Arc::clone(&host.log);
    let writer = std::thread::spawn(move || {
        while log.events().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        log.push("db", EventKind::StepReceive { step: "main.send".to_owned() });
    });
    let (result, _) = call_with(&test(lines), host);
    writer.join().unwrap();
    assert_eq!(result, Ok(None));
}

#[test]
fn an_assertion_that_could_not_fail_is_said() {
    let warned = |lines: &str| call_with(&test(lines), logged()).1;
    assert_eq!(
        warned("assert_never(service = \"db\", syscall = \"fallocate\")"),
        ["warn assert_never: fallocate is recorded only while a rule or trace() names it, and \
             none did, so that this could not fail"]
    );
    assert_eq!(warned("assert_never(service = \"api\", syscall = \"msync\")"), [""; 0]);
    assert_eq!(warned("assert_never(service = \"api\", syscall = \"write\")"), [""; 0]);
}

#[test]
fn traces_are_rules_of_their_own() {
    let lines = "trace_start(db, syscalls = [\"write\", \"persist\", \"write\"])\n\
                 r = trace(db, syscalls = [\"msync\"], run = lambda: 7)\n\
                 trace_stop(db)\nreturn r";
    let (result, calls) = super::run(lines);
    assert_eq!(result, Ok(Some("7".to_owned())));
    assert_eq!(
        calls,
        ["start 0 db persist=trace write=trace", "on 1 db msync=trace", "off 1", "stop traces db"]
    );
    for (lines, text) in [
        ("trace(db, run = lambda: 1)", "trace(): syscalls= is required"),
        ("trace(db, syscalls = [], run = lambda: 1)", "syscalls= must name at least one call"),
        ("trace(db, syscalls = [\"wirte\"], run = lambda: 1)", "did you mean: write?"),
        ("trace(db, syscalls = [\"write\"])", "trace(): run= (a function without parameters)"),
        ("trace_start(db, syscalls = [\"write\"], run = 1)", "run= belongs to trace()"),
        ("trace_stop()", "trace_stop(): a service is required"),
    ] {
        let reason = reason(lines);
        assert!(reason.contains(text), "{reason}");
    }
}

#[test]
fn functions_of_parallel_have_their_results_in_order() {
    let source = format!(
        "{DB}x = []\ndef f():\n{}def test_x():\n    nondet(db)\n    r = parallel(f, lambda: \"b\", \
         lambda: len(x))\n    return r\n",
        indented("x.append(1)\nreturn \"a\"")
    );
    assert_eq!(super::call(&source).0, Ok(Some("[\"a\", \"b\", 1]".to_owned())));
    for (lines, text) in [
        ("parallel()", "parallel(): takes 2 to 64 functions without parameters"),
        ("parallel(lambda: 1)", "parallel(): takes 2 to 64 functions without parameters"),
        (
            "parallel(lambda: 1, 2)",
            "parallel(): argument 2 must be a function with no parameters, got int",
        ),
        (
            "parallel(lambda: 1, lambda x: 2)",
            "parallel(): argument 2 must be a function with no parameters, not lambda",
        ),
        ("parallel(lambda: 1, lambda: fail(\"no\"), lambda: fail(\"nor\"))", "no"),
        ("nondet()", "nondet(): needs at least one service"),
        ("nondet(db.main)", "nondet(): an argument must be a service, got interface_ref"),
    ] {
        assert_eq!(reason(lines), text);
    }
}
