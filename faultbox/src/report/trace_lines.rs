//! The `syscall trace` of a test block (language.md 1.16.2).

use std::{collections::BTreeSet, fmt::Write};

use super::{TestReport, plain::one_line, rule_text::decision_text};
use crate::{
    engine::{Decision, Syscall},
    protocol::go_duration,
    trace::{Event, EventKind, is_faulted, syscall_count},
};

/// More lines than this are cut, unless everything was asked for.
const MAX_LINES: usize = 50;

/// The heading and a line for each call worth showing: those that a rule broke, and for rules
/// that were switched on by `fault_start` the last call of the kind before the first hit.
pub(super) fn trace_lines(report: &TestReport, debug: bool) -> Vec<String> {
    let count = syscall_count(&report.events);
    if count == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("  syscall trace ({count} events):")];
    let chosen = if debug { all_calls(&report.events) } else { telling_calls(report) };
    let shown = if debug { chosen.len() } else { chosen.len().min(MAX_LINES) };
    let rows: Vec<Row> = chosen.iter().take(shown).map(|i| Row::new(&report.events[*i])).collect();
    let service_width = rows.iter().map(|row| width(&row.service)).max().unwrap_or(0).max(5);
    let call_width = rows.iter().map(|row| width(&row.call)).max().unwrap_or(0).max(7);
    lines.extend(rows.iter().map(|row| {
        let Row { seq, service, call, decision, details } = row;
        format!("    #{seq}  {service:service_width$} {call:call_width$} {decision}{details}")
    }));
    if shown < chosen.len() {
        lines.push(format!("    … {} more (use --debug)", chosen.len() - shown));
    }
    lines
}

/// The cells of one line.
struct Row {
    seq: u64,
    service: String,
    call: String,
    decision: String,
    details: String,
}

impl Row {
    fn new(event: &Event) -> Self {
        let mut row = Self {
            seq: event.seq,
            service: one_line(&event.service),
            call: String::new(),
            decision: String::new(),
            details: String::new(),
        };
        if let EventKind::Syscall {
            syscall,
            decision,
            op,
            label,
            path,
            peer_interface,
            rule_target,
            latency,
            ..
        } = &event.kind
        {
            row.call = match op {
                Some(op) => format!("{}({syscall})", one_line(op)),
                None => syscall.to_string(),
            };
            row.decision = decision_text(*decision);
            // A match that the rule has spared is none of its hits.
            if let Some(label) = label.as_ref().filter(|_| is_faulted(*decision)) {
                row.details = format!("  [{}]", one_line(label));
            }
            if let Some(path) = path {
                // Writing to a string cannot fail.
                let _ = write!(row.details, "  {}", one_line(path));
            }
            // The rule is the callee's, so the line says whom the call was for.
            if let (Some(interface), Some(_)) = (peer_interface, rule_target) {
                let _ = write!(row.details, "  → {}", one_line(interface));
            }
            if !latency.is_zero() {
                let _ = write!(row.details, "  (+{})", go_duration(*latency));
            }
        }
        row
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn all_calls(events: &[Event]) -> Vec<usize> {
    let calls = events.iter().enumerate().filter(|(_, event)| call(event).is_some());
    calls.map(|(i, _)| i).collect()
}

fn telling_calls(report: &TestReport) -> Vec<usize> {
    let mut chosen = BTreeSet::new();
    let mut first_hit_seen = vec![false; report.windows.len()];
    for (i, event) in report.events.iter().enumerate() {
        let Some((syscall, decision, window)) = call(event) else { continue };
        if !is_faulted(decision) {
            continue;
        }
        chosen.insert(i);
        let Some((index, window)) = window.and_then(|it| Some((it, report.windows.get(it)?)))
        else {
            continue;
        };
        if window.imperative && !first_hit_seen[index] {
            first_hit_seen[index] = true;
            let rule = window.rules.iter().find(|it| it.rule.syscalls.contains(&syscall));
            let kind = rule.map_or(vec![syscall], |it| it.rule.syscalls.clone());
            let before = report.events[..i].iter().rposition(|earlier| {
                earlier.service == event.service
                    && matches!(call(earlier), Some((it, Decision::Allow, _)) if kind.contains(&it))
            });
            chosen.extend(before);
        }
    }
    chosen.into_iter().collect()
}

/// Call, decision and window of an event that is a system call.
fn call(event: &Event) -> Option<(Syscall, Decision, Option<usize>)> {
    match &event.kind {
        EventKind::Syscall { syscall, decision, window, .. } => {
            Some((*syscall, *decision, *window))
        }
        _ => None,
    }
}
