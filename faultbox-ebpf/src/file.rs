//! The current task's open files, by the shortest way to each.
//!
//! Until a process has opened more than 64, the table of its descriptors is part of a structure
//! whose type the verifier knows, and so is everything behind it: each step is one instruction.
//! The verifier wants constant offsets there, so the descriptor is looked up by comparing. A
//! larger table is an array of its own, and what lies behind it is read by helper, which costs
//! some 80 instructions a step.
//!
//! Nothing asks whether such a pointer is null: what is read behind null is zero.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use faultbox_common::{DESCRIPTORS, FIELD_DESCRIPTORS, FIELDS};

use crate::{
    kernel::{Address, Word, constant, field, load, load_wide, member, number, offset, read, task},
    target::control,
};

/// How what lies behind a pointer is read; members by their numbers among the fields.
pub trait Memory: Copy {
    /// How what lies behind a file's socket is read.
    type Sockets: Memory;

    /// A member that is no pointer.
    fn load<T: Word, const FIELD: usize>(self, base: Address) -> Option<T>;

    /// The same, filled up with zeros.
    fn load_wide<T: Word, const FIELD: usize>(self, base: Address) -> Option<u64>;

    /// A member that is a pointer.
    fn follow<const FIELD: usize>(self, base: Address) -> Option<Address>;

    /// The address in a pointer, as a number.
    fn number(self, pointer: Address) -> u64;

    /// The socket that a file is.
    fn socket(self, file: Address) -> Option<(Address, Self::Sockets)>;
}

/// Behind a pointer whose type the verifier knows, in a program that may not ask for the type of
/// a socket.
#[derive(Clone, Copy)]
pub struct Direct;

impl Memory for Direct {
    type Sockets = ByHelper;

    #[inline(always)]
    fn load<T: Word, const FIELD: usize>(self, base: Address) -> Option<T> {
        Some(load::<T, FIELD>(base))
    }

    #[inline(always)]
    fn load_wide<T: Word, const FIELD: usize>(self, base: Address) -> Option<u64> {
        Some(load_wide::<T, FIELD>(base))
    }

    #[inline(always)]
    fn follow<const FIELD: usize>(self, base: Address) -> Option<Address> {
        Some(load::<Address, FIELD>(base))
    }

    #[inline(always)]
    fn number(self, pointer: Address) -> u64 {
        number(pointer, control())
    }

    #[inline(always)]
    fn socket(self, file: Address) -> Option<(Address, ByHelper)> {
        Some((member!(u64, file, file_private_data) as Address, ByHelper))
    }
}

/// The same in a program of type `BPF_PROG_TYPE_TRACING`.
#[derive(Clone, Copy)]
pub struct Typed;

impl Memory for Typed {
    type Sockets = Direct;

    #[inline(always)]
    fn load<T: Word, const FIELD: usize>(self, base: Address) -> Option<T> {
        Some(load::<T, FIELD>(base))
    }

    #[inline(always)]
    fn load_wide<T: Word, const FIELD: usize>(self, base: Address) -> Option<u64> {
        Some(load_wide::<T, FIELD>(base))
    }

    #[inline(always)]
    fn follow<const FIELD: usize>(self, base: Address) -> Option<Address> {
        Some(load::<Address, FIELD>(base))
    }

    #[inline(always)]
    fn number(self, pointer: Address) -> u64 {
        number(pointer, control())
    }

    /// By `bpf_sock_from_file` (Linux 5.11): the member is a pointer to anything.
    #[inline(always)]
    fn socket(self, file: Address) -> Option<(Address, Direct)> {
        // SAFETY: the verifier checks the type of the file.
        let socket: Address = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast();
        (!socket.is_null()).then_some((socket, Direct))
    }
}

/// Behind a pointer that is a number to the verifier.
#[derive(Clone, Copy)]
pub struct ByHelper;

impl Memory for ByHelper {
    type Sockets = Self;

    #[inline(always)]
    fn load<T: Word, const FIELD: usize>(self, base: Address) -> Option<T> {
        read(base, constant::<FIELD>())
    }

    #[inline(always)]
    fn load_wide<T: Word, const FIELD: usize>(self, base: Address) -> Option<u64> {
        read::<T>(base, constant::<FIELD>()).map(T::widen)
    }

    #[inline(always)]
    fn follow<const FIELD: usize>(self, base: Address) -> Option<Address> {
        read::<Address>(base, constant::<FIELD>()).filter(|pointer| !pointer.is_null())
    }

    #[inline(always)]
    fn number(self, pointer: Address) -> u64 {
        pointer as u64
    }

    #[inline(always)]
    fn socket(self, file: Address) -> Option<(Address, Self)> {
        Some((self.follow::<{ field!(file_private_data) }>(file)?, self))
    }
}

/// An open file.
pub enum File {
    /// By a pointer whose type the verifier knows. It may be null.
    Near(Address),
    /// By a pointer for [`ByHelper`].
    Far(Address),
}

/// The file behind a descriptor of the current task.
#[inline(always)]
pub fn find(descriptor: u64) -> Option<File> {
    match find_near(descriptor) {
        Ok(found) => found.map(File::Near),
        Err(table) => in_large_table(table, descriptor).map(File::Far),
    }
}

/// The same while it is one step away; otherwise the table that it may be in.
#[inline(always)]
pub fn find_near(descriptor: u64) -> Result<Option<Address>, Address> {
    let files = member!(Address, task(), task_files);
    let table = member!(Address, files, files_fdt);
    // The table is part of the structure until that has become too small.
    if table as usize == (files as usize).wrapping_add(offset!(files_fdtab)) {
        Ok(in_small_table(files, descriptor))
    } else {
        Err(table)
    }
}

/// The same, by a pointer that is a number to the verifier.
#[inline(always)]
pub fn find_far(descriptor: u64) -> Option<Address> {
    in_large_table(member!(Address, member!(Address, task(), task_files), files_fdt), descriptor)
}

#[inline(always)]
fn in_large_table(table: Address, descriptor: u64) -> Option<Address> {
    if descriptor >= member!(u32, table, fdt_max_fds).into() {
        return None;
    }
    let slots = member!(Address, table, fdt_fd);
    let file: Address = read(slots, descriptor as usize * size_of::<Address>())?;
    (!file.is_null()).then_some(file)
}

/// A `match` with an arm for each descriptor. Its loads are in assembly, because LLVM would make
/// a single one of them all, with an offset that is not constant.
macro_rules! slots {
    ($files:expr, $descriptor:expr, $($index:literal)*) => {
        match $descriptor {
            $($index => {
                let file: Address;
                // SAFETY: the verifier checks type and offset.
                unsafe {
                    asm!(
                        "{f} = *(u64 *)({b} + {at})",
                        f = out(reg) file,
                        b = in(reg) $files,
                        at = const FIELDS + FIELD_DESCRIPTORS + $index,
                        options(readonly, nostack),
                    );
                }
                file
            })*
            _ => return None,
        }
    };
}

#[inline(always)]
#[rustfmt::skip]
fn in_small_table(files: Address, descriptor: u64) -> Option<Address> {
    const { assert!(DESCRIPTORS == 64) };
    Some(slots!(files, descriptor,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
        48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    ))
}
