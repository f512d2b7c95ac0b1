//! The current task's open files, by the shortest way to each.
//!
//! Until a process has opened more than 64, the table of its descriptors is part of a structure
//! whose type the verifier knows, and so is everything behind it: each step is one instruction.
//! The verifier wants constant offsets there, so the descriptor is looked up by comparing. A
//! larger table is an array of its own, and what lies behind it is read by helper, which costs
//! some 80 instructions a step.

use core::arch::asm;

use faultbox_common::Control;

use crate::kernel::{Address, member, number, offset, read, task};

/// `NR_OPEN_DEFAULT` of a 64-bit kernel, `include/linux/fdtable.h`.
const SMALL: u32 = 64;

/// How what lies behind a pointer is read.
pub trait Memory: Copy {
    /// A member that is no pointer.
    fn load<T: Copy>(self, base: Address, offset: usize) -> Option<T>;

    /// A member that is a pointer, unless that is null.
    fn follow(self, base: Address, offset: usize) -> Option<Address>;

    /// The address in a pointer, as a number.
    fn number(self, pointer: Address) -> u64;
}

/// Behind a pointer whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Direct(pub *mut Control);

impl Memory for Direct {
    #[inline(always)]
    fn load<T: Copy>(self, base: Address, offset: usize) -> Option<T> {
        Some(member(base, offset))
    }

    #[inline(always)]
    fn follow(self, base: Address, offset: usize) -> Option<Address> {
        let pointer: Address = member(base, offset);
        (!pointer.is_null()).then_some(pointer)
    }

    #[inline(always)]
    fn number(self, pointer: Address) -> u64 {
        number(pointer, self.0)
    }
}

/// Behind a pointer that is a number to the verifier.
#[derive(Clone, Copy)]
pub struct ByHelper;

impl Memory for ByHelper {
    #[inline(always)]
    fn load<T: Copy>(self, base: Address, offset: usize) -> Option<T> {
        read(base, offset)
    }

    #[inline(always)]
    fn follow(self, base: Address, offset: usize) -> Option<Address> {
        read::<Address>(base, offset).filter(|pointer| !pointer.is_null())
    }

    #[inline(always)]
    fn number(self, pointer: Address) -> u64 {
        pointer as u64
    }
}

/// An open file.
pub enum File {
    /// By a pointer for [`Direct`].
    Near(Address),
    /// By a pointer for [`ByHelper`].
    Far(Address),
}

/// The file behind a descriptor of the current task.
#[inline(always)]
pub fn find(descriptor: u32) -> Option<File> {
    let files: Address = member(task(), offset!(task_files));
    if files.is_null() {
        return None;
    }
    let table: Address = member(files, offset!(files_fdt));
    if table.is_null() {
        return None;
    }
    let room = member::<u32>(table, offset!(fdt_max_fds));
    if descriptor >= room {
        return None;
    }
    if room == SMALL {
        let file = in_small_table(files, descriptor);
        return (!file.is_null()).then_some(File::Near(file));
    }
    let slots: Address = member(table, offset!(fdt_fd));
    let file: Address = read(slots, descriptor as usize * size_of::<Address>())?;
    (!file.is_null()).then_some(File::Far(file))
}

/// The same, by a pointer that is a number to the verifier.
#[inline(always)]
pub fn find_far(descriptor: u32) -> Option<Address> {
    let files: Address = member(task(), offset!(task_files));
    if files.is_null() {
        return None;
    }
    let table: Address = member(files, offset!(files_fdt));
    if table.is_null() || descriptor >= member::<u32>(table, offset!(fdt_max_fds)) {
        return None;
    }
    let slots: Address = member(table, offset!(fdt_fd));
    let file: Address = read(slots, descriptor as usize * size_of::<Address>())?;
    (!file.is_null()).then_some(file)
}

/// A `match` with an arm for each descriptor. Its loads are in assembly, because LLVM would make
/// a single one of them all, with an offset that is not constant.
macro_rules! slots {
    ($base:expr, $descriptor:expr, $($index:literal)*) => {
        match $descriptor {
            $($index => {
                let file: Address;
                // SAFETY: the verifier checks type and offset.
                unsafe {
                    asm!(
                        "{f} = *(u64 *)({b} + {at})",
                        f = out(reg) file,
                        b = in(reg) $base,
                        at = const $index * size_of::<Address>(),
                        options(readonly, nostack),
                    );
                }
                file
            })*
            _ => core::ptr::null(),
        }
    };
}

#[inline(always)]
#[rustfmt::skip]
fn in_small_table(files: Address, descriptor: u32) -> Address {
    let base = files.cast::<u8>().wrapping_add(offset!(files_fd_array));
    slots!(base, descriptor,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
        48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    )
}
