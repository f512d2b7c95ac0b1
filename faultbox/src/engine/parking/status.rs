//! What `/proc/ID/status` says of a process or a thread.

use std::fs;

/// The lines that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// `Name`: the command's, at most 15 bytes.
    pub(super) name: String,
    /// `State`: R, S, D, T (stopped by a signal), t (stopped for a tracer), Z, X.
    pub(super) state: char,
    /// `Tgid`.
    pub(super) process: u32,
    /// `TracerPid`; 0: not traced.
    pub(super) tracer: u32,
    /// `Kthread` (Linux 6.12); false where it is not told.
    pub(super) is_kernel_thread: bool,
}

impl Status {
    /// `None`: there is no such process or thread.
    pub(super) fn of(id: u32) -> Option<Self> {
        // A name may be any bytes.
        let text = fs::read(format!("/proc/{id}/status")).ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "Name" => value.clone_into(&mut status.name),
                "State" => status.state = value.chars().next().unwrap_or_default(),
                "Tgid" => status.process = value.parse().unwrap_or(0),
                "TracerPid" => status.tracer = value.parse().unwrap_or(0),
                "Kthread" => status.is_kernel_thread = value == "1",
                _ => {}
            }
        }
        status
    }

    /// Whether it is no program's thread, or none any more.
    pub(super) fn is_beyond_tracing(&self) -> bool {
        self.is_kernel_thread || matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whatever_the_name() {
        let text = "Name:\ta: b\nUmask:\t0022\nState:\tt (tracing stop)\nTgid:\t12\nPid:\t13\n\
                    TracerPid:\t7\nKthread:\t0\n";
        let expected = Status {
            name: "a: b".to_owned(),
            state: 't',
            process: 12,
            tracer: 7,
            is_kernel_thread: false,
        };
        assert_eq!(Status::parse(text), expected);
        assert_eq!(Status::of(std::process::id()).unwrap().process, std::process::id());
        assert_eq!(Status::of(u32::MAX), None);
    }
}
