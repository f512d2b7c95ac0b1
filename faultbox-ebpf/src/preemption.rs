//! Programs that are not interrupted in the middle by another thread.
//!
//! The kernel skips a tracing program for whoever enters while a thread that was preempted in it
//! waits for its turn on the same processor: on a preemptible kernel, a busy service loses whole
//! slices of time to that. So preemption is off while a program works. Switching it on again
//! would let the other thread in at once, with the program not yet left; unless interrupts are
//! off at that instant, when the kernel puts it off to the next opportunity. What is left are
//! the few instructions before and after.
//!
//! The calls are placeholders, which the loader replaces by the kernel functions of these names
//! where there are all of them (Linux 6.14), and elsewhere by nothing.

use core::{arch::asm, mem::MaybeUninit};

use faultbox_common::{IRQ_RESTORE, IRQ_SAVE, PREEMPT_DISABLE, PREEMPT_ENABLE};

/// Calls a kernel function, by its placeholder, that takes a pointer or nothing.
macro_rules! call {
    ($function:expr, $argument:expr) => {
        // SAFETY: the function keeps to the calling convention; the verifier checks the rest.
        unsafe {
            asm!(
                "call {f}",
                f = const $function,
                inout("r1") $argument => _,
                out("r0") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _,
            );
        }
    };
}

/// Does something that no other thread interrupts.
#[inline(always)]
pub fn without<R>(work: impl FnOnce() -> R) -> R {
    call!(PREEMPT_DISABLE, 0u64);
    let result = work();
    let mut flags = MaybeUninit::<u64>::uninit();
    call!(IRQ_SAVE, flags.as_mut_ptr());
    call!(PREEMPT_ENABLE, 0u64);
    call!(IRQ_RESTORE, flags.as_mut_ptr());
    result
}
