//! Which rules did what they were for.

use super::{
    PartitionReport, RuleReport, TestReport, WindowReport, plain::one_line, rule_text::action_text,
};

/// Whether rules and partitions that were to break something never did, in the whole test.
pub(super) fn never_fired(report: &TestReport) -> bool {
    nothing_fired(&report.windows, &report.partitions)
}

/// The same for the windows and partitions of a test.
pub fn nothing_fired(windows: &[WindowReport], partitions: &[PartitionReport]) -> bool {
    let rules = windows.iter().flat_map(|window| &window.rules);
    let mut rules = rules.filter(|it| it.rule.action.breaks()).peekable();
    let was_armed = rules.peek().is_some() || !partitions.is_empty();
    let cuts = |it: &PartitionReport| it.counts.hits() > 0;
    was_armed && rules.all(|rule| rule.counts.fired == 0) && !partitions.iter().any(cuts)
}

/// The rules that never fired in any of the windows they were in, each once: `db write=deny(EIO)`.
pub fn unfired(windows: &[WindowReport]) -> Vec<String> {
    let mut found: Vec<(&str, &RuleReport, u64)> = Vec::new();
    for window in windows {
        for report in window.rules.iter().filter(|it| it.rule.action.breaks()) {
            let same = found.iter_mut().find(|(service, first, _)| {
                *service == window.service && first.rule == report.rule
            });
            match same {
                Some((_, _, fired)) => *fired += report.counts.fired,
                None => found.push((&window.service, report, report.counts.fired)),
            }
        }
    }
    let unfired = found.into_iter().filter(|(_, _, fired)| *fired == 0);
    unfired.map(|(service, report, _)| rule_name(service, report)).collect()
}

/// The rules and partitions that did something, each once: `db write=deny(EIO)`.
pub(super) fn fired(windows: &[WindowReport], partitions: &[PartitionReport]) -> Vec<String> {
    let rules = windows.iter().flat_map(|it| it.rules.iter().map(|rule| (&it.service, rule)));
    let rules = rules
        .filter(|(_, it)| it.rule.action.breaks() && it.counts.fired > 0)
        .map(|(service, it)| rule_name(service, it));
    let partitions = partitions.iter().filter(|it| it.counts.hits() > 0);
    let partitions =
        partitions.map(|it| format!("partition({}, {})", one_line(&it.a), one_line(&it.b)));
    let mut all = Vec::new();
    for name in rules.chain(partitions) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn rule_name(service: &str, report: &RuleReport) -> String {
    let keyword = one_line(&report.rule.keyword);
    format!("{} {keyword}={}", one_line(service), action_text(report.rule.action))
}

#[cfg(test)]
mod tests {
    use super::{
        super::sample::{deny, passed},
        *,
    };
    use crate::spec::FaultAction;

    #[test]
    fn a_rule_that_fired_in_one_of_its_windows_has_fired() {
        let mut allow = deny("connect", "EIO", 0);
        allow.rule.action = FaultAction::Allow;
        let report = passed("test_a")
            .window("db", vec![deny("read", "EIO", 1), deny("write", "EIO", 0)], |it| it)
            .window("db", vec![deny("read", "EIO", 0), allow], |it| it)
            .window("db", vec![deny("write", "EIO", 0), deny("write", "ENOSPC", 0)], |it| it)
            .window("api", vec![deny("write", "EIO", 0)], |it| it);
        assert_eq!(
            unfired(&report.windows),
            ["db write=deny(EIO)", "db write=deny(ENOSPC)", "api write=deny(EIO)"]
        );
        assert_eq!(fired(&report.windows, &[]), ["db read=deny(EIO)"]);
        assert!(!never_fired(&report));
    }
}
