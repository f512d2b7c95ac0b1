//! Servers that others have written, as Debian ships them, under the specs of specs/servers.

use std::{process::Command, time::Duration};

use super::{
    litter,
    project::{Finished, Place, engine, finish, fsync_is_refused, not_tested, root, share_machine},
};

/// Fails unless the programs are there: absolute paths are Debian's, others are of the project.
#[track_caller]
fn require(programs: &[&str]) {
    let missing: Vec<_> =
        programs.iter().filter(|program| !root().join(program).exists()).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} missing: run `cargo xtask setup --servers`, then `cargo xtask build`"
    );
}

/// Runs a spec of specs/servers, in which every test has to pass and every rule to fire, and shows
/// what the services print.
#[track_caller]
fn broken(place: &Place, spec: &str) -> Finished {
    let _shared = share_machine();
    let spec = format!("specs/servers/{spec}");
    let run = finish(place.faultbox(&[
        "test",
        "--debug",
        "--strict-faults",
        "--engine",
        &engine(),
        &spec,
    ]))
    .expect(0);
    litter::assert_none(place, Duration::from_secs(2));
    run.prints("0 failed");
    assert!(!run.stdout.contains("no injections fired"), "{}", run.stdout);
    run
}

const GATEWAY: &str = "bin/line-gateway";

/// Whether the specs that fault fsync are left to the run with `--engine auto`.
fn left_to_auto(spec: &str) -> bool {
    if fsync_is_refused() {
        not_tested(&format!(
            "{spec}: --engine ebpf has no fsync on this kernel; the run with --engine auto has"
        ));
    }
    fsync_is_refused()
}

#[test]
fn postgres_panics_over_a_failed_fsync_and_recovers_and_with_data_sync_retry_goes_on() {
    if left_to_auto("postgres.star") {
        return;
    }
    require(&["/usr/lib/postgresql/15/bin/postgres"]);
    let place = Place::new();
    // Where everything is emulated, initdb would take up most of a healthcheck's time.
    let mut prepare = Command::new("specs/servers/run-postgres");
    prepare.arg("--prepare").current_dir(root()).env("TMPDIR", &place.path);
    let status = prepare.status().unwrap();
    assert!(status.success(), "{prepare:?}: {status}");
    let run = broken(&place, "postgres.star");
    run.prints("1 passed").prints("sync_tables(fsync)").prints("deny(input/output error)");
    run.says("PANIC:  could not fsync file \"base/").says("automatic recovery in progress");
    // The other server takes the very same error for an error.
    run.says("ERROR:  could not fsync file \"base/");
}

#[test]
fn redis_exits_rather_than_confirm_what_it_cannot_append_or_refuses_writes() {
    require(&["/usr/bin/redis-server"]);
    let run = broken(&Place::new(), "redis.star");
    run.prints("2 passed").prints("append(write)").prints("deny(no space left on device)");
    run.says("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting");
    run.says("run-redis: redis-server ended with status 1; starting it again");
    run.says("AOF write error looks solved, Redis can write again.");
}

#[test]
fn nginx_lets_clients_wait_while_it_has_no_descriptors() {
    require(&["/usr/sbin/nginx"]);
    let run = broken(&Place::new(), "nginx.star");
    run.prints("1 passed");
    let logged = run.stderr.matches("accept4() failed (24: Too many open files)").count();
    assert_eq!(logged, 2, "{}", run.stderr);
}

#[test]
fn sqlite_is_sound_after_an_error_at_any_fsync() {
    if left_to_auto("sqlite.star") {
        return;
    }
    require(&[GATEWAY, "/usr/bin/sqlite3"]);
    let run = broken(&Place::new(), "sqlite.star");
    run.prints("2 passed");
    let block = run.block("test_an_error_at_any_fsync_leaves_a_sound_database");
    let hits = block.iter().filter(|line| line.contains("deny(input/output error)")).count();
    assert_eq!(hits, 4, "one for each of the four: {block:#?}");
}

#[test]
fn a_go_program_is_broken_where_it_meets_others_and_not_in_its_runtime() {
    require(&["bin/go-api", "bin/mock-db"]);
    let run = broken(&Place::new(), "go.star");
    run.prints("3 passed").prints("deny(connection refused)").prints("delay(300ms)");
}

#[test]
fn a_python_program_meets_errors_of_its_connections_and_slow_reads() {
    require(&["/usr/bin/python3", "bin/mock-db"]);
    let run = broken(&Place::new(), "python.star");
    run.prints("3 passed").prints("deny(connection refused)").prints("delay(300ms)");
}
