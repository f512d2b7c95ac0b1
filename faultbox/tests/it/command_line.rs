//! Flags, usage and exit codes (language.md 1.16, 2.8 and 4.1).

use std::{fs, io::Read};

use super::project::{Finished, Place, engine, finish, share_machine};

fn faultbox(arguments: &[&str]) -> Finished {
    let _shared = share_machine();
    finish(Place::new().faultbox(arguments))
}

#[test]
fn without_a_command_or_with_help_the_usage_is_printed() {
    for arguments in [&[][..], &["--help"], &["help"], &["test", "--help"]] {
        let run = faultbox(arguments).expect(0);
        run.prints("Usage: faultbox");
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(faultbox(&["--version"]).expect(0).stdout, "faultbox 0.1.0\n");
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    for arguments in [
        &["tset"][..],
        &["test", "--no-such-flag", "specs/tutorial/first-test.star"],
        &["test", "--runs", "-1", "specs/tutorial/first-test.star"],
        &["test", "--runs", "0", "specs/tutorial/first-test.star"],
        &["test", "--seed", "x", "specs/tutorial/first-test.star"],
        &["test", "--show", "some", "specs/tutorial/first-test.star"],
        &["test", "--engine", "magic", "specs/tutorial/first-test.star"],
        &["test", "--timeout", "5", "specs/tutorial/first-test.star"],
        &["test", "--test"],
    ] {
        let run = faultbox(arguments).expect(1);
        assert_eq!(run.stdout, "", "{arguments:?}");
        run.says("error: ");
    }
    faultbox(&["tset"]).says("Usage: faultbox");
}

#[test]
fn a_negative_number_is_a_value_out_of_range_and_no_unknown_flag() {
    let run = faultbox(&["test", "--runs", "-1"]).expect(1);
    run.says("invalid value '-1' for '--runs <N>': -1 is not in 1..");
    assert!(!run.stderr.contains("tip:"), "{}", run.stderr);
    faultbox(&["test", "--seed", "-1"]).expect(1).says("invalid value '-1' for '--seed <N>'");
}

#[test]
fn flags_may_stand_anywhere_and_be_joined_by_an_equals_sign() {
    let place = Place::new();
    let engine = format!("--engine={}", engine());
    let arguments =
        ["test", "--seed=7", "specs/tutorial/first-test.star", "--test=ping", &engine, "--quiet"];
    let _shared = share_machine();
    let run = finish(place.faultbox(&arguments)).expect(0);
    run.prints("--- PASS: test_ping (").prints("ms, seed=7) ---").prints("1 passed, 0 failed");
    assert_eq!(run.stderr, "");
}

#[test]
fn without_a_file_the_default_one_is_run_or_missed() {
    let place = Place::new();
    let _shared = share_machine();
    let mut command = place.faultbox_test(&["--quiet"]);
    command.current_dir(&place.path);
    finish(command).expect(1).says("error: no spec given and there is no faultbox.star here");
    let source = fs::read_to_string(super::project::root().join("specs/tutorial/first-test.star"));
    place.spec("faultbox.star", &source.unwrap().replace("\"bin\"", "\"{bin}\""));
    let mut command = place.faultbox_test(&["--quiet"]);
    command.current_dir(&place.path);
    finish(command).expect(0).prints("4 passed, 0 failed");
}

#[test]
fn a_name_that_no_test_has_is_an_error_that_lists_those_there_are() {
    let run = Place::new().test(&["specs/tutorial/first-test.star", "--test", "pong"]).expect(1);
    run.says("error: no test matches \"pong\"").says("test_ping").says("test_set_and_get");
    assert_eq!(run.stdout, "");
}

#[test]
fn several_files_run_in_order_with_one_summary() {
    let run =
        Place::new().test(&["specs/tutorial/ops.star", "specs/tutorial/first-test.star"]).expect(0);
    run.prints("\n\n5 passed, 0 failed\n");
    assert_eq!(run.stdout.matches(" passed, ").count(), 1);
    let at = |text| run.stdout.find(text).unwrap();
    assert!(at("test_persist_failure") < at("test_missing_key"));
}

#[test]
fn several_runs_count_seeds_upwards_and_both_results() {
    let place = Place::new();
    let spec = place.spec(
        "chance.star",
        r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))

def test_chance():
    def scenario():
        assert_eq(api.get(path = "/data/x").status, 404)
    fault(db, write = deny("EIO", probability = "50%"), run = scenario)
"#,
    );
    let arguments = [spec.as_str(), "--runs", "8", "--seed", "3"];
    let run = place.test(&arguments).expect(2);
    let header = run.block("test_chance")[0].to_owned();
    assert!(header.contains("/8 runs passed, first failing seed="), "{header}");
    let passed: u32 = header.split(['(', '/']).nth(1).unwrap().parse().unwrap();
    assert!(passed > 0 && passed < 8, "{header}");
    run.prints(&format!("\n{passed} passed, {} failed\n", 8 - passed));
    // The same seeds, the same decisions.
    assert_eq!(place.test(&arguments).expect(2).block("test_chance")[0], header);
    // The seed that is printed replays the failure.
    let seed = header.rsplit("seed=").next().unwrap().trim_end_matches(") ---");
    place.test(&[&spec, "--seed", seed]).expect(2);
}

#[test]
fn show_fail_hides_what_passed() {
    let run = Place::new().test(&["specs/tutorial/first-test.star", "--show", "fail"]).expect(0);
    assert_eq!(run.stdout, "\n4 passed, 0 failed\n");
}

#[test]
fn results_go_to_standard_output_and_everything_else_to_standard_error() {
    let place = Place::new();
    let spec = place.spec(
        "print.star",
        r#"
print("loading")
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
def test_a():
    print("hello", 7)
def test_b():
    print("again")
"#,
    );
    let run = place.test(&[&spec, "--debug"]).expect(0);
    run.says("hello 7\n").says("again\n").says("[db] ").says("engine: ");
    assert_eq!(run.stderr.matches("loading").count(), 1, "{}", run.stderr);
    for text in ["hello", "loading", "[db] ", "INF"] {
        assert!(!run.stdout.contains(text), "{text} in {}", run.stdout);
    }
    let quiet = place.test(&[&spec, "--quiet"]).expect(0);
    assert_eq!(quiet.stderr, "loading\nhello 7\nagain\n");
}

#[test]
fn a_reader_that_goes_away_changes_nothing_but_what_is_read() {
    // `| head -c 1`, and `2>&1 | head -c 1`.
    for is_stderr_closed_too in [false, true] {
        let place = Place::new();
        let _shared = share_machine();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = place.faultbox_test(&["--debug", "specs/tutorial/first-test.star"]);
        if is_stderr_closed_too {
            command.stderr(writer.try_clone().unwrap());
        }
        command.stdout(writer);
        let child = command.spawn().unwrap();
        // With it goes the last copy of the writing end on this side.
        drop(command);
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        let run = super::project::await_end(child, std::time::Instant::now());
        assert!(!run.stderr.contains("panic") && !run.stderr.contains("Broken pipe"), "{run:?}");
        // The exit code says how the tests ended, whoever has read it.
        assert_eq!(run.code, 0, "{run:?}");
        super::litter::assert_none(&place, std::time::Duration::from_secs(2));
    }
}
