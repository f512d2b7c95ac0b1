//! What rules were on and what became of them (language.md 1.16.2, 1.16.3).

use super::{
    RuleReport, Style, TestReport, WindowReport, firing::never_fired, hints::hints,
    partition_lines, plain::one_line, rule_text::rule_line,
};

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
    lines.extend(partition_lines::partition_lines(report));
    if never_fired(report) {
        let warning = style.warning();
        lines.push(format!("  {warning}: fault rules were installed but no injections fired"));
        lines.extend(hints(report, style).into_iter().map(|hint| format!("    hint: {hint}")));
    } else {
        lines.extend(groups.iter().filter_map(|group| idle_note(group)));
        lines.extend(partition_lines::idle_notes(report));
    }
    lines
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

fn hits(report: &RuleReport) -> u64 {
    if report.rule.action.breaks() { report.counts.fired } else { report.counts.matched }
}

/// Said of windows in which nothing was hit, when other windows had hits.
fn idle_note(group: &[WindowReport]) -> Option<String> {
    let idle = |window: &&WindowReport| {
        let mut rules = window.rules.iter().filter(|it| it.rule.action.breaks()).peekable();
        rules.peek().is_some() && rules.all(|rule| rule.counts.fired == 0)
    };
    let count = group.iter().filter(idle).count();
    let window = group.iter().find(idle)?;
    let rules = window.rules.iter().filter(|it| it.rule.action.breaks());
    let keywords: Vec<_> = rules.map(|it| &*it.rule.keyword).collect();
    let (service, keywords) = (one_line(&window.service), one_line(&keywords.join(",")));
    Some(format!("  note: no hits in window: {service} {keywords}{}", repeated(count)))
}
