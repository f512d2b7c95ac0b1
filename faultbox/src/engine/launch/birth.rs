//! Making a process.
//!
//! Until it runs its program it shares our memory, as `vfork(2)` has it: a copy of what we have
//! mapped costs more than all else that a start needs, and as much again when we write to it. Unlike
//! there we go on meanwhile, because the new process stands still until the supervisor has its
//! listener. So it has a stack of its own, touches nothing that is not prepared for it, and
//! does not use the C library, whose `errno` it shares as well. `executed` tells that it has left
//! our memory: the kernel closes that pipe after `execve(2)` has changed to the new memory, or
//! after the process has given up the old one when it ends.

use std::{
    ffi::CStr,
    io,
    num::NonZeroUsize,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous, munmap},
        signal::{SigSet, SigmaskHow, Signal, kill},
        stat::Mode,
        wait::waitpid,
    },
    unistd::{Pid, pipe2},
};

use super::{
    child::{Child, Page},
    process::Process,
};

/// Ways of making a process, from the newest kernel's to the oldest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// `clone3(2)` with `CLONE_PIDFD | CLONE_INTO_CGROUP`: Linux 5.7.
    IntoCgroup,
    /// `clone3(2)` with `CLONE_PIDFD`: Linux 5.3. The child moves itself into the cgroup.
    Clone,
    /// `clone(2)` as `fork(2)` does, and `pidfd_open(2)`: where a sandbox hides `clone3`.
    Fork,
}

pub(super) const METHODS: &[Method] = &[Method::IntoCgroup, Method::Clone, Method::Fork];

/// `linux/sched.h`. libc declares it as an `int`, into which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the new process needs of our memory besides what it was given: a stack, and a page to
/// report in.
pub(super) struct Memory(NonNull<u8>);

impl Memory {
    const STACK: usize = 64 << 10;
    const BYTES: NonZeroUsize = NonZeroUsize::new(Self::STACK + size_of::<Page>()).unwrap();

    pub(super) fn new() -> io::Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // Shared, for a child that has a copy of our memory.
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap_anonymous(None, Self::BYTES, prot, MapFlags::MAP_SHARED) }?;
        Ok(Self(start.cast()))
    }

    /// Behind the stack, which grows away from it.
    pub(super) fn page(&self) -> &Page {
        // SAFETY: the mapping is aligned, zeroed, lives as long as `self`, and this part of it is
        // only ever accessed through atomics.
        unsafe { self.0.add(Self::STACK).cast().as_ref() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped, and nothing borrows from it any more. An error
        // would mean that it was never mapped.
        let _ = unsafe { munmap(self.0.cast(), Self::BYTES.get()) };
    }
}

/// A new process.
pub(super) struct Born {
    pub(super) process: Process,
    /// Ends when the program runs, or the process has ended. Until then the process uses what its
    /// [`Child`] borrows.
    pub(super) executed: OwnedFd,
}

/// Makes the process, which becomes what `child` says. Whoever lets go of what that borrows
/// before the end of `executed` must first drop the process, which ends it.
pub(super) fn of(
    methods: &[Method],
    cgroup: Option<BorrowedFd<'_>>,
    child: &Child<'_>,
    memory: &Memory,
) -> Result<Born, (&'static str, io::Error)> {
    /// A process started by another thread meanwhile would inherit our end of the pipe, and we
    /// would wait for its `execve(2)`, too.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (executed, held_until_exec) = pipe2(OFlag::O_CLOEXEC).map_err(|e| ("pipe", e.into()))?;
    let process = clone_by(methods, cgroup, child, memory)?;
    drop(held_until_exec);
    drop(one);
    Ok(Born { process, executed })
}

