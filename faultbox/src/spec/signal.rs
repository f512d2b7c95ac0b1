//! Signals as specs write them: `"KILL"`, `"sigterm"`.

use nix::sys::signal::Signal;

use super::{
    failure::Raised,
    suggest::{did_you_mean, quoted},
};

/// Signals that do not end a process that has no handler for them (`signal(7)`).
const HARMLESS: &[Signal] = &[
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGSTOP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
];

/// The name without `SIG`: `KILL`.
pub(crate) fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// The signal of that name, with or without `SIG`, in either case, if it ends a process. The
/// error names near ones.
pub(crate) fn deadly_signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let Some(signal) = Signal::iterator().find(|it| signal_name(*it) == name) else {
        let hint = did_you_mean(name, Signal::iterator().map(signal_name));
        let hint = if hint.is_empty() { "; use e.g. KILL, TERM or SEGV" } else { &*hint };
        return Err(format!("unknown signal {}{hint}", quoted(text)));
    };
    if HARMLESS.contains(&signal) {
        return Err(format!("{signal} does not end a process; use e.g. KILL, TERM or SEGV"));
    }
    Ok(signal)
}

/// The same for `crash()` in a spec.
pub(super) fn parse_signal(text: &str) -> Result<Signal, Raised> {
    deadly_signal(text).map_err(|why| Raised::error(format!("crash(): {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_prefix_in_either_case() {
        for text in ["KILL", "SIGKILL", "kill", "SigKill"] {
            assert_eq!(parse_signal(text).unwrap(), Signal::SIGKILL, "{text}");
        }
        assert_eq!(signal_name(Signal::SIGSEGV), "SEGV");
    }

    #[test]
    fn what_is_no_signal_or_ends_nothing_is_refused() {
        let error = |text| parse_signal(text).unwrap_err().to_string();
        assert_eq!(error("KIL"), "crash(): unknown signal \"KIL\"; did you mean: KILL?");
        assert!(error("").ends_with("\"\"; use e.g. KILL, TERM or SEGV"));
        assert!(error("9").contains("unknown signal"));
        assert!(error("SIGCHLD").contains("SIGCHLD does not end a process"));
    }
}
