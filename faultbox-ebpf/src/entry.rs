//! Programs on the functions that serve system calls: the decision is made here, before the body.
//!
//! As `fmod_ret` (rung 1) the decision is the return value, and as `kprobe` (rung 3) it is given
//! to `bpf_override_return`. As `fentry` (rung 2), where the kernel does not let the function be
//! skipped, it is left for [`crate::apply`] on a `security_*` function further in: so every call
//! is decided once, however many of those it passes. There is a program for each kind of operand,
//! to keep each short for the verifier.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_override_return},
    macros::kprobe,
    programs::ProbeContext,
};
use faultbox_common::{ACTION_NONE, Control, NO_RULE, Object, Place, TargetInfo};

use crate::{
    apply::Pending,
    call::{Kind, Seen},
    decision::{count_fired, decide_by_all, increment},
    kernel::{Probed, Registers, Typed, blur, clear, trace},
    maps::PENDING,
    park,
    preemption::Alone,
    report::report,
    target,
};

/// `value`, if that is a negated errno, in a way that every verifier can follow: it wants to see
/// that nothing but an error or zero is returned, and knows no range of a number from memory, but
/// does of `AND` and `SUB`, and none of `BPF_NEG`, which LLVM would make of a plain negation.
#[inline(always)]
pub fn as_error(value: i64) -> i64 {
    let mut result = 0i64;
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{v} -= {e}",
            v = inout(reg) result,
            e = in(reg) value.wrapping_neg() as u64 & 0xfff,
            options(pure, nomem, nostack),
        );
    }
    result
}

/// What is to become of the call.
enum Verdict {
    /// It runs.
    Runs,
    /// It is skipped with this result.
    Skipped(i64),
}

/// Decides at the entry of a call. `look` is the part that depends on the operand. Without
/// `can_wait` a call that should wait runs undelayed, and is counted: kprobes run where a signal
/// to oneself is put off, and [`park`] cannot tell whether it will come.
#[inline(always)]
fn decide_here<R: Registers>(
    regs: &R,
    defers: bool,
    can_wait: bool,
    look: impl FnOnce(&mut Seen, &R, &TargetInfo, Kind, *mut Control),
    place: impl FnOnce(&Seen, u32) -> Place,
) -> Verdict {
    let alone = Alone::new(R::PREEMPTIBLE);
    let verdict = decide_by(regs, defers, can_wait, look, place, &alone);
    alone.end();
    verdict
}

#[inline(always)]
fn decide_by<R: Registers>(
    regs: &R,
    defers: bool,
    can_wait: bool,
    look: impl FnOnce(&mut Seen, &R, &TargetInfo, Kind, *mut Control),
    place: impl FnOnce(&Seen, u32) -> Place,
    alone: &Alone,
) -> Verdict {
    let Some(control) = target::control() else { return Verdict::Runs };
    let Some(target) = target::current_by(control) else { return Verdict::Runs };
    if defers {
        // What an earlier call of this thread left because it failed before its hook, whether or
        // not there are still rules.
        let _ = PENDING.remove(bpf_get_current_pid_tgid());
    }
    let syscall = regs.syscall();
    // SAFETY: user space changes the word at any time.
    let parks = unsafe { core::ptr::read_volatile(&raw const control.parks) } != 0;
    let mut decided = MaybeUninit::<Pending>::uninit();
    if parks {
        clear(&mut decided);
        // SAFETY: all zeros is a valid value.
        let left = unsafe { decided.assume_init_mut() };
        let (ip, sp) = (regs.instruction(), regs.stack());
        alone.pause();
        match park::enter(syscall, ip, sp, &mut left.outcome, (can_wait && !defers).into()) {
            park::NEW => alone.resume(),
            park::WAITS => return Verdict::Skipped(park::RESTART),
            _ if !defers => return end(left.outcome.action, left.outcome.value),
            _ => {
                if left.outcome.delay != 0 || !left.outcome.runs() {
                    left.syscall = syscall;
                    left.resumed = 1;
                    let _ = PENDING.insert(bpf_get_current_pid_tgid(), &*left, 0);
                }
                return Verdict::Runs;
            }
        }
    }
    let Some(set) = target::rules(target, syscall) else { return Verdict::Runs };
    clear(&mut decided);
    // SAFETY: all zeros is a valid value.
    let decided = unsafe { decided.assume_init_mut() };
    decided.outcome.rule = NO_RULE;
    decided.syscall = syscall;
    if trace() > 0 {
        // SAFETY: no preconditions.
        decided.time = unsafe { bpf_ktime_get_ns() };
    }
    let unknown = regs.unknown();
    look(&mut decided.seen, regs, target, Kind(set.kind), control);
    decided.seen.forget(unknown);
    let mut place = place(&decided.seen, set.globs);
    blur(&mut place, unknown);
    decide_by_all(set, place, decided, !defers, unknown);
    let ends = !decided.outcome.runs();
    let waits = decided.outcome.delay != 0;
    if defers && (ends || waits) {
        let _ = PENDING.insert(bpf_get_current_pid_tgid(), &*decided, 0);
        return Verdict::Runs;
    }
    let mut parked = false;
    if waits && !can_wait {
        increment(&raw mut control.undelayed);
        decided.outcome.delay = 0;
    } else if waits {
        alone.pause();
        parked =
            park::begin(syscall, regs.instruction(), regs.stack(), &decided.outcome) == park::WAITS;
        if !parked {
            decided.outcome.delay = 0;
        }
    }
    // Those that end the call have been counted.
    if parked {
        count_fired(&decided.slots, decided.fired, true);
    }
    if trace() > 0 {
        report(target, syscall, decided.time, regs, &decided.seen, &decided.outcome);
    }
    if parked {
        return Verdict::Skipped(park::RESTART);
    }
    end(decided.outcome.action, decided.outcome.value)
}

