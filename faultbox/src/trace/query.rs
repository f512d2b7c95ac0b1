//! Questions to a log that more than one reader has.

use std::collections::BTreeMap;

use super::{Event, EventKind};
use crate::engine::Decision;

/// How many system calls the log has.
pub fn syscall_count(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.kind, EventKind::Syscall { .. })).count()
}

/// How many calls of each service a rule broke, as far as they were recorded.
pub fn faulted_per_service(events: &[Event]) -> BTreeMap<&str, u64> {
    let mut faulted = BTreeMap::new();
    for event in events {
        if let EventKind::Syscall { decision: Decision::Deny(_), .. } = event.kind {
            *faulted.entry(event.service.as_str()).or_default() += 1;
        }
    }
    faulted
}

/// From when to when the rules of a window were on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Index into the log of the event that says they were switched on.
    pub start: usize,
    /// Of the one that says they were switched off; the log's length when nothing does.
    pub end: usize,
}

/// The spans of all windows, in the order they were opened: one for each `FaultApplied`.
pub fn window_spans(events: &[Event]) -> Vec<WindowSpan> {
    let mut spans: Vec<WindowSpan> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (i, event) in events.iter().enumerate() {
        match &event.kind {
            EventKind::FaultApplied { .. } => {
                open.push(spans.len());
                spans.push(WindowSpan { start: i, end: events.len() });
            }
            EventKind::FaultRemoved { keywords } => {
                // Scopes nest, so the innermost one that fits is the one that ends.
                let fits = |window: &usize| {
                    let applied = &events[spans[*window].start];
                    applied.service == event.service
                        && matches!(&applied.kind, EventKind::FaultApplied { keywords: it } if it == keywords)
                };
                if let Some(at) = open.iter().rposition(fits) {
                    spans[open.remove(at)].end = i;
                }
            }
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(&str, &str, &str)]) -> Vec<Event> {
        let events = entries.iter().zip(1..).map(|((service, what, keyword), seq)| {
            let keywords = vec![(*keyword).to_owned()];
            let kind = match *what {
                "on" => EventKind::FaultApplied { keywords },
                "off" => EventKind::FaultRemoved { keywords },
                _ => EventKind::ServiceReady,
            };
            Event { seq, time: seq, service: (*service).to_owned(), kind }
        });
        events.collect()
    }

    #[test]
    fn nested_windows_end_from_the_inside() {
        let events = log(&[
            ("db", "on", "write"),
            ("db", "on", "write"),
            ("api", "on", "read"),
            ("db", "off", "write"),
            ("", "", ""),
            ("db", "off", "write"),
            ("db", "off", "write"),
        ]);
        let spans = window_spans(&events);
        assert_eq!(
            spans,
            [
                WindowSpan { start: 0, end: 5 },
                WindowSpan { start: 1, end: 3 },
                WindowSpan { start: 2, end: 7 },
            ]
        );
    }
}
