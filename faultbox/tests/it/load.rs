//! Specs of several files, and several specs at once (language.md 1.15, 1.16, D14, D16).

use super::project::Place;

const TOPOLOGY: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
asked = {"n": 0}

def ask():
    asked["n"] += 1
    return db.send(data = "PING")

def expect_pong(answer):
    assert_eq(answer, "PONG")

def test_of_the_topology():
    fail("never run")
"#;

#[test]
fn a_spec_uses_services_functions_and_state_of_another_file() {
    let place = Place::new();
    std::fs::create_dir(place.path.join("lib")).unwrap();
    place.spec("lib/topology.star", TOPOLOGY);
    place.spec(
        "steps.star",
        "load(\"lib/topology.star\", \"ask\")\ndef twice(): return (ask(), ask())\n",
    );
    let spec = place.spec(
        "spec.star",
        r#"
load("lib/topology.star", "asked", "db", question = "ask")
load("steps.star", "twice")
def test_first():
    assert_eq(twice(), ("PONG", "PONG"))
    assert_eq(asked["n"], 2)
def test_second():
    def broken():
        assert_eq(db.send(data = "PING"), "")
    fault(db, write = deny("EIO"), include_driver = True, run = broken)
    assert_eq(question(), "PONG")
    assert_eq(asked["n"], 1)
"#,
    );
    let run = place.test(&[&spec]).expect(0);
    run.prints("\n2 passed, 0 failed\n");
    let note = format!(
        "note: 1 test declared in {} not run\n",
        place.path.join("lib/topology.star").display()
    );
    assert_eq!(run.stderr.matches(&note).count(), 1, "{}", run.stderr);
}

#[test]
fn a_failure_in_a_loaded_file_names_that_file_and_replays_by_the_spec() {
    let place = Place::new();
    let topology = place.spec("topology.star", TOPOLOGY);
    let source = "load(\"topology.star\", \"expect_pong\")\ndef test_x(): expect_pong(\"no\")\n";
    let spec = place.spec("spec.star", source);
    let run = place.test(&[&spec]).expect(2);
    run.prints(&format!("  at: {topology}:10\n"));
    run.prints(&format!("  replay: faultbox test {spec} --test x --seed 0\n"));
}

#[test]
fn an_error_in_a_loaded_file_is_an_error_of_the_spec() {
    let place = Place::new();
    let bad = place.spec("bad.star", "x = 1\ny = delay(\"5\")\n");
    let spec = place.spec("spec.star", "load(\"bad.star\", \"x\")\ndef test_x(): pass\n");
    let run = place.test(&[&spec]).expect(1);
    run.says(&format!("error: {bad}:2:5: delay(): bad duration \"5\""));
    assert_eq!(run.stdout, "");
}

#[test]
fn a_call_that_only_a_loaded_file_names_can_be_broken() {
    // The supervisor must be told of it before the service starts.
    let place = Place::new();
    place.spec("rules.star", "RULES = {\"shutdown\": deny(\"EIO\")}\n");
    place.spec("topology.star", TOPOLOGY);
    let spec = place.spec(
        "spec.star",
        "load(\"topology.star\", \"ask\", \"db\")\nload(\"rules.star\", \"RULES\")\n\
         def test_x(): fault(db, run = ask, **RULES)\n",
    );
    let run = place.test(&[&spec]).expect(0);
    run.prints("  fault rule on db: shutdown=deny(EIO) → filter:[shutdown]\n");
}

#[test]
fn every_file_is_a_suite_of_its_own_and_the_summary_is_one() {
    let place = Place::new();
    place.spec("topology.star", TOPOLOGY);
    let head = "load(\"topology.star\", \"ask\", \"asked\", \"expect_pong\")\n";
    let good = place.spec("good.star", &format!("{head}def test_x(): expect_pong(ask())\n"));
    let failing = place.spec("failing.star", &format!("{head}def test_x(): expect_pong(asked)\n"));
    let broken = place.spec("broken.star", "load(\"none.star\", \"x\")\n");

    // A failed test: 2. The same name in two files is two tests.
    let run = place.test(&[&failing, &good]).expect(2);
    run.prints("\n\n1 passed, 1 failed\n");
    let at = |text: &str| run.stdout.find(text).unwrap();
    assert!(at("--- FAIL: test_x (") < at("--- PASS: test_x ("));
    run.prints(&format!("  replay: faultbox test {failing} --test x --seed 0\n"));

    // A file that cannot be loaded: 1, whatever the others say, and they run.
    let run = place.test(&[&broken, &good, &failing]).expect(1);
    run.prints("\n\n1 passed, 1 failed\n");
    run.says(&format!("error: {broken}:1:6: load(\"none.star\"): cannot read "));
    place.test(&[&good, &broken]).expect(1).prints("\n\n1 passed, 0 failed\n");
    let run = place.test(&[&broken, &broken]).expect(1);
    assert_eq!(run.stdout, "");

    // A name is looked for in all of them.
    place
        .test(&[&good, &failing, "--test", "x", "--runs", "2"])
        .expect(2)
        .prints("2 passed, 2 failed\n");
    place.test(&[&good, &failing, "--test", "y"]).expect(1).says("no test matches \"y\"");
}
