//! `expect_success` and its like, `fault_all`, `sleep`, `duration`.

use std::time::Duration;

use super::{Recorder, call_named, reason, run, statement_error};
use crate::spec::{FailureKind, TestFailure};

/// Runs a scenario that is to come to this, against a service that answers like this: with a
/// status, or not at all.
fn judged(expect: &str, status: Option<u16>) -> Result<(), TestFailure> {
    let source = format!(
        "api = service(\"api\", \"x\", interface(\"public\", \"http\", 80))\n\
         fault_scenario(\"x\", scenario = lambda: api.get(), expect = {expect})\n"
    );
    let body = status.map(|_| "b".to_owned());
    call_named(&source, "test_x", Recorder { body, status, ..Recorder::default() }).0.map(|_| ())
}

fn objection(expect: &str, status: Option<u16>) -> String {
    let failure = judged(expect, status).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Assertion);
    failure.reason
}

/// Runs a scenario that returns this.
fn judged_value(expect: &str, value: &str) -> Result<(), String> {
    let source = format!("fault_scenario(\"x\", scenario = lambda: {value}, expect = {expect})\n");
    let (result, _) = call_named(&source, "test_x", Recorder::default());
    result.map(|_| ()).map_err(|it| it.reason)
}

#[test]
fn success_is_an_answer_that_is_no_server_error() {
    for status in [200, 204, 404, 499] {
        assert_eq!(judged("expect_success()", Some(status)), Ok(()));
    }
    assert_eq!(
        objection("expect_success()", Some(500)),
        "expect_success(): got response(status=500, body=\"b\", duration_ms=8)"
    );
    assert_eq!(
        objection("expect_success()", None),
        "expect_success(): got response(status=0, body=\"\", duration_ms=8) (connection refused)"
    );
    assert_eq!(judged_value("expect_success()", "\"PONG\""), Ok(()));
    assert_eq!(
        judged_value("expect_success()", "None"),
        Err("expect_success(): the scenario returned None".to_owned())
    );
}

#[test]
fn an_error_has_to_come_soon_enough() {
    for status in [None, Some(500), Some(503)] {
        assert_eq!(judged("expect_error_within(ms = 8)", status), Ok(()));
        assert_eq!(
            objection("expect_error_within(ms = 7)", status),
            "expect_error_within(ms=7): the error took 8 ms, more than 7 ms"
        );
    }
    assert_eq!(
        objection("expect_error_within(ms = 500)", Some(404)),
        "expect_error_within(ms=500): expected an error, got response(status=404, body=\"b\", \
         duration_ms=8)"
    );
    assert_eq!(
        judged_value("expect_error_within(ms = 1)", "struct(error = \"e\")"),
        Err("expect_error_within(ms=1): struct(error=\"e\") has no duration_ms".to_owned())
    );
}

#[test]
fn a_scenario_that_is_to_hang_passes_when_its_time_is_over_only() {
    let source = "fault_scenario(\"x\", scenario = lambda: db.main.send(data = \"x\"),\n    \
                  expect = expect_hang())\n";
    let call = |host| call_named(source, "test_x", host).0;
    let ends = Recorder { ends_at_step: true, ..Recorder::default() };
    assert_eq!(call(ends), Ok(None));
    let failure = call(Recorder::default()).unwrap_err();
    assert_eq!(
        failure.reason,
        "expect_hang(): the scenario came to an end; it was expected to hang"
    );
    let interrupted = Recorder { ends_at_step: true, is_interrupted: true, ..Recorder::default() };
    assert_eq!(call(interrupted).unwrap_err().kind, FailureKind::Timeout);
    let refused = Recorder { error: Some("no".to_owned()), ..Recorder::default() };
    assert_eq!(call(refused).unwrap_err().reason, "no");
}

