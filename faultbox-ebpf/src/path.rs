//! Paths, as the process sees them.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{
    bpf_probe_read_user,
    generated::{
        bpf_loop, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
        bpf_probe_read_user as read_user_raw, bpf_probe_read_user_str,
    },
};
use faultbox_common::{
    COMPONENT, Components, Globs, Matcher, PATH_CAPACITY, TEXT, is_same, is_system_path,
    is_system_text,
};

use crate::{
    file::Memory,
    kernel::{Address, blurred, clear, field, offset, task},
};

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
pub struct Dentry {
    pub dentry: u64,
    pub mount: u64,
}

impl Dentry {
    /// None.
    pub const NONE: Self = Self { dentry: 0, mount: 0 };

    /// Whether it is none.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.dentry == 0
    }

    /// Reads a `struct path`: a mount and then a dentry, as user space has checked.
    #[inline(always)]
    fn read(base: u64, at: usize) -> Self {
        let mut path = MaybeUninit::<[u64; 2]>::uninit();
        clear(&mut path);
        // SAFETY: the helper checks the address; the destination is as long as said, and cleared.
        let path = unsafe {
            let from = (base as Address).cast::<u8>().wrapping_add(at);
            bpf_probe_read_kernel(path.as_mut_ptr().cast(), 16, from.cast());
            path.assume_init_ref()
        };
        Self { mount: path[0], dentry: path[1] }
    }

    /// Of an open file: its `struct path`, a mount and then a dentry.
    #[inline(always)]
    pub fn of_file(file: Address, memory: impl Memory) -> Option<Self> {
        const MOUNT: usize = field!(file_f_path);
        const DENTRY: usize = field!(file_f_dentry);
        let mount = memory.number(memory.follow::<MOUNT>(file)?);
        let dentry = memory.number(memory.follow::<DENTRY>(file)?);
        Some(Self { dentry, mount })
    }

    /// The current task's working directory.
    #[inline(always)]
    pub fn working_directory() -> Self {
        Self::of_current(offset!(fs_pwd))
    }

    /// The root that the current task sees.
    #[inline(always)]
    pub fn root() -> Self {
        Self::of_current(offset!(fs_root))
    }

    /// Whether it is the root that the current task sees.
    #[inline(always)]
    pub fn is_root(&self) -> bool {
        let root = Self::root();
        is_same(self.dentry, root.dentry) & is_same(self.mount, root.mount) != 0
    }

    /// Of the current task's two.
    #[inline(always)]
    fn of_current(at: usize) -> Self {
        // By helper, and so as numbers: the verifier forbids arithmetic on typed pointers.
        Self::read(word(task() as u64, offset!(task_fs)), at)
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

/// Where a walk has come to.
#[repr(C)]
struct Walk {
    at: Dentry,
    root: Dentry,
}

/// What a step of a walk passes.
struct Passed {
    /// A name, by its address and length.
    name: u64,
    length: u64,
    /// Non-zero if it was the end, and nothing has been passed.
    end: u64,
}

impl Walk {
    #[inline(always)]
    fn from(start: &Dentry) -> Self {
        Self { at: *start, root: Dentry::root() }
    }

    /// Goes one step up, to the parent directory, or from the root of a mount to where that is
    /// mounted, which passes a name of no length.
    ///
    /// The result is picked by arithmetic: with a branch, a verifier would follow both ways.
    #[inline(always)]
    fn step(&mut self) -> Passed {
        let Dentry { dentry, mount } = self.at;
        let parent = word(dentry, offset!(dentry_d_parent));
        let inner = mount.wrapping_sub(offset!(mount_mnt) as u64);
        let outer = word(inner, offset!(mount_mnt_parent));
        let crosses =
            is_same(dentry, word(mount, offset!(vfsmount_mnt_root))) | is_same(dentry, parent);
        let end = is_same(dentry, self.root.dentry) & is_same(mount, self.root.mount)
            | crosses & is_same(outer, inner);
        let cross = crosses.wrapping_neg();
        let name = word(dentry, offset!(dentry_d_name) + offset!(qstr_name));
        let length = word(dentry, offset!(dentry_d_name) + offset!(qstr_len));
        self.at.dentry = select(cross, word(inner, offset!(mount_mnt_mountpoint)), parent);
        self.at.mount = select(cross, outer.wrapping_add(offset!(mount_mnt) as u64), mount);
        Passed { name, length: length & 0xff & !cross, end }
    }
}

/// Runs a step until it says stop. The verifier checks the step once, however often it runs.
///
/// Before 6.7 it checks the first time only, and removes what that does not come to: a number in
/// the state on which a step branches must be [`blurred`] before.
#[inline(always)]
fn repeat<T>(times: usize, step: extern "C" fn(u64, &mut T) -> i64, state: &mut T) {
    // SAFETY: the helper calls the function with the state, which outlives the call.
    unsafe {
        bpf_loop(times as u32, step as *mut c_void, (&raw mut *state).cast(), 0);
    }
}

const GO_ON: i64 = 0;
const STOP: i64 = 1;

#[repr(C)]
struct FirstNames {
    walk: Walk,
    first: Components,
    complete: u64,
}

extern "C" fn first_name(_: u64, state: &mut FirstNames) -> i64 {
    let passed = state.walk.step();
    state.complete = passed.end;
    if passed.end != 0 {
        return STOP;
    }
    let mut text = MaybeUninit::<[u64; COMPONENT / 8]>::uninit();
    clear(&mut text);
    // SAFETY: just written; the helper checks the address, and the destination is as long as said.
    let text = unsafe {
        let text = text.assume_init_mut();
        let name = passed.name as Address;
        bpf_probe_read_kernel_str(text.as_mut_ptr().cast(), COMPONENT as u32, name);
        text
    };
    // A mount's root has no name of its own: keep what there is.
    shift(&mut state.first, text, is_same(passed.length, 0).wrapping_neg());
    GO_ON
}

/// Whether a place is one of the system's own files.
#[inline(never)] // Its stack is free again when the decision is made.
pub fn is_system(from: &Dentry) -> bool {
    let mut state = MaybeUninit::<FirstNames>::uninit();
    clear(&mut state);
    // SAFETY: all zeros is a valid value.
    let state = unsafe { state.assume_init_mut() };
    state.walk = Walk::from(from);
    repeat(DEPTH, first_name, state);
    // Too deep to see the first components: whatever they are, they are not the system's.
    state.complete != 0 && is_system_path(&state.first)
}

#[repr(C)]
struct Names<'a> {
    walk: Walk,
    out: &'a mut PathBytes,
    used: usize,
}

