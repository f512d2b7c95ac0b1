//! Paths, as the process sees them.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::helpers::{
    bpf_probe_read_user,
    generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user_str},
};
use faultbox_common::{COMPONENT, Components, PATH_CAPACITY, TEXT, is_same, is_system_path};

use crate::kernel::{Address, clear, offset, task};

/// Names of a path that a walk follows; a deeper path is cut there and is nobody's system path.
const DEPTH: usize = 24;
/// The longest name that Linux file systems allow, and its zero.
const NAME: usize = 256;
/// A name is written at any place below this, so that it fits whatever its length.
const LAST_START: usize = PATH_CAPACITY - NAME;

/// Room for a path in an event: see `Event::walked` and `Event::given`.
pub type PathBytes = [u8; PATH_CAPACITY];

/// A directory entry and the mount it is seen through, by their addresses; zeros: none.
///
/// Plain words and no `Option`: what is left undefined in one, LLVM may leave unwritten in a
/// register that the verifier then refuses to read.
#[derive(Clone, Copy)]
pub struct Place {
    dentry: u64,
    mount: u64,
}

impl Place {
    /// No place.
    pub const NONE: Self = Self { dentry: 0, mount: 0 };

    /// Reads a `struct path`.
    #[inline(always)]
    fn read(base: u64, at: usize) -> Self {
        Self {
            dentry: word(base, at + offset!(path_dentry)),
            mount: word(base, at + offset!(path_mnt)),
        }
    }

    /// Of an open file.
    #[inline(always)]
    pub fn of_file(file: Address) -> Self {
        Self::read(file as u64, offset!(file_f_path))
    }

    /// The current task's working directory.
    #[inline(always)]
    pub fn working_directory() -> Self {
        Self::read(word(task() as u64, offset!(task_fs)), offset!(fs_pwd))
    }

    /// The root that the current task sees.
    #[inline(always)]
    fn root() -> Self {
        Self::read(word(task() as u64, offset!(task_fs)), offset!(fs_root))
    }
}

/// `a` where the mask has ones, `b` where it has zeros.
#[inline(always)]
fn select(mask: u64, a: u64, b: u64) -> u64 {
    (a & mask) | (b & !mask)
}

/// Tells the verifier, again, that a place lies below [`LAST_START`]: 6.1 forgets what a
/// comparison showed when the value has been on the stack since. LLVM would leave out the `&`.
#[inline(always)]
fn below_last_start(mut at: usize) -> usize {
    const { assert!(LAST_START.is_power_of_two()) };
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{a} &= {m}", a = inout(reg) at, m = const LAST_START - 1, options(pure, nomem, nostack));
    }
    at
}

/// A word in the kernel, or zero: the helper clears what it cannot read, so there is nothing to
/// ask, and no branch.
#[inline(always)]
fn word(base: u64, offset: usize) -> u64 {
    let mut value = 0u64;
    // SAFETY: the helper checks the address; the destination is as long as said.
    unsafe {
        let from = (base as Address).cast::<u8>().wrapping_add(offset);
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u64>() as u32, from.cast());
    }
    value
}

/// Whether a place is one of the system's own files.
#[inline(always)]
pub fn is_system(from: &Place) -> bool {
    let mut first = MaybeUninit::uninit();
    clear(&mut first);
    // SAFETY: all zeros are components of no name.
    let first = unsafe { first.assume_init_mut() };
    walk(from, None, first);
    is_system_path(first)
}

/// Writes the names of a place's path to `out`, innermost first; returns how many bytes.
#[inline(always)]
pub fn names(from: &Place, out: &mut PathBytes) -> usize {
    let mut first = MaybeUninit::uninit();
    clear(&mut first);
    // SAFETY: as above.
    walk(from, Some(out), unsafe { first.assume_init_mut() })
}

