//! Ctrl-C and SIGTERM.

use std::{
    io::{BufRead, BufReader},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    litter,
    project::{Place, await_end, share_machine},
};

/// Three tests, of which the second is to be filled in.
const SPEC: &str = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
silent = service("silent", "/bin/sleep", interface("main", "tcp", 7777), args = ["1000"])

def test_a():
    assert_eq(db.main.send(data = "PING"), "PONG")

{test_b}

def test_c():
    pass
"#;

/// A second test that computes without end.
const BUSY: &str = r#"
def test_b():
    print("now")
    for _ in range(1000000):
        for _ in range(1000000):
            pass
"#;

/// One that waits, and would pass if it were left to wait until its time is over.
const ASLEEP: &str = r#"
def b():
    print("now")
    sleep("99s")
    fail("awake")

fault_scenario("b", scenario = b, expect = expect_hang(), timeout = "100s")
"#;

/// Starts the spec and returns when the second test is under way.
fn in_the_middle(place: &Place, test_b: &str, jobs: &str) -> Child {
    let spec = place.spec("long.star", &SPEC.replace("{test_b}", test_b));
    let arguments = ["--quiet", "-j", jobs, &spec];
    let mut child = place.faultbox_test(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.find(|line| line.as_ref().is_ok_and(|it| it == "now"));
    assert!(said.is_some(), "the second test never began");
    // Nothing more is expected there, but a full pipe must not stop the runner.
    thread::spawn(move || lines.for_each(drop));
    child
}

fn interrupted_by(test_b: &str, send: impl Fn(Pid)) {
    let place = Place::new();
    let _shared = share_machine();
    let child = in_the_middle(&place, test_b, "1");
    let begin = Instant::now();
    send(Pid::from_raw(child.id() as i32));
    let run = await_end(child, begin).expect(130);
    run.prints("--- PASS: test_a (").prints("\n1 passed, 0 failed, 2 not run (interrupted)\n");
    assert!(!run.stdout.contains("test_b"), "{}", run.stdout);
    litter::assert_none(&place, Duration::from_millis(100));
}

#[test]
fn ctrl_c_stops_the_test_cleans_up_and_says_what_did_not_run() {
    // A terminal sends it to the whole group.
    interrupted_by(BUSY, |runner| killpg(runner, Signal::SIGINT).unwrap());
}

#[test]
fn a_test_that_sleeps_is_woken_and_has_not_hung() {
    interrupted_by(ASLEEP, |runner| killpg(runner, Signal::SIGINT).unwrap());
}

#[test]
fn what_is_under_way_side_by_side_is_stopped_and_has_not_failed() {
    let place = Place::new();
    let _shared = share_machine();
    let child = in_the_middle(&place, BUSY, "3");
    let begin = Instant::now();
    killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let run = await_end(child, begin).expect(130);
    run.prints(" 0 failed, ").prints(" not run (interrupted)\n");
    assert!(!run.stdout.contains("FAIL"), "{}", run.stdout);
    litter::assert_none(&place, Duration::from_millis(100));
}

#[test]
fn sigterm_does_the_same() {
    interrupted_by(BUSY, |runner| kill(runner, Signal::SIGTERM).unwrap());
}

#[test]
fn impatience_leaves_no_litter_either() {
    interrupted_by(BUSY, |runner| {
        for _ in 0..20 {
            let _ = killpg(runner, Signal::SIGINT);
            thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn services_that_are_still_starting_are_stopped_too() {
    let place = Place::new();
    let _shared = share_machine();
    let spec = place.spec(
        "starting.star",
        r#"
db = service("db", "/bin/sleep", interface("main", "tcp", 5432), args = ["1000"],
    healthcheck = tcp("localhost:5432", timeout = "100s"))
def test_a():
    pass
"#,
    );
    let mut child = place.faultbox_test(&[&spec]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|it| it.contains("target started"))));
    thread::spawn(move || lines.for_each(drop));
    let begin = Instant::now();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let run = await_end(child, begin).expect(130);
    run.prints("0 passed, 0 failed, 1 not run (interrupted)");
    assert!(run.elapsed < Duration::from_secs(2) || super::project::is_slow(), "{:?}", run.elapsed);
    litter::assert_none(&place, Duration::from_millis(100));
}
