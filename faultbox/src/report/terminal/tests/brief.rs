//! Tests that a header says all of when they pass: scenarios and cells (language.md, D20).

use super::{
    super::super::{Style, TestReport, sample::failed},
    DEBUG, PLAIN, block, passed, printed, prints, runs, write_failure,
};
use crate::spec::TestKind;

fn of_kind(kind: TestKind, report: TestReport) -> TestReport {
    TestReport { kind, ..report }
}

const CELL: TestKind = TestKind::Cell { matrix: 0, scenario: 0, fault: 0 };

#[test]
fn a_header_says_that_a_scenario_or_a_cell_has_passed() {
    for kind in [TestKind::Scenario, CELL] {
        prints(
            &of_kind(kind, write_failure()),
            PLAIN,
            "\n--- PASS: test_db_write_failure (200ms, seed=0) ---\n",
        );
    }
    let text = printed(PLAIN, |terminal| {
        block(terminal, &of_kind(TestKind::FaultScenario, write_failure()))
    });
    assert!(text.contains("syscall trace (86 events):"), "{text}");
}

#[test]
fn what_is_wrong_is_said_all_the_same() {
    let report = of_kind(CELL, write_failure());
    let warnings = vec!["SERVICE_CRASHED: db".to_owned()];
    prints(
        &TestReport { warnings: warnings.clone(), dropped: 2, ..report.clone() },
        PLAIN,
        "
--- PASS: test_db_write_failure (200ms, seed=0) ---
  WARNING: 2 trace records dropped (counters are exact)
  WARNING: SERVICE_CRASHED: db
",
    );
    let twice = [report.clone(), TestReport { warnings, ..report }];
    let text = printed(PLAIN, |terminal| runs(terminal, &twice));
    assert_eq!(
        text,
        "--- PASS: test_db_write_failure (2/2 runs) ---\n  WARNING: SERVICE_CRASHED: db\n"
    );
    let text = printed(PLAIN, |terminal| {
        block(terminal, &of_kind(CELL, failed("test_a", "no").until(9, "db", "read")))
    });
    assert!(text.contains("  reason: no\n") && text.contains("(8 events):\n"), "{text}");
}

#[test]
fn debug_shows_everything_and_what_was_returned() {
    let returned = Some("response(status=200)".to_owned());
    let report = TestReport { returned, ..of_kind(CELL, passed("test_a").until(3, "db", "read")) };
    prints(
        &report,
        DEBUG,
        "
--- PASS: test_a (200ms, seed=0) ---
  return: response(status=200)
  syscall trace (2 events):
    #1  db    read    allow
    #2  db    read    allow
",
    );
    prints(&report, Style { debug: false, ..DEBUG }, "\n--- PASS: test_a (200ms, seed=0) ---\n");
}
