//! Finding the descendants of services where there is no cgroup to find them in: every service
//! carries the id of its session and the number of its run in its environment, and so does
//! whatever it starts, even after it has made itself a daemon.

use std::{fs, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::session::SessionId;

/// The variable that carries the mark.
pub(crate) const VARIABLE: &str = "FAULTBOX_RUN";

/// Looks this often for processes that were being forked during the look before.
const ROUNDS: usize = 50;

/// The mark of one run.
pub(crate) fn of_run(session: &SessionId, run: u32) -> String {
    format!("{session}-{run}")
}

/// Sends SIGKILL to every process of one run.
pub(crate) fn kill_run(mark: &str) {
    kill_marked(|it| it == mark);
}

/// Sends SIGKILL to every process of every run of a session.
pub(crate) fn kill_session(session: &SessionId) {
    let prefix = format!("{session}-");
    kill_marked(|it| it.starts_with(&prefix));
}

fn kill_marked(is_ours: impl Fn(&str) -> bool) {
    for _ in 0..ROUNDS {
        let found = marked(&is_ours);
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _ = kill(pid, Signal::SIGKILL);
        }
        // A killed process keeps its environment until it is scheduled to die.
        thread::sleep(Duration::from_millis(2));
    }
}

fn marked(is_ours: impl Fn(&str) -> bool) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // Unreadable: another user's. Empty: a zombie or a kernel thread.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| {
                let entry = std::str::from_utf8(entry).unwrap_or_default();
                let value = entry.strip_prefix(VARIABLE).and_then(|it| it.strip_prefix('='));
                value.is_some_and(&is_ours)
            })
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn daemons_of_the_run_are_killed_and_those_of_another_are_not() {
        let start = |mark: &str| {
            // The shell ends at once; its child in a session of its own stays.
            let output = Command::new("setsid")
                .args(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"])
                .env(VARIABLE, mark)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<i32>().unwrap()
        };
        let unique = format!("unit-test-{}", std::process::id());
        let ours = start(&format!("{unique}-1"));
        let other = start(&format!("{unique}-2"));
        kill_run(&format!("{unique}-1"));
        let is_alive = |pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| !it.contains(") Z "))
        };
        assert!(!is_alive(ours));
        assert!(is_alive(other));
        kill(Pid::from_raw(other), Signal::SIGKILL).unwrap();
    }
}
