//! What a night's runs failed of, told apart by test, reason and the faults that had fired.

use super::{FinishedRun, plain::one_line};

/// How many kinds are told apart. A reason that is different every time must not become a list as
/// long as the night.
const MOST: usize = 50;

/// Failures by kind, in the order in which the kinds came up.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    kinds: Vec<Kind>,
    /// Failures beyond the kinds that are told apart.
    others: usize,
}

/// Failures that are alike.
#[derive(Clone, Debug)]
struct Kind {
    file: String,
    test: String,
    /// With every number replaced.
    pattern: String,
    fired: Vec<String>,
    count: usize,
    /// Of the first of them.
    reason: String,
    seed: u64,
    replay: String,
}

impl Failures {
    /// Adds a run, if it failed.
    pub fn add(&mut self, run: &FinishedRun) {
        let Some(failure) = &run.failure else { return };
        let pattern = without_numbers(&failure.reason);
        let same = self.kinds.iter_mut().find(|it| {
            it.file == run.file
                && it.test == run.name
                && it.pattern == pattern
                && it.fired == run.fired
        });
        if let Some(kind) = same {
            kind.count += 1;
        } else if self.kinds.len() < MOST {
            self.kinds.push(Kind {
                file: run.file.clone(),
                test: run.name.clone(),
                pattern,
                fired: run.fired.clone(),
                count: 1,
                reason: failure.reason.clone(),
                seed: run.seed,
                replay: failure.replay.clone(),
            });
        } else {
            self.others += 1;
        }
    }

    /// The most frequent first, from a blank line on; nothing if none failed.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.kinds.is_empty() {
            return Vec::new();
        }
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|it| std::cmp::Reverse(it.count));
        let mut lines = vec![String::new(), "Failures by reason and fault:".to_owned()];
        for Kind { test, fired, count, reason, seed, replay, .. } in kinds {
            lines.push(format!("  {count}× {}: {}", one_line(test), one_line(reason)));
            let fired = match fired.as_slice() {
                [] => "none".to_owned(),
                rules => rules.join(", "),
            };
            lines.push(format!("      faults that fired: {fired}"));
            lines.push(format!("      first seed={seed}: {replay}"));
        }
        if self.others > 0 {
            lines.push(format!("  {}× others, of more kinds than are listed", self.others));
        }
        lines
    }
}

/// The text with `#` for numbers that differ in failures that are the same: process ids, ports and
/// addresses, which have many digits, and times, which have a unit. A status of HTTP is neither.
fn without_numbers(text: &str) -> String {
    /// A number of more digits than this counts for nothing.
    const FEW: usize = 3;
    let mut pattern = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|it: char| it.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|it: char| !it.is_ascii_digit()).unwrap_or(number.len());
        let (number, after) = number.split_at(end);
        let is_time = ["ms", "µs", "us", "ns", "s"].iter().any(|unit| {
            let ends = |it: &str| !it.starts_with(|it: char| it.is_alphanumeric());
            after.strip_prefix(unit).is_some_and(ends)
        });
        pattern.push_str(before);
        pattern.push_str(if is_time || number.len() > FEW { "#" } else { number });
        rest = after;
    }
    pattern + rest
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Keep, TestReport,
            sample::{deny, failed, passed},
        },
        *,
    };

    fn finished(report: TestReport, seed: u64) -> FinishedRun {
        FinishedRun::of(&TestReport { seed, ..report }, Keep::default()).unwrap()
    }

    #[test]
    fn failures_are_alike_if_test_reason_and_faults_are() {
        let broken = |it: TestReport| it.window("db", vec![deny("write", "EIO", 1)], |it| it);
        let mut failures = Failures::default();
        assert_eq!(failures.lines(), [""; 0]);
        for (seed, report) in [
            failed("test_a", "refused by port 4711"),
            passed("test_a"),
            broken(failed("test_a", "refused by port 8000")),
            broken(failed("test_a", "refused by port 8001")),
            failed("test_b", "refused by port 4711"),
            failed("test_a", "refused by\nport 1"),
        ]
        .into_iter()
        .enumerate()
        {
            failures.add(&finished(report, seed as u64));
        }
        assert_eq!(
            failures.lines().join("\n"),
            "
Failures by reason and fault:
  2× test_a: refused by port 8000
      faults that fired: db write=deny(EIO)
      first seed=2: faultbox test fault-test.star --test a --seed 2
  1× test_a: refused by port 4711
      faults that fired: none
      first seed=0: faultbox test fault-test.star --test a --seed 0
  1× test_b: refused by port 4711
      faults that fired: none
      first seed=4: faultbox test fault-test.star --test b --seed 4
  1× test_a: refused by\\nport 1
      faults that fired: none
      first seed=5: faultbox test fault-test.star --test a --seed 5"
        );
    }

    #[test]
    fn numbers_that_mean_something_are_kept() {
        for (text, pattern) in [
            ("assert_eq: 500 != 200", "assert_eq: 500 != 200"),
            ("pid 4711 on 127.0.0.1:38211", "pid # on 127.0.0.1:#"),
            ("took 3ms, 12s of 1500ms", "took #ms, #s of #ms"),
            ("2 services, 5sets", "2 services, 5sets"),
            ("é9", "é9"),
        ] {
            assert_eq!(without_numbers(text), pattern);
        }
    }

    #[test]
    fn a_reason_that_always_differs_does_not_fill_the_report() {
        let mut failures = Failures::default();
        for length in 0..MOST + 7 {
            failures.add(&finished(failed("test_a", &"x".repeat(length)), 0));
        }
        let lines = failures.lines();
        assert_eq!(lines.len(), 2 + 3 * MOST + 1);
        assert_eq!(lines.last().unwrap(), "  7× others, of more kinds than are listed");
    }
}
