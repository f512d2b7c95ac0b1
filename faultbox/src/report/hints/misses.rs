//! Calls that a rule may have been meant for and is not about: another call for the same work,
//! another file, another peer, a connection that was open already.

use std::collections::BTreeMap;

use super::{Case, calls::Call};
use crate::{
    engine::{FAMILIES, Syscall},
    report::plain::{counted, one_line},
    spec::FaultRule,
};

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
    ],
    &["read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"],
    &["fsync", "fdatasync", "sync_file_range", "syncfs", "msync"],
    &["open", "openat", "openat2", "creat"],
    &["accept", "accept4"],
    &["unlink", "unlinkat"],
    &["rename", "renameat", "renameat2"],
    &["mkdir", "mkdirat"],
    &["truncate", "ftruncate", "fallocate"],
];

/// What a program can do through an `io_uring` instead of by a call.
const ON_RINGS: &[&str] = &[
    "accept",
    "accept4",
    "connect",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "linkat",
    "mkdirat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "renameat",
    "renameat2",
    "sendmsg",
    "sendto",
    "shutdown",
    "socket",
    "splice",
    "statx",
    "sync_file_range",
    "unlinkat",
    "write",
    "writev",
];

/// All that can be said, the likeliest first.
pub(super) fn all(case: Case<'_>) -> Vec<String> {
    let mut hints = variants(case);
    hints.extend(on_other_files(case));
    hints.extend(to_other_peers(case));
    hints.extend(on_open_connections(case));
    hints.extend(through_a_ring(case));
    hints
}

/// Calls of the service that do the same work as those that the window's rules name, where the
/// rule would have been about them.
fn variants(case: Case<'_>) -> Vec<String> {
    let rule = &case.report.rule;
    let named =
        |syscall: Syscall| case.window.rules.iter().any(|it| it.rule.syscalls.contains(&syscall));
    let is_twin = |call: &Call<'_>| {
        VARIANTS.iter().any(|group| {
            group.contains(&call.syscall.name())
                && rule.syscalls.iter().any(|it| group.contains(&it.name()))
        })
    };
    let meant = case.calls.allowed().filter(|it| is_twin(it) && !named(it.syscall));
    let meant = meant.filter(|it| is_there(rule, it));
    let service = one_line(&case.window.service);
    let hints =
        most_frequent(meant.map(|it| it.syscall.name())).into_iter().map(|(name, count)| {
            let times = counted(count, "time");
            let what_to_do = if rule.is_op {
                format!("add it to the op {}", one_line(&rule.keyword))
            } else {
                format!("target it with {}={}(...)", keyword_of(name), rule.action.name())
            };
            format!("{service} called {name} {times} in this window; {what_to_do}")
        });
    hints.collect()
}

/// Whether a call is where the rule looks: on such a file, to such a peer.
fn is_there(rule: &FaultRule, call: &Call<'_>) -> bool {
    let is_on_path = match (&rule.path, call.path) {
        (None, _) => true,
        (Some(glob), Some(path)) => glob.matches(path.as_bytes()),
        (Some(_), None) => false,
    };
    let is_to_peer = rule.options.to.as_deref().is_none_or(|to| call.peer() == Some(to));
    is_on_path && is_to_peer
}

/// Matches that `path=` left alone.
fn on_other_files(case: Case<'_>) -> Option<String> {
    let rule = &case.report.rule;
    let glob = rule.path.as_ref()?;
    // The rule is about the system's own files, too; they are only the worse examples.
    let calls: Vec<_> = case.calls.all().filter(|it| rule.syscalls.contains(&it.syscall)).collect();
    let missed = |it: &&Call<'_>| it.path.is_some_and(|path| !glob.matches(path.as_bytes()));
    let missed: Vec<_> = calls.iter().filter(missed).collect();
    let own = missed.iter().filter(|it| !it.is_system).filter_map(|it| it.path);
    let example = most_frequent(own).into_iter().next();
    let example = example
        .or_else(|| most_frequent(missed.iter().filter_map(|it| it.path)).into_iter().next());
    let keyword = one_line(&rule.keyword);
    if let Some((path, _)) = example {
        let calls = counted(missed.len() as u64, "call");
        return Some(format!(
            "{calls} matched {keyword} but not path {}; e.g. {}",
            one_line(glob.as_str()),
            one_line(path)
        ));
    }
    (!calls.is_empty()).then(|| {
        let calls = counted(calls.len() as u64, "call");
        format!("{calls} matched {keyword}, but none on a file, which path= is about")
    })
}

