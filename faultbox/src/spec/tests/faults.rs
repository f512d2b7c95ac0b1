//! `fault`, `fault_start`, `fault_stop`, and what they ask of the host.

use std::{num::NonZeroU64, time::Duration};

use nix::sys::signal::Signal;

use super::{
    DB, Recorder, call_with, evaluate, file, on_thread, reason, run, statement_error, test,
};
use crate::{
    engine::Probability,
    spec::{Direction, FaultAction, FaultRequest, FaultRule, FaultWindow, RuleOptions},
};

/// The requests of a test with these lines.
fn requests(lines: &str) -> Vec<FaultRequest> {
    let source = test(lines);
    on_thread(move || {
        let host = Recorder::default();
        let result = evaluate(&file(&source).unwrap(), &host, |it| it.call("test_x"));
        assert_eq!(result.unwrap(), Ok(None));
        host.requests()
    })
}

#[test]
fn a_request_says_everything_about_its_rules() {
    let requests = requests(
        "fault_start(db, include_driver = True, write = deny(\"eio\", label = \"disk\"),\n    \
             persist = deny(\"ENOSPC\", probability = \"30%\"), connect = allow(), openat = deny(\"ENOENT\"))",
    );
    let [request] = &*requests else { panic!("{requests:?}") };
    assert_eq!((&*request.service, request.include_driver), ("db", true));
    assert_eq!(request.window, FaultWindow::Imperative);
    let rules: Vec<String> = request
        .rules
        .iter()
        .map(|rule| {
            let names: Vec<_> = rule.syscalls.iter().map(|it| it.name()).collect();
            let action = match rule.action {
                FaultAction::Deny(errno) => errno.name(),
                FaultAction::Allow => "allow",
                FaultAction::Trace => "trace",
                other => other.name(),
            };
            let (op, label) = (rule.is_op, rule.options.label.as_deref().unwrap_or("-"));
            format!(
                "{}={action} {} {op} {label} {}",
                rule.keyword,
                rule.options.probability,
                names.join(",")
            )
        })
        .collect();
    assert_eq!(
        rules,
        [
            "connect=allow 100% false - connect",
            "openat=ENOENT 100% false - openat",
            "persist=ENOSPC 30% true - write,writev,pwrite64,fsync,fdatasync",
            "write=EIO 100% false disk write,writev,pwrite64",
        ]
    );
}

#[test]
fn probability_has_three_forms() {
    for (written, fraction) in [
        ("\"1%\"", 0.01),
        ("\"0.5%\"", 0.005),
        ("0.5", 0.5),
        ("1.0", 1.0),
        ("1", 0.01),
        ("100", 1.0),
        ("0", 0.0),
    ] {
        let requests =
            requests(&format!("fault_start(db, write = deny(\"EIO\", probability = {written}))"));
        let expected = Probability::from_fraction(fraction).unwrap();
        assert_eq!(requests[0].rules[0].options.probability, expected, "{written}");
    }
}

#[test]
fn direction_is_carried() {
    for (written, direction) in
        [("out", Direction::Out), ("in", Direction::In), ("both", Direction::Both)]
    {
        let requests = requests(&format!(
            "fault_start(db, connect = deny(\"ECONNREFUSED\", direction = \"{written}\"))"
        ));
        assert_eq!(requests[0].rules[0].options.direction, Some(direction));
    }
    assert_eq!(
        requests("fault_start(db, connect = deny(\"EIO\"))")[0].rules[0].options.direction,
        None
    );
}

/// The only rule of a test that starts this fault on `db`, beside which there is a service
/// `cache`.
fn only_rule(rule: &str) -> FaultRule {
    let source = format!(
        "{DB}cache = service(\"cache\", \"x\", interface(\"main\", \"tcp\", 6379))\n\
         def test_x():\n    fault_start(db, {rule})\n"
    );
    let requests = on_thread(move || {
        let host = Recorder::default();
        let result = evaluate(&file(&source).unwrap(), &host, |it| it.call("test_x"));
        assert_eq!(result.unwrap(), Ok(None));
        host.requests()
    });
    let [request] = &*requests else { panic!("{requests:?}") };
    let [rule] = &*request.rules else { panic!("{request:?}") };
    rule.clone()
}

#[test]
fn effects_are_carried() {
    for (written, action) in [
        ("delay(\"500ms\")", FaultAction::Delay(Duration::from_millis(500))),
        ("delay(duration = \"1m30s\")", FaultAction::Delay(Duration::from_secs(90))),
        ("returns(7)", FaultAction::Return(7)),
        ("returns(value = 0)", FaultAction::Return(0)),
        ("returns(9223372036854775807)", FaultAction::Return(i64::MAX)),
        ("eof()", FaultAction::Return(0)),
        ("crash()", FaultAction::Crash(Signal::SIGKILL)),
        ("crash(\"sigsegv\")", FaultAction::Crash(Signal::SIGSEGV)),
        ("crash(signal = \"Term\")", FaultAction::Crash(Signal::SIGTERM)),
        ("crash(signal = None)", FaultAction::Crash(Signal::SIGKILL)),
    ] {
        assert_eq!(only_rule(&format!("read = {written}")).action, action, "{written}");
    }
}

