//! Tables of which a program knows the address.

use core::arch::asm;

use aya_ebpf::maps::Array;

/// An array in the one element of a map, named in `faultbox_common::TABLES`: the loader makes an
/// address of what would be a map. The verifier knows how long it is, and refuses an index that
/// it does not see to be less.
#[repr(transparent)]
pub struct Table<T, const N: usize>(Array<[T; N]>);

impl<T, const N: usize> Table<T, N> {
    /// With these flags of the map's.
    pub const fn new(flags: u32) -> Self {
        const { assert!(N.is_power_of_two()) };
        Self(Array::with_max_entries(1, flags))
    }

    /// The first entry.
    #[inline(always)]
    pub fn start(&'static self) -> *mut T {
        let mut start = (&raw const *self).cast_mut().cast::<T>();
        // LLVM must not know the address, or it would take what is there for the map's definition.
        // Nor is this pure: it would keep the address on the stack, where there is no room, to save
        // an instruction that costs as much.
        // SAFETY: no instruction at all.
        unsafe { asm!("# {s}", s = inout(reg) start, options(nomem, nostack)) };
        start
    }

    /// The entry at an index that the verifier sees to be less than `N`.
    #[inline(always)]
    pub fn within(&'static self, index: u64) -> *mut T {
        self.start().wrapping_add(index as usize)
    }

    /// The entry at an index, of which higher bits are ignored.
    #[inline(always)]
    pub fn at(&'static self, mut index: u64) -> *mut T {
        // In assembly, as LLVM would leave it out where it knows better than the verifier.
        // SAFETY: arithmetic on a register.
        unsafe {
            asm!("{i} &= {m}", i = inout(reg) index, m = const N - 1, options(pure, nomem, nostack));
        }
        self.within(index)
    }
}
