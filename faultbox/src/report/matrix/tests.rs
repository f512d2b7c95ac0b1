//! Tables, to the letter.

use super::{
    super::{
        Outcome, TestReport,
        sample::{deny, failed, passed, repetitions},
    },
    *,
};
use crate::spec::TestKind;

const PLAIN: Style = Style { debug: false, only_failures: false, color: false };

fn matrix(scenarios: &[&str], faults: &[&str], excluded: &[(usize, usize)]) -> Matrix {
    let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    Matrix { scenarios: owned(scenarios), faults: owned(faults), excluded: excluded.to_vec() }
}

/// A run of that many milliseconds in which a rule fired this often.
fn run(millis: u64, fired: u64) -> TestReport {
    let report = passed("test_matrix_a_b").window("db", vec![deny("write", "EIO", fired)], |it| it);
    let kind = TestKind::Cell { matrix: 0, scenario: 0, fault: 0 };
    TestReport { duration: Duration::from_millis(millis), kind, ..report }
}

fn add(report: &mut MatrixReport, (row, column): (usize, usize), runs: &[TestReport]) {
    report.add(row, column, &repetitions(runs, PLAIN));
}

fn failing(reason: &str) -> TestReport {
    TestReport { duration: Duration::from_millis(7), ..failed("test_matrix_a_b", reason) }
}

/// Compares from the second line on of `expected`, whose first is empty for looks.
#[track_caller]
fn prints(report: &MatrixReport, expected: &str) {
    let text = report.lines(PLAIN).join("\n") + "\n";
    assert!(text == expected[1..], "got:\n{text}\nexpected:{expected}");
}

#[test]
fn every_cell_has_its_verdict_and_time() {
    let names = (["order_flow", "health_check"], ["db_down", "disk_full", "slow_network"]);
    let mut report = MatrixReport::new(matrix(&names.0, &names.1, &[]), false);
    for (row, times) in [[210, 208, 910], [206, 205, 705]].into_iter().enumerate() {
        for (column, time) in times.into_iter().enumerate() {
            add(&mut report, (row, column), &[run(time, 1)]);
        }
    }
    prints(
        &report,
        "

Fault Matrix: 2 scenarios × 3 faults = 6 cells

                    │ db_down       │ disk_full     │ slow_network
────────────────────┼───────────────┼───────────────┼──────────────
order_flow          │ PASS (210ms)  │ PASS (208ms)  │ PASS (910ms)
health_check        │ PASS (206ms)  │ PASS (205ms)  │ PASS (705ms)

Result: 6/6 passed
",
    );
}

#[test]
fn columns_are_as_wide_as_their_longest_text() {
    let faults = ["db_slow", "db_connection_reset", "x"];
    let mut report = MatrixReport::new(matrix(&["order_flow"], &faults, &[(0, 2)]), false);
    add(&mut report, (0, 0), &[run(123_456, 1)]);
    add(&mut report, (0, 1), &[run(210, 1)]);
    prints(
        &report,
        "

Fault Matrix: 1 scenarios × 3 faults = 2 cells

                  │ db_slow        │ db_connection_reset │ x
──────────────────┼────────────────┼─────────────────────┼──────────────
order_flow        │ PASS (123456ms)│ PASS (210ms)        │ — (excluded)

Result: 2/2 passed
",
    );
}

#[test]
fn failures_and_cells_without_a_fault_are_listed() {
    let mut report = MatrixReport::new(matrix(&["a", "b"], &["x", "y", "z"], &[(1, 2)]), false);
    add(&mut report, (0, 0), &[failing("assert_true: \x1b\nno")]);
    add(&mut report, (0, 1), &[run(1, 0)]);
    add(&mut report, (1, 0), &[run(2, 0)]);
    add(&mut report, (1, 1), &[TestReport { outcome: Outcome::Interrupted, ..run(3, 0) }]);
    prints(
        &report,
        "

Fault Matrix: 2 scenarios × 3 faults = 5 cells

         │ x             │ y             │ z
─────────┼───────────────┼───────────────┼──────────────
a        │ FAIL (7ms)    │ PASS (1ms)    │ —
b        │ PASS (2ms)    │ —             │ — (excluded)

Result: 2/3 passed, 1 failed
Failures:
  a × x: assert_true: \\x1b\\nno
Note: no fault fired in: (a, y), (b, x)
",
    );
}

#[test]
fn repeated_runs_are_counted_per_cell() {
    let mut report = MatrixReport::new(matrix(&["a"], &["x", "y"], &[]), true);
    let runs = [run(1, 0), failing("first"), failing("second")];
    add(&mut report, (0, 0), &runs);
    add(&mut report, (0, 1), &[run(1, 0), run(1, 1)]);
    prints(
        &report,
        "

Fault Matrix: 1 scenarios × 2 faults = 2 cells

         │ x             │ y
─────────┼───────────────┼──────────────
a        │ FAIL (1/3)    │ PASS (2/2)

Result: 1/2 passed, 1 failed
Failures:
  a × x: first
",
    );
}

#[test]
fn a_matrix_of_which_nothing_ran_is_not_printed() {
    let mut report = MatrixReport::new(matrix(&["a"], &["x"], &[]), false);
    assert_eq!(report.lines(PLAIN), [""; 0]);
    add(&mut report, (0, 0), &[]);
    assert_eq!(report.lines(PLAIN), [""; 0]);
}

#[test]
fn colours_do_not_move_columns() {
    let mut report = MatrixReport::new(matrix(&["a"], &["x", "y"], &[]), false);
    add(&mut report, (0, 0), &[run(1, 1)]);
    add(&mut report, (0, 1), &[run(1, 1)]);
    let plain = report.lines(PLAIN);
    let colored = report.lines(Style { color: true, ..PLAIN });
    let bare: Vec<_> =
        colored.iter().map(|line| line.replace("\x1b[32m", "").replace("\x1b[0m", "")).collect();
    assert_eq!(bare, plain);
    assert_ne!(colored, plain);
}
