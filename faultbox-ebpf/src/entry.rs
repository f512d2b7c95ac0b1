//! Programs on the functions that serve system calls: the decision is made here, before the body.
//!
//! As `fmod_ret` (rung 1) the decision is the return value, and as `kprobe` (rung 3) it is given
//! to `bpf_override_return`. As `fentry` (rung 2), where the kernel does not let the function be
//! skipped, it is left for [`crate::apply`] on a `security_*` function further in: so every call
//! is decided once, however many of those it passes. There is a program for each kind of operand,
//! to keep each short for the verifier.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_override_return,
};
use faultbox_common::{ACTION_DELAY, ACTION_NONE, FIELD_NUMBER, NO_RULE, Object, Place, RuleSet};

use crate::{
    apply::Pending,
    call::Seen,
    decision::{count_fired, decide_by_all, increment},
    file::{Direct, Memory, Typed},
    kernel::{Registers, clear, constant, trace},
    maps::PENDING,
    park,
    path::Dentry,
    place,
    preemption::Alone,
    report::report,
    straight::{self, Ending},
    target::{self, switch},
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

/// The forms of a program.
trait Form {
    /// Whether preemption can be switched off: a kprobe runs without it anyway.
    const PREEMPTIBLE: bool;
    /// Whether the decision is left for a hook further in.
    const DEFERS: bool;
    /// Whether a call can be made to wait here. Else one that should runs undelayed, and is
    /// counted: kprobes run where a signal to oneself is put off, and [`park`] cannot tell whether
    /// it will come.
    const WAITS: bool;
    /// How files are read.
    const MEMORY: Self::Memory;
    type Memory: Memory;
}

/// `fmod_ret`.
struct Returning;

impl Form for Returning {
    const PREEMPTIBLE: bool = true;
    const DEFERS: bool = false;
    const WAITS: bool = true;
    const MEMORY: Typed = Typed;
    type Memory = Typed;
}

/// `fentry`.
struct Deferring;

impl Form for Deferring {
    const PREEMPTIBLE: bool = true;
    const DEFERS: bool = true;
    const WAITS: bool = true;
    const MEMORY: Typed = Typed;
    type Memory = Typed;
}

/// `kprobe`.
struct Overriding;

impl Form for Overriding {
    const PREEMPTIBLE: bool = false;
    const DEFERS: bool = false;
    const WAITS: bool = false;
    const MEMORY: Direct = Direct;
    type Memory = Direct;
}

/// A kind of operand.
trait Operand {
    /// Finds out what the call works on.
    fn look(seen: &mut Seen, regs: &Registers, target: u64, memory: impl Memory);

    /// Where that lies; `globs` are what is asked about its path.
    fn place(_seen: &Seen, _globs: u32) -> Place {
        Place::default()
    }

    /// Decides at once, if that is possible: see [`straight`].
    fn decide(
        _set: &RuleSet,
        _regs: &Registers,
        _target: u64,
        _memory: impl Memory,
        _room: &mut MaybeUninit<Dentry>,
    ) -> Option<Ending> {
        None
    }
}

/// The number of the call that this program is loaded for.
#[inline(always)]
fn number() -> u32 {
    constant::<FIELD_NUMBER>() as u32
}

/// Decides at the entry of a call.
#[inline(always)]
fn decide_here<F: Form, O: Operand>(regs: &Registers) -> Verdict {
    let alone = Alone::new(F::PREEMPTIBLE);
    let verdict = decide_by::<F, O>(regs, &alone);
    alone.end();
    verdict
}

#[inline(always)]
fn decide_by<F: Form, O: Operand>(regs: &Registers, alone: &Alone) -> Verdict {
    let Some(target) = target::current() else { return Verdict::Runs };
    if F::DEFERS {
        // What an earlier call of this thread left because it failed before its hook, whether or
        // not there are still rules.
        let _ = PENDING.remove(bpf_get_current_pid_tgid());
    }
    let mut decided = MaybeUninit::<Pending>::uninit();
    if switch!(parks) != 0 {
        clear(&mut decided);
        // SAFETY: all zeros is a valid value.
        let left = unsafe { decided.assume_init_mut() };
        let (ip, sp) = (regs.instruction(), regs.stack());
        alone.pause();
        match park::enter(number(), ip, sp, &mut left.outcome, (F::WAITS && !F::DEFERS).into()) {
            park::NEW => alone.resume(),
            park::WAITS => return Verdict::Skipped(park::RESTART),
            _ if !F::DEFERS => return end(left.outcome.action, left.outcome.value),
            _ => {
                if left.outcome.delay != 0 || !left.outcome.runs() {
                    left.syscall = number();
                    left.resumed = 1;
                    let _ = PENDING.insert(bpf_get_current_pid_tgid(), &*left, 0);
                }
                return Verdict::Runs;
            }
        }
    }
    let Some(set) = target::rules_here(target) else { return Verdict::Runs };
    if target::is_foreign(target) && target::is_runtime() {
        return Verdict::Runs;
    }
    let mut delay = 0;
    if trace() == 0
        && !F::DEFERS
        // SAFETY: memory of its own, of which nothing is read before it is cleared.
        && let room = unsafe { &mut *(&raw mut (*decided.as_mut_ptr()).seen.start).cast() }
        && let Some((action, value)) = O::decide(set, regs, target, F::MEMORY, room)
    {
        if action != ACTION_DELAY.into() {
            return end(action, value);
        }
        if value == 0 {
            return Verdict::Runs;
        }
        delay = value;
    }
    clear(&mut decided);
    // SAFETY: all zeros is a valid value.
    let decided = unsafe { decided.assume_init_mut() };
    decided.outcome.rule = NO_RULE;
    decided.syscall = number();
    if delay != 0 {
        decided.outcome.delay = delay as u64;
        decided.slots[0] = set.sites[0].slot as u16;
        decided.fired = 1;
    } else {
        decide_at_length::<F, O>(set, regs, target, decided);
    }
    let ends = !decided.outcome.runs();
    let waits = decided.outcome.delay != 0;
    if F::DEFERS && (ends || waits) {
        let _ = PENDING.insert(bpf_get_current_pid_tgid(), &*decided, 0);
        return Verdict::Runs;
    }
    let mut parked = false;
    if waits && !F::WAITS {
        // SAFETY: a live map value.
        increment(unsafe { &raw mut (*target::control()).undelayed });
        decided.outcome.delay = 0;
    } else if waits {
        alone.pause();
        parked = park::begin(number(), regs.instruction(), regs.stack(), &decided.outcome)
            == park::WAITS;
        if !parked {
            decided.outcome.delay = 0;
        }
    }
    // Those that end the call have been counted.
    if parked {
        count_fired(&decided.slots, decided.fired, true);
    }
    if trace() > 0 {
        report(target, number(), decided.time, regs, &decided.seen, &decided.outcome);
    }
    if parked {
        return Verdict::Skipped(park::RESTART);
    }
    end(decided.outcome.action, decided.outcome.value)
}

/// Decides by all rules of a set, and keeps what a record tells of the call.
#[inline(always)]
fn decide_at_length<F: Form, O: Operand>(
    set: &RuleSet,
    regs: &Registers,
    target: u64,
    decided: &mut Pending,
) {
    if trace() > 0 {
        // SAFETY: no preconditions.
        decided.time = unsafe { bpf_ktime_get_ns() };
    }
    let unknown = switch!(epoch);
    O::look(&mut decided.seen, regs, target, F::MEMORY);
    decided.seen.forget(unknown);
    let place = place::unknown(O::place(&decided.seen, set.globs), unknown);
    decide_by_all(set, place, decided, !F::DEFERS, unknown);
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
/// `fmod_ret/`, so two are put into `fentry/` ones. They return 64 bits: the functions return
/// `long`, and 32 would be extended with zeros.
macro_rules! entry {
    ($operand:ty, $returning:ident, $deferring:ident, $overriding:ident) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($returning)))]
        extern "C" fn $returning(ctx: *mut c_void) -> i64 {
            returned(decide_here::<Returning, $operand>(&Registers::of_entry(ctx)))
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("fentry/", stringify!($deferring)))]
        extern "C" fn $deferring(ctx: *mut c_void) -> i64 {
            decide_here::<Deferring, $operand>(&Registers::of_entry(ctx));
            0
        }

        // In a section of its own: aya-obj takes all functions of a section for one.
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("kprobe/", stringify!($overriding)))]
        extern "C" fn $overriding(ctx: *mut c_void) -> u32 {
            let verdict = decide_here::<Overriding, $operand>(&Registers::of_current());
            if let Verdict::Skipped(value) = verdict {
                // SAFETY: the context is the program's own.
                unsafe { bpf_override_return(ctx.cast(), value as u64) };
            }
            0
        }
    };
}

