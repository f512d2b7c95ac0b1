//! Reading kernel structures by offsets that user space found in the kernel's BTF.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
    },
    programs::{ProbeContext, RawTracePointContext},
};
use faultbox_common::{Control, Layout};

/// An address in the kernel.
pub type Address = *const c_void;

/// Set by user space before the object is loaded.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::ZERO;

/// How much is recorded: 0 denials only, 1 the observed calls, 2 all. Set likewise, so the
/// verifier removes the code of the other levels.
#[unsafe(no_mangle)]
pub static TRACE: u32 = 1;

/// One offset of the layout. Member by member, and volatile: a single read of the frozen map is a
/// constant to the verifier, a copy of the whole structure is not.
macro_rules! offset {
    ($($field:tt)+) => {
        // SAFETY: the static is initialised memory.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::LAYOUT.$($field)+) as usize }
    };
}
pub(crate) use offset;

/// The trace level.
#[inline(always)]
pub fn trace() -> u32 {
    // SAFETY: the static is initialised memory.
    unsafe { core::ptr::read_volatile(&raw const TRACE) }
}

/// Reads a value in the kernel; `None` when the address is bad.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: usize) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(base.cast::<u8>().wrapping_add(offset).cast::<T>()).ok() }
}

/// Reads a member behind a pointer whose type the verifier knows: one instruction, where [`read`]
/// is a call. A pointer that is read so is typed again if the member is a pointer to a structure.
#[inline(always)]
pub fn member<T: Copy>(base: Address, offset: usize) -> T {
    // SAFETY: the verifier checks type and offset, and the kernel clears what faults.
    unsafe { core::ptr::read_volatile(base.cast::<u8>().wrapping_add(offset).cast()) }
}

/// The address in a pointer whose type the verifier knows, as a number.
///
/// The verifier allows no arithmetic on such a pointer but to subtract another one, which makes a
/// number. That other one is of the switches; as a number it is in memory there.
#[inline(always)]
pub fn number(pointer: Address, control: *mut Control) -> u64 {
    // SAFETY: the first who comes writes the word, and others write the same.
    let here = unsafe {
        let here = &raw mut (*control).here;
        if here.read_volatile() == 0 {
            here.write_volatile(control as u64);
        }
        here.read_volatile()
    };
    let mut address = pointer as u64;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "{a} -= {b}",
            a = inout(reg) address,
            b = in(reg) control,
            options(pure, nomem, nostack),
        );
    }
    address.wrapping_add(here)
}

/// Makes the verifier forget what it knows of a word.
///
/// It follows the rest of the program once for each combination of constants that the paths up
/// to here have left behind. Where many paths meet, one of unknown value is enough. `unknown` is
/// any number that the verifier knows nothing of, such as the current thread's.
#[inline(always)]
pub fn blurred(mut word: u64, unknown: u64) -> u64 {
    // SAFETY: arithmetic on a register, which it leaves as it is.
    unsafe {
        asm!(
            "{w} ^= {u}",
            "{w} ^= {u}",
            w = inout(reg) word,
            u = in(reg) unknown,
            options(pure, nomem, nostack),
        );
    }
    word
}

/// Does that to every word of a value.
#[inline(always)]
pub fn blur<T>(value: &mut T, unknown: u64) {
    const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
    let words = (&raw mut *value).cast::<u64>();
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: in bounds and aligned; volatile, so that the words are in memory afterwards.
        unsafe { words.add(i).write_volatile(blurred(words.add(i).read_volatile(), unknown)) };
    }
}

/// Zeroes a value word by word: what LLVM calls `memset` for is a loop over bytes here.
#[inline(always)]
pub fn clear<T>(value: &mut MaybeUninit<T>) {
    const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
    let words = value.as_mut_ptr().cast::<u64>();
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: in bounds and aligned; volatile, so that it stays what it is.
        unsafe { words.add(i).write_volatile(0) };
    }
}

