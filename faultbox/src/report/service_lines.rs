//! What each service did and said (language.md 1.16.2, 1.16.4).

use std::{cmp::Reverse, fmt::Write};

use super::{ServiceReport, plain::one_line};

/// System calls named in one row.
const MAX_CALLS: usize = 8;
/// Lines of output shown per service.
const MAX_OUTPUT: usize = 20;

/// The heading and a row per service: how many calls, how many of them broken, and which. Nothing
/// when nothing was counted, as with `--trace off`: a row of zeros would say that nothing happened.
pub(super) fn summary_lines(services: &[ServiceReport]) -> Vec<String> {
    if services.iter().all(|service| service.calls.is_empty()) {
        return Vec::new();
    }
    let mut lines = vec!["  per-service syscall summary:".to_owned()];
    let names: Vec<_> = services.iter().map(|it| one_line(&it.name)).collect();
    let width = names.iter().map(|it| it.chars().count()).max().unwrap_or(0).max(5);
    for (name, service) in names.iter().zip(services) {
        let total: u64 = service.calls.iter().map(|(_, count)| count).sum();
        let mut calls: Vec<_> = service.calls.iter().filter(|(_, count)| *count > 0).collect();
        calls.sort_by_key(|(syscall, count)| (Reverse(*count), syscall.name()));
        let mut row = format!("    {name:width$} {total} total, {} faulted", service.faulted);
        if !calls.is_empty() {
            let shown: Vec<_> = calls
                .iter()
                .take(MAX_CALLS)
                .map(|(syscall, count)| format!("{syscall}:{count}"))
                .collect();
            let more = if calls.len() > MAX_CALLS { " ..." } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(row, "  [{}{more}]", shown.join(" "));
        }
        lines.push(row);
    }
    lines
}

/// The end of what each service wrote.
pub(super) fn output_lines(services: &[ServiceReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for service in services.iter().filter(|it| !it.output.is_empty()) {
        lines.push(format!("  output of {}:", one_line(&service.name)));
        let from = service.output.len().saturating_sub(MAX_OUTPUT);
        lines.extend(service.output[from..].iter().map(|line| {
            // Some programs end lines like DOS; the carriage return says nothing.
            let line = line.trim_end_matches(['\r', '\n']);
            format!("    {}", one_line(line)).trim_end().to_owned()
        }));
    }
    lines
}
