//! Monitors: what they see, when, and what comes of it. Each step of the host used here is two
//! events: `step_send` and `step_recv`.

use super::{DB, Recorder, call, call_with, indented, load, load_error, statement_error, try_load};
use crate::spec::{FailureKind, TestFailure};

const PING: &str = "db.main.send(data = \"PING\")";

/// A spec with a list `seen` that `see` adds numbers of events to, and a test of these lines.
fn source(top: &str, lines: &str) -> String {
    let see = "seen = []\ndef see(e):\n    seen.append(e.seq)\n";
    format!("{DB}{see}{top}\ndef test_x():\n{}", indented(lines))
}

fn returned(top: &str, lines: &str) -> String {
    let (result, _) = call(&source(top, lines));
    result.unwrap_or_else(|failure| panic!("{failure}")).unwrap_or_default()
}

fn failed(top: &str, lines: &str) -> (TestFailure, Vec<String>) {
    let (result, calls) = call(&source(top, lines));
    (result.expect_err("the test passes"), calls)
}

#[test]
fn one_made_in_a_test_sees_what_happens_from_then_on() {
    let lines = format!("{PING}\nmonitor(see)\nassert_eq(seen, [])\n{PING}\nreturn seen");
    assert_eq!(returned("", &lines), "[3, 4]");
    let lines = format!("monitor(see, type = \"step_recv\")\n{PING}\n{PING}\nreturn seen");
    assert_eq!(returned("", &lines), "[2, 4]");
}

#[test]
fn several_see_each_event_in_the_order_they_were_made() {
    let lines = format!("monitor(lambda e: seen.append(\"a\"))\nmonitor(see)\n{PING}\nreturn seen");
    assert_eq!(returned("", &lines), "[\"a\", 1, \"a\", 2]");
}

#[test]
fn a_violation_ends_the_test_at_the_step_and_says_at_which_event() {
    let top = "def check(e):\n    fail(\"too much\", e.service)\n";
    let lines = format!("monitor(check, type = \"step_recv\")\n{PING}\nprint(\"not reached\")");
    let (failure, calls) = failed(top, &lines);
    assert_eq!(failure.reason, "monitor violation: too much db (event #2)");
    assert_eq!(failure.kind, FailureKind::Monitor);
    assert_eq!(failure.location.unwrap().line, 7, "where the monitor says so");
    assert_eq!(calls, ["db.main send \"PING\""]);
}

#[test]
fn the_first_violation_wins_and_comes_before_later_failures() {
    let top = "def check(e):\n    assert_eq(e.seq, 1)\n";
    let lines = format!("monitor(check)\nmonitor(check, type = \"*\")\n{PING}");
    let (failure, _) = failed(top, &lines);
    assert_eq!(failure.reason, "monitor violation: assert_eq: 2 != 1 (event #2)");
    // Found when the assertion looks, not when the test ends.
    let lines = format!("{PING}\nmonitor(check)\nassert_true(False)");
    let (failure, _) = failed(top, &lines);
    assert_eq!(failure.reason, "assert_true: condition is false", "nothing happened since");
}

#[test]
fn what_is_left_at_the_end_is_looked_at_and_a_violation_is_an_event() {
    let top = "def check(e):\n    fail(\"bad\")\n";
    // The events of a step that fails come before its failure.
    let host = Recorder { error: Some("tcp send failed: no".to_owned()), ..Recorder::default() };
    let log = std::sync::Arc::clone(&host.log);
    let lines = format!("monitor(check, type = \"step_recv\")\n{PING}");
    let (result, _) = call_with(&source(top, &lines), host);
    assert_eq!(result.unwrap_err().reason, "monitor violation: bad (event #2)");
    log.barrier(|| ());
    let last = log.events().pop().unwrap();
    assert_eq!((last.type_name(), &*last.field("event").unwrap()), ("violation", "2"));
    assert_eq!(last.field("message").unwrap(), "bad");
}

#[test]
fn a_mistake_in_a_monitor_is_not_a_violation() {
    let (failure, _) = failed("", &format!("monitor(lambda e: e[\"dest\"])\n{PING}"));
    assert!(failure.reason.starts_with("monitor() failed at event #1: "), "{failure}");
    let (failure, _) = failed("", &format!("monitor(lambda e: {PING})\n{PING}"));
    assert_eq!(
        failure.reason,
        "monitor() failed at event #1: db.main.send(): a function that looks at events cannot do \
         anything to the test"
    );
}

