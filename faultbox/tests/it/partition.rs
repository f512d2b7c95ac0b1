//! `partition()`: services that are cut off from each other, and those that are not.

use super::project::{Place, not_tested};

/// Whether this process may put programs on cgroups; says so when it may not.
fn can_cut() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        not_tested("partitions: programs on cgroups need root");
    }
    root
}

const SPEC: &str = "specs/domain/partition.star";

/// The line of a test's block that says what was cut.
fn line<'a>(block: &[&'a str], pair: &str) -> Option<&'a str> {
    block.iter().copied().find(|line| line.starts_with(&format!("  partition: {pair} (")))
}

#[test]
fn a_pool_is_cut_off_in_every_way_and_works_again_and_nobody_else_notices() {
    if !can_cut() {
        return;
    }
    let run = Place::new().test(&[SPEC]).expect(0);
    run.prints("\n6 passed, 0 failed\n");
    // The open flow, then 127.0.0.1 and ::1.
    let refused = run.block("test_refused");
    assert_eq!(
        line(&refused, "orders ⇹ db"),
        Some("  partition: orders ⇹ db (refuse, 3 hits)"),
        "{refused:?}"
    );
    // The open flow and a new one.
    let dropped = run.block("test_dropped");
    assert_eq!(
        line(&dropped, "orders ⇹ db"),
        Some("  partition: orders ⇹ db (drop, 2 hits)"),
        "{dropped:?}"
    );
    let one_way = run.block("test_one_way_requests_arrive_and_answers_do_not");
    assert_eq!(
        line(&one_way, "orders ← db"),
        Some("  partition: orders ← db (drop, 1 hit)"),
        "{one_way:?}"
    );
    let stopped = run.block("test_start_and_stop");
    assert!(stopped.contains(&"  partition: orders ⇹ search (refuse, 0 hits)"), "{stopped:?}");
    assert!(
        stopped.contains(&"  note: no hits in window: partition orders ⇹ search"),
        "{stopped:?}"
    );
}

#[test]
fn a_partition_that_cuts_nothing_is_a_warning_and_under_strict_faults_a_failure() {
    if !can_cut() {
        return;
    }
    let test = "one_way_the_other_side_may_still_dial";
    let run = Place::new().test(&[SPEC, "--test", test]).expect(0);
    run.prints("  partition: db → orders (refuse, 0 hits)\n")
        .prints("  WARNING: fault rules were installed but no injections fired\n")
        .prints("    hint: db had no traffic to orders meanwhile; direction=\"both\" cuts all\n");
    Place::new()
        .test(&[SPEC, "--test", test, "--strict-faults"])
        .expect(2)
        .prints("  reason: no fault fired: partition db → orders (refuse)\n");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let place = Place::new();
    let declarations = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432))
api = service("api", "{bin}/pool-client", interface("main", "tcp", 7001))
"#;
    for (name, call, error) in [
        (
            "same",
            "partition(db, db, run = lambda: 1)",
            "partition(): a and b are the same service, db; a service cannot be cut off from itself",
        ),
        (
            "mode",
            "partition_start(api, db, mode = \"reset\")",
            "partition_start(): mode= must be \"refuse\" or \"drop\", got \"reset\"",
        ),
    ] {
        let file = format!("{name}.star");
        let spec = place.spec(&file, &format!("{declarations}def test_x():\n    {call}\n"));
        let run = place.test(&[&spec]).expect(2);
        run.prints(&format!("  reason: {error}\n")).prints(&format!("{file}:5\n"));
    }
    let outside = place.spec("outside.star", &format!("{declarations}partition(api, db)\n"));
    let run = place.test(&[&outside]).expect(1);
    run.says("outside.star:4:1: partition(): only valid while a test is running");
}
