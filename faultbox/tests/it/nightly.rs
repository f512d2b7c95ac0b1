//! Many runs: what is kept of them, what is said of them, and what chance makes of them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use faultbox_common::CHANCE_ALWAYS;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::project::{
    Finished, Place, finish, have_machine_alone, is_slow, root, run_text, say, wait_until,
};

/// Of every other reply of the database.
const CHANCE: &str = "specs/tutorial/chance.star";

/// The lines of a journal behind its first, by seed.
#[track_caller]
fn journal(path: &Path) -> BTreeMap<u64, bool> {
    let text = fs::read_to_string(path).unwrap();
    // The last line of one that was killed may have been cut short.
    let whole = &text[..text.rfind('\n').map_or(0, |it| it + 1)];
    let lines = whole.lines().skip(1).map(|it| serde_json::from_str::<Value>(it).unwrap());
    let mut all = BTreeMap::new();
    for line in lines {
        let seed = line["seed"].as_u64().unwrap();
        assert_eq!(line["result"]["seed"], seed);
        assert_eq!(all.insert(seed, line["failure"].is_null()), None, "seed {seed} is there twice");
    }
    all
}

/// What decides about the only matching write of a run of [`CHANCE`]: the stream of the rule
/// (`runner/chance.rs`) and the decision (`faultbox_common::decide`), written down once more.
fn passes(seed: u64) -> bool {
    let name = b"db\0write\0".iter().copied();
    let bytes = seed.to_le_bytes().into_iter().chain(name).chain([0; 8]);
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(fnv).wrapping_add(0x9e37_79b9_7f4a_7c15)) >> 32 >= CHANCE_ALWAYS / 2
}

/// As many runs, killed in the middle, and gone on with.
fn killed_and_resumed(runs: usize) {
    let place = Place::new();
    let path = place.path.join("night.jsonl");
    let (file, count) = (path.to_str().unwrap(), runs.to_string());
    let arguments = [CHANCE, "--runs", &count, "-j", "2", "--journal", file];
    let _alone = have_machine_alone();
    let mut child = place.faultbox_test(&arguments).spawn().unwrap();
    let lines = || fs::read_to_string(&path).map_or(0, |it| it.lines().count());
    assert!(wait_until(Duration::from_secs(600), || lines() > runs / 2));
    child.kill().unwrap();
    child.wait().unwrap();
    let before = journal(&path);
    // One of the lines that were counted may have been cut short.
    assert!(before.len() + 1 >= runs / 2 && before.len() < runs, "{}", before.len());

    let run = finish(place.faultbox_test(&arguments)).expect(1);
    run.says("it exists; add --resume to go on with it, or remove it");
    let run = finish(place.faultbox_test(&[&arguments[..], &["--resume"]].concat())).expect(2);
    let all = journal(&path);
    assert_eq!(all.len(), runs);
    assert!(before.iter().all(|(seed, passed)| all[seed] == *passed));
    let passed = all.values().filter(|it| **it).count();
    run.prints(&format!("\n{passed} passed, {} failed\n", runs - passed));
    let first = all.iter().find(|(_, passed)| !**passed).unwrap().0;
    run.prints(&format!("({passed}/{runs} runs passed, first failing seed={first})"));
    // Whatever was run before the kill is shown as if it had been run now.
    run.prints("\n  reason: assert_eq: 500 != 200\n")
        .prints("faults that fired: db write=deny(EIO)");
}

#[test]
fn a_night_that_was_killed_goes_on_where_it_was() {
    killed_and_resumed(if is_slow() { 12 } else { 60 });
}

#[test]
#[ignore = "a thousand runs: cargo xtask test --long"]
fn a_long_night_that_was_killed_goes_on_where_it_was() {
    killed_and_resumed(1000);
}

#[test]
fn a_journal_of_something_else_is_not_gone_on_with() {
    let place = Place::new();
    let file = place.path.join("night.jsonl");
    let file = file.to_str().unwrap();
    let spec = place.spec("own.star", "def test_a():\n    pass\n");
    place.test(&[&spec, "--journal", file]).expect(0);
    let again = |flags: &[&str]| place.test(&[&[&*spec, "--journal", file], flags].concat());
    // Nothing is left to be run.
    again(&["--resume"]).expect(0).prints("\n1 passed, 0 failed\n");
    again(&["--resume", "--timeout", "3s"]).expect(1).says("it was written with --timeout 3m0s");
    place.spec("own.star", "def test_a():\n    fail(\"now\")\n");
    again(&["--resume"]).expect(1).says("own.star, or what it loads, has changed since");
    let run = place.test(&[&spec, "--resume"]).expect(1);
    run.says("--journal");
}

#[test]
fn what_failed_is_told_apart_by_reason_and_fault() {
    // By itself it loses its database one time in fifty.
    let spec = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "/bin/sh", interface("public", "http", 8080),
    args = ["-c", "n=$(cat COUNT 2>/dev/null); n=$((n + 1)); echo $n > COUNT; [ $((n % 50)) = 0 ] && DB_ADDR=localhost:1; exec {bin}/mock-api"],
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = tcp("localhost:8080"))

