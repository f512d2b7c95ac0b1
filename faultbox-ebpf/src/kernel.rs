//! Reading kernel structures by offsets that user space found in the kernel's BTF.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs};
use faultbox_common::{CONSTANTS, Control, FIELD_DIRECTORY, FIELD_OPERAND, FIELD_TRACE, FIELDS};

/// An address in the kernel.
pub type Address = *const c_void;

/// The number of a member of the layout among the fields.
macro_rules! field {
    ($($member:tt)+) => {
        core::mem::offset_of!(faultbox_common::Layout, $($member)+) / 4
    };
}
pub(crate) use field;

/// One offset of the layout, which the loader knows: a constant to the verifier.
macro_rules! offset {
    ($($member:tt)+) => {
        $crate::kernel::constant::<{ $crate::kernel::field!($($member)+) }>()
    };
}
pub(crate) use offset;

/// A number that the loader writes into the program: that of the field.
#[inline(always)]
pub fn constant<const FIELD: usize>() -> usize {
    let number;
    // SAFETY: a number in a register.
    unsafe {
        asm!(
            "{n} = {f}",
            n = out(reg) number,
            f = const CONSTANTS + FIELD,
            // Not pure: it would be kept on the stack, which costs as much.
            options(nomem, nostack),
        );
    }
    number
}

/// How much is recorded: 0 denials only, 1 the observed calls, 2 all. The verifier removes the code
/// of the other levels.
#[inline(always)]
pub fn trace() -> usize {
    constant::<FIELD_TRACE>()
}

/// Reads a value in the kernel; `None` when the address is bad.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: usize) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(base.cast::<u8>().wrapping_add(offset).cast::<T>()).ok() }
}

/// What one instruction loads.
pub trait Word: Copy {
    /// Loads it from the offset that a field is, and fills it up with zeros.
    ///
    /// # Safety
    ///
    /// The verifier must know the type behind the pointer, or that there is as much memory.
    unsafe fn load<const FIELD: usize>(base: Address) -> u64;

    /// The word in what was loaded.
    fn of(loaded: u64) -> Self;

    /// Fills a word up with zeros.
    fn widen(self) -> u64;
}

macro_rules! word {
    ($type:ty, $size:literal) => {
        impl Word for $type {
            #[inline(always)]
            unsafe fn load<const FIELD: usize>(base: Address) -> u64 {
                let value: u64;
                // SAFETY: as the caller promises; the kernel clears what faults.
                unsafe {
                    asm!(
                        concat!("{v} = *(", $size, " *)({b} + {f})"),
                        v = out(reg) value,
                        b = in(reg) base,
                        f = const FIELDS + FIELD,
                        options(readonly, nostack),
                    );
                }
                value
            }

            #[inline(always)]
            fn of(loaded: u64) -> Self {
                loaded as Self
            }

            #[inline(always)]
            fn widen(self) -> u64 {
                self as u64
            }
        }
    };
}
word!(u64, "u64");
word!(u32, "u32");
word!(u16, "u16");
word!(Address, "u64");

/// Reads a member behind a pointer whose type the verifier knows: one instruction, where [`read`]
/// is a call. A pointer that is read so is typed again if the member is a pointer to a structure.
macro_rules! member {
    ($type:ty, $base:expr, $($member:tt)+) => {
        $crate::kernel::load::<$type, { $crate::kernel::field!($($member)+) }>($base)
    };
}
pub(crate) use member;

/// The same by the number of the field.
#[inline(always)]
pub fn load<T: Word, const FIELD: usize>(base: Address) -> T {
    T::of(load_wide::<T, FIELD>(base))
}

/// The same as a whole register, which LLVM would not know that a shorter word fills already.
#[inline(always)]
pub fn load_wide<T: Word, const FIELD: usize>(base: Address) -> u64 {
    // SAFETY: the verifier checks type and offset.
    unsafe { T::load::<FIELD>(base) }
}

/// The same at an offset that the verifier knows.
#[inline(always)]
pub fn member_at<T: Copy>(base: Address, offset: usize) -> T {
    // SAFETY: as above.
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

/// The registers of a system call, behind a pointer whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Registers(Address);

impl Registers {
    /// From the first argument of a program on `__x64_sys_*` or `__arm64_sys_*`.
    #[inline(always)]
    pub fn of_entry(ctx: *mut c_void) -> Self {
        // SAFETY: the context is an array of arguments, and such a function has one.
        Self(unsafe { *ctx.cast::<Address>() })
    }

    /// Of the current task's system call (`bpf_task_pt_regs`, Linux 5.15), which are the same: a
    /// program that gets them as a number, as on kprobes and raw tracepoints, would read each by
    /// helper.
    #[inline(always)]
    pub fn of_current() -> Self {
        // SAFETY: the helper accepts the current task.
        Self(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Address)
    }

    /// The call's number.
    #[inline(always)]
    pub fn syscall(&self) -> u32 {
        member!(u32, self.0, regs_syscall)
    }

    /// Which program this is of, on x86.
    #[inline(always)]
    pub fn code_segment(&self) -> u64 {
        member!(u64, self.0, regs_cs)
    }

    /// Where the program goes on, which is behind the call's instruction.
    #[inline(always)]
    pub fn instruction(&self) -> u64 {
        member!(u64, self.0, regs_ip)
    }

    /// The program's stack pointer.
    #[inline(always)]
    pub fn stack(&self) -> u64 {
        member!(u64, self.0, regs_sp)
    }

    /// The argument that names the operand of the call that this program is loaded for.
    #[inline(always)]
    pub fn operand(&self) -> u64 {
        load::<u64, FIELD_OPERAND>(self.0)
    }

    /// The same as an `int`, as descriptors are, without its sign.
    #[inline(always)]
    pub fn descriptor(&self) -> u64 {
        load_wide::<u32, FIELD_OPERAND>(self.0)
    }

    /// The argument before that.
    #[inline(always)]
    pub fn directory(&self) -> u64 {
        load::<u64, FIELD_DIRECTORY>(self.0)
    }

    /// The `index`-th argument.
    #[inline(always)]
    pub fn argument(&self, index: u32) -> u64 {
        const FIRST: usize = field!(regs_args);
        // A match, not an index: the offset must be a constant on every path.
        match index {
            0 => load::<u64, FIRST>(self.0),
            1 => load::<u64, { FIRST + 1 }>(self.0),
            2 => load::<u64, { FIRST + 2 }>(self.0),
            3 => load::<u64, { FIRST + 3 }>(self.0),
            4 => load::<u64, { FIRST + 4 }>(self.0),
            _ => load::<u64, { FIRST + 5 }>(self.0),
        }
    }
}
