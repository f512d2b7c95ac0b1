//! Why rules may have hit nothing, from what the services really did (language.md 1.16.3).

use super::{
    RuleReport, Style, TestReport, WindowReport, partition_lines, plain::counted, plain::one_line,
};
use crate::{
    engine::Errno,
    spec::FaultAction,
    trace::{Event, window_spans},
};

mod calls;
mod misses;

use calls::Calls;

/// Specific hints of one test.
const MAX_HINTS: usize = 5;

/// A rule that hit nothing, and what its service and the others did meanwhile.
#[derive(Clone, Copy)]
struct Case<'a> {
    window: &'a WindowReport,
    report: &'a RuleReport,
    calls: Calls<'a>,
}

/// The hints of a test in which no rule fired.
pub(super) fn hints(report: &TestReport, style: Style) -> Vec<String> {
    let mut hints = partition_lines::hints(report);
    if !report.windows.is_empty() || hints.is_empty() {
        hints.push(
            "the target may use a different syscall variant (e.g., pwrite64 instead of write)"
                .to_owned(),
        );
    }
    let spans = window_spans(&report.events, report.windows.len());
    for (window, span) in report.windows.iter().zip(spans) {
        let events: &[Event] = &report.events[span.start..span.end.max(span.start)];
        for rule in window.rules.iter().filter(|it| it.rule.action.breaks()) {
            let case = Case { window, report: rule, calls: Calls::of(&window.service, events) };
            let specific = misses::all(case)
                .into_iter()
                .chain(network_error_on_files(case))
                .chain(beyond_the_count(rule))
                .chain(spared_by_chance(rule));
            for hint in specific {
                if hints.len() <= MAX_HINTS && !hints.contains(&hint) {
                    hints.push(hint);
                }
            }
        }
    }
    hints.extend(exempt(report));
    if !style.debug {
        hints.push("run with --debug to see all intercepted syscalls".to_owned());
    }
    hints
}

/// Matches on files of a rule whose error only sockets can report.
fn network_error_on_files(case: Case<'_>) -> Option<String> {
    let rule = &case.report.rule;
    let errno = denied_with(case.report).filter(|it| it.is_network_only())?;
    let is_on_file =
        |it: &calls::Call<'_>| it.path.is_some() && rule.syscalls.contains(&it.syscall);
    let on_files = case.calls.allowed().filter(is_on_file).count() as u64;
    (on_files > 0 && rule.path.is_none()).then(|| {
        let calls = counted(on_files, &format!("{} call", one_line(&rule.keyword)));
        format!("{calls} went to files, which never fail with {errno}; for files use e.g. EIO")
    })
}

/// Matches that `nth=` or `after=` left alone.
fn beyond_the_count(report: &RuleReport) -> Option<String> {
    let (options, matched) = (&report.rule.options, report.counts.matched);
    let wanted = match options.nth {
        Some(nth) if nth.get() > matched => format!("nth={nth} waits for a later one"),
        None if options.after >= matched => format!("after={} spares them all", options.after),
        _ => return None,
    };
    (matched > 0).then(|| {
        let times = counted(matched, "time");
        format!("{} matched only {times}; {wanted}", one_line(&report.rule.keyword))
    })
}

/// Matches that chance let go.
fn spared_by_chance(report: &RuleReport) -> Option<String> {
    let probability = report.rule.options.probability;
    let matched = report.counts.matched;
    (!probability.is_certain() && matched > 0 && beyond_the_count(report).is_none()).then(|| {
        format!(
            "{} matched {}, but probability={probability} spared each of them; \
             try another --seed or a higher probability",
            one_line(&report.rule.keyword),
            counted(matched, "time"),
        )
    })
}

/// Matches that are the test driver's own traffic.
fn exempt(report: &TestReport) -> Option<String> {
    let rules = report.windows.iter().flat_map(|window| &window.rules);
    let breaking = rules.filter(|it| it.rule.action.breaks());
    let exempt: u64 = breaking.map(|it| it.counts.exempt).sum();
    (exempt > 0).then(|| {
        let calls = counted(exempt, "matching call");
        format!("{calls} spared on the test's own connections; include_driver=True hits them, too")
    })
}

fn denied_with(report: &RuleReport) -> Option<Errno> {
    match report.rule.action {
        FaultAction::Deny(errno) => Some(errno),
        _ => None,
    }
}