#[test]
fn every_effect_takes_the_same_options() {
    for effect in ["deny(\"EIO\", ", "delay(\"1s\", ", "returns(0, ", "eof(", "crash(\"KILL\", "] {
        let rule = only_rule(&format!(
            "read = {effect}probability = \"30%\", label = \"l\", to = cache, nth = 3, max_hits = 2)"
        ));
        let expected = RuleOptions {
            probability: Probability::from_fraction(0.3).unwrap(),
            label: Some("l".to_owned()),
            direction: None,
            to: Some("cache".to_owned()),
            nth: NonZeroU64::new(3),
            after: 0,
            max_hits: NonZeroU64::new(2),
        };
        assert_eq!(rule.options, expected, "{effect}");
        let options = only_rule(&format!("read = {effect}after = 5, max_hits = 1)")).options;
        assert_eq!((options.after, options.max_hits), (5, NonZeroU64::new(1)));
        assert!(options.counts());
    }
    assert_eq!(only_rule("read = allow()").options, RuleOptions::default());
    assert!(!only_rule("read = deny(\"EIO\", after = 0)").options.counts());
}

#[test]
fn an_ops_path_comes_with_its_rules() {
    let source = "db = service(\"db\", \"x\", interface(\"main\", \"tcp\", 1), ops = {\n    \
         \"wal\": op(syscalls = [\"write\", \"connect\"], path = \"/tmp/**/*.wal\")})\n\
         print(db.name, op([\"fsync\"], path = \"/x\"))\n\
         def test_x():\n    fault_start(db, wal = deny(\"EIO\"), write = delay(\"1s\"))\n";
    let (requests, calls) = on_thread(move || {
        let host = Recorder::default();
        let result = evaluate(&file(source).unwrap(), &host, |it| it.call("test_x"));
        assert_eq!(result.unwrap(), Ok(None));
        (host.requests(), host.calls())
    });
    let [wal, write] = &*requests[0].rules else { panic!("{requests:?}") };
    let glob = wal.path.as_ref().unwrap();
    assert_eq!(glob.as_str(), "/tmp/**/*.wal");
    assert!(glob.matches(b"/tmp/a/b/c.wal") && !glob.matches(b"/tmp/a/b/c.log"));
    assert_eq!(write.path, None);
    assert_eq!(calls[0], "print db op([\"fsync\", \"fdatasync\"], path=\"/x\")");
}

#[test]
fn rules_print_as_they_are_written() {
    let (_, calls) = run(
        "print(deny(\"eio\"), delay(\"1500ms\"), returns(3), eof(), crash(\"sigterm\"), allow())",
    );
    assert_eq!(
        calls,
        ["print deny(\"EIO\") delay(\"1.5s\") returns(3) eof() crash(\"TERM\") allow()"]
    );
}

#[test]
fn every_keyword_of_the_acceptance_list_is_accepted() {
    for keyword in ["openat", "pwritev2", "open", "sendto", "fsync", "read", "connect", "mmap"] {
        assert_eq!(run(&format!("fault_start(db, {keyword} = deny(\"ENOENT\"))")).0, Ok(None));
    }
}

#[test]
fn rules_are_on_while_the_function_runs_and_its_value_comes_back() {
    let (result, calls) = run("def work():\n    print(\"working\")\n    return 7\n\
         return fault(db, write = deny(\"EIO\"), read = deny(\"EINTR\"), run = work)");
    assert_eq!(result, Ok(Some("7".to_owned())));
    assert_eq!(calls, ["on 0 db read=deny(EINTR) write=deny(EIO)", "print working", "off 0"]);
}

#[test]
fn rules_are_lifted_when_the_function_fails() {
    let (result, calls) =
        run("fault(db, write = deny(\"EIO\"), run = lambda: assert_true(False, \"no\"))");
    assert_eq!(result.unwrap_err().reason, "assert_true: no");
    assert_eq!(calls, ["on 0 db write=deny(EIO)", "off 0"]);
}

#[test]
fn scopes_nest_on_the_same_service() {
    let (result, calls) = run("def inner():\n    db.main.send(data = \"PING\")\n\
         def outer():\n    fault(target = db, read = deny(\"EIO\"), run = inner)\n    print(\"between\")\n\
         fault(db, write = deny(\"EIO\"), run = outer)");
    assert_eq!(result, Ok(None));
    assert_eq!(
        calls,
        [
            "on 0 db write=deny(EIO)",
            "on 1 db read=deny(EIO)",
            "db.main send \"PING\"",
            "off 1",
            "print between",
            "off 0"
        ]
    );
}

#[test]
fn imperative_faults_start_and_stop() {
    let (result, calls) = run(
        "fault_stop(db)\nfault_start(db, write = deny(\"EIO\"))\nfault_start(db, read = allow())\n\
         fault_stop(db)",
    );
    assert_eq!(result, Ok(None));
    assert_eq!(
        calls,
        ["stop db", "start 0 db write=deny(EIO)", "start 1 db read=allow", "stop db"]
    );
}

#[test]
fn faults_outside_a_test_are_errors() {
    assert_eq!(statement_error("fault()"), "fault(): only valid while a test is running");
    assert_eq!(
        statement_error("fault_start()"),
        "fault_start(): only valid while a test is running"
    );
    assert_eq!(statement_error("fault_stop()"), "fault_stop(): only valid while a test is running");
}

#[test]
fn services_cannot_be_declared_by_tests() {
    assert_eq!(
        reason("service(\"x\", \"x\", interface(\"m\", \"tcp\", 1))"),
        "service(): only valid while the file is loaded"
    );
}

#[test]
fn a_fault_that_the_host_refuses_fails_the_test() {
    let host =
        Recorder { error: Some("no rung serves fsync here".to_owned()), ..Recorder::default() };
    let (result, calls) =
        call_with(&test("fault(db, fsync = deny(\"EIO\"), run = lambda: print(1))"), host);
    assert_eq!(result.unwrap_err().reason, "fault(): no rung serves fsync here");
    assert_eq!(calls, ["on 0 db fsync=deny(EIO)"]);
}
