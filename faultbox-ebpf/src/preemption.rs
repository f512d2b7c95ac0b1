//! Programs that are not interrupted in the middle by another thread.
//!
//! The kernel skips a tracing program for whoever enters while a thread that was preempted in it
//! waits for its turn on the same processor: on a preemptible kernel, a busy service loses whole
//! slices of time to that. So preemption is off while a program works. Switching it on again
//! would let the other thread in at once, with the program not yet left; unless interrupts are
//! off at that instant, when the kernel puts it off to the next opportunity. What is left are
//! the few instructions before and after.
//!
//! It must be on while a thread is parked: with preemption off a signal to oneself is put off, and
//! whether it will come could not be seen.
//!
//! The calls are placeholders, which the loader replaces by the kernel functions of these names
//! where there are all of them (Linux 6.14), and elsewhere by nothing.

use core::{arch::asm, cell::Cell, mem::MaybeUninit};

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

/// A stretch of a program during which no other thread comes in. It may pause, for parking.
///
/// Which of the two it is at a place of the program the verifier has to know, so it is a number
/// that the compiler can follow, and every stretch is ended by a call.
pub struct Alone {
    possible: bool,
    on: Cell<bool>,
}

impl Alone {
    /// Begins a stretch, if that is possible in this program.
    #[inline(always)]
    pub fn new(possible: bool) -> Self {
        let alone = Self { possible, on: Cell::new(false) };
        alone.resume();
        alone
    }

    /// Lets others in.
    #[inline(always)]
    pub fn pause(&self) {
        if self.on.get() {
            let mut flags = MaybeUninit::<u64>::uninit();
            call!(IRQ_SAVE, flags.as_mut_ptr());
            call!(PREEMPT_ENABLE, 0u64);
            call!(IRQ_RESTORE, flags.as_mut_ptr());
            self.on.set(false);
        }
    }

    /// Goes on.
    #[inline(always)]
    pub fn resume(&self) {
        if self.possible && !self.on.get() {
            call!(PREEMPT_DISABLE, 0u64);
            self.on.set(true);
        }
    }

    /// Ends the stretch.
    #[inline(always)]
    pub fn end(self) {
        self.pause();
    }
}
