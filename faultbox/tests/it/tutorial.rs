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
fn a8_a15_a34_slow_is_waited_for_and_late_calls_say_by_how_much() {
    let run = Place::new().test(&["specs/tutorial/slow.star"]).expect(0);
    run.prints("\n3 passed, 0 failed\n");
    let slow = run.block("test_slow_database").join("\n");
    assert!(slow.contains("  db    write   delay(500ms)  [slow disk]  (+500ms)"), "{slow}");
    let rule = "  fault rule on db: write=delay(500ms) → filter:[write,writev,pwrite64] \
                label=\"slow disk\"";
    assert!(slow.contains(rule), "{slow}");
    // The same processes, first without a disk and then with a slow one.
    let modes = run.block("test_db_failure_modes").join("\n");
    assert!(modes.contains("deny(no space left on device)  [disk full]"), "{modes}");
    assert!(modes.contains("delay(2s)  [slow disk]  (+2s)"), "{modes}");
    let both = run.block("test_slow_and_then_refused").join("\n");
    assert!(
        both.contains("  api   connect deny(connection refused)  [db down]  (+300ms)"),
        "{both}"
    );
}

#[test]
fn a10_an_op_with_a_path_breaks_that_file_alone() {
    if fsync_is_refused() {
        return expect_fsync_refused("specs/tutorial/wal.star");
    }
    let run = Place::new().test(&["specs/tutorial/wal.star"]).expect(0);
    run.prints("\n3 passed, 0 failed\n");
    let broken = run.block("test_wal_write_failure").join("\n");
    assert!(
        broken.contains(
            "  inventory wal_write(write) deny(input/output error)  [WAL broken]  \
             /tmp/inventory.wal"
        ),
        "{broken}"
    );
    assert!(broken.contains("path=/tmp/*.wal label=\"WAL broken\""), "{broken}");
    let slow = run.block("test_slow_wal").join("\n");
    for call in ["write", "fsync"] {
        let line =
            format!("wal_write({call}) delay(200ms)  [slow WAL]  /tmp/inventory.wal  (+200ms)");
        assert!(slow.contains(&line), "{slow}");
    }
    let missed = run.block("test_path_that_misses").join("\n");
    assert!(
        missed.contains(
            "    hint: 1 call matched elsewhere but not path /var/lib/**/*.wal; e.g. \
             /tmp/inventory.wal"
        ),
        "{missed}"
    );
}

#[test]
fn a17_chance_is_counted_over_runs_and_is_the_same_every_time() {
    let place = Place::new();
    let arguments = ["specs/tutorial/chance.star", "--runs", "10"];
    let run = place.test(&arguments).expect(2);
    let header = run.block("test_partial_failure")[0].to_owned();
    let passed: u32 = header.split(['(', '/']).nth(1).unwrap().parse().unwrap();
    assert!((1..10).contains(&passed), "{header}");
    run.prints(&format!("\n{passed} passed, {} failed\n", 10 - passed));
    assert_eq!(place.test(&arguments).expect(2).block("test_partial_failure")[0], header);
}

#[test]
fn a19_three_faults_under_the_same_request() {
    let run = Place::new().test(&["specs/tutorial/three-faults.star"]).expect(0);
    run.prints("\n3 passed, 0 failed\n");
    for test in ["test_db_down", "test_disk_full", "test_slow_network"] {
        assert!(run.block(test)[0].starts_with("--- PASS: "), "{}", run.stdout);
    }
}

#[test]
fn the_calls_that_a_rule_is_for_can_be_counted_and_told_by_their_peer() {
    let run = Place::new().test(&["specs/tutorial/aim.star"]).expect(0);
    run.prints("\n6 passed, 0 failed\n");
    for (test, hits, end) in [
        ("test_the_second_write_only", 1, " nth=2"),
        ("test_all_but_the_first_two", 2, " after=2"),
        ("test_the_first_two_only", 2, " max_hits=2"),
        ("test_one_after_the_first", 1, " after=1 max_hits=1"),
    ] {
        let block = run.block(test);
        let denied = block.iter().filter(|line| line.contains("deny(input/output")).count();
        assert_eq!(denied, hits, "{block:?}");
        assert!(block.last().unwrap().ends_with(end), "{block:?}");
    }
    run.prints("connect=deny(ECONNREFUSED) → filter:[connect] to=db\n");
}

#[test]
fn a_call_can_be_skipped_and_a_process_can_die_at_it() {
    let run = Place::new().test(&["specs/tutorial/effects.star"]);
    if run.stdout.contains("or --engine seccomp") || run.stdout.contains("use --engine seccomp") {
        // Without kprobes no program makes a call report zero: 6.12 and 7.2.
        run.expect(2).prints("  reason: fault(): ").prints("--- PASS: test_crash_in_the_middle");
        return;
    }
    let run = run.expect(0);
    run.prints("\n3 passed, 0 failed\n");
    run.prints("inventory fsync   returns(0)  [lying disk]  /tmp/inventory.wal\n");
    run.prints("orders read    returns(0)  [cut off]\n");
    run.prints("inventory wal_write(write) crash(KILL)  [power cut]  /tmp/inventory.wal\n");
    let crashed = run.block("test_crash_in_the_middle").join("\n");
    assert!(
        crashed.contains(
            "SERVICE_CRASHED: service \"inventory\" ended during the test (signal SIGKILL)"
        ),
        "{crashed}"
    );
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
