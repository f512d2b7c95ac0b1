//! Results as people read them (language.md 1.16.2 to 1.16.7).

use std::io::{self, Write};

use super::{Failures, FinishedRun, MatrixReport, Repetitions, Style, plain::one_line};

/// Writes blocks of finished tests, and the final line.
pub struct Terminal<W> {
    out: W,
    style: Style,
    repeated: Option<Repeated>,
    /// Whether a table was the last that was written.
    is_after_table: bool,
}

/// What the final line must know of tests that ran several times.
#[derive(Clone, Copy, Default)]
struct Repeated {
    runs: usize,
    failed: bool,
    by_chance: bool,
}

impl<W: Write> Terminal<W> {
    /// Writes to `out`.
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, repeated: None, is_after_table: false }
    }

    /// The block of a test that ran once.
    pub fn test(&mut self, run: &FinishedRun) -> io::Result<()> {
        let verdict = if run.has_passed() { self.style.pass() } else { self.style.fail() };
        if run.has_passed() && self.style.only_failures {
            return Ok(());
        }
        let (name, millis, seed) = (one_line(&run.name), run.duration.as_millis(), run.seed);
        let mut block = vec![format!("--- {verdict}: {name} ({millis}ms, seed={seed}) ---")];
        block.extend(run.details.iter().cloned());
        self.write(&block)
    }

    /// The block of a test that ran several times: how many passed, and the details of the first
    /// that did not. Nothing if none was run.
    pub fn runs(&mut self, all: &Repetitions) -> io::Result<()> {
        let Some(shown) = all.shown() else {
            return Ok(());
        };
        let (total, passed, seed) = (all.runs(), all.passed(), shown.seed);
        let repeated = self.repeated.get_or_insert_default();
        repeated.runs += total;
        repeated.failed |= passed < total;
        repeated.by_chance |= all.by_chance();
        let name = one_line(&shown.name);
        let header = if passed < total {
            let fail = self.style.fail();
            format!(
                "--- {fail}: {name} ({passed}/{total} runs passed, first failing seed={seed}) ---"
            )
        } else {
            if self.style.only_failures {
                return Ok(());
            }
            format!("--- {}: {name} ({passed}/{total} runs) ---", self.style.pass())
        };
        // A run that tested nothing is worth its details although it passed.
        let details = if passed < total || shown.is_telling { &shown.details[..] } else { &[] };
        self.write(&[&[header], details].concat())
    }

    /// What runs failed of, and what their time went into, each from a blank line on.
    pub fn findings(&mut self, failures: &Failures, timings: &[String]) -> io::Result<()> {
        let lines: Vec<_> = failures.lines().into_iter().chain(timings.iter().cloned()).collect();
        if lines.is_empty() { Ok(()) } else { self.write(&lines) }
    }

    /// The final line: counts of executed tests, and of those that were not run, with the reason.
    pub fn summary(
        &mut self,
        passed: usize,
        failed: usize,
        (not_run, why): (usize, &str),
    ) -> io::Result<()> {
        let mut end = Vec::new();
        if let Some(Repeated { runs, failed, by_chance }) = self.repeated {
            if self.style.only_failures && !failed {
                let pass = self.style.pass();
                end.push(format!("--- {pass}: all tests ({runs}/{runs} runs) ---"));
            }
            if !by_chance {
                end.push(
                    "note: --runs repeated one deterministic schedule \
                     (no probability=, parallel() or choose() used)"
                        .to_owned(),
                );
            }
        }
        end.push(String::new());
        let stopped =
            if not_run > 0 { format!(", {not_run} not run ({why})") } else { String::new() };
        end.push(format!("{passed} passed, {failed} failed{stopped}"));
        self.write(&end)?;
        self.out.flush()
    }

    /// Gives the writer back.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// The table of a matrix, from a blank line on; nothing when none of its cells was run.
    pub fn matrix(&mut self, report: &MatrixReport) -> io::Result<()> {
        let lines = report.lines(self.style);
        if lines.is_empty() {
            return Ok(());
        }
        self.write(&lines)?;
        self.is_after_table = true;
        Ok(())
    }

    /// Writes lines at once, so that nothing else comes between them. What follows a table stands
    /// apart from it.
    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = lines.join("\n");
        text.push('\n');
        if self.is_after_table && !text.starts_with('\n') {
            text.insert(0, '\n');
        }
        self.is_after_table = false;
        self.out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