extern "C" fn next_name(_: u64, state: &mut Names<'_>) -> i64 {
    if state.used >= LAST_START {
        return STOP;
    }
    let passed = state.walk.step();
    if passed.end != 0 {
        return STOP;
    }
    // SAFETY: `used < LAST_START`, so a whole name fits.
    let len = unsafe {
        let to = state.out.as_mut_ptr().add(below_last_start(state.used));
        bpf_probe_read_kernel_str(to.cast(), NAME as u32, passed.name as Address)
    };
    let counts = is_same(passed.length, 0).wrapping_sub(1);
    // An error is negative, and ends the walk as a path too long does.
    state.used += (len as u64 & counts & (2 * NAME as u64 - 1)) as usize;
    GO_ON
}

/// Writes the names of a place's path to `out`, innermost first; returns how many bytes.
#[inline(never)] // As above.
pub fn names(from: &Dentry, out: &mut PathBytes) -> usize {
    let mut state = Names { walk: Walk::from(from), out, used: blurred(0, from.dentry) as usize };
    repeat(DEPTH, next_name, &mut state);
    state.used
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

/// Whether a path in the program's memory is spelled as one of the system's own.
#[inline(never)] // As above.
pub fn is_system_given(user: u64) -> bool {
    is_system_behind::<0>(user)
}

/// The same for a path that the program gave relative to its root.
#[inline(never)] // As above.
pub fn is_system_below_root(user: u64) -> bool {
    is_system_behind::<1>(user)
}

/// By the program's text behind `START` slashes.
#[inline(always)]
fn is_system_behind<const START: usize>(user: u64) -> bool {
    let mut text = MaybeUninit::<[u64; TEXT / 8]>::uninit();
    clear(&mut text);
    let bytes = text.as_mut_ptr().cast::<u8>();
    // SAFETY: the helper checks the address; the destination is as long as said, and cleared, and
    // has as many bytes.
    is_system_text(unsafe {
        if START > 0 {
            bytes.write(b'/');
        }
        let to = bytes.wrapping_add(START);
        bpf_probe_read_user_str(to.cast(), (TEXT - START) as u32, user as *const _);
        &*bytes.cast::<[u8; TEXT]>()
    })
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

/// Steps of a match along a path: eight bytes each, or a name of less.
const STEPS: usize = 256;
/// Bytes of a step.
const CHUNK: u64 = 8;

/// All ones if `a < b`, else zero; neither may have its highest bit set. By arithmetic, for the
/// verifier's sake.
#[inline(always)]
fn below(a: u64, b: u64) -> u64 {
    let mut mask = a.wrapping_sub(b);
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{m} s>>= 63", m = inout(reg) mask, options(pure, nomem, nostack)) };
    mask
}

/// Bounds a number of bytes by 15, as the verifier demands of a size.
#[inline(always)]
fn bounded(mut count: u64) -> u32 {
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{c} &= 15", c = inout(reg) count, options(pure, nomem, nostack)) };
    count as u32
}

#[inline(always)]
fn select_matcher(mask: u64, a: Matcher, b: Matcher) -> Matcher {
    Matcher([select(mask, a.0[0], b.0[0]), select(mask, a.0[1], b.0[1])])
}

/// A match along a path: first what the program gave, if it did, then the place.
#[repr(C)]
struct Match<'a> {
    walk: Walk,
    globs: &'a Globs,
    matcher: Matcher,
    /// What is being matched, and how many of its bytes are left; [`COMPLETE`]: the walk has come
    /// to its end.
    text: u64,
    rest: u64,
}

/// More than any text has.
const COMPLETE: u64 = 1 << 32;

impl Match<'_> {
    /// Takes the last eight bytes, or what there is, of those that are left. `read` is the
    /// helper for the memory in which they are; it is given room for as many as it is told to.
    #[inline(always)]
    fn take(&mut self, read: impl FnOnce(*mut c_void, u32, *const c_void) -> i64) {
        let count = select(below(self.rest, CHUNK), self.rest, CHUNK);
        self.rest = self.rest.wrapping_sub(count);
        let mut chunk = MaybeUninit::<[u64; 2]>::uninit();
        clear(&mut chunk);
        let from = (self.text as *const u8).wrapping_add(self.rest as usize);
        read(chunk.as_mut_ptr().cast(), bounded(count), from.cast());
        // SAFETY: cleared, and then as the helper left it.
        let chunk = unsafe { chunk.assume_init_ref()[0] };
        for i in 0..CHUNK {
            let at = count.wrapping_sub(1 + i) & (CHUNK - 1);
            let next = self.matcher.step(self.globs, (chunk >> (at * 8)) as u8);
            self.matcher = select_matcher(below(i, count), next, self.matcher);
        }
        // In front of a name that is complete stands a slash, unless it starts at no place.
        let complete =
            is_same(self.rest, 0) & (is_same(count, 0) ^ 1) & (is_same(self.walk.at.dentry, 0) ^ 1);
        let next = self.matcher.step(self.globs, b'/');
        self.matcher = select_matcher(complete.wrapping_neg(), next, self.matcher);
    }
}