/// Walks from a place up to the root that the current task sees, across mounts. Fills in the
/// path's first components, and returns how many bytes of names were written to `out`.
///
/// A step does the same whether it goes to the parent directory or from the root of a mount to
/// where that is mounted, and picks the result by arithmetic: with a branch, a verifier would
/// follow two to the power of [`DEPTH`] ways.
#[inline(never)] // Its stack is free again when the decision is made.
fn walk(from: &Place, mut out: Option<&mut PathBytes>, first: &mut Components) -> usize {
    let mut used = 0usize;
    let root = Place::root();
    let Place { mut dentry, mut mount } = *from;
    for _ in 0..DEPTH {
        let parent = word(dentry, offset!(dentry_d_parent));
        let inner = mount.wrapping_sub(offset!(mount_mnt) as u64);
        let outer = word(inner, offset!(mount_mnt_parent));
        let crosses =
            is_same(dentry, word(mount, offset!(vfsmount_mnt_root))) | is_same(dentry, parent);
        let ends = is_same(dentry, root.dentry) & is_same(mount, root.mount)
            | crosses & is_same(outer, inner);
        if ends != 0 || used >= LAST_START {
            return used;
        }
        let cross = crosses.wrapping_neg();
        let name = word(dentry, offset!(dentry_d_name) + offset!(qstr_name)) as Address;
        let mut text = MaybeUninit::<[u64; COMPONENT / 8]>::uninit();
        clear(&mut text);
        // SAFETY: just written.
        let text = unsafe { text.assume_init_mut() };
        // SAFETY: the helper checks `name`; the destination is as long as said.
        unsafe {
            bpf_probe_read_kernel_str(text.as_mut_ptr().cast(), COMPONENT as u32, name);
        }
        // A mount's root has no name of its own: keep what there is.
        shift(first, text, cross);
        if let Some(out) = &mut out {
            // SAFETY: `used < LAST_START`, so a whole name fits.
            let len = unsafe {
                let to = out.as_mut_ptr().add(below_last_start(used));
                bpf_probe_read_kernel_str(to.cast(), NAME as u32, name)
            };
            // An error is negative, and ends the walk as a path too long does.
            used += (len as u64 & !cross & (2 * NAME as u64 - 1)) as usize;
        }
        dentry = select(cross, word(inner, offset!(mount_mnt_mountpoint)), parent);
        mount = select(cross, outer.wrapping_add(offset!(mount_mnt) as u64), mount);
    }
    // Too deep to see the first components: whatever they are, they are not the system's.
    first.names[0][0] = 0;
    used
}

/// Puts a name in front of the components, or leaves them alone where `keep` has ones.
#[inline(always)]
fn shift(components: &mut Components, name: &[u64; COMPONENT / 8], keep: u64) {
    // SAFETY: six words, aligned as the type demands of itself.
    let words = unsafe { &mut *(&raw mut *components).cast::<[u64; 6]>() };
    words[4] = select(keep, words[4], words[2]);
    words[5] = select(keep, words[5], words[3]);
    words[2] = select(keep, words[2], words[0]);
    words[3] = select(keep, words[3], words[1]);
    words[0] = select(keep, words[0], name[0]);
    words[1] = select(keep, words[1], name[1]);
}

/// The first byte of a path in the program's memory, if that is there to be read.
#[inline(always)]
pub fn first_byte(user: u64) -> Option<u8> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(user as *const u8) }.ok()
}

/// The first bytes of a path in the program's memory.
#[inline(always)]
pub fn given(user: u64) -> [u8; TEXT] {
    let mut text = MaybeUninit::<[u64; TEXT / 8]>::uninit();
    clear(&mut text);
    // SAFETY: the helper checks the address; the destination is as long as said, and cleared.
    unsafe {
        bpf_probe_read_user_str(text.as_mut_ptr().cast(), TEXT as u32, user as *const _);
        text.assume_init().map(u64::to_ne_bytes).as_flattened().try_into().unwrap_unchecked()
    }
}

/// Copies the path that the program gave behind `used` bytes of an event's path.
#[inline(always)]
pub fn copy_given(user: u64, out: &mut PathBytes, used: usize) -> usize {
    if used >= LAST_START {
        return 0;
    }
    // SAFETY: `used < LAST_START`, so `NAME` bytes fit; the helper checks the address.
    let len = unsafe {
        let to = out.as_mut_ptr().add(below_last_start(used));
        bpf_probe_read_user_str(to.cast(), NAME as u32, user as *const _)
    };
    if len > 0 { len as usize & (2 * NAME - 1) } else { 0 }
}