/// Carries an action out.
#[inline(always)]
fn end(action: u32, value: i64) -> Verdict {
    if action == ACTION_NONE as u32 {
        Verdict::Runs
    } else {
        Verdict::Skipped(park::end(action, value))
    }
}

/// What a program on rung 1 returns: zero runs the call, whatever else is its result.
#[inline(always)]
fn returned(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Runs => 0,
        Verdict::Skipped(value) => value,
    }
}

/// Declares the three forms of the program for one kind of operand. aya-obj knows no section
/// `fmod_ret/`, so two are put into `fentry/` ones and loaded by the engine's own loader. They
/// return 64 bits: the functions return `long`, and 32 would be extended with zeros.
macro_rules! entry {
    ($returning:ident, $deferring:ident, $overriding:ident, $place:expr, $look:expr) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($returning)))]
        extern "C" fn $returning(ctx: *mut c_void) -> i64 {
            returned(decide_here(&Typed::of_entry(ctx), false, true, $look, $place))
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($deferring)))]
        extern "C" fn $deferring(ctx: *mut c_void) -> i64 {
            decide_here(&Typed::of_entry(ctx), true, true, $look, $place);
            0
        }

        #[kprobe]
        fn $overriding(ctx: ProbeContext) -> u32 {
            let regs = Probed(&ctx);
            if let Verdict::Skipped(value) = decide_here(&regs, false, false, $look, $place) {
                // SAFETY: the context is the program's own.
                unsafe { bpf_override_return(ctx.as_ptr().cast(), value as u64) };
            }
            0
        }
    };
}

entry!(
    return_fd,
    defer_fd,
    override_fd,
    |seen: &Seen, globs| seen.place_of_file(globs),
    |seen, regs, target, kind, control| {
        let descriptor = regs.argument(kind.argument()) as u32;
        seen.look_at_descriptor(descriptor, &target.driver, control);
    }
);
entry!(
    return_path,
    defer_path,
    override_path,
    |seen: &Seen, globs| seen.place_of_path(globs),
    |seen, regs, _, kind, _| {
        seen.look_at_path(regs.argument(kind.argument()), None);
    }
);
entry!(
    return_path_at,
    defer_path_at,
    override_path_at,
    |seen: &Seen, globs| seen.place_of_path(globs),
    |seen, regs, _, kind, _| {
        let index = kind.argument();
        let directory = regs.argument(index.wrapping_sub(1)) as u32;
        seen.look_at_path(regs.argument(index), Some(directory));
    }
);
entry!(
    return_address,
    defer_address,
    override_address,
    |_, _| Place::default(),
    |seen, regs, target, _, _| {
        seen.look_at_address(regs, &target.driver);
    }
);
entry!(return_plain, defer_plain, override_plain, |_, _| Place::default(), |seen, _, _, _, _| {
    seen.call.object = Object::Plain
});
