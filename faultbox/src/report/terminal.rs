//! Results as people read them (language.md 1.16.2 to 1.16.7).

use std::io::{self, Write};

use super::{
    MatrixReport, Outcome, Style, TestReport,
    firing::never_fired,
    plain::{counted, lines, one_line},
    replay::replay_command,
    rule_lines::rule_lines,
    service_lines::{output_lines, summary_lines},
    trace_lines::trace_lines,
};

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

    /// The block of a test that ran once. An interrupted one has no verdict and so no block: the
    /// final line counts it.
    pub fn test(&mut self, report: &TestReport) -> io::Result<()> {
        let (verdict, passed) = match &report.outcome {
            Outcome::Passed => (self.style.pass(), true),
            Outcome::Failed { .. } => (self.style.fail(), false),
            Outcome::Interrupted => return Ok(()),
        };
        if passed && self.style.only_failures {
            return Ok(());
        }
        let (name, millis) = (one_line(&report.name), report.duration.as_millis());
        let seed = report.seed;
        let mut block = vec![format!("--- {verdict}: {name} ({millis}ms, seed={seed}) ---")];
        block.extend(self.body(report));
        self.write(&block)
    }

    /// The block of a test that ran several times, from the reports of all its runs in their
    /// order: how many passed, and the details of the first that did not.
    pub fn runs(&mut self, reports: &[TestReport]) -> io::Result<()> {
        let finished: Vec<_> =
            reports.iter().filter(|it| it.outcome != Outcome::Interrupted).collect();
        let Some(first) = finished.first() else {
            return Ok(());
        };
        let total = finished.len();
        let passed = finished.iter().filter(|it| it.outcome == Outcome::Passed).count();
        let failure = finished.iter().find(|it| it.outcome != Outcome::Passed);
        let repeated = self.repeated.get_or_insert_default();
        repeated.runs += total;
        repeated.failed |= failure.is_some();
        repeated.by_chance |= finished
            .iter()
            .flat_map(|report| &report.windows)
            .flat_map(|window| &window.rules)
            .any(|rule| !rule.rule.options.probability.is_certain())
            || finished.iter().any(|report| report.has_overlapped);
        let name = one_line(&first.name);
        let mut block = Vec::new();
        if let Some(failure) = failure {
            let (fail, seed) = (self.style.fail(), failure.seed);
            block.push(format!(
                "--- {fail}: {name} ({passed}/{total} runs passed, first failing seed={seed}) ---"
            ));
            block.extend(self.body(failure));
        } else {
            if self.style.only_failures {
                return Ok(());
            }
            let pass = self.style.pass();
            block.push(format!("--- {pass}: {name} ({passed}/{total} runs) ---"));
            // A run that tested nothing is worth its details although it passed.
            let telling = |it: &&&TestReport| {
                self.style.debug || it.dropped > 0 || !it.warnings.is_empty() || never_fired(it)
            };
            if let Some(report) = finished.iter().find(telling) {
                block.extend(self.body(report));
            }
        }
        self.write(&block)
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

    /// Everything under the header.
    fn body(&self, report: &TestReport) -> Vec<String> {
        let style = self.style;
        let mut block = Vec::new();
        if style.debug
            && let Some(returned) = &report.returned
        {
            block.push(format!("  return: {}", one_line(returned)));
        }
        if report.kind.is_brief() && report.outcome == Outcome::Passed && !style.debug {
            block.extend(self.warnings(report));
            return block;
        }
        let failed = if let Outcome::Failed { reason, location, .. } = &report.outcome {
            let mut reason = lines(reason).into_iter();
            block.push(format!("  reason: {}", reason.next().unwrap_or_default()));
            block.extend(reason.map(|line| format!("          {line}")));
            if let Some(location) = location {
                block.push(format!("  at: {}:{}", one_line(&location.file), location.line));
            }
            block.push(format!("  replay: {}", replay_command(report)));
            true
        } else {
            false
        };
        block.extend(trace_lines(report, style.debug));
        block.extend(rule_lines(report, style));
        block.extend(self.warnings(report));
        if failed || style.debug || never_fired(report) {
            block.extend(summary_lines(&report.services));
        }
        if failed {
            block.extend(output_lines(&report.services));
        }
        block
    }

    /// What is no failure and has to be said all the same.
    fn warnings(&self, report: &TestReport) -> Vec<String> {
        let warning = self.style.warning();
        let mut lines = Vec::new();
        if report.dropped > 0 {
            let records = counted(report.dropped, "trace record");
            lines.push(format!("  {warning}: {records} dropped (counters are exact)"));
        }
        lines.extend(report.warnings.iter().map(|it| format!("  {warning}: {}", one_line(it))));
        lines
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
