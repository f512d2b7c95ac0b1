//! Rules and what they did, in the words of specs.

use std::fmt::Write;

use super::{RuleReport, plain::one_line};
pub(crate) use crate::trace::decision_text;
use crate::{
    protocol::go_duration,
    spec::{FaultAction, signal_name},
};

/// `deny(EIO)`, `delay(500ms)`, `returns(0)`, `crash(KILL)`, `allow()`.
pub(super) fn action_text(action: FaultAction) -> String {
    match action {
        FaultAction::Deny(errno) => format!("deny({errno})"),
        FaultAction::Delay(time) => format!("delay({})", go_duration(time)),
        FaultAction::Return(value) => format!("returns({value})"),
        FaultAction::Crash(signal) => format!("crash({})", signal_name(signal)),
        FaultAction::Allow => "allow()".to_owned(),
        FaultAction::Trace => "trace".to_owned(),
    }
}

/// A rule as its line shows it, without the line's end.
pub(super) fn rule_line(service: &str, report: &RuleReport) -> String {
    let rule = &report.rule;
    let calls: Vec<_> = rule.syscalls.iter().map(|it| it.name()).collect();
    let kind = if rule.action == FaultAction::Trace { "trace" } else { "fault" };
    let mut line = format!(
        "  {kind} rule on {}: {}={} → filter:[{}]",
        one_line(service),
        one_line(&rule.keyword),
        action_text(rule.action),
        calls.join(",")
    );
    // Writing to a string cannot fail.
    if let Some(path) = &rule.path {
        let _ = write!(line, " path={}", one_line(path.as_str()));
    }
    if !report.inbound.is_empty() {
        let _ = write!(line, " (in: {})", one_line(&report.inbound.join(",")));
    }
    let options = &rule.options;
    if let Some(to) = &options.to {
        let _ = write!(line, " to={}", one_line(to));
    }
    if !options.probability.is_certain() {
        let _ = write!(line, " probability={}", options.probability);
    }
    if let Some(nth) = options.nth {
        let _ = write!(line, " nth={nth}");
    }
    if options.after > 0 {
        let _ = write!(line, " after={}", options.after);
    }
    if let Some(max_hits) = options.max_hits {
        let _ = write!(line, " max_hits={max_hits}");
    }
    if let Some(label) = &options.label {
        let label = label.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(line, " label=\"{}\"", one_line(&label));
    }
    line
}
