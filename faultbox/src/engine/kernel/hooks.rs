//! Which programs serve a call on which rung.

use faultbox_common::Operand;

use super::super::Syscall;

/// The mechanisms, in the order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Rung 1: `fmod_ret` on the function that serves the call.
    SyscallFunction,
    /// Rung 2: decided by `fentry` on that function, carried out by `fmod_ret` on the
    /// `security_*` functions that the call passes.
    SecurityFunction,
    /// Rung 3: `kprobe` on the function that serves the call, with `bpf_override_return`.
    Kprobe,
    /// Rung 4: the seccomp supervisor.
    Supervisor,
}

impl Rung {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::SyscallFunction => "fmod_ret on syscall functions",
            Self::SecurityFunction => "fmod_ret on security functions",
            Self::Kprobe => "kprobe on syscall functions",
            Self::Supervisor => "seccomp supervisor",
        }
    }
}

/// The programs for a call's kind of operand: on rung 1, and at the entry on rung 2.
pub(super) fn programs(syscall: Syscall) -> (&'static str, &'static str) {
    match syscall.operand().0 {
        Operand::None => ("return_plain", "defer_plain"),
        Operand::Fd => ("return_fd", "defer_fd"),
        Operand::Path => ("return_path", "defer_path"),
        Operand::PathAt => ("return_path_at", "defer_path_at"),
        Operand::Address => ("return_address", "defer_address"),
    }
}

/// The program for a call's kind of operand on rung 3.
pub(super) fn kprobe_program(syscall: Syscall) -> &'static str {
    match syscall.operand().0 {
        Operand::None => "override_plain",
        Operand::Fd => "override_fd",
        Operand::Path => "override_path",
        Operand::PathAt => "override_path_at",
        Operand::Address => "override_address",
    }
}

/// The program on `security_*` functions.
pub(super) const APPLY: &str = "apply";

/// A call's entry in the programs' table of kinds: operand, argument, observed or not.
pub(super) fn kind(syscall: Syscall) -> u32 {
    // A call without operand must not look like one that is not in the table.
    const PRESENT: u32 = 1 << 17;
    let (operand, argument) = syscall.operand();
    operand as u32 | argument << 8 | u32::from(syscall.is_observed()) << 16 | PRESENT
}
