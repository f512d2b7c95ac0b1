//! `partition`, `partition_start`, `partition_stop`, and what they ask of the host.

use super::{Recorder, call_with, indented, statement_error};

/// Calls a test of these lines, with `db` and `api` declared.
fn run(lines: &str) -> (Result<Option<String>, String>, Vec<String>) {
    let source = format!(
        "db = service(\"db\", \"x\", interface(\"main\", \"tcp\", 5432))\n\
         api = service(\"api\", \"x\", interface(\"main\", \"tcp\", 8080))\n\
         def test_x():\n{}",
        indented(lines)
    );
    let (result, calls) = call_with(&source, Recorder::default());
    (result.map_err(|failure| failure.reason), calls)
}

fn reason(lines: &str) -> String {
    run(lines).0.expect_err("the test passes")
}

#[test]
fn two_services_are_apart_while_the_function_runs_and_its_value_comes_back() {
    let (result, calls) = run("def work():\n    print(\"working\")\n    return 7\n\
         return partition(api, db, run = work)");
    assert_eq!(result, Ok(Some("7".to_owned())));
    assert_eq!(calls, ["cut 0 api db both refuse", "print working", "heal 0"]);
}

#[test]
fn mode_and_direction_are_carried() {
    for direction in ["both", "a_to_b", "b_to_a"] {
        for mode in ["refuse", "drop"] {
            let (result, calls) = run(&format!(
                "partition(a = api, b = db, run = lambda: 1, mode = \"{mode}\", \
                 direction = \"{direction}\")"
            ));
            assert_eq!(result, Ok(None));
            assert_eq!(calls, [format!("cut 0 api db {direction} {mode}"), "heal 0".to_owned()]);
        }
    }
}

#[test]
fn a_partition_is_healed_when_the_function_fails() {
    let (result, calls) = run("partition(api, db, run = lambda: assert_true(False, \"no\"))");
    assert_eq!(result, Err("assert_true: no".to_owned()));
    assert_eq!(calls, ["cut 0 api db both refuse", "heal 0"]);
}

#[test]
fn imperative_partitions_start_and_stop() {
    let (result, calls) = run("partition_start(api, db, mode = \"drop\")\npartition_stop(db, api)");
    assert_eq!(result, Ok(None));
    assert_eq!(calls, ["cut-start 0 api db both drop", "heal all db api"]);
}

#[test]
fn mistakes_are_named() {
    let same = "a and b are the same service, db; a service cannot be cut off from itself";
    for (lines, error) in [
        ("partition(db, db, run = lambda: 1)", format!("partition(): {same}")),
        ("partition_start(db, db)", format!("partition_start(): {same}")),
        ("partition_stop(db, db)", format!("partition_stop(): {same}")),
        (
            "partition(db, run = lambda: 1)",
            "partition(): two services are required, as in partition(api, db, run=...)".to_owned(),
        ),
        (
            "partition(db, \"api\", run = lambda: 1)",
            "partition(): b= must be a service, got string".to_owned(),
        ),
        (
            "partition(api, db)",
            "partition(): run= (a function without parameters) is required".to_owned(),
        ),
        (
            "partition(api, db, run = lambda: 1, mode = \"reset\")",
            "partition(): mode= must be \"refuse\" or \"drop\", got \"reset\"".to_owned(),
        ),
        (
            "partition(api, db, run = lambda: 1, direction = \"out\")",
            "partition(): direction= must be \"both\", \"a_to_b\" or \"b_to_a\", got \"out\""
                .to_owned(),
        ),
        (
            "partition(api, db, run = lambda: 1, label = \"x\")",
            "partition(): unknown keyword \"label\"; valid: a, b, run, direction, mode".to_owned(),
        ),
        (
            "partition_start(api, db, run = lambda: 1)",
            "partition_start(): run= belongs to partition(); partition_stop() ends this one"
                .to_owned(),
        ),
    ] {
        assert_eq!(reason(lines), error, "{lines}");
    }
    assert_eq!(statement_error("partition()"), "partition(): only valid while a test is running");
}
