//! Arrays in memory that the kernel's programs, or other threads, change under us.

use std::{io, num::NonZeroUsize, os::fd::BorrowedFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Such an array: read and written only through atomics or raw pointers.
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: a mapping is plain memory; every access goes through `&T` of atomics, or through a
// raw pointer to a slot that no armed set refers to (see `Tables::fill`).
unsafe impl<T: Sync> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// Maps the array of an eBPF map, or fresh zeroed memory of that size.
    pub(super) fn new(len: u32, map: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let len = len as usize;
        let bytes = NonZeroUsize::new(len * size_of::<T>()).expect("tables are not empty");
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED;
        let start = match map {
            // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
            Some(fd) => unsafe { mmap(None, bytes, prot, flags, fd, 0) },
            // SAFETY: as above.
            None => unsafe { mmap_anonymous(None, bytes, prot, flags) },
        }?;
        Ok(Self { start: start.cast(), len })
    }

    pub(super) fn get(&self, index: u32) -> &T {
        // SAFETY: aligned by the page, zeroed is a valid value of every `T` used here, and the
        // mapping lives as long as `self`.
        unsafe { &*self.slot(index) }
    }

    /// For writing, to an element that others only read word by word.
    pub(super) fn slot(&self, index: u32) -> *mut T {
        assert!((index as usize) < self.len, "index {index} is outside a table of {}", self.len);
        // SAFETY: in bounds.
        unsafe { self.start.add(index as usize).as_ptr() }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `new` mapped, and nothing borrows from it any more.
        // An error would mean that it was never mapped.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) };
    }
}
