//! Scenarios, assumptions and matrices: the rows of language.md 1.20 that `specs/domain` stands
//! for.

use super::project::{Finished, Place};

fn run(spec: &str, flags: &[&str], code: i32) -> Finished {
    let spec = format!("specs/domain/{spec}");
    let arguments: Vec<&str> = [spec.as_str()].into_iter().chain(flags.iter().copied()).collect();
    Place::new().test(&arguments).expect(code)
}

/// The text with every time in milliseconds as `Nms`.
fn without_times(text: &str) -> String {
    let mut parts = text.split("ms");
    let first = parts.next().unwrap_or_default().to_owned();
    let mut result = first;
    for part in parts {
        let bare = result.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = if bare.len() < result.len() { "N" } else { "" };
        result = format!("{bare}{number}ms{part}");
    }
    result
}

/// Verdict and name of each block, in the order printed.
fn verdicts(run: &Finished) -> Vec<(&str, &str)> {
    let headers = run.stdout.lines().filter_map(|line| line.strip_prefix("--- "));
    headers
        .filter_map(|header| {
            let (verdict, rest) = header.split_once(": ")?;
            Some((verdict, rest.split(' ').next()?))
        })
        .collect()
}

/// How long a test took, by its header.
fn millis(run: &Finished, test: &str) -> u32 {
    run.block(test)[0].split(['(', 'm']).find_map(|it| it.parse().ok()).unwrap()
}

/// The cells of the matrix, row by row, the heads first; times as `Nms`.
fn table(run: &Finished) -> Vec<Vec<String>> {
    let from_title = run.stdout.lines().skip_while(|line| !line.starts_with("Fault Matrix: "));
    let rows = from_title.filter(|line| line.contains('│'));
    rows.map(|row| row.split('│').map(|cell| without_times(cell.trim())).collect()).collect()
}

fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|it| (*it).to_owned()).collect()).collect()
}

#[test]
fn a20_scenarios_and_their_matrix_pass_with_a_header_each() {
    let run = run("domain-test.star", &[], 0);
    let expected = [
        "--- PASS: test_health_check (Nms, seed=0) ---",
        "--- PASS: test_matrix_health_check_db_down (Nms, seed=0) ---",
        "--- PASS: test_matrix_health_check_disk_full (Nms, seed=0) ---",
        "--- PASS: test_matrix_order_flow_db_down (Nms, seed=0) ---",
        "--- PASS: test_matrix_order_flow_disk_full (Nms, seed=0) ---",
        "--- PASS: test_order_flow (Nms, seed=0) ---",
        "",
        "Fault Matrix: 2 scenarios × 2 faults = 4 cells",
        "",
    ];
    let text = without_times(&run.stdout);
    assert_eq!(text.lines().take(expected.len()).collect::<Vec<_>>(), expected);
    run.prints(
        "\n                    │ db_down       │ disk_full\n\
         ────────────────────┼───────────────┼──────────────\n\
         order_flow          │ PASS (",
    );
    let pass = "PASS (Nms)";
    assert_eq!(
        table(&run),
        rows(&[
            &["", "db_down", "disk_full"],
            &["order_flow", pass, pass],
            &["health_check", pass, pass],
        ])
    );
    assert!(run.stdout.ends_with("\n\nResult: 4/4 passed\n\n6 passed, 0 failed\n"));
}

#[test]
fn a21_cells_are_judged_by_overrides_or_by_default() {
    let run = run("oracles.star", &[], 0);
    run.prints("\nFault Matrix: 2 scenarios × 3 faults = 6 cells\n");
    run.prints("\nResult: 6/6 passed\n\n6 passed, 0 failed\n");
    assert_eq!(table(&run)[0], ["", "db_down", "disk_full", "slow_network"]);
    // The delay is in the time: once for one connection, twice for two.
    assert!(millis(&run, "test_matrix_health_check_slow_network") >= 500);
    assert!(millis(&run, "test_matrix_order_flow_slow_network") >= 1000);
}

#[test]
fn a22_a_fault_scenario_is_one_fault_and_one_judge() {
    let run = run("fault-scenarios.star", &[], 0);
    let names = ["order_cascade", "order_db_down", "order_disk_full_smoke", "order_happy"];
    let expected: Vec<_> = names.iter().map(|it| format!("test_{it}")).collect();
    assert_eq!(verdicts(&run), expected.iter().map(|it| ("PASS", it.as_str())).collect::<Vec<_>>());
    run.prints("\n4 passed, 0 failed\n");
    // These tests show what happened, as functions do.
    assert!(run.block("test_order_happy")[1].starts_with("  syscall trace ("));
    let cascade = run.block("test_order_cascade").join("\n");
    // Both of its parts, each with its own target: a delay does not hide a denial.
    for line in [
        "  api   connect deny(connection refused)  → db.main  (+500ms)",
        "  fault rule on db: connect=deny(ECONNREFUSED) → filter:[connect] (in: db.main)",
        "  fault rule on api: connect=delay(500ms) → filter:[connect]",
    ] {
        assert!(cascade.contains(line), "{cascade}");
    }
}

