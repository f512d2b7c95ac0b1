//! The signal that asks a container to end: how it is written in images, and whether it can reach
//! anybody.

use std::{fs, str::FromStr as _};

use nix::sys::signal::Signal;

/// The number of a signal as written behind STOPSIGNAL: `15`, `SIGTERM`, `term`, `SIGRTMIN+3`.
pub(super) fn parse(text: &str) -> Option<i32> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    if let Ok(number) = text.parse::<i32>() {
        let is_one = Signal::try_from(number).is_ok() || real_time.contains(&number);
        return is_one.then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |from: &str| -> Option<i32> {
        match name.strip_prefix(from)? {
            "" => Some(0),
            // The sign is part of it, and no other than the expected one may be there.
            rest => rest.strip_prefix(['+', '-'])?.parse::<u8>().ok().map(i32::from),
        }
    };
    let number = offset("RTMIN").map(|it| libc::SIGRTMIN() + it);
    let number = number.or_else(|| offset("RTMAX").map(|it| libc::SIGRTMAX() - it));
    match number {
        Some(number) => real_time.contains(&number).then_some(number),
        None => Signal::from_str(&format!("SIG{name}")).ok().map(|it| it as i32),
    }
}

/// Whether the kernel drops this signal, sent to a process from outside its PID namespace: the
/// first process of a namespace only gets what it has a handler for, or waits for by
/// `sigwait(3)` (`pid_namespaces(7)`).
pub(crate) fn ignores(pid: u32, signal: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|it| drops(&it, signal))
}

/// The same by the text of `/proc/PID/status` (`proc_pid_status(5)`).
fn drops(status: &str, signal: i32) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let is_in = |name: &str| {
        let mask = field(name).and_then(|it| u64::from_str_radix(it, 16).ok()).unwrap_or(0);
        (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
    };
    if [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
        return false;
    }
    let is_first = field("NSpid").is_some_and(|it| it.split_whitespace().last() == Some("1"));
    // One that is blocked stays pending whatever its action is (kernel/signal.c, sig_ignored).
    is_first && !is_in("SigCgt") && !is_in("SigBlk")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_is_understood_in_every_way_that_images_write_it() {
        for (text, expected) in [
            ("SIGTERM", Some(libc::SIGTERM)),
            ("quit", Some(libc::SIGQUIT)),
            ("28", Some(libc::SIGWINCH)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMAX-1", Some(libc::SIGRTMAX() - 1)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("SIGRTMIN+99", None),
            ("0", None),
            ("65", None),
            ("SIGNONE", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_first_process_drops_and_only_what_it_neither_catches_nor_blocks() {
        // Caught: SIGINT (2); blocked: SIGUSR1 (10).
        let status = |pids: &str| {
            format!(
                "Name:\tx\nNSpid:\t{pids}\nSigBlk:\t0000000000000200\nSigCgt:\t0000000000000002\n"
            )
        };
        let first = status("4711\t1");
        assert!(drops(&first, libc::SIGTERM));
        assert!(!drops(&first, libc::SIGINT));
        assert!(!drops(&first, libc::SIGUSR1));
        assert!(!drops(&first, libc::SIGKILL));
        assert!(!drops(&status("4711\t12"), libc::SIGTERM));
        assert!(!drops("", libc::SIGTERM));
    }

    #[test]
    fn a_process_that_is_nobodys_first_drops_nothing() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let dropped = ignores(child.id(), libc::SIGTERM);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!dropped);
        assert!(!ignores(child.id(), libc::SIGTERM));
    }
}