/// A file descriptor.
struct Descriptor;

impl Operand for Descriptor {
    #[inline(always)]
    fn look(seen: &mut Seen, regs: &Registers, target: u64, memory: impl Memory) {
        seen.look_at_descriptor(regs.descriptor(), target, memory);
    }

    #[inline(always)]
    fn place(seen: &Seen, globs: u32) -> Place {
        seen.place_of_file(globs)
    }

    #[inline(always)]
    fn decide(
        set: &RuleSet,
        regs: &Registers,
        target: u64,
        memory: impl Memory,
        room: &mut MaybeUninit<Dentry>,
    ) -> Option<Ending> {
        straight::by_descriptor(set, target, regs, memory, room)
    }
}

entry!(Descriptor, return_fd, defer_fd, override_fd);

/// A path, relative to the working directory.
struct Path;

impl Operand for Path {
    #[inline(always)]
    fn look(seen: &mut Seen, regs: &Registers, _: u64, _: impl Memory) {
        seen.look_at_path(regs.operand(), None);
    }

    #[inline(always)]
    fn place(seen: &Seen, globs: u32) -> Place {
        seen.place_of_path(globs)
    }
}

entry!(Path, return_path, defer_path, override_path);

/// A path, relative to the descriptor before it.
struct PathAt;

impl Operand for PathAt {
    #[inline(always)]
    fn look(seen: &mut Seen, regs: &Registers, _: u64, _: impl Memory) {
        seen.look_at_path(regs.operand(), Some(regs.directory() as u32));
    }

    #[inline(always)]
    fn place(seen: &Seen, globs: u32) -> Place {
        seen.place_of_path(globs)
    }
}

entry!(PathAt, return_path_at, defer_path_at, override_path_at);

/// An address.
struct Address;

impl Operand for Address {
    #[inline(always)]
    fn look(seen: &mut Seen, regs: &Registers, target: u64, _: impl Memory) {
        seen.look_at_address(regs, target);
    }
}

entry!(Address, return_address, defer_address, override_address);

/// None.
struct Nothing;

impl Operand for Nothing {
    #[inline(always)]
    fn look(seen: &mut Seen, _: &Registers, _: u64, _: impl Memory) {
        seen.call.object = Object::Plain;
    }

    #[inline(always)]
    fn decide(
        set: &RuleSet,
        _: &Registers,
        _: u64,
        _: impl Memory,
        _: &mut MaybeUninit<Dentry>,
    ) -> Option<Ending> {
        straight::by_nothing(set)
    }
}

entry!(Nothing, return_plain, defer_plain, override_plain);
