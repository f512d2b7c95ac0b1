//! The program on `security_*` functions that carries out what the call's entry decided (rung 2).

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use faultbox_common::Outcome;

use crate::{
    call::Seen,
    decision::count_fired,
    entry::negated,
    kernel::{Registers as _, Typed},
    maps::PENDING,
    report::report,
    target,
};

/// A denial decided at the entry of a call, on its way to the hook that carries it out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// What the call works on.
    pub seen: Seen,
    /// The denial.
    pub outcome: Outcome,
    /// The call's number.
    pub syscall: u32,
    /// Slot of the rule that fired.
    pub slot: u32,
}

/// Fails the function if the current thread's current call was denied at its entry.
///
/// These functions are called on the kernel's own behalf, too: the number of the current call
/// tells those apart, and other threads have no decision waiting.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/apply")]
extern "C" fn apply(_ctx: *mut c_void) -> i64 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread's own programs change its entry.
    let Some(pending) = (unsafe { PENDING.get(&thread) }) else { return 0 };
    let regs = Typed::of_current();
    if regs.syscall() != pending.syscall {
        return 0;
    }
    let errno = pending.outcome.errno;
    count_fired(pending.slot);
    if let Some(target) = target::current() {
        report(target, pending.syscall, &regs, &pending.seen, &pending.outcome);
    }
    let _ = PENDING.remove(&thread);
    negated(errno)
}
