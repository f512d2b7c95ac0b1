//! `fault`, `fault_start`, `fault_stop`, and what they ask of the host.

use super::{Recorder, call_with, evaluate, file, on_thread, reason, run, statement_error, test};
use crate::{
    engine::Probability,
    spec::{Direction, FaultAction, FaultRequest, FaultWindow},
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
            };
            let (op, label) = (rule.is_op, rule.label.as_deref().unwrap_or("-"));
            format!(
                "{}={action} {} {op} {label} {}",
                rule.keyword,
                rule.probability,
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
        assert_eq!(requests[0].rules[0].probability, expected, "{written}");
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
        assert_eq!(requests[0].rules[0].direction, Some(direction));
    }
    assert_eq!(requests("fault_start(db, connect = deny(\"EIO\"))")[0].rules[0].direction, None);
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
    assert_eq!(result.unwrap_err().reason, "no rung serves fsync here");
    assert_eq!(calls, ["on 0 db fsync=deny(EIO)"]);
}
