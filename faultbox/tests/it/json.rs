//! Results for other programs: `--format json` and `--output` (language.md 4.3).

use std::fs;

use serde_json::Value;

use super::project::Place;

const SPEC: &str = r#"
BIN = "{root}/bin"

db = service("db", BIN + "/mock-db",
    interface("main", "tcp", 5432),
    healthcheck = tcp("localhost:5432"),
)

def test_pings():
    assert_eq(db.main.send(data = "PING"), "PONG")

def test_refuses():
    def ping():
        return db.main.send(data = "PING")
    fault(db, read = deny("EIO", label = "bad line"), run = ping)
    fail("as it should")
"#;

fn spec(place: &Place) -> String {
    let root = super::project::root();
    place.spec("results.star", &SPEC.replace("{root}", root.to_str().unwrap()))
}

#[track_caller]
fn check(document: &Value, spec: &str) {
    assert_eq!((&document["version"], &document["star_file"]), (&2.into(), &spec.into()));
    assert_eq!((&document["pass"], &document["fail"]), (&1.into(), &1.into()), "{document:#}");
    let [first, second] = &document["tests"].as_array().unwrap()[..] else {
        panic!("{document:#}")
    };
    assert_eq!((&first["name"], &first["result"]), (&"test_pings".into(), &"pass".into()));
    assert_eq!((&second["name"], &second["result"]), (&"test_refuses".into(), &"fail".into()));
    assert_eq!(second["reason"], "as it should");
    assert_eq!(second["failure_type"], "assertion");
    assert!(second["replay_command"].as_str().unwrap().contains("--test refuses --seed 5"));
    let fault = &second["faults"][0];
    assert_eq!((&fault["service"], &fault["label"]), (&"db".into(), &"bad line".into()));
    assert_eq!((&fault["action"], &fault["errno"]), (&"deny".into(), &"EIO".into()));
    let codes: Vec<_> = second["diagnostics"].as_array().unwrap().iter().collect();
    assert!(
        codes.iter().any(|it| it["code"] == "FAULT_NOT_FIRED"),
        "the driver is exempt: {codes:?}"
    );
    assert!(first["syscall_summary"]["db"]["total"].as_u64().unwrap() > 0);
    let events = first["events"].as_array().unwrap();
    assert!(events.iter().any(|it| it["event_type"] == "lifecycle.ready" && it["service"] == "db"));
    assert!(events.iter().any(|it| it["event_type"] == "step_send.db"));
}

#[test]
fn standard_output_is_one_document_if_asked_for() {
    let place = Place::new();
    let spec = spec(&place);
    let run = place.test(&["--format", "json", "--seed", "5", &spec]).expect(2);
    check(&serde_json::from_str(&run.stdout).unwrap(), &spec);
    // What is said on the way is where it always is.
    run.says("running test");
}

#[test]
fn a_file_gets_it_beside_what_people_read() {
    let place = Place::new();
    let spec = spec(&place);
    let file = place.path.join("results.json");
    fs::write(&file, "of yesterday").unwrap();
    let output = file.to_str().unwrap();
    let run = place.test(&["--output", output, "--seed", "5", &spec]).expect(2);
    run.prints("--- PASS: test_pings (").prints("\n1 passed, 1 failed\n");
    check(&serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap(), &spec);
    let left: Vec<_> =
        fs::read_dir(&place.path).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left.len(), 2, "the spec and its results: {left:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_anything_runs() {
    let place = Place::new();
    let spec = spec(&place);
    for output in ["/none/such/results.json", place.path.to_str().unwrap()] {
        let run = place.test(&["--output", output, &spec]).expect(1);
        run.says("error: --output ");
        assert!(run.stdout.is_empty() && !run.stderr.contains("running test"), "{run:?}");
    }
}
