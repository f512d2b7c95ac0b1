//! The programs' table of parked threads, by `bpf(2)` itself: the tracer is a copy of a process
//! with threads and keeps away from libraries with state of their own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use faultbox_common::Park;
use nix::errno::Errno;

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h`.
const MAP_LOOKUP_ELEM: u32 = 1;
#[cfg(test)]
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;

/// The part of `union bpf_attr` for commands on map elements.
#[repr(C)]
struct Attributes {
    map: u32,
    reserved: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// Parked threads: [`Park`] by thread id.
pub(super) struct ParkTable(OwnedFd);

impl ParkTable {
    pub(super) fn new(map: OwnedFd) -> Self {
        Self(map)
    }

    fn call<K, V>(&self, command: u32, key: Option<&K>, value: *mut V) -> io::Result<()> {
        let attributes = Attributes {
            map: self.0.as_raw_fd() as u32,
            reserved: 0,
            key: key.map_or(0, |key| std::ptr::from_ref(key) as u64),
            value: value as u64,
            flags: 0,
        };
        let (at, size) = (&raw const attributes, size_of::<Attributes>());
        // SAFETY: the kernel copies the attributes, reads a key and reads or writes a value of
        // the sizes that the map was made with, which are those of the types used here.
        Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, at, size) })?;
        Ok(())
    }

    /// What a program stored for a thread.
    pub(super) fn get(&self, tid: u32) -> Option<Park> {
        let mut park = Park::default();
        self.call(MAP_LOOKUP_ELEM, Some(&tid), &raw mut park).ok()?;
        Some(park)
    }

    /// Forgets a thread, which must have ended: it is the thread itself that changes its entry.
    pub(super) fn remove(&self, tid: u32) {
        // Most threads have none.
        let _ = self.call(MAP_DELETE_ELEM, Some(&tid), std::ptr::null_mut::<Park>());
    }

    #[cfg(test)]
    pub(super) fn set(&self, tid: u32, mut park: Park) -> io::Result<()> {
        self.call(MAP_UPDATE_ELEM, Some(&tid), &raw mut park)
    }

    /// Every thread with an entry, and its entry. A thread that is added meanwhile may be missing.
    pub(super) fn entries(&self) -> Vec<(u32, Park)> {
        let mut entries = Vec::new();
        let (mut last, mut next) = (None, 0_u32);
        // The walk starts over when the last key is removed under it, hence the limit.
        while entries.len() < faultbox_common::MAX_PARKED as usize
            && self.call(MAP_GET_NEXT_KEY, last.as_ref(), &raw mut next).is_ok()
        {
            entries.extend(self.get(next).map(|park| (next, park)));
            if last == Some(next) {
                break;
            }
            last = Some(next);
        }
        entries
    }
}

impl AsFd for ParkTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
