//! `assert_eq`, `assert_true`, `fail`, and what a failure carries.

use super::{failure, load_error, reason, run};
use crate::spec::{FailureKind, Location};

#[test]
fn what_holds_passes() {
    let (result, _) = run("assert_eq(1, 1)\nassert_eq([1], [1], \"same\")\nassert_true([0])");
    assert_eq!(result, Ok(None));
}

#[test]
fn assert_eq_shows_both_sides_and_the_message() {
    assert_eq!(reason("assert_eq(1, \"1\")"), "assert_eq: 1 != \"1\"");
    assert_eq!(reason("assert_eq(1, 2, \"count\")"), "assert_eq: 1 != 2 (count)");
    assert_eq!(reason("assert_eq(1, 2, msg = \"count\")"), "assert_eq: 1 != 2 (count)");
    assert_eq!(reason("assert_eq(1, 2, message = \"count\")"), "assert_eq: 1 != 2 (count)");
    assert_eq!(reason("assert_eq(actual = [], expected = {})"), "assert_eq: [] != {}");
    assert_eq!(reason("assert_eq(None, False, \"\")"), "assert_eq: None != False");
}

#[test]
fn assert_true_shows_the_message_or_says_what_is_false() {
    assert_eq!(reason("assert_true(\"\")"), "assert_true: condition is false");
    assert_eq!(reason("assert_true(1 > 2, \"order\")"), "assert_true: order");
    assert_eq!(reason("assert_true(0, message = \"order\")"), "assert_true: order");
}

#[test]
fn fail_gives_its_words_as_the_reason() {
    assert_eq!(reason("fail(\"no luck\")"), "no luck");
    assert_eq!(reason("fail(msg = \"no luck\")"), "no luck");
    assert_eq!(reason("fail(\"a\", 1, [2])"), "a 1 [2]");
    assert_eq!(reason("fail()"), "fail() was called");
}

#[test]
fn misuse_names_the_builtin() {
    assert_eq!(reason("assert_eq(1)"), "assert_eq(): needs the actual and the expected value");
    assert_eq!(reason("assert_true()"), "assert_true(): needs a condition");
    assert_eq!(
        reason("assert_true(True, hint = 1)"),
        "assert_true(): unknown keyword \"hint\"; valid: cond, msg, message"
    );
    assert_eq!(
        reason("assert_eq(1, 1, \"a\", \"b\")"),
        "assert_eq(): one positional argument too many (string)"
    );
}

#[test]
fn a_failure_knows_its_kind_and_its_place() {
    for (lines, kind) in [
        ("assert_eq(1, 2)", FailureKind::Assertion),
        ("assert_true(False)", FailureKind::Assertion),
        ("fail(\"x\")", FailureKind::Fail),
        ("assert_true()", FailureKind::Error),
        ("1 // 0", FailureKind::Error),
        ("[][1]", FailureKind::Error),
        ("db.main.send()", FailureKind::Error),
    ] {
        let failure = failure(&format!("x = 1\n{lines}"));
        assert_eq!(failure.kind, kind, "{lines}");
        let place = Location { file: "a.star".to_owned(), line: 5, column: 5 };
        assert_eq!(failure.location, Some(place), "{lines}");
    }
}

#[test]
fn the_place_is_that_of_the_innermost_call() {
    let failure =
        failure("def inner():\n    fail(\"x\")\nfault(db, write = deny(\"EIO\"), run = inner)");
    assert_eq!(failure.location.unwrap().to_string(), "a.star:5:9");
}

#[test]
fn the_first_failure_ends_the_test() {
    let (result, calls) = run("print(1)\nassert_true(False)\nprint(2)");
    assert!(result.is_err());
    assert_eq!(calls, ["print 1"]);
}

#[test]
fn fail_at_load_is_an_error_of_the_spec() {
    assert_eq!(load_error("x = 1\nfail(\"wrong setup\")\n"), "a.star:2:1: wrong setup");
    assert_eq!(load_error("assert_eq(1, 2)\n"), "a.star:1:1: assert_eq: 1 != 2");
}

#[test]
fn what_a_test_returns_is_shown_unless_it_is_none() {
    assert_eq!(run("return (1, \"a\")").0, Ok(Some("(1, \"a\")".to_owned())));
    assert_eq!(run("return None").0, Ok(None));
}