#[test]
fn a24_a_scenario_is_a_test() {
    let run = run("scenario-test.star", &[], 0);
    assert_eq!(
        without_times(&run.stdout),
        "--- PASS: test_order_flow (Nms, seed=0) ---\n\n1 passed, 0 failed\n"
    );
}

#[test]
fn a26_the_generated_file_runs() {
    let run = run("order_flow.faults.star", &[], 0);
    run.prints("\nFault Matrix: 1 scenarios × 6 faults = 6 cells\n");
    run.prints("\nResult: 6/6 passed\n");
    run.prints("\n7 passed, 0 failed\n");
    assert!(run.stdout.contains("--- PASS: test_order_flow_db_partition ("), "{run:?}");
    run.prints("  partition: api ⇹ db (refuse, ");
    // Two connects, five seconds each.
    let slow = millis(&run, "test_matrix_order_flow_db_slow");
    assert!((10_000..13_000).contains(&slow), "{slow}");
}

#[test]
fn a27_an_excluded_pair_is_no_test() {
    let run = run("edited-matrix.star", &[], 0);
    run.prints("\nFault Matrix: 1 scenarios × 5 faults = 4 cells\n");
    let pass = "PASS (Nms)";
    assert_eq!(
        table(&run),
        rows(&[
            &["", "db_down", "db_slow", "disk_io_error", "disk_full", "fsync_failure"],
            &["order_flow", pass, pass, pass, pass, "— (excluded)"],
        ])
    );
    run.prints("\nResult: 4/4 passed\n\n4 passed, 0 failed\n");
    assert!(!run.stdout.contains("fsync_failure ("), "{}", run.stdout);
}

#[test]
fn a28_a_fault_scenario_of_ones_own() {
    let run = run("my-custom-failures.star", &[], 0);
    assert_eq!(verdicts(&run), [("PASS", "test_order_custom_failure")]);
}

#[test]
fn a29_a_scenario_that_asserts_fails_its_cells_with_the_assertion() {
    let run = run("asserts-inside.star", &[], 2);
    let (pass, fail) = ("PASS (Nms)", "FAIL (Nms)");
    assert_eq!(
        table(&run),
        rows(&[
            &["", "db_down", "wal_broken"],
            &["order_flow", fail, pass],
            &["health_check", fail, pass],
        ])
    );
    run.prints(
        "\nResult: 2/4 passed, 2 failed\nFailures:\n  \
         order_flow × db_down: assert_eq: \"db error: connect to db: Connection refused \
         (os error 111)\" != \"myvalue\"\n  \
         health_check × db_down: assert_eq: 503 != 200\n\
         Note: no fault fired in: (order_flow, wal_broken), (health_check, wal_broken)\n\n\
         4 passed, 2 failed\n",
    );
    let block = run.block("test_matrix_health_check_db_down").join("\n");
    for line in [
        "  reason: assert_eq: 503 != 200",
        "  at: specs/domain/asserts-inside.star:",
        "  replay: faultbox test specs/domain/asserts-inside.star --test \
         matrix_health_check_db_down --seed 0",
        "  api   connect deny(connection refused)",
        "  fault rule on api: connect=deny(ECONNREFUSED) → filter:[connect]",
    ] {
        assert!(block.contains(line), "{block}");
    }
    assert_eq!(run.block("test_matrix_order_flow_wal_broken").len(), 1);
}

#[test]
fn a30_a_matrix_by_hand() {
    let run = run("hand-matrix.star", &[], 0);
    assert_eq!(verdicts(&run).len(), 4);
    run.prints("\nResult: 4/4 passed\n\n4 passed, 0 failed\n");
}

#[test]
fn ready_made_expectations_windows_over_several_services_and_waiting() {
    let run = run("expectations.star", &[], 0);
    run.prints("\n6 passed, 0 failed\n");
    let both = run.block("test_several_services_at_once").join("\n");
    for service in ["db", "api"] {
        assert!(both.contains(&format!("  fault rule on {service}: write=delay(200ms)")), "{both}");
    }
    let hang = run.block("test_hang");
    assert!(hang.iter().any(|line| line.contains("delay(1m0s)")), "{hang:?}");
    // The window is over when fault() returns.
    let window = run.block("test_assumption_in_a_window").join("\n");
    assert!(window.contains("deny(connection refused)  → db.main"), "{window}");
}

#[test]
fn one_cell_is_chosen_by_its_name() {
    for name in ["matrix_order_flow_disk_full", "test_matrix_order_flow_disk_full"] {
        let run = run("domain-test.star", &["--test", name], 0);
        assert_eq!(verdicts(&run), [("PASS", "test_matrix_order_flow_disk_full")]);
        assert_eq!(
            table(&run),
            rows(&[
                &["", "db_down", "disk_full"],
                &["order_flow", "—", "PASS (Nms)"],
                &["health_check", "—", "—"],
            ])
        );
        run.prints("\nResult: 1/1 passed\n\n1 passed, 0 failed\n");
    }
    // No table without a cell.
    let run = run("domain-test.star", &["--test", "order_flow"], 0);
    assert!(!run.stdout.contains("Fault Matrix"), "{}", run.stdout);
    let run = Place::new().test(&["specs/domain/domain-test.star", "--test", "x"]).expect(1);
    run.says("error: no test matches \"x\"; available: test_health_check, test_matrix_health");
}

