//! Raw tracepoints: what targets call, where no rule is on the call. They work on every kernel,
//! and run for every process on the machine, so they ask first whose call it is.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use faultbox_common::{MAX_SYSCALLS, Outcome, RuleKey};

use crate::{
    call::{Kind, Seen},
    decision::increment,
    kernel::{Registers, Untyped, clear, offset, trace},
    maps::{COUNTS, PENDING, SETS},
    report::report,
    target,
};

/// `__USER32_CS` of x86: a 32-bit program, whose numbers mean other calls.
const USER32_CS: u64 = 0x23;

/// Counts a call, and records it unless the hook on the call does that.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let Some(target) = target::current() else { return 0 };
    let regs = Untyped::of_tracepoint(&ctx);
    if offset!(regs_cs) != 0 && regs.word(offset!(regs_cs)) == USER32_CS {
        return 0;
    }
    let syscall = regs.syscall();
    if let Some(counts) = COUNTS.get_ptr_mut(target.index) {
        let index = syscall as usize & (MAX_SYSCALLS - 1);
        // SAFETY: in bounds by the mask.
        increment(unsafe { (&raw mut (*counts)[0]).add(index) });
    }
    let Some(kind) = Kind::of(syscall) else { return 0 };
    if trace() < 2 && !kind.is_observed() {
        return 0;
    }
    let key = RuleKey { target: target.index, syscall };
    // SAFETY: only whether there is an entry matters.
    if unsafe { SETS.get(&key) }.is_some() {
        return 0;
    }
    let mut seen = MaybeUninit::<Seen>::uninit();
    clear(&mut seen);
    // SAFETY: all zeros is a call of which nothing is known yet.
    let seen = unsafe { seen.assume_init_mut() };
    seen.start();
    seen.look(kind, &regs, &target.driver);
    seen.forget();
    report(target, syscall, &regs, seen, &Outcome::default());
    0
}

/// Reports and forgets a denial that its call never came to, because it failed earlier by itself.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let Some(target) = target::current() else { return 0 };
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread's own programs change its entry.
    let Some(pending) = (unsafe { PENDING.get(&thread) }) else { return 0 };
    if trace() > 0 {
        let outcome = Outcome { errno: 0, ..pending.outcome };
        let regs = Untyped::of_tracepoint(&ctx);
        report(target, pending.syscall, &regs, &pending.seen, &outcome);
    }
    let _ = PENDING.remove(&thread);
    0
}
