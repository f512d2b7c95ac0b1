//! The process whose calls are measured: a loop as short as it can be, around one system call.
//!
//! Its standard output is `/dev/null`, so a write to descriptor 1 is the cheapest write that faults apply to. What it
//! finds goes into a file that it shares with its parent, because every other way out is a system call, too.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd as _, RawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

/// At most so many rounds of calls fit into the shared file.
pub(crate) const MAX_ROUNDS: usize = 8;

/// The call that is made over and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `write(2)` of one byte to `/dev/null`, on descriptor 1.
    WriteNull,
    /// `write(2)` of one byte to the end of this file.
    WriteFile(PathBuf),
    /// `getppid(2)`, which no rule here is about.
    ParentId,
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Which call.
    pub(crate) call: Call,
    /// What each write must return, `-errno` for a failure: figures of anything else would be worth nothing.
    pub(crate) expected: i64,
    /// Calls in one round.
    pub(crate) calls: u32,
    /// Rounds; the median counts.
    pub(crate) rounds: usize,
}

/// One round.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Round {
    /// Nanoseconds from its first call to its last.
    pub(crate) elapsed: u64,
    /// Nanoseconds of these that the thread itself was running.
    pub(crate) own: u64,
    /// Zero if every call returned what it should.
    pub(crate) wrong: u64,
}

/// What the process leaves behind.
pub(crate) type Rounds = [Round; MAX_ROUNDS];

impl Plan {
    /// As arguments of this program.
    pub(crate) fn arguments(&self, results: &Path) -> Vec<String> {
        let call = match &self.call {
            Call::WriteNull => "null".to_owned(),
            Call::WriteFile(path) => path.display().to_string(),
            Call::ParentId => "getppid".to_owned(),
        };
        vec![
            "measure".to_owned(),
            results.display().to_string(),
            call,
            self.expected.to_string(),
            self.calls.to_string(),
            self.rounds.to_string(),
        ]
    }

    fn parse(arguments: &[&str]) -> Result<(Self, PathBuf)> {
        let [results, call, expected, calls, rounds] = arguments else {
            bail!("measure: five arguments are needed")
        };
        let call = match *call {
            "null" => Call::WriteNull,
            "getppid" => Call::ParentId,
            path => Call::WriteFile(path.into()),
        };
        let (expected, calls, rounds) = (expected.parse()?, calls.parse()?, rounds.parse()?);
        ensure!((1..=MAX_ROUNDS).contains(&rounds), "measure: 1 to {MAX_ROUNDS} rounds");
        Ok((Self { call, expected, calls, rounds }, PathBuf::from(results)))
    }
}

/// Makes the calls that the arguments ask for.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (plan, results) = Plan::parse(arguments)?;
    let results = share(&results)?;
    let mut file = None;
    let (number, descriptor, expected): (i64, RawFd, i64) = match &plan.call {
        Call::WriteNull => (libc::SYS_write, libc::STDOUT_FILENO, plan.expected),
        Call::WriteFile(path) => {
            let opened = OpenOptions::new().append(true).open(path).context("opening the file")?;
            let file = file.insert(opened);
            (libc::SYS_write, file.as_raw_fd(), plan.expected)
        }
        Call::ParentId => (libc::SYS_getppid, 0, std::os::unix::process::parent_id().into()),
    };
    let make = |calls| round(number, descriptor, expected, calls);
    // Caches that fill up once, such as page tables, are not the call's cost.
    make(plan.calls / 10);
    for slot in results.iter_mut().take(plan.rounds) {
        if let Some(file) = &file {
            // Each round adds the same pages to it.
            file.set_len(0).context("emptying the file")?;
        }
        *slot = make(plan.calls);
    }
    Ok(())
}

/// Maps the results, until the end of the process.
fn share(path: &Path) -> Result<&'static mut Rounds> {
    let file = File::options().read(true).write(true).open(path).context("opening the results")?;
    let size = size_of::<Rounds>();
    ensure!(file.metadata()?.len() >= size as u64, "the file for the results is too short");
    let size = size.try_into()?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a mapping of its own, at an address that the kernel chooses.
    let page = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, &file, 0) }
        .context("mapping the results")?;
    // SAFETY: large enough, page-aligned, never unmapped; the parent reads only after our end.
    Ok(unsafe { page.cast::<Rounds>().as_mut() })
}

fn round(number: i64, descriptor: RawFd, expected: i64, calls: u32) -> Round {
    let byte = b'x';
    let descriptor = i64::from(descriptor);
    let (elapsed, own) = (now(libc::CLOCK_MONOTONIC), now(libc::CLOCK_THREAD_CPUTIME_ID));
    let mut wrong = 0;
    let mut left = calls;
    while left > 0 {
        // SAFETY: `write` reads one byte, which is there; `getppid` takes no arguments.
        wrong |= unsafe { call(number, descriptor, &raw const byte) } ^ expected;
        left -= 1;
    }
    Round {
        own: now(libc::CLOCK_THREAD_CPUTIME_ID) - own,
        elapsed: now(libc::CLOCK_MONOTONIC) - elapsed,
        wrong: wrong as u64,
    }
}

/// The bare instruction: libc's function would add its own care for `errno` to what is measured.
///
/// # Safety
/// The call must be sound with these arguments and a third of 1.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::inline_always, reason = "a function's call is not the system call's cost")]
#[inline(always)]
unsafe fn call(number: i64, descriptor: i64, byte: *const u8) -> i64 {
    let result;
    // SAFETY: the kernel takes arguments in these registers and changes rax, rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") descriptor,
            in("rsi") byte,
            in("rdx") 1_i64,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// By libc, at the cost of a few instructions.
///
/// # Safety
/// The call must be sound with these arguments and a third of 1.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn call(number: i64, descriptor: i64, byte: *const u8) -> i64 {
    // SAFETY: as the caller promises.
    match unsafe { libc::syscall(number, descriptor, byte, 1_i64) } {
        -1 => -i64::from(nix::errno::Errno::last_raw()),
        result => result,
    }
}

/// A clock, in nanoseconds.
pub(crate) fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live and writable; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
