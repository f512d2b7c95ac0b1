//! The tutorial's specs: the rows of language.md 1.20 that they stand for.

use super::project::{Place, fsync_is_refused, not_tested};

#[test]
fn a1_a_first_test_passes_and_shows_that_calls_were_seen() {
    let run = Place::new().test(&["specs/tutorial/first-test.star"]).expect(0);
    run.prints("4 passed, 0 failed");
    for test in ["test_ping", "test_set_and_get"] {
        let block = run.block(test);
        assert!(block[0].starts_with("--- PASS: "), "{block:?}");
        let events = block[1].strip_prefix("  syscall trace (").unwrap();
        let events: u32 = events.strip_suffix(" events):").unwrap().parse().unwrap();
        assert!(events > 0);
    }
}

#[test]
fn a2_one_test_is_chosen_by_name() {
    for name in ["set_and_get", "test_set_and_get"] {
        let run = Place::new().test(&["specs/tutorial/first-test.star", "--test", name]).expect(0);
        run.prints("test_set_and_get").prints("\n1 passed, 0 failed\n");
        assert!(!run.stdout.contains("test_ping"), "{}", run.stdout);
    }
}

#[test]
fn a3_what_is_stored_is_read_back_and_every_test_starts_empty() {
    let run = Place::new().test(&["specs/tutorial/first-test.star"]).expect(0);
    for test in ["test_missing_key", "test_overwrite", "test_set_and_get"] {
        assert!(run.block(test)[0].starts_with("--- PASS: "));
    }
}

#[test]
fn a4_a_healthcheck_that_never_passes_fails_after_exactly_its_timeout() {
    let run = Place::new().test(&["specs/tutorial/healthcheck-timeout.star"]).expect(2);
    let block = run.block("test_never_ready");
    let millis = block[0].split(['(', 'm']).find_map(|it| it.parse::<u32>().ok()).unwrap();
    assert!((10_000..=10_500).contains(&millis), "{millis}");
    assert_eq!(
        block[1],
        "  reason: failed to start services: service \"db\" not ready: \
         TCP healthcheck \"localhost:9999\" timed out after 10s"
    );
    run.prints("  replay: faultbox test specs/tutorial/healthcheck-timeout.star");
    run.prints("\n0 passed, 1 failed\n");
}

#[test]
fn a5_the_log_tells_the_start_of_each_service_in_order() {
    let run =
        Place::new().test(&["specs/tutorial/fault-test.star", "--test", "happy_path"]).expect(0);
    run.prints("\n1 passed, 0 failed\n");
    let lines: Vec<&str> = run
        .stderr
        .lines()
        .filter_map(|line| line.split_once(" INF [starlark] ").map(|(_, rest)| rest))
        .collect();
    let without_pid: Vec<String> = lines
        .iter()
        .map(|line| {
            let words = line.split("  ").filter(|word| !word.starts_with("pid="));
            words.collect::<Vec<_>>().join("  ")
        })
        .collect();
    assert_eq!(
        without_pid,
        [
            "running test  test=test_happy_path",
            "starting session  binary=bin/mock-db  service=db",
            "target started  service=db",
            "starting session  binary=bin/mock-api  service=api",
            "target started  service=api",
            "test completed  test=test_happy_path  result=pass",
        ]
    );
}

#[test]
fn a6_a_failing_write_of_the_database_is_an_error_of_the_api() {
    let run = Place::new()
        .test(&["specs/tutorial/fault-test.star", "--test", "db_write_failure"])
        .expect(0);
    let block = run.block("test_db_write_failure");
    let hit = block.iter().find(|line| line.contains("deny(")).unwrap();
    assert!(hit.starts_with("    #"), "{hit}");
    assert!(hit.ends_with("  db    write   deny(input/output error)  [disk failure]"), "{hit}");
    run.prints(
        "\n  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] \
         label=\"disk failure\"\n",
    );
    assert!(run.elapsed.as_secs() < 1 || super::project::is_slow(), "{:?}", run.elapsed);
}

