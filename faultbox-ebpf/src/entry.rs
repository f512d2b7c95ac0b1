//! Programs on the functions that serve system calls: the decision is made here, before the body.
//!
//! As `fmod_ret` (rung 1) the decision is the return value. As `fentry` (rung 2), where the
//! kernel does not let the function be skipped, it is left for [`crate::apply`] on a
//! `security_*` function further in: so every call is decided once, however many of those it
//! passes. There is a program for each kind of operand, to keep each short for the verifier.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use faultbox_common::{NO_RULE, Object, RuleKey, TargetInfo};

use crate::{
    apply::Pending,
    call::{Kind, Seen},
    decision::{count_fired, decide_by_all},
    kernel::{Registers, Typed, clear, forget, trace},
    maps::{PENDING, SETS},
    report::report,
    target,
};

/// `-errno`, computed so that every verifier can follow: it tracks no range through `BPF_NEG`,
/// which LLVM would make of a plain negation, but does through `AND` and `SUB`.
#[inline(always)]
pub fn negated(errno: u16) -> i64 {
    let mut value = 0i64;
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{v} -= {e}",
            v = inout(reg) value,
            e = in(reg) u64::from(errno & 0xfff),
            options(pure, nomem, nostack),
        );
    }
    value
}

/// Decides at the entry of a call. `look` is the part that depends on the operand.
#[inline(always)]
fn decide_here(
    ctx: *mut c_void,
    defer: bool,
    look: impl FnOnce(&mut Seen, &Typed, &TargetInfo, Kind),
) -> i64 {
    let Some(target) = target::current() else { return 0 };
    let thread = bpf_get_current_pid_tgid();
    if defer {
        // What an earlier call of this thread left because it failed before its hook, whether or
        // not there are still rules.
        let _ = PENDING.remove(&thread);
    }
    let regs = Typed::of_entry(ctx);
    let syscall = regs.syscall();
    let key = RuleKey { target: target.index, syscall };
    // SAFETY: sets are replaced whole, never changed in place.
    let Some(set) = (unsafe { SETS.get(&key) }) else { return 0 };
    let Some(kind) = Kind::of(syscall) else { return 0 };
    let mut decided = MaybeUninit::<Pending>::uninit();
    clear(&mut decided);
    // SAFETY: all zeros is a valid value.
    let decided = unsafe { decided.assume_init_mut() };
    decided.outcome.rule = NO_RULE;
    decided.syscall = syscall;
    decided.seen.start();
    look(&mut decided.seen, &regs, target, kind);
    decided.seen.forget();
    decide_by_all(set, &decided.seen.call, &mut decided.outcome, &mut decided.slot);
    forget(&mut decided.outcome);
    forget(&mut decided.slot);
    let denied = decided.outcome.errno != 0;
    if defer && denied {
        let _ = PENDING.insert(&thread, &*decided, 0);
        return 0;
    }
    if denied {
        count_fired(decided.slot);
    }
    if denied || trace() > 0 {
        report(target, syscall, &regs, &decided.seen, &decided.outcome);
    }
    if defer { 0 } else { negated(decided.outcome.errno) }
}

/// Declares both forms of the program for one kind of operand. aya-obj knows no section
/// `fmod_ret/`, so they are put into `fentry/` ones and loaded by the engine's own loader. They
/// return 64 bits: the functions return `long`, and 32 would be extended with zeros.
macro_rules! entry {
    ($returning:ident, $deferring:ident, $look:expr) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($returning)))]
        extern "C" fn $returning(ctx: *mut c_void) -> i64 {
            decide_here(ctx, false, $look)
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($deferring)))]
        extern "C" fn $deferring(ctx: *mut c_void) -> i64 {
            decide_here(ctx, true, $look)
        }
    };
}

entry!(return_fd, defer_fd, |seen, regs, target, kind| {
    seen.look_at_descriptor(regs.argument(kind.argument()) as u32, &target.driver);
});
entry!(return_path, defer_path, |seen, regs, _, kind| {
    seen.look_at_path(regs.argument(kind.argument()), None);
});
entry!(return_path_at, defer_path_at, |seen, regs, _, kind| {
    let index = kind.argument();
    let directory = regs.argument(index.wrapping_sub(1)) as u32;
    seen.look_at_path(regs.argument(index), Some(directory));
});
entry!(return_address, defer_address, |seen, regs, target, _| {
    seen.look_at_address(regs, &target.driver);
});
entry!(return_plain, defer_plain, |seen, _, _, _| seen.call.object = Object::Plain);
