//! What rules were on and what became of them (language.md 1.16.2, 1.16.3).

use std::fmt::Write;

use super::{RuleReport, Style, TestReport, WindowReport, hints::hints, plain::one_line};
use crate::spec::FaultAction;

/// A line per rule, then what is to be said of rules that hit nothing.
pub(super) fn rule_lines(report: &TestReport, style: Style) -> Vec<String> {
    let groups = groups(&report.windows);
    let mut lines = Vec::new();
    for group in &groups {
        let Some(first) = group.first() else { continue };
        let times = repeated(group.len());
        for (i, rule) in first.rules.iter().enumerate() {
            let hits: u64 = group.iter().map(|window| hits(&window.rules[i])).sum();
            let hits = if style.debug { format!(" ({hits} hits)") } else { String::new() };
            lines.push(format!("{}{hits}{times}", rule_line(&first.service, rule)));
        }
    }
    if never_fired(report) {
        let warning = style.warning();
        lines.push(format!("  {warning}: fault rules were installed but no injections fired"));
        lines.extend(hints(report, style).into_iter().map(|hint| format!("    hint: {hint}")));
    } else {
        lines.extend(groups.iter().filter_map(|group| idle_note(group)));
    }
    lines
}

/// Whether rules that were to break something never did, in the whole test.
pub(super) fn never_fired(report: &TestReport) -> bool {
    let mut rules = report.windows.iter().flat_map(|window| &window.rules).filter(|it| breaks(it));
    rules.next().is_some_and(|first| first.counts.fired == 0)
        && rules.all(|rule| rule.counts.fired == 0)
}

/// Windows that follow each other and say the same.
fn groups(windows: &[WindowReport]) -> Vec<&[WindowReport]> {
    let same = |a: &WindowReport, b: &WindowReport| {
        a.service == b.service
            && a.rules.len() == b.rules.len()
            && a.rules.iter().zip(&b.rules).all(|(a, b)| rule_line("", a) == rule_line("", b))
    };
    windows.chunk_by(same).collect()
}

fn repeated(count: usize) -> String {
    if count > 1 { format!(" ×{count}") } else { String::new() }
}

/// `allow()` rules break nothing: that they fired cannot be expected.
fn breaks(rule: &RuleReport) -> bool {
    match rule.rule.action {
        FaultAction::Deny(_) => true,
        FaultAction::Allow => false,
    }
}

fn hits(rule: &RuleReport) -> u64 {
    if breaks(rule) { rule.counts.fired } else { rule.counts.matched }
}

fn rule_line(service: &str, report: &RuleReport) -> String {
    let rule = &report.rule;
    let action = match rule.action {
        FaultAction::Deny(errno) => format!("deny({errno})"),
        FaultAction::Allow => "allow()".to_owned(),
    };
    let calls: Vec<_> = rule.syscalls.iter().map(|it| it.name()).collect();
    let mut line = format!(
        "  fault rule on {}: {}={action} → filter:[{}]",
        one_line(service),
        one_line(&rule.keyword),
        calls.join(",")
    );
    if !report.inbound.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(line, " (in: {})", one_line(&report.inbound.join(",")));
    }
    if !rule.probability.is_certain() {
        let _ = write!(line, " probability={}", rule.probability);
    }
    if let Some(label) = &rule.label {
        let _ = write!(line, " label=\"{}\"", one_line(label));
    }
    line
}

/// Said of windows in which nothing was hit, when other windows had hits.
fn idle_note(group: &[WindowReport]) -> Option<String> {
    let idle = |window: &&WindowReport| {
        let mut rules = window.rules.iter().filter(|rule| breaks(rule)).peekable();
        rules.peek().is_some() && rules.all(|rule| rule.counts.fired == 0)
    };
    let count = group.iter().filter(idle).count();
    let window = group.iter().find(idle)?;
    let keywords: Vec<_> =
        window.rules.iter().filter(|rule| breaks(rule)).map(|it| &*it.rule.keyword).collect();
    let (service, keywords) = (one_line(&window.service), one_line(&keywords.join(",")));
    Some(format!("  note: no hits in window: {service} {keywords}{}", repeated(count)))
}