extern "C" fn match_name(_: u64, state: &mut Match<'_>) -> i64 {
    if state.rest == 0 {
        let passed = state.walk.step();
        if passed.end != 0 {
            state.rest = COMPLETE;
            return STOP;
        }
        state.text = passed.name;
        state.rest = passed.length;
    }
    // SAFETY: the helper checks the address, and there is room.
    state.take(|to, size, from| unsafe { bpf_probe_read_kernel(to, size, from) });
    GO_ON
}

extern "C" fn match_text(_: u64, state: &mut Match<'_>) -> i64 {
    if state.rest == 0 {
        return STOP;
    }
    // SAFETY: as above.
    state.take(|to, size, from| unsafe { read_user_raw(to, size, from) });
    GO_ON
}

#[repr(C)]
struct Length {
    text: u64,
    length: u64,
    complete: u64,
}

extern "C" fn measure(_: u64, state: &mut Length) -> i64 {
    const PIECE: usize = 32;
    let mut piece = MaybeUninit::<[u64; PIECE / 8]>::uninit();
    clear(&mut piece);
    // SAFETY: as above.
    let read = unsafe {
        let from = (state.text as *const u8).wrapping_add(state.length as usize);
        bpf_probe_read_user_str(piece.as_mut_ptr().cast(), PIECE as u32, from.cast())
    };
    if read < 0 {
        return STOP;
    }
    if read == 0 {
        // Of an empty text this helper says nothing of its zero: the piece before was full.
        state.complete = 1;
        return STOP;
    }
    state.length = state.length.wrapping_add(read as u64 - 1);
    state.complete = (read < PIECE as i64).into();
    state.complete as i64
}

/// The globs that a place's path matches. A path of more than [`STEPS`] steps matches none.
#[inline(never)]
pub fn match_place(start: &Dentry, globs: &Globs) -> u64 {
    if start.is_root() {
        // No name, and yet a path.
        return Matcher::start(globs).step(globs, b'/').matched(globs);
    }
    let mut state = Match {
        walk: Walk::from(start),
        globs,
        matcher: Matcher::start(globs),
        text: 0,
        rest: blurred(0, start.dentry),
    };
    repeat(STEPS, match_name, &mut state);
    if state.rest == COMPLETE { state.matcher.matched(globs) } else { 0 }
}

/// The same for a path that the program gave, which starts at a place, or at none if it is absolute. It
/// is taken as it is written: `.` and `..` are names like any other.
#[inline(never)]
pub fn match_given(given: u64, start: &Dentry, globs: &Globs) -> u64 {
    let mut text = Length { text: given, length: blurred(0, given), complete: 0 };
    repeat(STEPS / 4, measure, &mut text);
    if text.complete == 0 {
        return 0;
    }
    let mut state = Match {
        walk: Walk::from(start),
        globs,
        matcher: Matcher::start(globs),
        text: given,
        rest: blurred(text.length, given),
    };
    repeat(STEPS, match_text, &mut state);
    if start.is_none() {
        return state.matcher.matched(globs);
    }
    repeat(STEPS, match_name, &mut state);
    if state.rest == COMPLETE { state.matcher.matched(globs) } else { 0 }
}