#[test]
fn repeated_cells_are_counted_and_passing_blocks_can_be_left_out() {
    let run = run("hand-matrix.star", &["--runs", "2", "--show", "fail"], 0);
    let pass = "PASS (2/2)";
    assert_eq!(
        table(&run),
        rows(&[
            &["", "db_down", "disk_full"],
            &["order_flow", pass, pass],
            &["health_check", pass, pass],
        ])
    );
    assert_eq!(verdicts(&run), [("PASS", "all")]);
    run.prints("\nResult: 4/4 passed\n").prints("\n8 passed, 0 failed\n");
}

#[test]
fn debug_shows_what_a_scenario_returned() {
    let run = run("scenario-test.star", &["--debug"], 0);
    let block = run.block("test_order_flow");
    assert!(
        block[1].starts_with("  return: response(status=200, body=\"myvalue\", duration_ms="),
        "{block:?}"
    );
    assert!(block[2].starts_with("  syscall trace ("), "{block:?}");
}

#[test]
fn the_flag_for_time_is_not_for_tests_under_faults() {
    let place = Place::new();
    let spec = place.spec(
        "timeouts.star",
        "db = service(\"db\", \"{bin}/mock-db\", interface(\"main\", \"tcp\", 5432),\n    \
             healthcheck = tcp(\"localhost:5432\"))\n\
         def slow():\n    sleep(\"1200ms\")\n    return db.main.send(data = \"PING\")\n\
         def stuck():\n    for i in range(2000000000):\n        pass\n\
         fine = fault_assumption(\"fine\")\n\
         scenario(stuck)\n\
         fault_matrix(scenarios = [slow], faults = [fine])\n\
         fault_scenario(\"hangs\", scenario = stuck, timeout = \"500ms\")\n",
    );
    let run = place.test(&[&spec, "--timeout", "1s"]).expect(2);
    assert_eq!(
        verdicts(&run),
        [("FAIL", "test_hangs"), ("PASS", "test_matrix_slow_fine"), ("FAIL", "test_stuck")]
    );
    assert_eq!(run.block("test_hangs")[1], "  reason: timed out after 500ms");
    assert_eq!(run.block("test_stuck")[1], "  reason: timed out after 1s");
    assert!(millis(&run, "test_matrix_slow_fine") >= 1200);
    // A cell without rules has none that could have fired.
    assert!(!run.stdout.contains("Note:"), "{}", run.stdout);
}

#[test]
fn a_judge_that_returns_false_is_warned_of() {
    let place = Place::new();
    let spec = place.spec(
        "false.star",
        "db = service(\"db\", \"{bin}/mock-db\", interface(\"main\", \"tcp\", 5432),\n    \
             healthcheck = tcp(\"localhost:5432\"))\n\
         def ping():\n    return db.main.send(data = \"PING\")\n\
         fine = fault_assumption(\"fine\")\n\
         fault_matrix(scenarios = [ping], faults = [fine], default_expect = lambda r: r == \"\")\n",
    );
    let run = place.test(&[&spec]).expect(0);
    let block = run.block("test_matrix_ping_fine");
    assert_eq!(
        block[1..],
        ["  WARNING: fault_matrix() cell (ping, fine): expect returned False; use assert_true"]
    );
}

#[test]
fn a_hang_passes_with_monitors_unless_something_failed_before() {
    let place = Place::new();
    let source = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))
def object(event):
    fail("api has read")
def hang():
    return api.get(path = "/health")
def slow(name, callback):
    return fault_assumption(name, target = api, connect = delay("20s"),
        monitors = [monitor(callback, service = "api", syscall = "read")])
watched = slow("watched", object)
quiet = slow("quiet", lambda event: None)
def wrong():
    fail("the first is wrong")
def poll():
    for i in range(1000):
        sleep("300ms")
fault_scenario("quiet", scenario = hang, faults = quiet, expect = expect_hang(), timeout = "1s")
fault_scenario("watched", scenario = lambda: fault(watched, run = hang), expect = expect_hang(), timeout = "1s")
fault_scenario("wrong", scenario = lambda: parallel(wrong, hang), faults = quiet, expect = expect_hang(), timeout = "1s")
fault_scenario("polls", scenario = poll, timeout = "1s")
"#;
    let run = place.test(&[&place.spec("hang.star", source)]).expect(2);
    run.prints("--- PASS: test_quiet").prints("\n1 passed, 3 failed\n");
    let reason = |test: &str| run.block(test)[1].to_owned();
    assert!(reason("test_watched").starts_with("  reason: monitor violation: api has read (event"));
    assert_eq!(reason("test_wrong"), "  reason: the first is wrong");
    assert_eq!(reason("test_polls"), "  reason: timed out after 1s");
    assert!(!run.stdout.contains("failed as well"), "{}", run.stdout);
}
