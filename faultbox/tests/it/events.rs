//! Events, assertions about them, monitors and traces (language.md 1.12, 1.13, 2.1).

use std::fs;

use super::project::{Finished, Place, is_slow, root, run_text, say};

/// Two services, and a request that goes through both.
const SERVICES: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))

def post():
    return api.post(path = "/data/key", body = "value").status
"#;

fn run(test: &str, flags: &[&str]) -> Finished {
    run_text(&format!("{SERVICES}{test}"), flags)
}

#[test]
fn a23_a_monitor_on_a_database_that_is_down_passes_and_objects_when_it_is_not() {
    let spec = "specs/domain/no-db-traffic.star";
    let down = Place::new().test(&[spec]).expect(0);
    down.prints("\n4 passed, 0 failed\n");
    assert!(!down.stdout.contains("WARNING"), "{}", down.stdout);

    let place = Place::new();
    let source = fs::read_to_string(root().join(spec)).unwrap();
    let source = source.replace("deny(\"ECONNREFUSED\")", "allow()");
    let up = place.test(&[&place.spec("up.star", &source)]).expect(2);
    up.prints("\n0 passed, 4 failed\n");
    for test in [
        "test_callee_down",
        "test_caller_cut_off",
        "test_matrix_order_flow_db_down",
        "test_matrix_order_flow_api_cut_off",
    ] {
        let reason = up.block(test)[1];
        let expected =
            "  reason: monitor violation: traffic reached DB despite being down (event #";
        assert!(reason.starts_with(expected), "{reason}");
        assert!(up.block(test)[2].ends_with("up.star:20"), "{up:?}");
    }
}

#[test]
fn events_can_be_asked_for_and_asserted() {
    Place::new().test(&["specs/domain/events.star"]).expect(0).prints("\n3 passed, 0 failed\n");
}

