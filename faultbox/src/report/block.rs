//! What stands under the header of a test (language.md 1.16.2, 1.16.3).

use super::{
    Outcome, Style, TestReport,
    firing::never_fired,
    plain::{counted, lines, one_line},
    replay::replay_command,
    rule_lines::rule_lines,
    service_lines::{output_lines, summary_lines},
    trace_lines::trace_lines,
};

/// Everything under the header.
pub(super) fn details(report: &TestReport, style: Style) -> Vec<String> {
    let mut block = Vec::new();
    if style.debug
        && let Some(returned) = &report.returned
    {
        block.push(format!("  return: {}", one_line(returned)));
    }
    if report.kind.is_brief() && report.outcome == Outcome::Passed && !style.debug {
        block.extend(warnings(report, style));
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
    block.extend(warnings(report, style));
    if failed || style.debug || never_fired(report) {
        block.extend(summary_lines(&report.services));
    }
    if failed {
        block.extend(output_lines(&report.services));
    }
    block
}

/// What is no failure and has to be said all the same.
fn warnings(report: &TestReport, style: Style) -> Vec<String> {
    let warning = style.warning();
    let mut lines = Vec::new();
    if report.dropped > 0 {
        let records = counted(report.dropped, "trace record");
        lines.push(format!("  {warning}: {records} dropped (counters are exact)"));
    }
    lines.extend(report.warnings.iter().map(|it| format!("  {warning}: {}", one_line(it))));
    lines
}
