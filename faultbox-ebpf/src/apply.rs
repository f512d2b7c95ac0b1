//! The program on `security_*` functions that carries out what the call's entry decided (rung 2).

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use faultbox_common::{MAX_SITES, Outcome};

use crate::{
    call::Seen,
    decision::{Fired, count_fired},
    entry::as_error,
    kernel::{Registers, trace},
    maps::PENDING,
    park,
    preemption::Alone,
    report::report,
    target,
};

/// A decision made at the entry of a call, on its way to the hook that carries it out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// When the call was entered.
    pub time: u64,
    /// What it works on.
    pub seen: Seen,
    /// The decision.
    pub outcome: Outcome,
    /// The slots of the set's rules.
    pub slots: [u16; MAX_SITES],
    /// The call's number.
    pub syscall: u32,
    /// Those of the rules that fired.
    pub fired: Fired,
    /// Non-zero if the call has waited and been counted and reported before.
    pub resumed: u16,
}

/// Fails the function, or makes the thread wait, if that was decided about the current thread's
/// current call at its entry.
///
/// These functions are called on the kernel's own behalf, too: the number of the current call
/// tells those apart, and other threads have no decision waiting.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/apply")]
extern "C" fn apply(_ctx: *mut c_void) -> i64 {
    let alone = Alone::new(true);
    let result = carry_out(&alone);
    alone.end();
    as_error(result)
}

/// What the function is to return; 0: it runs.
#[inline(always)]
fn carry_out(alone: &Alone) -> i64 {
    let thread = bpf_get_current_pid_tgid();
    let Some(pending) = PENDING.get_ptr_mut(thread) else { return 0 };
    // SAFETY: only this thread's own programs change its entry.
    let pending = unsafe { &mut *pending };
    let regs = Registers::of_current();
    if regs.syscall() != pending.syscall {
        return 0;
    }
    let Some(target) = target::current() else {
        // The target has ended since.
        let _ = PENDING.remove(&thread);
        return 0;
    };
    let mut parked = false;
    if pending.outcome.delay != 0 {
        alone.pause();
        parked = park::begin(pending.syscall, regs.instruction(), regs.stack(), &pending.outcome)
            == park::WAITS;
        if !parked {
            pending.outcome.delay = 0;
        }
    }
    if pending.resumed == 0 {
        if parked || !pending.outcome.runs() {
            count_fired(&pending.slots, pending.fired, parked);
        }
        if trace() > 0 {
            report(target, pending.syscall, pending.time, &regs, &pending.seen, &pending.outcome);
        }
    }
    let result = if parked {
        park::RESTART
    } else {
        park::end(pending.outcome.action, pending.outcome.value)
    };
    let _ = PENDING.remove(&thread);
    result
}
