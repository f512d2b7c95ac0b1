//! Several faults on one service: inside each other, after each other, in place of each other
//! (language.md 1.9.2 and 1.9.5).

use super::project::{Finished, Place};

/// Two services and the shortest way to ask whether the database can answer.
const SERVICES: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))

def works():
    return api.post(path = "/data/key", body = "value").status == 200
"#;

fn run(test: &str) -> Finished {
    let place = Place::new();
    let spec = place.spec("spec.star", &format!("{SERVICES}{test}"));
    place.test(&[&spec])
}

#[test]
fn the_end_of_an_inner_scope_leaves_the_outer_one_as_it_was() {
    let run = run(r#"
def test_a():
    def inner():
        assert_true(not works(), "inside both")
    def outer():
        assert_true(not works(), "before the inner one")
        fault(db, write = deny("ENOSPC", label = "inner"), read = deny("EIO", label = "inner"), run = inner)
        assert_true(not works(), "after the inner one")
    fault(db, write = deny("EIO", label = "outer"), run = outer)
    assert_true(works(), "after both")
"#)
    .expect(0);
    let block = run.block("test_a");
    let hits: Vec<_> = block.iter().filter(|line| line.contains("deny(")).collect();
    let has = |line: &str, text: &str| line.contains(text);
    assert!(has(hits[0], "write") && has(hits[0], "[outer]"), "{block:?}");
    assert!(has(hits[1], "read") && has(hits[1], "[inner]"), "{block:?}");
    assert!(has(hits[2], "write") && has(hits[2], "[outer]"), "{block:?}");
}

#[test]
fn of_two_errors_on_one_call_the_first_that_was_declared_is_returned() {
    let run = run(r#"
def test_a():
    def inner():
        fault(db, write = deny("ENOSPC", label = "second"), run = works)
    fault(db, write = deny("EIO", label = "first"), run = inner)
"#)
    .expect(0);
    run.prints("deny(input/output error)  [first]\n");
    assert!(!run.stdout.contains("[second]"), "{}", run.stdout);
    run.prints("  note: no hits in window: db write\n");
}

#[test]
fn a_scope_that_fails_lifts_its_rules_and_leaves_those_around_it() {
    run(r#"
def test_a():
    fault_start(db, write = deny("EIO", after = 1))
    assert_true(works(), "the first write is spared")
    def inner():
        assert_true(not works(), "the second is not")
    fault(db, read = allow(), run = inner)
    assert_true(not works(), "nor is the third")
    fault_stop(api)
    assert_true(not works(), "the faults of another service are none of its own")
    fault_stop(db)
    assert_true(works(), "all is off")
    fault_stop(db)
"#)
    .expect(0);
}

#[test]
fn a_keyword_started_again_is_replaced_and_the_others_go_on_counting() {
    let run = run(r#"
def test_a():
    fault_start(db, write = deny("EIO", nth = 2, label = "second write"), read = allow())
    assert_true(works(), "the first write")
    fault_start(db, read = deny("ECONNRESET", nth = 50, label = "never"))
    assert_true(not works(), "the second write, counted from the first start")
    assert_true(works(), "the third")
    fault_start(db, write = deny("ENOSPC", label = "full"))
    assert_true(not works(), "the rule in place of the first")
    fault_stop(db)
    assert_true(works(), "all is off")
"#)
    .expect(0);
    assert_eq!(run.stdout.matches("[second write]").count(), 1, "{}", run.stdout);
    assert_eq!(run.stdout.matches("[full]").count(), 1, "{}", run.stdout);
}

#[test]
fn what_is_left_on_ends_with_the_test() {
    let run = run(r#"
def test_a():
    fault_start(db, write = deny("EIO"))
def test_b():
    assert_true(works())
"#)
    .expect(0);
    run.prints("2 passed, 0 failed");
}

#[test]
fn calls_of_several_services_cannot_be_counted_together_with_others() {
    let run = run(r#"
leaf = service("leaf", "{bin}/mock-db", interface("main", "tcp", 5433), env = {"PORT": "5433"},
    ops = {"all": op(syscalls = ["connect", "write"])})
def test_a():
    fault(leaf, all = deny("EIO", nth = 1, direction = "out"), run = lambda: None)
    fault(leaf, all = deny("EIO", nth = 1), run = lambda: None)
"#)
    .expect(2);
    run.prints(
        "  reason: fault(): all= covers connects of other services and calls of leaf itself",
    );
    run.prints("; add direction=\"out\"").prints("  at: ").prints("spec.star:13\n");
}
