//! Several tests, several runs, and the final line.

use super::{
    super::super::{
        MatrixReport, Outcome, Style, TestReport,
        sample::{deny, failed, passed, repetitions},
    },
    PLAIN, block, printed, runs, write_failure,
};
use crate::spec::Matrix;

#[test]
fn show_fail_leaves_passing_blocks_out() {
    let style = Style { only_failures: true, ..PLAIN };
    let text = printed(style, |terminal| {
        block(terminal, &write_failure())?;
        block(terminal, &failed("test_b", "assert_true: condition is false"))?;
        terminal.summary(1, 1, (0, "interrupted"))
    });
    assert!(text.starts_with("--- FAIL: test_b (200ms, seed=0) ---\n"), "{text}");
    assert!(text.ends_with("\n\n1 passed, 1 failed\n"), "{text}");
    assert!(!text.contains("PASS"), "{text}");
}

#[test]
fn blocks_follow_each_other_and_the_final_line_stands_apart() {
    let mut stopped = passed("test_c");
    stopped.outcome = Outcome::Interrupted;
    let text = printed(PLAIN, |terminal| {
        block(terminal, &passed("test_a"))?;
        block(terminal, &passed("test_b"))?;
        block(terminal, &stopped)?;
        terminal.summary(2, 0, (1, "interrupted"))
    });
    assert_eq!(
        text,
        "--- PASS: test_a (200ms, seed=0) ---\n--- PASS: test_b (200ms, seed=0) ---\n\n\
         2 passed, 0 failed, 1 not run (interrupted)\n"
    );
    let text = printed(PLAIN, |terminal| terminal.summary(0, 0, (0, "interrupted")));
    assert_eq!(text, "\n0 passed, 0 failed\n");
}

#[test]
fn a_table_stands_apart_from_what_comes_before_and_after() {
    let names = |name: &str| vec![name.to_owned()];
    let matrix = Matrix { scenarios: names("a"), faults: names("x"), excluded: Vec::new() };
    let mut table = MatrixReport::new(matrix.clone(), false);
    let nothing = MatrixReport::new(matrix, false);
    table.add(0, 0, &repetitions(&[passed("test_matrix_a_x")], PLAIN));
    let text = printed(PLAIN, |terminal| {
        block(terminal, &passed("test_a"))?;
        terminal.matrix(&nothing)?;
        terminal.matrix(&table)?;
        terminal.matrix(&table)?;
        block(terminal, &passed("test_b"))?;
        terminal.matrix(&table)?;
        terminal.summary(2, 0, (0, "interrupted"))
    });
    let table = "\nFault Matrix: 1 scenarios × 1 faults = 1 cells\n\n         │ x\n\
                 ─────────┼──────────────\na        │ PASS (200ms)\n\nResult: 1/1 passed\n";
    let block = |name: &str| format!("--- PASS: {name} (200ms, seed=0) ---\n");
    let (a, b) = (block("test_a"), block("test_b"));
    assert_eq!(text, format!("{a}{table}{table}\n{b}{table}\n2 passed, 0 failed\n"));
}

#[test]
fn repeated_runs_share_a_block() {
    let run = |seed: u64| TestReport { seed, ..passed("test_a") };
    let text = printed(PLAIN, |terminal| {
        runs(terminal, &[run(0), run(1), run(2)])?;
        terminal.summary(3, 0, (0, "interrupted"))
    });
    assert_eq!(
        text,
        "--- PASS: test_a (3/3 runs) ---\n\
         note: --runs repeated one deterministic schedule (no probability=, parallel() or choose() used)\n\
         \n3 passed, 0 failed\n"
    );
    let style = Style { only_failures: true, ..PLAIN };
    let text = printed(style, |terminal| {
        runs(terminal, &[run(0), run(1)])?;
        terminal.summary(2, 0, (0, "interrupted"))
    });
    assert!(text.starts_with("--- PASS: all tests (2/2 runs) ---\n"), "{text}");
}

#[test]
fn the_first_failing_run_is_shown_in_full() {
    let chance = |test: TestReport, seed, fired| {
        let rule = deny("write", "EIO", fired).probability("50%");
        TestReport { seed, ..test.window("db", vec![rule], |test| test) }
    };
    let mut stopped = chance(passed("test_a"), 4, 0);
    stopped.outcome = Outcome::Interrupted;
    let reports = [
        chance(passed("test_a"), 0, 1),
        chance(failed("test_a", "first"), 1, 1),
        chance(failed("test_a", "second"), 2, 1),
        chance(passed("test_a"), 3, 1),
        stopped,
    ];
    let text = printed(PLAIN, |terminal| {
        runs(terminal, &reports)?;
        terminal.summary(2, 2, (1, "interrupted"))
    });
    assert_eq!(
        text,
        "--- FAIL: test_a (2/4 runs passed, first failing seed=1) ---
  reason: first
  at: fault-test.star:121
  replay: faultbox test fault-test.star --test a --seed 1
  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] probability=50%

2 passed, 2 failed, 1 not run (interrupted)
"
    );
}
