//! Starting and stopping services (language.md 1.8).

use std::time::Duration;

use super::project::{Finished, Place, is_slow};

fn run(spec: &str, flags: &[&str]) -> Finished {
    let place = Place::new();
    let spec = place.spec("spec.star", spec);
    let arguments: Vec<&str> = [spec.as_str()].into_iter().chain(flags.iter().copied()).collect();
    place.test(&arguments)
}

#[test]
fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
    let spec = r#"
db = service("db", "bin/no-such-program", interface("main", "tcp", 5432))
def test_a():
    pass
"#;
    run(spec, &[]).expect(2).prints(
        "  reason: service \"db\": cannot execute bin/no-such-program: No such file or directory\n",
    );
}

#[test]
fn a_service_that_ends_before_it_is_ready_fails_the_test_at_once() {
    for (command, how) in [("exit 3", "exit code 3"), ("kill -SEGV $$", "signal SIGSEGV")] {
        let spec = format!(
            r#"
db = service("db", "/bin/sh", interface("main", "tcp", 5432), args = ["-c", "echo why; {command}"],
    healthcheck = tcp("localhost:5432", timeout = "60s"))
def test_a():
    pass
"#
        );
        let run = run(&spec, &[]).expect(2);
        run.prints(&format!("  reason: service \"db\" exited before becoming ready ({how})\n"));
        run.prints("  output of db:\n    why\n");
        assert!(run.elapsed < Duration::from_secs(10), "{:?}", run.elapsed);
    }
}

#[test]
fn a_service_that_ends_during_the_test_is_a_warning() {
    let spec = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
short = service("short", "/bin/sh", interface("main", "tcp", 7001), args = ["-c", "exit 4"])
def test_a():
    for _ in range(200):
        db.main.send(data = "PING")
"#;
    run(spec, &[])
        .expect(0)
        .prints("SERVICE_CRASHED: service \"short\" ended")
        .prints("(exit code 4)");
}

#[test]
fn two_services_cannot_have_the_same_port() {
    let spec = r#"
one = service("one", "{bin}/mock-db", interface("main", "tcp", 5432))
two = service("two", "{bin}/mock-db", interface("main", "tcp", 5432))
def test_a():
    pass
"#;
    run(spec, &[])
        .expect(2)
        .prints("  reason: port 5432 already in use by pid ")
        .prints(" (mock-db)\n");
}

#[test]
fn services_start_when_what_they_depend_on_is_ready() {
    // Declared in the wrong order; the API's own healthcheck asks the database.
    let spec = r#"
late = service("late", "{bin}/mock-api", interface("public", "http", 8081),
    env = {"PORT": "8081", "DB_ADDR": "localhost:5432"}, depends_on = ["api"],
    healthcheck = http("localhost:8081/health"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": "localhost:5432"}, depends_on = ["db"], healthcheck = http("localhost:8080/health"))
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
def test_a():
    assert_eq(late.get(path = "/health").status, 200)
"#;
    let run = run(spec, &[]).expect(0);
    let at = |name: &str| run.stderr.find(&format!("service={name}\n")).unwrap();
    assert!(at("db") < at("api") && at("api") < at("late"), "{}", run.stderr);
}

#[test]
fn the_environment_tells_a_service_where_the_others_are() {
    let spec = r#"
db = service("my-db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
show = service("show", "/bin/sh", interface("main", "tcp", 7001), env = {"OWN": "yes", "PORT": "7001"},
    args = ["-c", "echo $FAULTBOX $FAULTBOX_MY_DB_MAIN_ADDR $FAULTBOX_SHOW_MAIN_PORT $OWN; exec {bin}/mock-db"],
    healthcheck = tcp("localhost:7001"))
def test_a():
    db.main.send(data = "PING")
    fail("on purpose")
"#;
    let run = run(spec, &[]).expect(2);
    run.prints("  reason: on purpose\n").prints("    1 localhost:5432 7001 yes\n");
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_after_two_seconds() {
    let spec = r#"
# Ready only when the trap is set: what listens is a child.
stubborn = service("stubborn", "/bin/sh", interface("main", "tcp", 7001), env = {"PORT": "7001"},
    args = ["-c", "trap '' TERM; {bin}/mock-db & while :; do sleep 1000; done"],
    healthcheck = tcp("localhost:7001"))
def test_a():
    pass
"#;
    let run = run(spec, &[]).expect(0);
    assert!(run.elapsed >= Duration::from_secs(2), "{:?}", run.elapsed);
    assert!(run.elapsed < Duration::from_secs(4) || is_slow(), "{:?}", run.elapsed);
}

#[test]
fn services_that_honour_sigterm_are_not_waited_for_and_their_descendants_die_with_them() {
    // That nothing is left is checked after every run.
    let spec = r#"
db = service("db", "/bin/sh", interface("main", "tcp", 5432),
    args = ["-c", "sleep 1000 & setsid sleep 1001 & (setsid sh -c 'trap \"\" TERM; sleep 1002' &) ; exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5432"))
def test_a():
    assert_eq(db.main.send(data = "PING"), "PONG")
"#;
    let run = run(spec, &[]).expect(0);
    assert!(run.elapsed < Duration::from_secs(2) || is_slow(), "{:?}", run.elapsed);
}

#[test]
fn a_test_ends_at_its_deadline_wherever_it_is() {
    let in_a_loop = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
def test_a():
    for _ in range(1000000):
        for _ in range(1000000):
            pass
"#;
    let in_a_step = r#"
mute = service("mute", "/usr/bin/env", interface("main", "tcp", 5432),
    args = ["sh", "-c", "kill -STOP $$; exec {bin}/mock-db"])
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5433), env = {"PORT": "5433"},
    healthcheck = tcp("localhost:5433"))
def test_a():
    for _ in range(1000000):
        db.main.send(data = "PING")
"#;
    for spec in [in_a_loop, in_a_step] {
        let run = run(spec, &["--timeout", "700ms"]).expect(2);
        run.prints("  reason: timed out after 700ms\n");
        assert!(run.elapsed < Duration::from_millis(2500) || is_slow(), "{:?}", run.elapsed);
    }
}

#[test]
fn globals_are_fresh_for_every_test() {
    let spec = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
seen = {"n": 0}
def count():
    seen["n"] += 1
    assert_eq(seen["n"], 1)
    assert_eq(db.main.send(data = "GET key"), "NOT_FOUND")
    assert_eq(db.main.send(data = "SET key value"), "OK")
def test_a():
    count()
def test_b():
    count()
"#;
    run(spec, &[]).expect(0).prints("2 passed, 0 failed");
}