def test_put():
    def scenario():
        resp = api.post(path = "/data/key", body = "value")
        assert_eq(resp.status, 200)
    fault(db, write = deny("EIO", probability = "20%"), run = scenario)
"#;
    let runs = if is_slow() { 50 } else { 200 };
    let place = Place::new();
    let count = place.path.join("count");
    let spec = place.spec("flaky.star", &spec.replace("COUNT", count.to_str().unwrap()));
    let runs_flag = runs.to_string();
    // Its memory is a file that outlives it.
    let flags = ["--runs", &runs_flag, "-j", "1", "--shared-tmp"];
    let run = place.test(&[&[spec.as_str()], &flags[..]].concat()).expect(2);
    let groups = run.stdout.split("\nFailures by reason and fault:\n").nth(1).unwrap();
    let kinds: Vec<Vec<&str>> = groups
        .lines()
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .chunks(3)
        .map(<[&str]>::to_vec)
        .collect();
    let [injected, own] = &kinds[..] else { panic!("{}", run.stdout) };
    let (injected, own) =
        if own[1].ends_with(": none") { (injected, own) } else { (own, injected) };
    assert!(injected[1].ends_with("faults that fired: db write=deny(EIO)"), "{}", run.stdout);
    assert!(own[1].ends_with("faults that fired: none"), "{}", run.stdout);
    assert!(own[0].starts_with(&format!("  {}× test_put: ", runs / 50)), "{}", run.stdout);
    assert!(own[2].starts_with("      first seed=49: faultbox test "), "{}", run.stdout);
}

#[test]
fn tests_are_repeated_until_one_fails() {
    let run = Place::new().test(&[CHANCE, "--until-fail", "-j", "2"]).expect(2);
    let first = (0..1000).find(|seed| !passes(*seed)).unwrap();
    run.prints(&format!("({first}/{} runs passed, first failing seed={first})", first + 1));
    run.prints(&format!("\n{first} passed, 1 failed\n"));
    let two = "def test_a():\n    pass\n\ndef test_b():\n    pass\n";
    run_text(two, &["--until-fail", "--runs", "3"])
        .expect(0)
        .prints("--- PASS: test_a (3/3 runs) ---\n--- PASS: test_b (3/3 runs) ---\n")
        .prints("\n6 passed, 0 failed\n");
    run_text(two, &["--until-fail", "--fail-fast"]).expect(1).says("cannot be used with");
}

#[test]
fn no_run_is_begun_after_the_last_failure_that_is_wanted() {
    let spec =
        "def test_a():\n    pass\n\ndef test_b():\n    fail(\"b\")\n\ndef test_c():\n    pass\n";
    let place = Place::new();
    let spec = place.spec("three.star", spec);
    let path = place.path.join("night.jsonl");
    let flags = ["--runs", "2", "-j", "1", "--fail-fast", "--journal", path.to_str().unwrap()];
    let run = place.test(&[&[spec.as_str()], &flags[..]].concat()).expect(2);
    run.prints("\n2 passed, 1 failed, 3 not run (stopped after the first failure)\n");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 1 + 3, "{text}");
}

