//! What `waitpid(2)` tells of a tracee.

/// Why a tracee is reported: ptrace(2), "Stopped states".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It has ended and been reaped.
    Ended,
    /// A signal is about to be delivered; the tracer has the last word.
    Signal(u32),
    /// Its process was stopped, by SIGSTOP or a like signal.
    Group,
    /// It has made a thread or a process, which is traced too.
    Born,
    /// It has executed a program, and taken its process's id if it did not have it.
    Executed,
    /// A new tracee's first stop, or the one in which a process notices SIGCONT.
    Other,
}

impl Stop {
    /// Reads the status. `None`: nothing that stops a tracee.
    pub(super) fn of(status: i32) -> Option<Self> {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Some(Self::Ended);
        }
        if !libc::WIFSTOPPED(status) {
            return None;
        }
        let signal = libc::WSTOPSIG(status);
        Some(match status >> 16 {
            0 => Self::Signal(signal as u32),
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                Self::Born
            }
            libc::PTRACE_EVENT_EXEC => Self::Executed,
            libc::PTRACE_EVENT_STOP
                if matches!(
                    signal,
                    libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
                ) =>
            {
                Self::Group
            }
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_by_job_control_is_told_from_a_signal() {
        let stopped = |event: i32, signal: i32| Stop::of(event << 16 | signal << 8 | 0x7f);
        assert_eq!(stopped(0, libc::SIGSTOP), Some(Stop::Signal(19)));
        assert_eq!(stopped(0, 64), Some(Stop::Signal(64)));
        assert_eq!(stopped(libc::PTRACE_EVENT_STOP, libc::SIGSTOP), Some(Stop::Group));
        assert_eq!(stopped(libc::PTRACE_EVENT_STOP, libc::SIGTRAP), Some(Stop::Other));
        assert_eq!(stopped(libc::PTRACE_EVENT_EXEC, libc::SIGTRAP), Some(Stop::Executed));
        assert_eq!(stopped(libc::PTRACE_EVENT_CLONE, libc::SIGTRAP), Some(Stop::Born));
        assert_eq!(Stop::of(9), Some(Stop::Ended));
        assert_eq!(Stop::of(3 << 8), Some(Stop::Ended));
        assert_eq!(Stop::of(0xffff), None);
    }
}