/// Copies a value word by word: see [`clear`].
#[inline(always)]
pub fn copy<T: Copy>(from: &T, to: *mut T) {
    const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
    let (from, to) = ((&raw const *from).cast::<u64>(), to.cast::<u64>());
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: in bounds and aligned, as the types say.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// The current task.
#[inline(always)]
pub fn task() -> Address {
    // SAFETY: tracing programs have a current task.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The registers of a system call.
pub trait Registers {
    /// Whether the program that reads them can switch preemption off: a kprobe runs without it
    /// anyway.
    const PREEMPTIBLE: bool;

    /// The word at this offset, which must be a constant to the verifier.
    fn word(&self, offset: usize) -> u64;

    /// Any number that the verifier knows nothing of: see [`blurred`].
    #[inline(always)]
    fn unknown(&self) -> u64 {
        bpf_get_current_pid_tgid()
    }

    /// The call's number.
    #[inline(always)]
    fn syscall(&self) -> u32 {
        self.word(offset!(regs_syscall)) as u32
    }

    /// Where the program goes on, which is behind the call's instruction.
    #[inline(always)]
    fn instruction(&self) -> u64 {
        self.word(offset!(regs_ip))
    }

    /// The program's stack pointer.
    #[inline(always)]
    fn stack(&self) -> u64 {
        self.word(offset!(regs_sp))
    }

    /// The `index`-th argument.
    #[inline(always)]
    fn argument(&self, index: u32) -> u64 {
        // A match, not an index: the offset must stay a constant on every path.
        match index {
            0 => self.word(offset!(regs_args[0])),
            1 => self.word(offset!(regs_args[1])),
            2 => self.word(offset!(regs_args[2])),
            3 => self.word(offset!(regs_args[3])),
            4 => self.word(offset!(regs_args[4])),
            _ => self.word(offset!(regs_args[5])),
        }
    }
}

/// Registers behind a pointer whose type the verifier knows: read directly.
pub struct Typed(Address);

impl Typed {
    /// From the first argument of a program on `__x64_sys_*` or `__arm64_sys_*`.
    #[inline(always)]
    pub fn of_entry(ctx: *mut c_void) -> Self {
        // SAFETY: the context is an array of arguments, and such a function has one.
        Self(unsafe { *ctx.cast::<Address>() })
    }

    /// Of the current task's system call (`bpf_task_pt_regs`, Linux 5.15).
    #[inline(always)]
    pub fn of_current() -> Self {
        // SAFETY: the helper accepts the current task.
        Self(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Address)
    }
}

impl Registers for Typed {
    const PREEMPTIBLE: bool = true;

    #[inline(always)]
    fn unknown(&self) -> u64 {
        self.stack()
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> u64 {
        // SAFETY: the verifier checks that the offset lies within `struct pt_regs`.
        unsafe { core::ptr::read_volatile(self.0.cast::<u8>().wrapping_add(offset).cast()) }
    }
}

/// Registers behind a pointer that is a number to the verifier: read by helper.
pub struct Untyped(Address);

impl Untyped {
    /// From the first argument of a raw tracepoint program on `sys_enter` or `sys_exit`.
    #[inline(always)]
    pub fn of_tracepoint(ctx: &RawTracePointContext) -> Self {
        // SAFETY: the context is an array of arguments; both tracepoints' first is the registers.
        Self(unsafe { *ctx.as_ptr().cast::<Address>() })
    }
}

/// The first argument of the function that a kprobe program stands on. It is asked for anew each
/// time, which saves the place on the stack that it would be kept in.
pub struct Probed<'a>(pub &'a ProbeContext);

impl Registers for Probed<'_> {
    const PREEMPTIBLE: bool = false;

    #[inline(always)]
    fn word(&self, offset: usize) -> u64 {
        word_at(self.0.arg::<u64>(0).unwrap_or(0) + offset as u64)
    }
}

impl Registers for Untyped {
    const PREEMPTIBLE: bool = false;

    #[inline(always)]
    fn word(&self, offset: usize) -> u64 {
        word_at(self.0 as u64 + offset as u64)
    }
}

/// Not inlined, so that its stack is free again: the programs that need it have none to spare.
#[inline(never)]
fn word_at(address: u64) -> u64 {
    read(address as Address, 0).unwrap_or(0)
}
