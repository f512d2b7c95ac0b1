//! How far a night is: one line on a terminal, which each next one takes the place of; elsewhere a
//! line now and then.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use super::message::{message, show_status};
use crate::{protocol::go_duration, report::FinishedRun};

/// How often a terminal's line changes, and how often there is a line elsewhere.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What is known of the runs so far.
pub(super) struct Progress {
    /// How many there will be; `None`: until one fails.
    total: Option<usize>,
    begin: Instant,
    /// Runs whose results were there from before.
    known: usize,
    failed: usize,
    /// In microseconds.
    durations: Vec<u32>,
    is_terminal: bool,
    next: Instant,
}

impl Progress {
    /// Nothing has run.
    pub(super) fn new(total: Option<usize>, known: usize) -> Self {
        let (now, is_terminal) = (Instant::now(), stderr().is_terminal());
        let pause = if is_terminal { PAUSES.0 } else { PAUSES.1 };
        Self {
            total,
            begin: now,
            known,
            failed: 0,
            durations: Vec::new(),
            is_terminal,
            next: now + pause,
        }
    }

    /// A run has ended; shows how far the night is if it is time to.
    pub(super) fn add(&mut self, run: &FinishedRun) {
        self.failed += usize::from(!run.has_passed());
        self.durations.push(u32::try_from(run.duration.as_micros()).unwrap_or(u32::MAX));
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let line = self.line(now - self.begin);
        if self.is_terminal {
            // Without wrapping (`console_codes(4)`), or a narrow terminal would keep a row each time.
            show_status(Some(format!("\x1b[?7l{line}\x1b[?7h")));
            self.next = now + PAUSES.0;
        } else {
            message(format_args!("progress: {line}"));
            self.next = now + PAUSES.1;
        }
    }

    /// `412/1000 runs, 3 failed, p50 12ms, p99 31ms, 7s left`.
    fn line(&mut self, elapsed: Duration) -> String {
        let done = self.durations.len();
        let mut at = |part: usize| {
            let position = (done - 1) * part / 100;
            let (_, time, _) = self.durations.select_nth_unstable(position);
            go_duration(Duration::from_millis(u64::from(*time).div_ceil(1000)))
        };
        let (p50, p99) = (at(50), at(99));
        let of = self.total.map_or_else(String::new, |total| format!("/{total}"));
        let own = done.saturating_sub(self.known);
        let left = self.total.filter(|_| own > 0).map_or_else(String::new, |total| {
            let left = elapsed.as_secs_f64() / own as f64 * total.saturating_sub(done) as f64;
            format!(", {} left", go_duration(Duration::from_secs(left.ceil() as u64)))
        });
        format!("{done}{of} runs, {} failed, p50 {p50}, p99 {p99}{left}", self.failed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        show_status(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_how_long_and_when_it_will_be_over() {
        let mut progress = Progress::new(Some(1000), 100);
        progress.failed = 3;
        progress.durations = (1..=400).map(|it| it * 1000).collect();
        assert_eq!(
            progress.line(Duration::from_secs(30)),
            "400/1000 runs, 3 failed, p50 200ms, p99 396ms, 1m0s left"
        );
        // Those of before have taken no time now.
        progress.durations = vec![999; 100];
        assert_eq!(
            progress.line(Duration::from_secs(30)),
            "100/1000 runs, 3 failed, p50 1ms, p99 1ms"
        );
        let mut endless = Progress::new(None, 0);
        endless.durations = vec![5000, 7000];
        assert_eq!(endless.line(Duration::from_secs(1)), "2 runs, 0 failed, p50 5ms, p99 5ms");
    }
}