#[test]
fn a_violation_ends_the_test_at_its_next_step() {
    let run = run(
        r#"
def check(event):
    assert_eq(event.get("dest_service"), "nobody", "who is called")
def test_a():
    monitor(check, service = api, syscall = "connect")
    print("before")
    fault(db, read = allow(), run = post)
    print("after")
def test_b():
    assert_eq(post(), 200)
"#,
        &[],
    )
    .expect(2);
    run.says("before\n").prints("--- PASS: test_b");
    assert!(!run.stderr.contains("after\n"), "{}", run.stderr);
    let reason = run.block("test_a")[1];
    let expected = "  reason: monitor violation: assert_eq: \"db.main\" != \"nobody\" (who is called) (event #";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn what_a_test_causes_after_its_last_step_is_still_looked_at() {
    // Nothing of the spec looks at events once the service has been asked to die.
    let run = run(
        r#"
def test_a():
    monitor(lambda e: fail("it ended"), service = db, type = "service_exited")
    fault(db, read = crash(), include_driver = True, run = lambda: api.post(path = "/data/key", body = "v"))
    print("reached, or not")
    for i in range(3):
        api.get(path = "/data/key")
"#,
        &[],
    )
    .expect(2);
    run.prints("  reason: monitor violation: it ended (event #");
}

#[test]
fn every_test_has_the_monitors_with_names_and_states_of_its_own() {
    let run = run(
        r#"
def count(event, state):
    state["posts"] += 1
monitor("posts", on = {"type": "step_send", "method": "post"}, state_init = {"posts": 0},
    update = count, check = lambda event, state: state["posts"] <= 2)
idle = monitor(lambda event: fail("never"))
def test_a():
    post()
    post()
def test_b():
    for i in range(3):
        post()
"#,
        &["--runs", "2"],
    )
    .expect(2);
    run.prints("--- PASS: test_a (2/2 runs)").prints("--- FAIL: test_b (0/2 runs passed");
    run.prints("reason: monitor violation: posts: check returned False (event #");
    let warning = "spec.star:13:8: this monitor is attached to nothing and stays inactive";
    assert_eq!(run.stderr.matches(warning).count(), 1, "said once: {}", run.stderr);
}

#[test]
fn traced_calls_are_recorded_in_their_window_and_faults_go_on() {
    let run = run(
        r#"
def count():
    return len(events(service = "api", syscall = "socket"))
def test_a():
    post()
    assert_eq(count(), 0, "nobody asked")
    fault_start(db, write = deny("EIO", after = 1))
    trace_start(db, syscalls = ["write"])
    trace_start(api, syscalls = ["socket"])
    assert_eq(post(), 200, "the first write is spared")
    assert_eq(count(), 1)
    trace_stop(api)
    trace_stop(db)
    assert_eq(post(), 500, "the fault is as it was")
    assert_eq(count(), 1, "the trace is over")
    fault_stop(db)
    def traced():
        assert_eq(post(), 200)
        assert_eq(count(), 2)
    trace(api, syscalls = ["socket", "connect"], run = traced)
    post()
    assert_eq(count(), 2)
    assert_eq([e.rules for e in events(type = "fault_*")], ["write", "write"])
"#,
        &["--strict-faults"],
    )
    .expect(0);
    run.prints("  fault rule on db: write=deny(EIO) → filter:[write,writev,pwrite64] after=1\n");
    run.prints("  trace rule on db: write=trace → filter:[write,writev,pwrite64]\n");
    run.prints("  trace rule on api: socket=trace → filter:[socket]\n");
    run.prints("  trace rule on api: connect=trace → filter:[connect]\n");
}

#[test]
fn an_assertion_waits_as_long_as_it_is_told() {
    let run = run(
        r#"
def test_a():
    assert_eventually(service = "db", syscall = "writev", within = "30ms")
def test_b():
    assert_eventually(service = "db", syscall = "accept4", within = "600s")
"#,
        &[],
    )
    .expect(2);
    run.prints(
        "  reason: assert_eventually: no matching event within 30ms (filters: service=\"db\", ",
    );
    run.prints("--- PASS: test_b");
}

#[test]
fn without_records_nothing_is_claimed_about_them() {
    let run = run(
        r#"
def test_a():
    assert_never(service = "db", syscall = "read")
def test_b():
    monitor(lambda event: fail("no"), service = "db")
def test_c():
    trace(db, syscalls = ["socket"], run = post)
"#,
        &["--trace", "off"],
    )
    .expect(2);
    run.prints("\n0 passed, 3 failed\n");
    assert_eq!(run.stdout.matches("nothing is recorded with --trace off").count(), 3, "{run:?}");
}

/// A service that makes calls as fast as it can, and a monitor that counts them.
#[test]
fn a_monitor_on_a_busy_service_sees_every_call_or_the_test_fails() {
    let count: u64 = if is_slow() { 20_000 } else { 250_000 };
    let place = Place::new();
    let source = r#"
busy = service("busy", "{bin}/flood", interface("main", "tcp", 5432), env = {"QUIET": "1", "SINK": "{place}/burst"},
    healthcheck = tcp("localhost:5432"))
seen = {"n": 0, "last": 0}
def count(event):
    if event.seq <= seen["last"]:
        fail("out of order")
    seen["last"] = event.seq
    seen["n"] += 1
def test_busy():
    monitor(count, service = "busy", syscall = "write", path = "*/burst")
    assert_eq(busy.main.send(data = "BURST COUNT"), "COUNT")
    begin, end = events(type = "step_*")
    print("seen=%d from=%s to=%s" % (seen["n"], begin.timestamp, end.timestamp))
    assert_eq(seen["n"], COUNT)
"#;
    let spec = place.spec(
        "busy.star",
        &source
            .replace("COUNT", &count.to_string())
            .replace("{place}", place.path.to_str().unwrap()),
    );
    let run = place.test(&[&spec]);
    let line = run.stderr.lines().find(|line| line.starts_with("seen=")).unwrap_or_default();
    say(&format!("{count} calls in a row: {line}; {} ms in all", run.elapsed.as_millis()));
    if run.code == 0 {
        assert!(line.starts_with(&format!("seen={count} ")), "{run:?}");
        assert!(!run.stdout.contains("dropped"), "{}", run.stdout);
    } else {
        // A ring buffer that overflowed: only where a kernel's processor is a slow one.
        let run = run.expect(2);
        run.prints(" trace records were dropped while a monitor was active");
        assert_ne!(super::project::engine(), "seccomp", "the supervisor loses nothing");
    }
}
