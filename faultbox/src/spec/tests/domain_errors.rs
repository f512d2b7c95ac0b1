//! The texts of language.md 1.21 and the other errors of scenarios, assumptions and matrices.

use super::{DB, load_error, reason, try_load};

const LAYERS: &str = "def flow():\n    pass\n\
    down = fault_assumption(\"down\", target = db, write = deny(\"EIO\"))\n";

/// The error of a statement in a spec with `db`, `flow` and `down`; it begins at line 6.
fn error(statement: &str) -> String {
    let error = try_load(&format!("{DB}{LAYERS}{statement}\n")).expect_err("the spec loads");
    let place = error.location.unwrap_or_else(|| panic!("{} has no place", error.text));
    assert_eq!((&*place.file, place.line), ("a.star", 6), "{}", error.text);
    error.text
}

#[track_caller]
fn each(who: &str, cases: &[(&str, &str)]) {
    for (statement, text) in cases {
        assert_eq!(error(statement), format!("{who}: {text}"), "{statement}");
    }
}

#[test]
fn assumptions_fail_where_they_are_declared() {
    each(
        "fault_assumption(\"x\")",
        &[
            (
                "fault_assumption(\"x\", write = deny(\"EIO\"))",
                "target= is required when faults are given",
            ),
            (
                "fault_assumption(\"x\", target = db, wirte = deny(\"EIO\"))",
                "unknown keyword \"wirte\" for service \"db\"; did you mean: write? \
                 (ops on db: persist)",
            ),
            (
                "fault_assumption(\"x\", target = db, fault = [down])",
                "unknown keyword \"fault\" for service \"db\"; did you mean: faults? \
                 (ops on db: persist)",
            ),
            (
                "fault_assumption(\"x\", fault = [down])",
                "unknown keyword \"fault\"; valid: name, target, faults, monitors, description, \
                 include_driver, rules",
            ),
            (
                "fault_assumption(\"x\", target = db, write = \"EIO\")",
                "write= must be deny()/delay()/allow(), got string; example: write=deny(\"EIO\")",
            ),
            (
                "fault_assumption(\"x\", target = db)",
                "target= is given and no rule for it; add one, as in write=deny(\"EIO\")",
            ),
            (
                "fault_assumption(\"x\", target = db.main, write = deny(\"EIO\"))",
                "target= must be a service, got interface_ref",
            ),
            (
                "fault_assumption(\"x\", faults = [down, db])",
                "faults[1] must be a fault_assumption(), got service",
            ),
            (
                "fault_assumption(\"x\", faults = down)",
                "faults= must be a list, got fault_assumption",
            ),
            (
                "fault_assumption(\"x\", monitors = [1])",
                "monitors= must be a list of monitors, got int",
            ),
            (
                "fault_assumption(\"x\", target = db, write = deny(\"EIO\"), run = flow)",
                "run= belongs to fault(); an assumption is not run by itself",
            ),
            (
                "fault_assumption(\"x\", target = db.main, rules = [1])",
                "rules= is about faults of protocols, which this version does not have; use \
                 system calls, as in write=deny(\"EIO\")",
            ),
            (
                "fault_assumption(\"x\", down)",
                "one positional argument too many (fault_assumption)",
            ),
        ],
    );
}

#[test]
fn names_become_parts_of_tests() {
    each(
        "fault_assumption()",
        &[
            ("fault_assumption()", "name is required, as in fault_assumption(\"db_down\", …)"),
            ("fault_assumption(1)", "name must be a string, got int"),
            (
                "fault_assumption(\"db down\")",
                "bad name \"db down\"; it is part of a test's name, so use one word, such as \
                 db_down",
            ),
            (
                "fault_assumption(\"\")",
                "bad name \"\"; it is part of a test's name, so use one word, such as db_down",
            ),
            (
                "fault_assumption(101 * \"x\")",
                "the name has 101 characters; at most 100 are possible",
            ),
        ],
    );
}

#[test]
fn scenarios_have_to_be_functions_with_a_name() {
    each(
        "scenario()",
        &[
            ("scenario()", "a function is required, as in scenario(order_flow)"),
            ("scenario(1)", "fn must be a function without parameters, got int"),
            (
                "scenario(lambda: 1)",
                "fn must be a function with a name, which the test is called by; use def",
            ),
            (
                "scenario(db.main.send)",
                "fn must be a function with a name, which the test is called by; use def",
            ),
            ("scenario(flow, 1)", "one positional argument too many (int)"),
        ],
    );
    assert_eq!(
        load_error("def f(x):\n    pass\nscenario(f)\n"),
        "a.star:3:1: scenario(): fn must be a function without parameters, but f has some"
    );
}

