//! Counting tests: reads the line with which every libtest binary ends, and adds them up.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed: u64,
    /// Tests that did not hold, and runs that broke off before they could say.
    pub(crate) failed: u64,
    /// Tests that did not run.
    pub(crate) skipped: u64,
    /// Result lines seen: one per test binary.
    pub(crate) binaries: u64,
}

impl Tally {
    /// Counts `line` if it is a result line, such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    ///
    /// A test that prints without a newline can push the result line to the right, so it may start anywhere.
    pub(crate) fn line(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let Some((verdict, counts)) = result.split_once(". ") else {
            return;
        };
        if !matches!(verdict, "ok" | "FAILED") {
            return;
        }
        let count = |what: &str| {
            counts.split(';').find_map(|part| {
                let (number, name) = part.trim().split_once(' ')?;
                (name == what).then(|| number.parse::<u64>().ok())?
            })
        };
        if let (Some(passed), Some(failed), Some(ignored)) =
            (count("passed"), count("failed"), count("ignored"))
        {
            self.passed += passed;
            self.failed += failed;
            self.skipped += ignored;
            self.binaries += 1;
        }
    }

    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.binaries += other.binaries;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally
    }

    #[test]
    fn result_lines_add_up() {
        let t = tally(
            "running 4 tests\ntest a ... ok\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s\n",
        );
        assert_eq!(t, Tally { passed: 8, failed: 2, skipped: 1, binaries: 2 });
        assert_eq!(t.to_string(), "8 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn skipped_is_said_only_when_there_is_something_to_say() {
        assert_eq!(
            tally("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured").to_string(),
            "1 passed, 0 failed"
        );
    }

    #[test]
    fn a_result_behind_unfinished_output_counts() {
        let t = tally(
            "no newline heretest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!((t.passed, t.binaries), (1, 1));
    }

    #[test]
    fn other_lines_do_not_count() {
        for line in [
            "",
            "test result: maybe",
            "test result: ok. x passed; 0 failed; 0 ignored",
            "2 passed, 0 failed",
        ] {
            assert_eq!(tally(line), Tally::default(), "{line}");
        }
    }
}
