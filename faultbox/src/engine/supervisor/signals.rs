//! Signals that a waiting thread has to handle.

use std::{
    fs::File,
    io::{self, Read as _},
};

/// Whether a thread that waits in a call has a signal to handle, or is to stop or end by one,
/// when it leaves the kernel.
///
/// True is certain as long as the thread waits in that call: a signal that was sent to this thread
/// and is not blocked, or to its process and this is the only thread, has set the thread's "signal
/// pending" flag in the kernel, which nobody but the thread itself can clear, not even by taking
/// the signal back. A signal for a process with several threads may be another one's to handle, so
/// nothing is said of those.
///
/// Ignored signals are not pending, unless a tracer is to see them.
///
/// # Errors
///
/// When the thread has ended.
pub(super) fn has_some(tid: u32) -> io::Result<bool> {
    // Grows for those who are in many groups.
    let mut text = Vec::with_capacity(2048);
    File::open(format!("/proc/{tid}/status"))?.read_to_end(&mut text)?;
    Ok(is_pending(&text))
}

/// `proc_pid_status(5)`: the lines of the signals are written under one lock.
fn is_pending(status: &[u8]) -> bool {
    let field = |name: &[u8], radix| {
        let mut lines = status.split(|byte| *byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(str::from_utf8(value).ok()?.trim(), radix).ok()
    };
    let set = |name: &[u8]| field(name, 16);
    let (Some(own), Some(shared), Some(blocked), Some(threads)) =
        (set(b"SigPnd:"), set(b"ShdPnd:"), set(b"SigBlk:"), field(b"Threads:", 10))
    else {
        return false;
    };
    let pending = if threads == 1 { own | shared } else { own };
    pending & !blocked != 0
}

/// The stack pointer of a thread that waits in a call (`proc_pid_syscall(5)`); `None`: it does not
/// wait, or we may not know.
pub(super) fn stack_of(tid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    // The number and six arguments come before.
    let pointer = text.split_ascii_whitespace().nth(7)?;
    u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(threads: u32, own: u64, shared: u64, blocked: u64) -> String {
        format!(
            "Name:\tSigPnd: 1\nGroups:\t0 1 \nThreads:\t{threads}\nSigQ:\t0/7\nSigPnd:\t{own:016x}\n\
             ShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{:016x}\n",
            0
        )
    }

    #[test]
    fn only_what_this_thread_must_handle_counts() {
        let is = |threads, own, shared, blocked| {
            is_pending(status(threads, own, shared, blocked).as_bytes())
        };
        assert!(!is(1, 0, 0, 0));
        assert!(is(1, 0x4000, 0, 0));
        assert!(is(1, 0, 0x4000, 0));
        assert!(is(9, 0x4000, 0, 0));
        assert!(!is(2, 0, 0x4000, 0), "another thread may handle it");
        assert!(!is(1, 0x4000, 0x4000, 0x4000), "blocked");
        assert!(is(1, 1 << 63, 0, 0x4000), "the last real-time signal");
        assert!(!is_pending(b""));
    }

    #[test]
    fn our_own_signals_and_stack_can_be_seen() {
        let thread = std::thread::spawn(|| {
            let set = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGUSR2);
            set.thread_block().unwrap();
            let tid = nix::unistd::gettid().as_raw().cast_unsigned();
            // SAFETY: no pointers.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            let text = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
            let blocked = has_some(tid).unwrap();
            let without = text.lines().filter(|line| !line.starts_with("SigBlk"));
            let open: Vec<_> = without.chain(["SigBlk:\t0"]).collect();
            (blocked, is_pending(open.join("\n").as_bytes()))
        });
        assert_eq!(thread.join().unwrap(), (false, true));
        assert!(has_some(u32::MAX >> 1).is_err());
    }
}