#[test]
fn a_monitor_may_ask_for_events() {
    let lines = format!(
        "monitor(lambda e: seen.append(len(events(service = \"db\"))), type = \"step_recv\")\n\
         {PING}\nreturn seen"
    );
    assert_eq!(returned("", &lines), "[2]");
}

#[test]
fn one_with_a_name_watches_every_test_and_keeps_a_state() {
    let top = "def add(e, s):\n    s[\"n\"] += 1\n\
               monitor(\"few steps\", on = {\"type\": \"step_send\"}, state_init = {\"n\": 0},\n    \
               update = add, check = lambda e, s: s[\"n\"] < 3)\n";
    let (failure, calls) = failed(top, &format!("for i in range(9):\n    {PING}"));
    assert_eq!(failure.reason, "monitor violation: few steps: check returned False (event #5)");
    assert_eq!(failure.location.unwrap().line, 8);
    assert_eq!(calls.len(), 3);
    // What update returns is the new state.
    let top = "monitor(\"sum\", on = lambda e: e.type == \"step_send\", state_init = 0,\n    \
               update = lambda e, s: s + e.seq, check = lambda e, s: s < 4)\n";
    let (failure, _) = failed(top, &format!("{PING}\n{PING}"));
    assert_eq!(failure.reason, "monitor violation: sum: check returned False (event #3)");
}

#[test]
fn one_without_a_name_at_the_top_is_idle_and_said_to_be() {
    let source = source("m = monitor(see)\n", &format!("{PING}\nreturn seen"));
    let (result, calls) = call(&source);
    assert_eq!(result, Ok(Some("[]".to_owned())));
    assert!(calls[0].starts_with("print warning: a.star:6:5: this monitor is attached to nothing"));
    assert_eq!(calls.len(), 2, "{calls:?}");
}

#[test]
fn lost_records_fail_the_test_that_has_a_monitor_and_no_other() {
    let lossy = || Recorder { loses: 12, ..Recorder::default() };
    let (result, _) = call_with(&source("", &format!("monitor(see)\n{PING}")), lossy());
    assert_eq!(
        result.unwrap_err().reason,
        "12 trace records were dropped while a monitor was active, so that it may have missed \
         what it is for"
    );
    // What was lost before does not matter, nor does it without a monitor.
    let (result, _) = call_with(&source("", &format!("{PING}\nmonitor(see)\n{PING}")), lossy());
    assert_eq!(result, Ok(None));
    assert_eq!(call_with(&source("", PING), lossy()).0, Ok(None));
}

#[test]
fn a_monitor_on_calls_that_nobody_records_is_said_to_be_vain() {
    let warnings = |lines: &str| -> Vec<String> {
        let (_, calls) = call(&source("", lines));
        calls.into_iter().filter(|it| it.starts_with("warn ")).collect()
    };
    assert_eq!(
        warnings("monitor(see, syscall = \"msync\")"),
        ["warn monitor(): msync is recorded only while a rule or trace() names it, and none \
             did, so that this could not fail"]
    );
    assert_eq!(warnings("monitor(see, syscall = \"read\")"), [""; 0]);
}

#[test]
fn misuse_names_the_monitor() {
    for (call, text) in [
        ("monitor()", "monitor(): needs a callback, as in monitor(check, service=\"db\")"),
        ("monitor(1)", "monitor(): the callback must be a function with one parameter, got int"),
        (
            "monitor(lambda: 1)",
            "monitor(): the callback must be a function with one parameter, not lambda",
        ),
        ("monitor(\"n\")", "monitor(\"n\"): needs check=, a function of an event and the state"),
        (
            "monitor(\"n\", check = lambda e: 1)",
            "monitor(\"n\"): check= must be a function with 2 parameters, not lambda",
        ),
        (
            "monitor(\"n\", lambda e: 1, check = lambda e, s: 1)",
            "monitor(\"n\"): filters need their names, as in service=\"db\"",
        ),
        (
            "monitor(lambda e: 1, syscall = \"raed\")",
            "monitor(): unknown system call \"raed\"; did you mean: read?",
        ),
        ("monitor(lambda e: 1, path = 3)", "monitor(): path= must be a string, got int"),
    ] {
        assert_eq!(statement_error(call), text);
    }
    let (failure, _) = failed("", "monitor(see, service = \"bd\")");
    assert_eq!(failure.reason, "monitor(): service \"bd\" is not declared; did you mean: db?");
    // At the top the service may come later.
    let source = source("x = monitor(see, service = \"later\")", "pass");
    assert!(try_load(&source).is_ok());
    assert_eq!(load(&source).services.len(), 1);
    assert_eq!(load_error(&source.replace("see,", "3,")).split(": ").next(), Some("a.star:6:5"));
}