/// Makes the process by the first of the methods that this kernel knows.
fn clone_by(
    methods: &[Method],
    cgroup: Option<BorrowedFd<'_>>,
    child: &Child<'_>,
    memory: &Memory,
) -> Result<Process, (&'static str, io::Error)> {
    let mut unknown = Errno::ENOSYS;
    for &method in methods {
        if method == Method::IntoCgroup && cgroup.is_none() {
            continue;
        }
        let procs = match cgroup {
            Some(cgroup) if method != Method::IntoCgroup => {
                Some(open_at(cgroup, c"cgroup.procs").map_err(|e| ("joining its cgroup", e))?)
            }
            _ => None,
        };
        child.join.set(procs.as_ref().map(OwnedFd::as_raw_fd));
        match clone_once(method, cgroup, child, memory) {
            Ok(process) => return Ok(process),
            // Not known, or a flag or the structure's size is not. A sandbox may say EPERM.
            Err(error @ (Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG | Errno::EPERM)) => {
                unknown = error;
            }
            Err(error) if method == Method::IntoCgroup => {
                return Err(("joining its cgroup", error.into()));
            }
            Err(error) => return Err(("new process", error.into())),
        }
    }
    Err(("new process", unknown.into()))
}

fn open_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(directory, name, flags, Mode::empty())?)
}

fn clone_once(
    method: Method,
    cgroup: Option<BorrowedFd<'_>>,
    child: &Child<'_>,
    memory: &Memory,
) -> Result<Process, Errno> {
    // No handler of ours may run in the child. It unblocks when all dispositions are default.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let mut pidfd: RawFd = -1;
    let result = if method == Method::Fork {
        // SAFETY: without CLONE_VM this is `fork(2)`: the child has a copy of our memory, and
        // `Child::run` keeps to what is allowed there. No pointers are passed.
        let result = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if result == 0 {
            // SAFETY: we are the new process and have one thread.
            unsafe { child.run() }
        }
        Errno::result(result)
    } else {
        // SAFETY: all zeros is a valid `clone_args`.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = libc::CLONE_PIDFD as u64;
        args.pidfd = &raw mut pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let (Method::IntoCgroup, Some(cgroup)) = (method, cgroup) {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: `args` and `pidfd` are live, and so is what the child uses, as `of` demands.
        unsafe { clone3(&mut args, child, memory) }
    };
    before.thread_set_mask()?;
    let pid = result? as u32;
    if method == Method::Fork {
        return Process::open(pid).inspect_err(|_| {
            // Nobody else knows of it.
            let child = Pid::from_raw(pid.cast_signed());
            let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None));
        });
    }
    // SAFETY: the kernel made the descriptor for us.
    Ok(Process::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// `clone3(2)` for a child that shares our memory. Returns in the parent only.
///
/// # Safety
/// The pointers in `args` must be live, and `child` and `memory` be there until the child has left
/// our memory.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    args: &mut libc::clone_args,
    child: &Child<'_>,
    memory: &Memory,
) -> Result<i64, Errno> {
    /// The first function on the new stack.
    unsafe extern "C" fn begin(child: &Child<'_>) -> ! {
        // SAFETY: a new process with one thread.
        unsafe { child.run() }
    }
    args.flags |= libc::CLONE_VM as u64;
    args.stack = memory.0.as_ptr() as u64;
    args.stack_size = Memory::STACK as u64;
    let result: i64;
    // SAFETY: in the parent a system call that changes what is declared and nothing else. In the
    // child, whose registers are copies but for `rsp`, a call on an aligned stack that is large
    // enough, and that does not return. (No system call of the C library's can do that: it would
    // return to what the new stack has on it.)
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {child}",
            "call {begin}",
            "2:",
            child = in(reg) child,
            begin = sym begin,
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    if result < 0 { Err(Errno::from_raw(-result as i32)) } else { Ok(result) }
}

/// `clone3(2)` for a child that has a copy of our memory.
///
/// # Safety
/// The pointers in `args` must be live.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3(args: &mut libc::clone_args, child: &Child<'_>, _: &Memory) -> Result<i64, Errno> {
    // SAFETY: as the caller promises; no stack is given as none is shared.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut *args, size_of_val(args)) };
    if result == 0 {
        // SAFETY: we are the new process and have one thread.
        unsafe { child.run() }
    }
    Errno::result(result)
}