#[test]
fn fault_scenarios_say_what_they_lack() {
    each(
        "fault_scenario(\"x\")",
        &[
            ("fault_scenario(\"x\")", "scenario= (a function without parameters) is required"),
            (
                "fault_scenario(\"x\", scenario = flow, faults = db)",
                "faults= must be a fault_assumption() or a list of them, got service",
            ),
            (
                "fault_scenario(\"x\", scenario = flow, expect = lambda: 1)",
                "expect= must be a function with one parameter, but lambda cannot be called with one",
            ),
            (
                "fault_scenario(\"x\", scenario = flow, expect = True)",
                "expect= must be a function with one parameter, got bool",
            ),
            (
                "fault_scenario(\"x\", scenario = flow, timeout = \"0s\")",
                "timeout=: bad duration \"0s\"; use e.g. \"500ms\" or \"30s\"",
            ),
            (
                "fault_scenario(\"x\", scenario = flow, fault = down)",
                "unknown keyword \"fault\"; valid: name, scenario, faults, expect, monitors, timeout",
            ),
        ],
    );
}

#[test]
fn a_matrix_is_checked_against_itself() {
    let matrix = |more: &str| format!("fault_matrix(scenarios = [flow], faults = [down], {more})");
    each(
        "fault_matrix()",
        &[
            ("fault_matrix()", "scenarios= is required"),
            ("fault_matrix(scenarios = [flow], faults = [])", "faults= must not be empty"),
            ("fault_matrix(scenarios = [], faults = [down])", "scenarios= must not be empty"),
            (
                "fault_matrix(scenarios = [flow, flow], faults = [down])",
                "scenarios= has flow twice",
            ),
            ("fault_matrix(scenarios = [flow], faults = [down, down])", "faults= has down twice"),
            (
                "fault_matrix(scenarios = [flow, lambda: 1], faults = [down])",
                "scenarios[1] must be a function with a name, which the test is called by; use def",
            ),
            (
                "fault_matrix(scenarios = [flow], faults = [db])",
                "faults[0] must be a fault_assumption(), got service",
            ),
            (
                &matrix("overrides = {(flow, db): lambda r: 1}"),
                "overrides key (flow, service(\"db\")) is not a cell of this matrix",
            ),
            (
                &matrix("overrides = {(len, down): lambda r: 1}"),
                "overrides key (len, down) is not a cell of this matrix",
            ),
            (
                &matrix("overrides = {flow: lambda r: 1}"),
                "overrides key must be a pair (scenario, assumption), got function",
            ),
            (
                &matrix("overrides = {(flow, down): 1}"),
                "overrides[(flow, down)] must be a function with one parameter, got int",
            ),
            (&matrix("overrides = [1]"), "overrides= must be a dict, got list"),
            (
                &matrix("exclude = [(down, flow)]"),
                "exclude entry (down, flow) is not a cell of this matrix",
            ),
            (&matrix("exclude = [(flow, down)]"), "exclude= leaves no cell"),
            (
                &matrix("default_expect = 1"),
                "default_expect= must be a function with one parameter, got int",
            ),
            (&matrix("require_faults_fire = 1"), "require_faults_fire= must be a bool, got int"),
        ],
    );
}

#[test]
fn two_declarations_cannot_make_one_test() {
    for (first, second, name) in [
        ("def test_flow():\n    pass", "scenario(flow)", "test_flow"),
        ("scenario(flow)", "fault_scenario(\"flow\", scenario = flow)", "test_flow"),
        ("pass", "fault_scenario(\"a\", scenario = flow)", ""),
        (
            "fault_scenario(\"matrix_flow_down\", scenario = flow)",
            "fault_matrix(scenarios = [flow], faults = [down])",
            "test_matrix_flow_down",
        ),
    ] {
        let source = format!("{DB}{LAYERS}{first}\n{second}\n");
        let line = source.lines().count();
        match try_load(&source) {
            Ok(_) => assert_eq!(name, ""),
            Err(error) => {
                assert_eq!(error.text, format!("test {name:?} declared twice"));
                assert_eq!(error.location.unwrap().line, line);
            }
        }
    }
}

#[test]
fn tests_cannot_be_registered_by_tests() {
    for (statement, who) in [
        ("scenario(len)", "scenario()"),
        ("fault_scenario(\"x\", scenario = len)", "fault_scenario()"),
        ("fault_matrix()", "fault_matrix()"),
    ] {
        assert_eq!(reason(statement), format!("{who}: only valid while the file is loaded"));
    }
}

#[test]
fn an_assumption_says_everything_that_fault_is_to_do() {
    let line = "down = fault_assumption(\"down\", target = db, write = deny(\"EIO\"))\n";
    assert_eq!(
        reason(&format!("{line}fault(down, read = deny(\"EIO\"), run = lambda: None)")),
        "fault(): read= cannot be added to an assumption; declare fault_assumption(…, \
         faults=[…], read=…)"
    );
    assert_eq!(
        reason(&format!("{line}fault(down)")),
        "fault(): run= (a function without parameters) is required"
    );
    assert_eq!(
        reason(&format!("{line}fault_start(down)")),
        "fault_start(): the target must be a service, got fault_assumption"
    );
}
