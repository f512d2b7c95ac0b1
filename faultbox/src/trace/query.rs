//! Questions to a log that more than one reader has.

use std::collections::BTreeMap;

use super::{Event, EventKind, is_faulted};

/// How many system calls the log has.
pub fn syscall_count(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.kind, EventKind::Syscall { .. })).count()
}

/// How many calls of each service a rule broke, delayed or ended, as far as they were recorded.
pub fn faulted_per_service(events: &[Event]) -> BTreeMap<&str, u64> {
    let mut faulted = BTreeMap::new();
    for event in events {
        if let EventKind::Syscall { decision, .. } = event.kind
            && is_faulted(decision)
        {
            *faulted.entry(event.service.as_str()).or_default() += 1;
        }
    }
    faulted
}

/// From when to when rules of a window were on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Index into the log of the event that says they were switched on.
    pub start: usize,
    /// Of the one that says the last of them were switched off; the log's length when nothing
    /// does.
    pub end: usize,
}

/// The span of each window, by the window's index. A window whose beginning is not in the log has
/// the whole of it.
pub fn window_spans(events: &[Event], windows: usize) -> Vec<WindowSpan> {
    let mut spans = vec![WindowSpan { start: 0, end: events.len() }; windows];
    for (i, event) in events.iter().enumerate() {
        match event.kind {
            EventKind::FaultApplied { window, .. } if window < windows => spans[window].start = i,
            EventKind::FaultRemoved { window, .. } if window < windows => spans[window].end = i,
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lasts_until_the_last_of_its_rules_is_off() {
        let (on, off) = (true, false);
        let entries = [(0, on), (1, on), (0, off), (1, off), (0, off), (9, on)];
        let events: Vec<Event> = entries
            .into_iter()
            .zip(1..)
            .map(|((window, is_on), seq)| {
                let keywords = vec!["write".to_owned()];
                let kind = if is_on {
                    EventKind::FaultApplied { window, keywords }
                } else {
                    EventKind::FaultRemoved { window, keywords }
                };
                Event { seq, time: seq, service: "db".to_owned(), kind }
            })
            .collect();
        let span = |start, end| WindowSpan { start, end };
        assert_eq!(window_spans(&events, 3), [span(0, 4), span(1, 3), span(0, 6)]);
    }
}