/// Runs a scenario of this result that is to hang, whose time is over once it has done a step or
/// printed something.
fn hanging(top: &str, scenario: &str) -> (Result<Option<String>, TestFailure>, Vec<String>) {
    let source = format!(
        "def ask():\n    return db.main.send(data = \"x\")\n{top}\n\
         fault_scenario(\"x\", scenario = lambda: {scenario}, expect = expect_hang(){})\n",
        if top.contains("watch =") { ", monitors = [watch]" } else { "" }
    );
    let host = Recorder { ends_at_step: true, ends_at_print: true, ..Recorder::default() };
    call_named(&source, "test_x", host)
}

#[test]
fn monitors_look_at_what_comes_before_a_hang() {
    let quiet = "watch = monitor(lambda e: None)";
    assert_eq!(hanging(quiet, "ask()").0, Ok(None));
    assert_eq!(hanging("", "[monitor(lambda e: None), ask()]").0, Ok(None));
    for top in [
        "watch = monitor(lambda e: fail(\"no\"))",
        "def look(e):\n    for i in range(100000):\n        pass\n    fail(\"no\")\n\
         watch = monitor(look)",
    ] {
        let failure = hanging(top, "ask()").0.unwrap_err();
        assert_eq!(failure.reason, "monitor violation: no (event #1)");
        assert_eq!(failure.kind, FailureKind::Monitor);
    }
    let named = "monitor(\"n\", on = {\"type\": \"step_recv\"}, check = lambda e, s: False)";
    let failure = hanging(named, "ask()").0.unwrap_err();
    assert_eq!(failure.reason, "monitor violation: n: check returned False (event #2)");
}

#[test]
fn a_hang_does_not_pass_over_a_monitor_that_never_ends() {
    let top = "def look(e):\n    for i in range(2000000000):\n        pass\nwatch = monitor(look)";
    assert_eq!(hanging(top, "ask()").0.unwrap_err().kind, FailureKind::Timeout);
}

#[test]
fn a_hang_does_not_excuse_what_failed_before() {
    let top = "def object(e):\n    fail(\"no\")\n\
               bad = fault_assumption(\"bad\", target = db, write = deny(\"EIO\"),\n    \
               monitors = [monitor(object)])\n\
               def violate():\n    return fault(bad, run = ask)\n";
    let host = Recorder { ends_at_print: true, ..Recorder::default() };
    let source = format!(
        "def ask():\n    return db.main.send(data = \"x\")\n{top}\
         fault_scenario(\"x\", scenario = lambda: parallel(violate, lambda: print(1)),\n    \
         expect = expect_hang())\n"
    );
    let (result, calls) = call_named(&source, "test_x", host);
    assert_eq!(result.unwrap_err().reason, "monitor violation: no (event #1)");
    assert!(calls.iter().all(|it| !it.starts_with("warn ")), "{calls:?}");

    let top = "def wrong():\n    assert_eq(1, 2)\n";
    let failure = hanging(top, "parallel(wrong, lambda: print(1), ask)").0.unwrap_err();
    assert_eq!((&*failure.reason, failure.kind), ("assert_eq: 1 != 2", FailureKind::Assertion));
    assert_eq!(failure.location.unwrap().line, 6);
    assert_eq!(hanging("", "parallel(ask, ask)").0, Ok(None));
}

#[test]
fn functions_that_were_only_stopped_are_not_said_to_have_failed() {
    let warnings = |lines: &str, host: Recorder| -> Vec<String> {
        let source = format!("def ask():\n    return db.main.send(data = \"x\")\n{lines}");
        let (result, calls) = call_named(&source, "test_x", host);
        result.expect_err("the test passes");
        calls.into_iter().filter(|it| it.starts_with("warn ")).collect()
    };
    let ends = || Recorder { ends_at_step: true, ..Recorder::default() };
    let parallel = |first: &str| {
        format!(
            "def wrong():\n    fail(\"w\")\ndef test_x():\n    {first}parallel(ask, ask, wrong)\n"
        )
    };
    let late = "def test_x():\n    parallel(ask, ask)\n";
    assert_eq!(warnings(late, ends()), [""; 0]);
    let violated = parallel("monitor(lambda e: fail(\"no\"))\n    ").replace(", wrong", "");
    assert_eq!(warnings(&violated, Recorder::default()), [""; 0]);
    let refused = Recorder { error: Some("refused".to_owned()), ..Recorder::default() };
    assert_eq!(
        warnings(&parallel(""), refused),
        [
            "warn parallel(): function 2 failed as well: refused",
            "warn parallel(): function 3 failed as well: w"
        ]
    );
}

