//! `faultbox check` (language.md 2.8 and 4.1).

use super::project::{Finished, Place, finish, share_machine};

fn check(place: &Place, files: &[&str]) -> Finished {
    let _shared = share_machine();
    let mut arguments = vec!["check"];
    arguments.extend(files);
    finish(place.faultbox(&arguments))
}

#[test]
fn a_file_that_loads_is_ok_whether_or_not_it_has_tests() {
    let run = check(
        &Place::new(),
        &["specs/tutorial/first-test.star", "specs/domain/scenario-test.star"],
    )
    .expect(0);
    run.prints("specs/tutorial/first-test.star: ok (1 service, 4 tests)\n");
    run.prints("specs/domain/scenario-test.star: ok (2 services, ");
    assert_eq!(run.stderr, "");
}

#[test]
fn what_does_not_load_is_said_and_is_exit_code_2() {
    let place = Place::new();
    let (bad, good) = ("specs/bad/unknown-errno.star", "specs/tutorial/first-test.star");
    let unknown = check(&place, &[bad]).expect(2);
    unknown.says("error: specs/bad/unknown-errno.star:");
    assert_eq!(unknown.stdout, "");
    check(&place, &[bad, good]).expect(2).prints("first-test.star: ok (");
    check(&place, &["specs/none.star"]).expect(2).says("cannot read the spec: No such file");
}

#[test]
fn nothing_is_started() {
    let place = Place::new();
    let spec = place.spec(
        "spec.star",
        "db = service(\"db\", \"bin/none\", interface(\"main\", \"tcp\", 1))\ndef test_x(): fail(\"\")\n",
    );
    check(&place, &[&spec]).expect(0);
}

#[test]
fn no_file_is_a_usage_error() {
    check(&Place::new(), &[]).expect(1).says("Usage: faultbox check");
}
