//! Rules that did nothing: what is said of them, and when that is a failure (language.md 1.16.3).

use std::path::Path;

use super::project::{Finished, Place, not_tested};

const DB: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
def ping():
    assert_eq(db.main.send(data = "PING"), "PONG")
"#;

fn run(test: &str, flags: &[&str]) -> Finished {
    let place = Place::new();
    let spec = place.spec("spec.star", &format!("{DB}{test}"));
    let arguments: Vec<&str> = [spec.as_str()].into_iter().chain(flags.iter().copied()).collect();
    place.test(&arguments)
}

#[test]
fn strictly_a_rule_that_never_fired_is_a_failure_that_names_it() {
    let test = r#"
def test_idle():
    fault(db, mkdirat = deny("EIO"), write = allow(), run = ping)
def test_one_of_two():
    fault(db, write = deny("EIO"), unlinkat = deny("ENOSPC"), include_driver = True,
        run = lambda: db.main.send(data = "PING"))
def test_in_one_of_its_windows():
    for work in [lambda: None, lambda: db.main.send(data = "PING")]:
        fault(db, write = deny("EIO"), include_driver = True, run = work)
def test_nothing_to_fire():
    fault(db, write = allow(), run = ping)
"#;
    run(test, &[]).expect(0).prints("4 passed, 0 failed");
    let strict = run(test, &["--strict-faults"]).expect(2);
    strict.prints("\n2 passed, 2 failed\n");
    let reason = |name: &str| strict.block(name)[1].to_owned();
    assert_eq!(reason("test_idle"), "  reason: no fault fired: db mkdirat=deny(EIO)");
    assert_eq!(reason("test_one_of_two"), "  reason: no fault fired: db unlinkat=deny(ENOSPC)");
    assert!(strict.block("test_in_one_of_its_windows")[0].contains("PASS"), "{strict:?}");
    assert!(strict.block("test_nothing_to_fire")[0].contains("PASS"), "{strict:?}");
    strict.prints(" --test idle --seed 0 --strict-faults\n").says("result=fail");
}

#[test]
fn strictness_adds_nothing_to_a_test_that_failed_by_itself() {
    let test = r#"
def test_a():
    fault(db, mkdirat = deny("EIO"), run = lambda: fail("by itself"))
"#;
    let run = run(test, &["--strict-faults"]).expect(2);
    assert_eq!(run.block("test_a")[1], "  reason: by itself");
}

#[test]
fn counts_that_were_not_reached_and_spared_connections_are_hints() {
    let run = run(
        r#"
def test_a():
    fault(db, write = deny("EIO", nth = 7), include_driver = True, run = ping)
def test_b():
    fault(db, write = deny("EIO"), run = ping)
"#,
        &[],
    )
    .expect(0);
    run.prints("    hint: write matched only 1 time; nth=7 waits for a later one\n");
    run.prints("spared on the test's own connections; include_driver=True hits them, too\n");
}

#[test]
fn a_connection_that_was_open_before_is_told_from_a_connect() {
    if !Path::new("/bin/bash").exists() {
        return not_tested("hint of a pooled connection: no /bin/bash to hold one");
    }
    let run = run(
        r#"
script = "exec 3<>/dev/tcp/127.0.0.1/5432; while echo PING >&3 && read -r _ <&3; do sleep 0.02; done"
pool = service("pool", "/bin/bash", interface("none", "tcp", 7001), args = ["-c", script], depends_on = [db])
def wait():
    for _ in range(100):
        ping()
def test_a():
    wait()
    fault(pool, connect = deny("ECONNREFUSED"), run = wait)
def test_b():
    wait()
    fault(db, connect = deny("ECONNREFUSED"), run = wait)
"#,
        &[],
    )
    .expect(0);
    for test in ["test_a", "test_b"] {
        let block = run.block(test).join("\n");
        assert!(
            block.contains("    hint: pool reused an open connection to db; fault read/write instead of connect\n"),
            "{block}"
        );
    }
}

#[test]
fn without_a_trace_there_is_no_summary_of_zeros() {
    let run = run("def test_a():\n    fail(\"x\")\n", &["--trace", "off"]).expect(2);
    assert!(!run.stdout.contains("summary") && !run.stdout.contains("0 total"), "{}", run.stdout);
}
