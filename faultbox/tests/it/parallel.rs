//! Functions of one test that run at the same time (language.md 2.2).

use std::time::Duration;

use super::project::{Finished, Place, run_text};

const SERVICES: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))

def get(key):
    return api.get(path = "/data/" + key)
def wait_for(path):
    assert_eventually(type = "step_send", path = "/data/" + path, within = "100s")
"#;

fn run(test: &str, flags: &[&str]) -> Finished {
    run_text(&format!("{SERVICES}{test}"), flags)
}

#[test]
fn steps_of_two_functions_overlap() {
    Place::new().test(&["specs/domain/parallel.star"]).expect(0).prints("\n2 passed, 0 failed\n");
}

#[test]
fn each_function_can_wait_for_what_another_does() {
    // In no order could these run one after the other.
    let run = run(
        r#"
def first():
    wait_for("b1")
    get("a1")
    wait_for("b2")
    return "first"
def second():
    get("b1")
    wait_for("a1")
    get("b2")
    return "second"
def test_a():
    nondet(db)
    assert_eq(parallel(first, second), ["first", "second"])
    assert_eq(parallel(second, first, lambda: 3), ["second", "first", 3])
"#,
        &["--runs", "2"],
    )
    .expect(0);
    assert!(!run.stdout.contains("one deterministic schedule"), "{}", run.stdout);
}

#[test]
fn a_failure_waits_for_the_others_and_the_first_in_order_is_the_reason() {
    let run = run(
        r#"
def late():
    get("late")
    fail("the first argument")
def early():
    fail("the second argument")
def other():
    wait_for("late")
    get("other")
    print("the third has ended")
def test_a():
    parallel(late, early, other)
    print("not reached")
"#,
        &[],
    )
    .expect(2);
    run.prints("  reason: the first argument\n  at: ").prints("spec.star:13\n");
    run.prints("parallel(): function 2 failed as well: the second argument");
    run.says("the third has ended\n");
    assert!(!run.stderr.contains("not reached"), "{}", run.stderr);
}

#[test]
fn a_scope_in_one_function_is_there_for_the_others_until_it_ends() {
    run(
        r#"
state = {"broken": True}
def breaks():
    def hold():
        wait_for("broken")
        wait_for("done")
    fault(db, read = deny("EIO"), run = hold)
    state["broken"] = False
def asks():
    def inner():
        assert_true(get("broken").status >= 500, "inside of both")
    # Ends before the scope that began earlier.
    fault(db, write = delay("1ms"), run = inner)
    get("done")
def test_a():
    parallel(breaks, asks)
    assert_true(not state["broken"])
    assert_eq(get("key").status, 404)
    assert_eq([e.rules for e in events(type = "fault_*")], ["read", "write", "write", "read"])
"#,
        &[],
    )
    .expect(0);
}

#[test]
fn a_violation_ends_all_of_them_at_their_next_step() {
    let run = run(
        r#"
def loops(name):
    def work():
        for i in range(1000000):
            get(name)
    return work
def test_a():
    monitor(lambda e: fail("enough") if e.seq > 60 else None, type = "step_recv")
    parallel(loops("a"), loops("b"), loops("c"))
"#,
        &["--timeout", "100s"],
    )
    .expect(2);
    run.prints("  reason: monitor violation: enough (event #");
}

#[test]
fn the_deadline_ends_all_of_them() {
    let run = run(
        r#"
def waits():
    assert_eventually(op = "none", within = "1000s")
def computes():
    n = 0
    for i in range(1000000000):
        n += i
def test_a():
    parallel(waits, computes, lambda: wait_for("never"))
"#,
        &["--timeout", "1s"],
    )
    .expect(2);
    run.prints("  reason: timed out after 1s\n");
    assert!(run.elapsed < Duration::from_secs(60), "{:?}", run.elapsed);
}

#[test]
fn calls_may_be_deep_in_each_function_and_parallel_is_not_inside_itself() {
    let run = run(
        r#"
def deep(n):
    if n == 0:
        return get("deep").status
    return deep(n - 1)
def test_deep():
    assert_eq(parallel(lambda: deep(900), lambda: deep(900)), [404, 404])
def test_too_deep():
    parallel(lambda: deep(2000), lambda: 1)
def test_nested():
    parallel(lambda: parallel(lambda: 1, lambda: 2), lambda: 3)
"#,
        &[],
    )
    .expect(2);
    run.prints("--- PASS: test_deep");
    run.prints("  reason: more than 1000 calls inside each other; is the recursion endless?");
    run.prints(
        "  reason: parallel(): not possible inside another parallel(); give that one all functions",
    );
}