#[test]
fn integration_servers_and_the_curious_are_told_more() {
    let place = Place::new();
    let junit = place.path.join("junit.xml");
    let arguments = [CHANCE, "--runs", "3", "--timings", "--junit", junit.to_str().unwrap()];
    let run = place.test(&arguments).expect(2);
    run.prints("\nTimings of 3 runs:\n  step        p50 ms    p99 ms   total s\n  sandbox ");
    // A log of a thousand runs is of use to nobody.
    assert!(!run.stderr.contains("running test"), "{}", run.stderr);
    place.test(&[CHANCE, "--runs", "2", "--debug"]).says("running test");
    let text = fs::read_to_string(junit).unwrap();
    for expected in [
        "<testsuite name=\"specs/tutorial/chance.star\" tests=\"3\" ",
        "<testcase name=\"test_partial_failure seed=0\" ",
        "<failure message=\"assert_eq: 500 != 200\" type=\"assertion\">",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

/// Failures are those that the seeds predict, one by one.
fn chance_is_what_the_seeds_say(runs: u64) {
    let place = Place::new();
    let path = place.path.join("night.jsonl");
    let arguments = [CHANCE, "--runs", &runs.to_string(), "-j", "2", "--journal"];
    let run = place.test(&[&arguments[..], &[path.to_str().unwrap()]].concat()).expect(2);
    let predicted: BTreeMap<u64, bool> = (0..runs).map(|seed| (seed, passes(seed))).collect();
    assert_eq!(journal(&path), predicted);
    let passed = predicted.values().filter(|it| **it).count();
    run.prints(&format!("\n{passed} passed, {} failed\n", runs as usize - passed));
}

#[test]
fn failures_are_those_that_the_seeds_predict() {
    chance_is_what_the_seeds_say(if is_slow() { 20 } else { 100 });
}

#[test]
#[ignore = "a thousand runs, two hundred where time means nothing: cargo xtask test --long"]
fn many_failures_are_those_that_the_seeds_predict() {
    chance_is_what_the_seeds_say(if is_slow() { 200 } else { 1000 });
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Of memory, in KiB, without files.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn by(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:"))?;
        let memory = line.split_whitespace().next()?.parse().ok()?;
        let count =
            |what: &str| Some(fs::read_dir(format!("/proc/{process}/{what}")).ok()?.count());
        Some(Self { memory, descriptors: count("fd")?, threads: count("task")? })
    }
}

/// Cgroups and network namespaces of the machine.
fn of_the_machine() -> [usize; 2] {
    let count = |command: &str| -> usize {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    };
    [
        count("find /sys/fs/cgroup -type d | wc -l"),
        count("ls -l /proc/[0-9]*/ns/net 2>/dev/null | sed 's/.*-> //' | sort -u | wc -l"),
    ]
}

#[test]
#[ignore = "takes minutes, FAULTBOX_TEST_RUNS runs or 10 000: cargo xtask test --long"]
fn a_long_night_takes_no_more_than_a_short_one() {
    let runs: usize = env::var("FAULTBOX_TEST_RUNS").map_or(10_000, |it| it.parse().unwrap());
    let place = Place::new();
    let path = place.path.join("night.jsonl");
    let count = runs.to_string();
    let _alone = have_machine_alone();
    let before = of_the_machine();
    let arguments = [CHANCE, "--runs", &count, "-j", "2", "--quiet", "--journal"];
    let begin = Instant::now();
    let child = place.faultbox_test(&[&arguments[..], &[path.to_str().unwrap()]].concat()).spawn();
    let child = child.unwrap();
    let lines = || fs::read_to_string(&path).map_or(0, |it| it.lines().count());
    let mut looks: Vec<(usize, Held)> = Vec::new();
    while let Some(held) = Held::by(child.id()) {
        looks.push((lines(), held));
        thread::sleep(Duration::from_millis(500));
        if begin.elapsed() > Duration::from_secs(1200) {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
            panic!("{looks:?}");
        }
    }
    let run: Finished = super::project::await_end(child, begin).expect(2);
    let at = |part: usize| {
        let near = |it: &&(usize, Held)| it.0 >= runs * part / 10;
        looks.iter().find(near).map_or(looks[looks.len() - 1], |it| *it)
    };
    let (early, late) = (at(1), at(9));
    let most = looks.iter().map(|it| it.1.memory).max().unwrap();
    let figures = format!(
        "{runs} runs in {:.1} s; at most {most} KiB; early {early:?}, late {late:?}",
        run.elapsed.as_secs_f64()
    );
    say(&figures);
    assert!(most <= 64 << 10, "{figures}");
    assert!(late.1.memory <= early.1.memory + (8 << 10), "{figures}");
    assert!(late.1.descriptors <= early.1.descriptors + 20, "{figures}");
    assert!(late.1.threads <= early.1.threads + 8, "{figures}");
    // The kernel takes its time with namespaces.
    let is_clean = || of_the_machine().iter().zip(before).all(|(now, before)| *now <= before);
    assert!(wait_until(Duration::from_secs(10), is_clean), "{before:?}, {:?}", of_the_machine());
}

#[test]
fn documents_are_what_their_schema_says() {
    let schema = fs::read_to_string(root().join("faultbox/schema/results-v2.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let place = Place::new();
    for (arguments, code) in [
        (&["specs/tutorial/fault-test.star"][..], 0),
        (&["specs/tutorial/ops.star"], 0),
        (&["specs/tutorial/aim.star"], 0),
        (&["specs/tutorial/never-fired.star"], 0),
        (&["specs/domain/order_flow.faults.star"], 0),
        (&["specs/domain/fault-scenarios.star"], 0),
        (&["specs/tutorial/healthcheck-timeout.star"], 2),
        (&[CHANCE, "--runs", "4"], 2),
        (&["specs/domain/events.star", "--debug"], 0),
    ] {
        let run = place.test(&[arguments, &["--format", "json"]].concat());
        assert!(run.code == code || run.code == 2, "{arguments:?}: {run:?}");
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|it| format!("{}: {it}", it.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{arguments:?}: {errors:#?}");
        assert!(!document["tests"].as_array().unwrap().is_empty());
    }
    // And it does refuse.
    let mut wrong: Value = serde_json::from_str(
        &place.test(&["specs/tutorial/first-test.star", "--format", "json"]).expect(0).stdout,
    )
    .unwrap();
    wrong["tests"][0]["result"] = "maybe".into();
    assert!(!validator.is_valid(&wrong));
}