#[test]
fn the_other_fault_tests_of_the_tutorial() {
    let run = Place::new().test(&["specs/tutorial/fault-test.star"]).expect(0);
    // A7: the same process goes on with the data it had.
    assert!(run.block("test_recovery_after_disk_error")[0].contains("PASS"));
    // A11: two rules, sorted by keyword.
    let rules: Vec<_> = run
        .block("test_everything_broken")
        .into_iter()
        .filter_map(|line| line.strip_prefix("  fault rule on db: "))
        .map(|rule| rule.split('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(rules, ["read", "write"]);
    // A12: the last call that was let through precedes the first that was not.
    let calls: Vec<_> = run
        .block("test_fault_mid_operation")
        .into_iter()
        .filter(|line| line.starts_with("    #"))
        .map(|line| line.contains("allow"))
        .collect();
    assert!(calls.len() >= 2 && calls[0] && !calls[1..].contains(&true), "{calls:?}");
    // A16.
    assert!(run.block("test_connect_refused")[0].contains("PASS"));
    // D1: the connects of others to a leaf.
    let inbound = run.block("test_db_down").join("\n");
    assert!(inbound.contains("api   connect deny(connection refused)  [db down]  → db.main"));
    assert!(inbound.contains("filter:[connect] (in: db.main) label=\"db down\""), "{inbound}");
    // A34.
    let labels = run.block("test_labels").join("\n");
    assert!(labels.contains("[disk full]") && labels.contains("[cable cut]"), "{labels}");
}

#[test]
fn a9_an_op_is_named_with_its_calls() {
    if fsync_is_refused() {
        return expect_fsync_refused("specs/tutorial/ops.star");
    }
    let run = Place::new().test(&["specs/tutorial/ops.star"]).expect(0);
    run.prints("persist(write)");
    run.prints("persist=deny(EIO) → filter:[write,writev,pwrite64,fsync,fdatasync]");
}

/// Checks that a spec that faults fsync is refused with the reason and the way out.
fn expect_fsync_refused(spec: &str) {
    let run = Place::new().test(&[spec]).expect(2);
    run.prints("  reason: fault(): fsync cannot be faulted by --engine ebpf on this kernel: ");
    run.prints("use --engine auto");
}

#[test]
fn a13_a_rule_that_never_fires_is_said_aloud() {
    if fsync_is_refused() {
        return expect_fsync_refused("specs/tutorial/never-fired.star");
    }
    let run = Place::new().test(&["specs/tutorial/never-fired.star"]).expect(0);
    run.prints("\n  fault rule on db: fsync=deny(EIO) → filter:[fsync,fdatasync]\n");
    run.prints("\n  WARNING: fault rules were installed but no injections fired\n");
    run.prints("    hint: run with --debug to see all intercepted syscalls\n");
    run.prints("\n  per-service syscall summary:\n    db    ");
}

#[test]
fn a14_families_and_single_calls_are_keywords() {
    Place::new().test(&["specs/tutorial/keywords.star"]).expect(0).prints("4 passed, 0 failed");
}

#[test]
fn a18_a_cycle_of_dependencies_is_named() {
    let run = Place::new().test(&["specs/tutorial/cycle.star"]).expect(1);
    run.says("error: specs/tutorial/cycle.star:").says("circular depends_on: a -> b -> a");
    assert_eq!(run.stdout, "");
}

#[test]
fn a_disk_that_is_full_does_not_hide_the_answer_from_the_test() {
    if fsync_is_refused() {
        return expect_fsync_refused("specs/tutorial/disk-full.star");
    }
    Place::new().test(&["specs/tutorial/disk-full.star"]).expect(0);
}

#[test]
fn a_choice_of_engine_that_this_kernel_cannot_serve_is_an_error() {
    let place = Place::new();
    let _shared = super::project::share_machine();
    let command = place.faultbox(&["test", "--engine", "ebpf", "specs/tutorial/fault-test.star"]);
    let run = super::project::finish(command);
    if run.code == 0 {
        run.says("engine: ");
        not_tested("--engine ebpf refused: this kernel serves it");
        return;
    }
    run.expect(1).says("error: ");
}
