//! Raw tracepoints: what targets call, where no rule is on the call. They work on every kernel,
//! and run for every process on the machine, so they ask first whose call it is.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use faultbox_common::{ACTION_NONE, MAX_SYSCALLS, NO_RULE, Outcome};

use crate::{
    call::{Kind, Seen},
    decision::increment,
    kernel::{Registers, clear, offset, trace},
    maps::{COUNTS, PENDING},
    report::report,
    target,
};

/// `__USER32_CS` of x86: a 32-bit program, whose numbers mean other calls.
const USER32_CS: u64 = 0x23;

/// No rule said anything.
static NOTHING: Outcome = Outcome { delay: 0, value: 0, rule: NO_RULE, action: 0 };

/// Counts a call, and records it unless the hook on the call does that.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let Some(target) = target::current() else { return 0 };
    let regs = Registers::of_current();
    if offset!(regs_cs) != 0 && regs.code_segment() == USER32_CS {
        return 0;
    }
    // SAFETY: the context is an array of arguments, of which this tracepoint's second is the call.
    let syscall = unsafe { *ctx.as_ptr().cast::<u64>().add(1) } as u32;
    let index = syscall as usize & (MAX_SYSCALLS - 1);
    // SAFETY: in bounds by the mask.
    increment(unsafe { COUNTS.at(target).cast::<u64>().add(index) });
    let Some(kind) = Kind::of(syscall) else { return 0 };
    if trace() < 2 && !kind.is_observed() {
        return 0;
    }
    if target::rules(target, syscall).is_some() {
        return 0;
    }
    let mut seen = MaybeUninit::<Seen>::uninit();
    clear(&mut seen);
    // SAFETY: all zeros is a call of which nothing is known yet.
    let seen = unsafe { seen.assume_init_mut() };
    // SAFETY: no preconditions.
    let time = unsafe { bpf_ktime_get_ns() };
    seen.look(kind, &regs, target);
    seen.forget(bpf_get_current_pid_tgid());
    report(target, syscall, time, &regs, seen, &NOTHING);
    0
}

/// Reports and forgets a denial that its call never came to, because it failed earlier by itself.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit(_ctx: RawTracePointContext) -> i32 {
    let Some(target) = target::current() else { return 0 };
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread's own programs change its entry.
    let Some(pending) = (unsafe { PENDING.get(&thread) }) else { return 0 };
    if trace() > 0 {
        let action = ACTION_NONE as u32;
        let outcome = Outcome { delay: 0, value: 0, action, ..pending.outcome };
        let regs = Registers::of_current();
        report(target, pending.syscall, pending.time, &regs, &pending.seen, &outcome);
    }
    let _ = PENDING.remove(&thread);
    0
}
