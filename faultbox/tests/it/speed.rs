//! How long a test takes.

use super::project::{Place, finish, have_machine_alone, is_slow, not_tested, say};

/// Median, from service start to verdict.
const LIMIT: u32 = 60;

#[test]
fn a_test_of_two_services_takes_at_most_60_milliseconds() {
    if is_slow() {
        not_tested("speed: FAULTBOX_TEST_SLOW is set");
        return;
    }
    let place = Place::new();
    let _alone = have_machine_alone();
    let mut times: Vec<u32> = (0..20)
        .map(|_| {
            let arguments = ["--quiet", "specs/tutorial/fault-test.star", "--test", "happy_path"];
            let run = finish(place.faultbox_test(&arguments)).expect(0);
            let header = run.block("test_happy_path")[0].to_owned();
            header.split(['(', 'm']).find_map(|it| it.parse().ok()).unwrap()
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2];
    say(&format!("start to verdict, two services, ms: {times:?}"));
    assert!(median <= LIMIT, "median {median} ms of {times:?}");
}
