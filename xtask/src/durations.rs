//! How long each test of a guest took: what a suite that has to stay short is judged by.

use std::time::{Duration, Instant};

/// Tests with the time between their result and the one before, which is theirs as long as one runs after the other.
pub(crate) struct Durations {
    last: Instant,
    tests: Vec<(Duration, String)>,
}

impl Durations {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), tests: Vec::new() }
    }

    /// Takes the time if `line` is the result of a test, such as `test kill::leaves_nothing ... ok`.
    pub(crate) fn line(&mut self, line: &str) {
        let now = Instant::now();
        if line.starts_with("running ") {
            self.last = now;
        }
        if let Some(name) = name(line) {
            self.tests.push((now - self.last, name.to_owned()));
            self.last = now;
        }
    }

    /// The `count` slowest, a line each, slowest first.
    pub(crate) fn slowest(mut self, count: usize) -> Vec<String> {
        self.tests.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.tests
            .iter()
            .take(count)
            .map(|(time, name)| format!("{:>7.1} s  {name}", time.as_secs_f64()))
            .collect()
    }
}

fn name(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (!name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_of_tests_have_a_name() {
        assert_eq!(name("test a::b ... ok"), Some("a::b"));
        assert_eq!(name("test a::b ... noise of the test, and then its end"), Some("a::b"));
        for line in
            ["test result: ok. 3 passed; 0 failed", "a test ... ok", "test of what ... ok", ""]
        {
            assert_eq!(name(line), None, "{line}");
        }
    }

    #[test]
    fn the_slowest_come_first() {
        let mut durations = Durations::new();
        durations.line("test quick ... ok");
        std::thread::sleep(Duration::from_millis(20));
        durations.line("test slow ... ok");
        let lines = durations.slowest(1);
        assert!(matches!(&lines[..], [line] if line.ends_with(" s  slow")), "{lines:?}");
    }
}
