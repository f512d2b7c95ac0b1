//! Why rules may have hit nothing, from what the services really did (language.md 1.16.3).

use std::collections::BTreeMap;

use super::{RuleReport, Style, TestReport, WindowReport, plain::counted, plain::one_line};
use crate::{
    engine::{Decision, Errno, FAMILIES, Syscall},
    spec::FaultAction,
    trace::{Event, EventKind, window_spans},
};

/// Specific hints of one test.
const MAX_HINTS: usize = 5;

/// Calls that do the same work: a rule on one that misses may have been meant for another.
const VARIANTS: &[&[&str]] = &[
    &[
        "write",
        "writev",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "sendfile",
        "splice",
        "copy_file_range",
        "io_uring_enter",
    ],
    &[
        "read",
        "readv",
        "pread64",
        "preadv",
        "preadv2",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "io_uring_enter",
    ],
    &["fsync", "fdatasync", "sync_file_range", "syncfs", "msync", "io_uring_enter"],
    &["open", "openat", "openat2", "creat", "io_uring_enter"],
    &["accept", "accept4", "io_uring_enter"],
    &["connect", "io_uring_enter"],
    &["unlink", "unlinkat", "io_uring_enter"],
    &["rename", "renameat", "renameat2", "io_uring_enter"],
    &["mkdir", "mkdirat", "io_uring_enter"],
    &["truncate", "ftruncate", "fallocate"],
];

/// The hints of a test in which no rule fired.
pub(super) fn hints(report: &TestReport, style: Style) -> Vec<String> {
    let mut hints = vec![
        "the target may use a different syscall variant (e.g., pwrite64 instead of write)"
            .to_owned(),
    ];
    let spans = window_spans(&report.events);
    for (i, window) in report.windows.iter().enumerate() {
        // When log and report disagree about the windows, the whole test is the window.
        let events = match spans.get(i) {
            Some(span) if spans.len() == report.windows.len() => {
                &report.events[span.start..span.end]
            }
            _ => &report.events[..],
        };
        let specific = variants(window, events)
            .into_iter()
            .chain(
                window.rules.iter().filter_map(|rule| network_error_on_files(window, rule, events)),
            )
            .chain(window.rules.iter().filter_map(spared_by_chance));
        for hint in specific {
            if hints.len() <= MAX_HINTS && !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    hints.extend(exempt(report));
    if !style.debug {
        hints.push("run with --debug to see all intercepted syscalls".to_owned());
    }
    hints
}

/// Calls of the window's service that do the same work as those its rules name.
fn variants(window: &WindowReport, events: &[Event]) -> Vec<String> {
    let named: Vec<Syscall> =
        window.rules.iter().flat_map(|it| it.rule.syscalls.iter().copied()).collect();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (syscall, _) in allowed(&window.service, events) {
        let twin = VARIANTS.iter().any(|group| {
            group.contains(&syscall.name()) && named.iter().any(|it| group.contains(&it.name()))
        });
        if twin && !named.contains(&syscall) {
            *counts.entry(syscall.name()).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    // The most frequent first; the names' order decides between equals.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let service = one_line(&window.service);
    let hints = counts.into_iter().map(|(name, count)| {
        let family = FAMILIES.iter().find(|(_, members)| members.contains(&name));
        let keyword = family.map_or(name, |(family, _)| family);
        let times = counted(count, "time");
        format!(
            "{service} called {name} {times} in this window; target it with {keyword}=deny(...)"
        )
    });
    hints.collect()
}

/// Matches on files of a rule whose error only sockets can report.
fn network_error_on_files(
    window: &WindowReport,
    report: &RuleReport,
    events: &[Event],
) -> Option<String> {
    let errno = denied_with(report).filter(|it| it.is_network_only())?;
    let on_files = allowed(&window.service, events)
        .filter(|(syscall, on_file)| *on_file && report.rule.syscalls.contains(syscall))
        .count() as u64;
    (on_files > 0).then(|| {
        let calls = counted(on_files, &format!("{} call", one_line(&report.rule.keyword)));
        format!("{calls} went to files, which never fail with {errno}; for files use e.g. EIO")
    })
}

/// Matches that chance let go.
fn spared_by_chance(report: &RuleReport) -> Option<String> {
    let probability = report.rule.probability;
    let matched = report.counts.matched;
    (denied_with(report).is_some() && !probability.is_certain() && matched > 0).then(|| {
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
    let exempt: u64 = rules.filter(|it| denied_with(it).is_some()).map(|it| it.counts.exempt).sum();
    (exempt > 0).then(|| {
        let calls = counted(exempt, "matching call");
        format!("{calls} spared on the test's own connections; include_driver=True hits them, too")
    })
}

fn denied_with(report: &RuleReport) -> Option<Errno> {
    match report.rule.action {
        FaultAction::Deny(errno) => Some(errno),
        FaultAction::Allow => None,
    }
}

/// Calls of a service that ran, and whether each was on a file.
fn allowed<'a>(
    service: &'a str,
    events: &'a [Event],
) -> impl Iterator<Item = (Syscall, bool)> + 'a {
    events.iter().filter(move |event| event.service == service).filter_map(|event| {
        match &event.kind {
            EventKind::Syscall { syscall, decision: Decision::Allow, path, .. } => {
                Some((*syscall, path.is_some()))
            }
            _ => None,
        }
    })
}