/// Matches that `to=` left alone.
fn to_other_peers(case: Case<'_>) -> Option<String> {
    let rule = &case.report.rule;
    let to = rule.options.to.as_deref()?;
    let elsewhere = case.calls.allowed().filter(|it| rule.syscalls.contains(&it.syscall));
    let elsewhere: Vec<_> =
        elsewhere.filter(|it| it.peer() != Some(to)).filter_map(|it| it.interface).collect();
    let (example, _) = most_frequent(elsewhere.iter().copied()).into_iter().next()?;
    Some(format!(
        "{} matched {} but not to={}; e.g. to {}",
        counted(elsewhere.len() as u64, "call"),
        one_line(&rule.keyword),
        one_line(to),
        one_line(example)
    ))
}

/// A connect that was made before the window opened.
fn on_open_connections(case: Case<'_>) -> Vec<String> {
    let rule = &case.report.rule;
    let is_connect = |it: &Syscall| it.name() == "connect";
    if !rule.syscalls.iter().any(is_connect)
        || case.report.counts.matched > 0
        || rule.path.is_some()
    {
        return Vec::new();
    }
    let service = case.window.service.as_str();
    let own = case.calls.allowed().filter(|it| !is_connect(&it.syscall) && is_there(rule, it));
    let own = own.filter_map(|call| Some(((service, call.peer()?), call.syscall)));
    let inbound = case.calls.inbound().filter(|_| !case.report.inbound.is_empty());
    let inbound = inbound
        .filter(|(_, call)| !is_connect(&call.syscall))
        .map(|(other, call)| ((other, service), call.syscall));
    let mut pairs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for ((from, to), syscall) in own.chain(inbound) {
        let keywords = pairs.entry((from, to)).or_default();
        let keyword = keyword_of(syscall.name());
        if from != to && !keywords.contains(&keyword) {
            keywords.push(keyword);
        }
    }
    let pairs = pairs.into_iter().filter(|(_, keywords)| !keywords.is_empty());
    let hints = pairs.map(|((from, to), mut keywords)| {
        keywords.sort_unstable();
        let keywords = keywords.join("/");
        let (from, to) = (one_line(from), one_line(to));
        format!("{from} reused an open connection to {to}; fault {keywords} instead of connect")
    });
    hints.collect()
}

/// Work that was handed to the kernel without a call for each piece.
fn through_a_ring(case: Case<'_>) -> Option<String> {
    let rule = &case.report.rule;
    if !rule.syscalls.iter().any(|it| ON_RINGS.contains(&it.name())) {
        return None;
    }
    let entered = case.calls.allowed().filter(|it| it.syscall.name() == "io_uring_enter").count();
    (entered > 0).then(|| {
        format!(
            "{} called io_uring_enter {}: what goes through an io_uring is not seen by {}=; \
             target the ring with io_uring_enter=deny(...), or switch it off in the service",
            one_line(&case.window.service),
            counted(entered as u64, "time"),
            one_line(&rule.keyword)
        )
    })
}

/// The keyword that a user would write for a call.
fn keyword_of(name: &'static str) -> &'static str {
    let family = FAMILIES.iter().find(|(_, members)| members.contains(&name));
    family.map_or(name, |(family, _)| family)
}

/// Each word and how often it occurs, the most frequent first; the words' order decides between
/// equals.
fn most_frequent<'w>(words: impl Iterator<Item = &'w str>) -> Vec<(&'w str, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
