//! What rules have hit: while they are on, and at the end.

use std::{
    io::{self, IsTerminal, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
};

use super::fault_option::FaultOption;
use crate::engine::{RuleCounts, RuleId};

/// Counts in the order of the options, as the engine gives them.
pub(super) type Counts = [(RuleId, RuleCounts)];

/// One line per rule.
fn lines(options: &[FaultOption], counts: &Counts) -> Vec<String> {
    let rows = options.iter().zip(counts);
    rows.map(|(option, (_, counts))| {
        format!("fault rule: {option}: matched {}, fired {}", counts.matched, counts.fired)
    })
    .collect()
}

/// One line per rule, each that was to break something and never did followed by a warning.
pub(super) fn summary(options: &[FaultOption], counts: &Counts, is_colored: bool) -> Vec<String> {
    let mut all = Vec::new();
    for ((option, (_, counts)), line) in options.iter().zip(counts).zip(lines(options, counts)) {
        all.push(line);
        if option.breaks() && counts.fired == 0 {
            let warning = if is_colored { "\x1b[33mWARNING\x1b[0m" } else { "WARNING" };
            let why = option.why_never_fired(counts.matched);
            all.push(format!("  {warning}: this fault rule never fired: {why}"));
        }
    }
    all
}

/// Whether text to this stream may have colours.
pub(super) fn may_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Counts that change under the eyes of whoever watches: rewritten in place on a terminal,
/// repeated on change elsewhere.
#[derive(Debug)]
pub(super) struct LiveCounts<W> {
    out: W,
    is_terminal: bool,
    shown: Vec<String>,
}

impl<W: Write + IsTerminal + AsFd> LiveCounts<W> {
    /// Shows nothing yet.
    pub(super) fn new(out: W) -> Self {
        Self { is_terminal: out.is_terminal(), out, shown: Vec::new() }
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, options: &[FaultOption], counts: &Counts) -> io::Result<()> {
        let new = lines(options, counts);
        if new == self.shown {
            return Ok(());
        }
        let mut text = String::new();
        if self.is_terminal {
            let width = width(self.out.as_fd()).unwrap_or(80);
            text.push_str(&self.above());
            for line in &new {
                // A line that wraps would be two, and the next round would rewrite the wrong ones.
                let line = short(line, width);
                text.extend(["\x1b[2K", &line, "\n"]);
            }
        } else {
            let old = self.shown.iter().map(Some).chain(std::iter::repeat(None));
            for (line, _) in new.iter().zip(old).filter(|(line, old)| Some(*line) != *old) {
                text.push_str(line);
                text.push('\n');
            }
        }
        self.shown = new;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Replaces everything by the last word.
    pub(super) fn finish(mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::new();
        if self.is_terminal {
            text.push_str(&self.above());
            // To the end of the screen.
            text.push_str("\x1b[J");
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Moves the cursor to the first of the lines shown.
    fn above(&self) -> String {
        match self.shown.len() {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        }
    }
}

/// The text, cut so that it fits on a line of a terminal.
fn short(text: &str, width: usize) -> String {
    if text.chars().count() < width {
        return text.to_owned();
    }
    // The counts are at the end, and what the user wrote is known.
    let (Some((rule, counts)), true) = (text.rsplit_once(": "), width > 40) else {
        return text.chars().take(width.saturating_sub(1)).collect();
    };
    let room = width.saturating_sub(counts.chars().count() + 4);
    let rule: String = rule.chars().take(room).collect();
    format!("{rule}…: {counts}")
}

/// Columns of a terminal: TIOCGWINSZ of `ioctl_tty(2)`.
fn width(terminal: impl AsFd) -> Option<usize> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `winsize`, for which there is room; all zeros is a valid one.
    let size = unsafe {
        (libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr()) == 0).then(|| size.assume_init())
    };
    size.map(|it| it.ws_col as usize).filter(|it| *it > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::cli::fault_option::Grammar;

    fn option(text: &str) -> FaultOption {
        FaultOption::parse(Grammar::Either, text).unwrap()
    }

    fn counts(matched: u64, fired: u64) -> (RuleId, RuleCounts) {
        (RuleId(0), RuleCounts { matched, fired, exempt: 0 })
    }

    #[test]
    fn a_rule_that_never_fired_is_warned_of() {
        let options = [option("write=deny(EIO)"), option("read=deny(EIO, probability=1%)")];
        let lines = summary(&options, &[counts(3, 3), counts(2, 0)], false);
        assert_eq!(
            lines,
            [
                "fault rule: write=deny(EIO) → filter:[write,writev,pwrite64]: matched 3, fired 3",
                "fault rule: read=deny(EIO) → filter:[read,readv,pread64] probability=1%: \
                 matched 2, fired 0",
                "  WARNING: this fault rule never fired: 2 calls matched, but probability=1% \
                 spared each; try another --seed or a higher probability",
            ]
        );
        assert_eq!(summary(&[option("write=allow()")], &[counts(1, 0)], true).len(), 1);
    }

    #[test]
    fn what_is_no_terminal_gets_lines_that_changed() {
        let path = std::env::temp_dir().join(format!("fb-live-counts-{}", std::process::id()));
        let mut live = LiveCounts::new(File::create(&path).unwrap());
        let options = [option("write=deny(EIO)"), option("fsync=deny(EIO)")];
        live.show(&options, &[counts(0, 0), counts(0, 0)]).unwrap();
        live.show(&options, &[counts(0, 0), counts(1, 1)]).unwrap();
        live.show(&options, &[counts(0, 0), counts(1, 1)]).unwrap();
        live.finish(&["end".to_owned()]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let ends: Vec<_> = text.lines().map(|it| it.rsplit(": ").next().unwrap()).collect();
        let none = "matched 0, fired 0";
        assert_eq!(ends, [none, none, "matched 1, fired 1", "end"]);
    }

    #[test]
    fn on_a_terminal_the_same_lines_are_rewritten() {
        use std::io::Read;
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut live = LiveCounts::new(File::from(pty.slave));
        let options = [option("write=deny(EIO)"), option("fsync=deny(EIO)")];
        live.show(&options, &[counts(0, 0), counts(0, 0)]).unwrap();
        live.show(&options, &[counts(4, 2), counts(0, 0)]).unwrap();
        live.finish(&["end".to_owned()]).unwrap();
        let mut bytes = vec![0; 4096];
        let read = File::from(pty.master).read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..read]);
        assert_eq!(text.matches("\x1b[2A\r").count(), 2, "{text:?}");
        assert!(text.contains("matched 4, fired 2"), "{text:?}");
        assert!(text.ends_with("\x1b[Jend\r\n"), "{text:?}");
    }

    #[test]
    fn a_line_never_wraps_and_keeps_its_counts() {
        let line =
            format!("fault rule: write=deny(EIO) path={}: matched 1, fired 1", "x".repeat(99));
        let cut = short(&line, 60);
        assert!(cut.chars().count() < 60 && cut.ends_with("…: matched 1, fired 1"), "{cut}");
        assert_eq!(short("abc", 80), "abc");
        assert!(short(&line, 10).chars().count() < 10);
    }
}
