//! What services print.

use super::project::Place;

#[test]
fn a_failed_test_shows_the_last_lines_of_each_service() {
    let place = Place::new();
    let spec = place.spec(
        "spec.star",
        r#"
db = service("db", "/bin/sh", interface("main", "tcp", 5432),
    args = ["-c", "for i in $(seq 100); do echo line $i; done; echo oops >&2; exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5432"))
def test_a():
    assert_eq(db.main.send(data = "PING"), "PING")
"#,
    );
    let run = place.test(&[&spec]).expect(2);
    run.prints("  reason: assert_eq: \"PONG\" != \"PING\"\n").prints("    oops\n");
    run.prints("    line 100\n");
    assert!(!run.stdout.contains("    line 80\n"), "{}", run.stdout);
}

#[test]
fn a_flood_stops_nothing_and_takes_no_memory() {
    let place = Place::new();
    let spec = place.spec(
        "spec.star",
        r#"
flood = service("flood", "/bin/sh", interface("main", "tcp", 7001), args = ["-c", "yes & yes >&2 & tr '\\0' x < /dev/zero"])
db = service("db", "{bin}/mock-db", interface("main", "tcp", 5432), healthcheck = tcp("localhost:5432"))
def test_a():
    for _ in range(200):
        assert_eq(db.main.send(data = "PING"), "PONG")
"#,
    );
    // The flood's own calls are no concern of this test.
    let _shared = super::project::share_machine();
    let mut child = place.faultbox_test(&["--trace", "off", &spec]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut largest = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        largest = largest.max(kib);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let run = super::project::await_end(child, std::time::Instant::now()).expect(0);
    run.prints("1 passed, 0 failed");
    assert!(largest > 0 && largest < 200 * 1024, "{largest} KiB");
    super::litter::assert_none(&place, std::time::Duration::from_secs(2));
}
