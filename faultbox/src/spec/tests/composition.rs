//! `scenario`, `fault_assumption`, `fault_scenario`, `fault_matrix`: what they declare, and what
//! becomes of it when it is called.

use std::time::Duration;

use super::{DB, Recorder, call_named, evaluate, file, load, on_thread};
use crate::spec::{Declarations, Matrix, Scenario, TestKind};

/// Two services, two scenarios and three assumptions, one made of the others; lines 3 to 19.
const LAYERS: &str = "api = service(\"api\", \"x\", interface(\"public\", \"http\", 80))
def order():
    return api.get(path = \"/order\")
def health():
    return api.get(path = \"/health\")
down = fault_assumption(\"db_down\", target = db, connect = deny(\"ECONNREFUSED\"))
slow = fault_assumption(\"slow\", target = api, write = delay(\"1s\"), connect = delay(\"1s\"))
cascade = fault_assumption(\"cascade\", faults = [down, slow], description = \"both\")
";

fn declared(more: &str) -> Declarations {
    load(&format!("{DB}{LAYERS}{more}"))
}

fn names(declared: &Declarations) -> Vec<&str> {
    declared.tests.iter().map(|it| &*it.name).collect()
}

/// What the host is asked for by a test of a spec with these lines, whose services answer.
fn calls(more: &str, test: &str) -> Vec<String> {
    let host = Recorder { body: Some("ok".to_owned()), ..Recorder::default() };
    let (result, calls) = call_named(&format!("{LAYERS}{more}"), test, host);
    assert!(result.is_ok(), "{result:?}");
    calls
}

/// Why such a test fails.
fn reason(more: &str, test: &str) -> String {
    let host = Recorder { body: Some("ok".to_owned()), ..Recorder::default() };
    call_named(&format!("{LAYERS}{more}"), test, host).0.unwrap_err().reason
}

const ORDER: &str = "api.public GET /order \"\" []";
const HEALTH: &str = "api.public GET /health \"\" []";
const DOWN: &str = "db connect=deny(ECONNREFUSED)";
const SLOW: &str = "api connect=delay(1s) write=delay(1s)";

#[test]
fn tests_of_all_kinds_are_in_byte_order() {
    let declared = declared(
        "def test_m():\n    pass\nscenario(order)\nscenario(health)\n\
         fault_scenario(\"a\", scenario = order, timeout = \"2s\")\n\
         fault_scenario(name = \"z\", scenario = lambda: 1)\n\
         fault_matrix(scenarios = [order, health], faults = [slow, down],\n    \
             exclude = [(order, slow)], require_faults_fire = True)\n",
    );
    let cell = |scenario, fault| TestKind::Cell { matrix: 0, scenario, fault };
    let seconds = |it| Some(Duration::from_secs(it));
    let expected = [
        ("test_a", TestKind::FaultScenario, seconds(2), false),
        ("test_health", TestKind::Scenario, None, false),
        ("test_m", TestKind::Function, None, false),
        ("test_matrix_health_db_down", cell(1, 1), seconds(30), true),
        ("test_matrix_health_slow", cell(1, 0), seconds(30), true),
        ("test_matrix_order_db_down", cell(0, 1), seconds(30), true),
        ("test_order", TestKind::Scenario, None, false),
        ("test_z", TestKind::FaultScenario, seconds(30), false),
    ];
    let found: Vec<_> =
        declared.tests.iter().map(|it| (&*it.name, it.kind, it.timeout, it.must_fire)).collect();
    assert_eq!(found, expected);
    let owned = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    assert_eq!(
        declared.matrices,
        [Matrix {
            scenarios: owned(["order", "health"]),
            faults: owned(["slow", "db_down"]),
            excluded: vec![(0, 0)],
        }]
    );
    let scenario = |name: &str| Scenario { name: name.to_owned() };
    assert_eq!(declared.scenarios, [scenario("order"), scenario("health")]);
}

#[test]
fn a_scenario_that_is_a_test_already_stays_one_test() {
    let declared = declared("def test_it():\n    pass\nscenario(test_it)\nscenario(test_it)\n");
    assert_eq!(names(&declared), ["test_it"]);
    assert_eq!(declared.tests[0].kind, TestKind::Function);
    assert_eq!(declared.scenarios, [Scenario { name: "test_it".to_owned() }]);
}

#[test]
fn a_scenario_has_the_name_of_the_variable_that_holds_it() {
    let declared = declared(
        "def make():\n    def inner():\n        pass\n    return inner\nflow = make()\nscenario(flow)\n",
    );
    assert_eq!(declared.scenarios, [Scenario { name: "flow".to_owned() }]);
    assert_eq!(names(&declared), ["test_inner"]);
}

#[test]
fn several_matrices_have_cells_of_their_own() {
    let declared = declared(
        "fault_matrix(scenarios = [order], faults = [down])\n\
         fault_matrix(scenarios = [health], faults = (down,))\n",
    );
    assert_eq!(names(&declared), ["test_matrix_health_db_down", "test_matrix_order_db_down"]);
    assert_eq!(declared.tests[0].kind, TestKind::Cell { matrix: 1, scenario: 0, fault: 0 });
}

#[test]
fn assumptions_are_values() {
    let lines = "def test_x():\n    d = {(order, down): 1, (order, slow): 2, cascade: 3}\n    \
                 return [d[(order, down)], d[cascade], down == down, down == slow, down.name, \
                 cascade.description, down.description, str(down), type(down)]\n";
    let (result, _) = call_named(&format!("{LAYERS}{lines}"), "test_x", Recorder::default());
    assert_eq!(
        result.unwrap().unwrap(),
        "[1, 3, True, False, \"db_down\", \"both\", \"\", \"fault_assumption(\\\"db_down\\\")\", \
         \"fault_assumption\"]"
    );
}

#[test]
fn a_scenario_is_called_and_its_value_comes_back() {
    let host = Recorder { body: Some("ok".to_owned()), ..Recorder::default() };
    let (result, calls) = call_named(&format!("{LAYERS}scenario(order)\n"), "test_order", host);
    assert_eq!(result.unwrap().unwrap(), "response(status=200, body=\"ok\", duration_ms=8)");
    assert_eq!(calls, [ORDER]);
}

#[test]
fn rules_stay_on_until_the_result_has_been_judged() {
    let more = "def judge(r):\n    print(\"judging\", r.status)\n    health()\n\
                fault_scenario(\"x\", scenario = order, faults = down, expect = judge)\n";
    let expected = [&format!("on 0 {DOWN}"), ORDER, "print judging 200", HEALTH, "off 0"];
    assert_eq!(calls(more, "test_x"), expected);
}

#[test]
fn rules_are_lifted_whatever_fails() {
    for (more, why) in [
        ("scenario = lambda: fail(\"no\"), faults = [down, slow]", "no"),
        (
            "scenario = order, faults = cascade, expect = lambda r: assert_eq(r.status, 500)",
            "assert_eq: 200 != 500",
        ),
    ] {
        let source = format!("{LAYERS}fault_scenario(\"x\", {more})\n");
        let host = Recorder { body: Some("ok".to_owned()), ..Recorder::default() };
        let (result, calls) = call_named(&source, "test_x", host);
        assert_eq!(result.unwrap_err().reason, why);
        assert_eq!(calls[..2], [format!("on 0 {DOWN}"), format!("on 1 {SLOW}")]);
        assert_eq!(calls[calls.len() - 2..], ["off 1", "off 0"]);
    }
}

#[test]
fn an_assumption_that_several_share_applies_once() {
    let more = "more = fault_assumption(\"more\", target = db, faults = [down, cascade, down],\n    \
                    include_driver = True, read = deny(\"EIO\"))\n\
                fault_scenario(\"x\", scenario = order, faults = [down, more, cascade])\n";
    let expected = [
        &format!("on 0 {DOWN}"),
        &format!("on 1 {SLOW}"),
        "on 2 db read=deny(EIO)",
        ORDER,
        "off 2",
        "off 1",
        "off 0",
    ];
    assert_eq!(calls(more, "test_x"), expected);
}

#[test]
fn each_part_of_an_assumption_keeps_its_own_reach() {
    let source = format!(
        "{DB}{LAYERS}wide = fault_assumption(\"wide\", target = db, faults = [slow],\n    \
             include_driver = True, write = deny(\"EIO\"))\n\
         fault_scenario(\"x\", scenario = lambda: 1, faults = wide)\n"
    );
    let requests = on_thread(move || {
        let host = Recorder::default();
        let result = evaluate(&file(&source).unwrap(), &host, |it| it.call("test_x"));
        assert_eq!(result.unwrap(), Ok(Some("1".to_owned())));
        host.requests()
    });
    let reach: Vec<_> = requests.iter().map(|it| (&*it.service, it.include_driver)).collect();
    assert_eq!(reach, [("api", false), ("db", true)]);
}

#[test]
fn a_window_of_a_test_takes_an_assumption() {
    let more = "def test_x():\n    print(fault(cascade, run = order).status)\n    health()\n";
    let expected = [
        &format!("on 0 {DOWN}"),
        &format!("on 1 {SLOW}"),
        ORDER,
        "off 1",
        "off 0",
        "print 200",
        HEALTH,
    ];
    assert_eq!(calls(more, "test_x"), expected);
}

#[test]
fn each_cell_is_judged_by_what_is_nearest() {
    let matrix = |more: &str| {
        format!("fault_matrix(scenarios = [order, health], faults = [down, slow]{more})\n")
    };
    let judges = ", default_expect = lambda r: fail(\"default\"), overrides = {\n    \
                  (order, down): lambda r: fail(\"own\"), (health, down): None}";
    assert_eq!(reason(&matrix(judges), "test_matrix_order_db_down"), "own");
    assert_eq!(reason(&matrix(judges), "test_matrix_order_slow"), "default");
    let expected = [&format!("on 0 {DOWN}"), HEALTH, "off 0"];
    assert_eq!(calls(&matrix(judges), "test_matrix_health_db_down"), expected);
    assert_eq!(calls(&matrix(""), "test_matrix_health_db_down"), expected);
}

#[test]
fn a_judge_that_returns_false_is_told_how_to_judge() {
    let more = "fault_scenario(\"x\", scenario = order, expect = lambda r: r.status == 500)\n";
    let warning = "warn fault_scenario(\"x\"): expect returned False; use assert_true";
    assert_eq!(calls(more, "test_x"), [ORDER, warning]);
    let more = "fault_scenario(\"x\", scenario = order, expect = lambda r: 0)\n";
    assert_eq!(calls(more, "test_x"), [ORDER]);
}

#[test]
fn what_the_host_refuses_names_the_assumption_and_the_test() {
    let source = format!("{LAYERS}fault_scenario(\"x\", scenario = order, faults = cascade)\n");
    let host = Recorder { error: Some("no rung".to_owned()), ..Recorder::default() };
    let failure = call_named(&source, "test_x", host).0.unwrap_err();
    assert_eq!(failure.reason, "fault_assumption(\"db_down\"): no rung");
    assert_eq!(failure.location.unwrap().line, 11);
}

#[test]
fn ops_are_keywords_of_assumptions() {
    let more = "wal = fault_assumption(\"wal\", target = db, persist = deny(\"EIO\"))\n\
                fault_scenario(\"x\", scenario = order, faults = wal)\n";
    assert_eq!(calls(more, "test_x"), ["on 0 db persist=deny(EIO)", ORDER, "off 0"]);
}
