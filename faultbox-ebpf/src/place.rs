//! Where the file of a call lies: whether it is the system's own, and which globs its path
//! matches. For an open file this is found out once and then remembered.

use core::mem::transmute;

use faultbox_common::Place;

use crate::{
    kernel::{Address, blurred, read},
    maps::{GLOBS, PLACES},
    path::{self, Dentry},
    target::switch,
};

/// Of a remembered answer: the globs, then the system's own, then that it is one.
const ANSWER: u64 = 0xffff;
const SYSTEM: u64 = 1 << 8;
const KNOWN: u64 = 1 << 15;

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

#[inline(always)]
fn place(answer: u64) -> Place {
    Place { system: (answer & SYSTEM) as u32, globs: (answer & 0xff) as u32 }
}

/// The same, of which the verifier knows nothing: see [`blurred`].
#[inline(always)]
pub fn unknown(place: Place, unknown: u64) -> Place {
    // SAFETY: two words of 32 bits, aligned to eight bytes, of which any value is valid.
    unsafe { transmute::<u64, Place>(blurred(transmute::<Place, u64>(place), unknown)) }
}

/// Of an open file.
///
/// The answer is remembered in one word, beside a hash of all that it depends on: the file's
/// directory entry, mount and inode, the globs, and the number of renames on this machine so far.
/// So a word that another processor is just replacing, an inode whose memory has a new tenant, or
/// a directory that was renamed is found out again, and nobody need be told when a file is
/// closed. (Not noticed are a mount that is moved while files on it are open, and that a process
/// sees another root than the one that asked first.)
#[inline(always)]
pub fn of_file(inode: u64, number: u64, start: &Dentry, globs: u32) -> Place {
    let epoch = if globs == 0 {
        0
    } else {
        // SAFETY: user space writes it before any rule names the set.
        unsafe { core::ptr::read_volatile(&raw const (*GLOBS.at(globs.into())).epoch) }
    };
    let renames = match switch!(rename_sequence) {
        0 => 0,
        address => read::<u32>(address as Address, 0).unwrap_or(0),
    };
    let mut hash = mix(inode, start.dentry);
    hash = mix(hash, start.mount ^ number);
    hash = mix(hash, u64::from(renames) ^ epoch << 32);
    let cell = PLACES.at(hash);
    let wanted = hash & !ANSWER;
    // SAFETY: a live map value; one word, which is read and written whole.
    let known = unsafe { core::ptr::read_volatile(cell) };
    if known & !ANSWER == wanted && known & KNOWN != 0 {
        return place(known);
    }
    let answer = find(start, globs);
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(cell, wanted | answer | KNOWN) };
    place(answer)
}

#[inline(always)]
fn find(start: &Dentry, globs: u32) -> u64 {
    let mut answer = if path::is_system(start) { SYSTEM } else { 0 };
    if globs != 0 {
        // SAFETY: a live map value.
        answer |= path::match_place(start, unsafe { &*GLOBS.at(globs.into()) }) & 0xff;
    }
    answer
}

/// Of a path that the program gave.
#[inline(always)]
pub fn of_path(given: u64, start: &Dentry, globs: u32) -> Place {
    let system = if start.is_none() {
        path::is_system_given(given)
    } else if start.is_root() {
        path::is_system_below_root(given)
    } else {
        path::is_system(start)
    };
    let mut answer = if system { SYSTEM } else { 0 };
    if globs != 0 {
        // SAFETY: as above.
        answer |= path::match_given(given, start, unsafe { &*GLOBS.at(globs.into()) }) & 0xff;
    }
    place(answer)
}