#[test]
fn a_test_that_comes_to_its_end_too_late_has_timed_out() {
    for source in [
        "def test_x():\n    print(1)\n",
        "fault_scenario(\"x\", scenario = lambda: print(1))\n",
        // The warning about that comes after its last call.
        "fault_scenario(\"x\", scenario = lambda: 1, expect = lambda r: False)\n",
    ] {
        let host = Recorder { ends_at_print: true, ..Recorder::default() };
        let failure = call_named(source, "test_x", host).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{source}");
    }
}

#[test]
fn expectations_are_declared_right_or_not_at_all() {
    assert_eq!(
        statement_error("expect_error_within(500)"),
        "expect_error_within(): ms= is required, as in expect_error_within(ms=500)"
    );
    assert_eq!(
        statement_error("expect_error_within(ms = \"1s\")"),
        "expect_error_within(): ms= must be an int, got string"
    );
    assert_eq!(
        statement_error("expect_hang(1)"),
        "expect_hang(): one positional argument too many (int)"
    );
}

#[test]
fn one_fault_covers_several_services() {
    let source = "api = service(\"api\", \"x\", interface(\"public\", \"http\", 80))\n\
                  def test_x():\n    return fault_all([db, api], write = deny(\"EIO\"),\n        \
                  run = lambda: print(\"working\") or 7)\n";
    let (result, calls) = call_named(source, "test_x", Recorder::default());
    assert_eq!(result, Ok(Some("7".to_owned())));
    let expected =
        ["on 0 db write=deny(EIO)", "on 1 api write=deny(EIO)", "print working", "off 1", "off 0"];
    assert_eq!(calls, expected);
}

#[test]
fn what_fault_all_is_given_is_checked() {
    for (arguments, text) in [
        ("db, write = deny(\"EIO\")", "services must be a list, got service"),
        ("[], write = deny(\"EIO\")", "the list of services must not be empty"),
        ("[db, db], write = deny(\"EIO\")", "service \"db\" is listed twice"),
        ("[db, 1], write = deny(\"EIO\")", "services[1] must be a service, got int"),
        ("[db]", "at least one rule is required, as in write=deny(\"EIO\")"),
        (
            "[db], wirte = deny(\"EIO\")",
            "unknown keyword \"wirte\" for service \"db\"; did you mean: write? (ops on db: persist)",
        ),
    ] {
        let line = format!("fault_all({arguments}, run = lambda: None)");
        assert_eq!(reason(&line), format!("fault_all(): {text}"));
    }
    assert_eq!(statement_error("fault_all()"), "fault_all(): only valid while a test is running");
}

#[test]
fn a_test_can_wait_within_its_time() {
    let (result, calls) =
        run("sleep(\"0ms\")\nsleep(duration = \"1s\")\nreturn duration(\"200ms\")");
    assert_eq!(result, Ok(Some("200000000".to_owned())));
    assert_eq!(calls, ["sleep 0ns", "sleep 1s"]);
    assert_eq!(reason("sleep(\"40s\")"), "sleep(): 40s is longer than the test may take (30s)");
    // What is left does not matter: the test ends with its time.
    let host = Recorder::with_deadline(Duration::from_secs(10));
    let (result, calls) = call_named("def test_x():\n    sleep(\"20s\")\n", "test_x", host);
    assert_eq!((result, calls), (Ok(None), vec!["sleep 20s".to_owned()]));
    assert_eq!(reason("sleep(1)"), "sleep(): duration must be a string, got int");
    assert_eq!(reason("sleep(\"1\")"), "sleep(): bad duration \"1\"; use e.g. \"500ms\" or \"2s\"");
    assert_eq!(statement_error("sleep(\"1s\")"), "sleep(): only valid while a test is running");
}
