//! `-j`: runs side by side, and results that do not depend on how many.

use super::project::{Place, is_slow, run_text};

/// Tests of which the earlier ones take longer.
const SLOW_FIRST: &str = r#"
def take(time):
    print("taking " + time)
    sleep(time)

def test_a():
    take("400ms")

def test_b():
    take("200ms")

def test_c():
    take("1ms")

def test_d():
    take("2ms")
"#;

#[test]
fn a_seed_has_the_same_verdict_however_many_run_at_once() {
    let runs = if is_slow() { "12" } else { "200" };
    let header = |jobs: &str| {
        let arguments = ["specs/tutorial/chance.star", "--runs", runs, "--seed", "7", "-j", jobs];
        let run = Place::new().test(&arguments).expect(2);
        let last = run.stdout.lines().last().unwrap().to_owned();
        (run.block("test_partial_failure")[0].to_owned(), last)
    };
    let one = header("1");
    assert!(one.0.contains(" runs passed, first failing seed="), "{one:?}");
    assert_eq!(header("2"), one);
    assert_eq!(header("8"), one);
}

#[test]
fn what_is_printed_comes_in_order_and_each_run_as_a_whole() {
    let run = run_text(SLOW_FIRST, &["-j", "4"]).expect(0);
    let headers: Vec<_> = run.stdout.lines().filter(|line| line.starts_with("--- ")).collect();
    assert_eq!(headers.len(), 4, "{}", run.stdout);
    for (header, test) in headers.iter().zip(["test_a", "test_b", "test_c", "test_d"]) {
        assert!(header.starts_with(&format!("--- PASS: {test} (")), "{headers:?}");
    }
    let said: Vec<_> = run
        .stderr
        .lines()
        .filter(|line| line.contains("test=test_") || line.starts_with("taking "))
        .map(|line| line.rsplit("test=").next().unwrap_or(line))
        .collect();
    let expected = ["a", "b", "c", "d"].iter().zip(["400ms", "200ms", "1ms", "2ms"]);
    let expected: Vec<_> = expected
        .flat_map(|(test, time)| {
            let test = format!("test_{test}");
            [test.clone(), format!("taking {time}"), format!("{test}  result=pass")]
        })
        .collect();
    assert_eq!(said, expected, "{}", run.stderr);
}

#[test]
fn they_do_run_at_the_same_time() {
    let asleep = "def test_a():\n    sleep(\"1s\")\n";
    let spec: String =
        ["a", "b", "c", "d"].map(|it| asleep.replace("_a", &format!("_{it}"))).concat();
    let run = run_text(&spec, &["-j", "4"]).expect(0);
    let time = run.elapsed.as_secs_f64();
    assert!(is_slow() || time < 3.0, "{time} s");
}

/// Two that fail among three that pass.
const TWO_FAIL: &str = r#"
def test_a():
    sleep("100ms")

def test_b():
    fail("b")

def test_c():
    pass

def test_d():
    fail("d")

def test_e():
    pass
"#;

#[test]
fn no_more_are_begun_after_as_many_failures_as_are_wanted() {
    for (flags, end) in [
        (&["--fail-fast"][..], "1 passed, 1 failed, 3 not run (stopped after the first failure)"),
        (&["--max-fail", "1"], "1 passed, 1 failed, 3 not run (stopped after the first failure)"),
        (&["--max-fail", "2"], "2 passed, 2 failed, 1 not run (stopped after 2 failures)"),
        (&["--max-fail", "3"], "3 passed, 2 failed"),
    ] {
        for jobs in ["1", "3"] {
            let run = run_text(TWO_FAIL, &[flags, &["-j", jobs]].concat()).expect(2);
            assert_eq!(run.stdout.lines().last(), Some(end), "{flags:?} -j {jobs}");
        }
    }
    let repeated = run_text(TWO_FAIL, &["--runs", "3", "--test", "d", "--fail-fast"]).expect(2);
    repeated
        .prints("--- FAIL: test_d (0/1 runs passed, first failing seed=0) ---")
        .prints("\n0 passed, 1 failed, 2 not run (stopped after the first failure)\n");
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    for flags in [["-j", "0"], ["-j", "-1"], ["--jobs", "many"], ["--max-fail", "0"]] {
        run_text(TWO_FAIL, &flags).expect(1).says(flags[1]);
    }
    run_text(TWO_FAIL, &["--fail-fast", "--max-fail", "2"]).expect(1).says("cannot be used with");
}
