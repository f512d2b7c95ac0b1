//! Processes that make calls when told to, and say what came of them while they still run.

use std::{
    fs::{self, File},
    os::fd::AsRawFd as _,
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::super::subject::result;

/// The parent's permission to begin.
pub(super) const GO: usize = 0;
/// When the call was made, in nanoseconds of `CLOCK_MONOTONIC`.
pub(super) const STARTED: usize = 1;
/// How long it took, in nanoseconds.
pub(super) const TOOK: usize = 2;
/// What it returned, `-errno` for failures.
pub(super) const RESULT: usize = 3;
/// Non-zero when the call has returned.
pub(super) const DONE: usize = 4;
/// Non-zero when it is in its cgroup.
const READY: usize = 5;
/// The first word that means what a test makes of it.
pub(super) const FREE: usize = 8;

/// More than anything takes here, however slow the machine.
pub(super) const LONG: Duration = Duration::from_secs(15);

/// Words that a process shares with its parent.
pub(super) struct Page([AtomicI64; 64]);

impl Page {
    pub(super) fn get(&self, word: usize) -> i64 {
        self.0[word].load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, word: usize, value: i64) {
        self.0[word].store(value, Ordering::SeqCst);
    }

    pub(super) fn add(&self, word: usize) {
        self.0[word].fetch_add(1, Ordering::SeqCst);
    }

    /// Sleeps until the parent says so.
    pub(super) fn wait(&self, word: usize) {
        while self.get(word) == 0 {
            sleep(1);
        }
    }

    /// Makes a call and notes what came of it.
    pub(super) fn time(&self, call: impl FnOnce() -> i64) {
        self.set(STARTED, now());
        let result = call();
        self.set(TOOK, now() - self.get(STARTED));
        self.set(RESULT, result);
        self.set(DONE, 1);
    }

    /// Writes one byte and notes what came of it.
    pub(super) fn time_write(&self, file: &File, byte: u8) {
        self.time(|| write(file, byte));
    }
}

/// Writes one byte; the result is the kernel's.
pub(super) fn write(file: &File, byte: u8) -> i64 {
    // SAFETY: one byte of our own.
    result(unsafe { libc::write(file.as_raw_fd(), (&raw const byte).cast(), 1) } as i64)
}

/// Milliseconds; without anything that a fork could have left locked.
pub(super) fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn now() -> i64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one value.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The processor time that a process has used, in nanoseconds.
pub(super) fn processor_time(pid: u32) -> i64 {
    let mut id = 0;
    // SAFETY: the library writes one id.
    assert_eq!(unsafe { libc::clock_getcpuclockid(pid as i32, &raw mut id) }, 0);
    clock(id)
}

/// Calls a handler at this signal, without `SA_RESTART`.
pub(super) fn handle(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: all zeros is a valid action, and the handler lives for ever.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Blocks these signals in the calling thread.
pub(super) fn block(signals: &[i32]) {
    // SAFETY: all zeros is a valid set.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// A field of `/proc/ID/status`.
pub(super) fn status_field(id: u32, name: &str) -> Option<String> {
    let text = fs::read(format!("/proc/{id}/status")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Waits for something to become true.
#[track_caller]
pub(super) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "it never came true that {what}");
        sleep(2);
    }
}

/// A forked process. Killed and reaped at the end.
pub(super) struct Actor {
    pid: u32,
    page: NonNull<Page>,
    status: Option<i32>,
}

impl Actor {
    /// Runs `body` in a child, which enters the cgroup first. It must neither panic nor print.
    pub(super) fn start(cgroup: Option<&Path>, body: impl FnOnce(&'static Page)) -> Self {
        let procs = cgroup
            .map(|cgroup| File::options().write(true).open(cgroup.join("cgroup.procs")).unwrap());
        let size = std::num::NonZeroUsize::new(size_of::<Page>()).unwrap();
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping, shared with the child only.
        let page = unsafe { mmap_anonymous(None, size, prot, MapFlags::MAP_SHARED) }.unwrap();
        let page = page.cast::<Page>();
        // SAFETY: the C library makes its own locks usable in the child.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no pointers. It must not outlive a test that panics.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let entered = procs.as_ref().is_none_or(|procs| write(procs, b'0') == 1);
            if entered {
                drop(procs);
                // SAFETY: mapped for as long as the process lives; zeros are valid.
                let page = unsafe { page.as_ref() };
                page.set(READY, 1);
                body(page);
            }
            // SAFETY: no destructors or handlers of the parent must run here.
            unsafe { libc::_exit(i32::from(!entered)) }
        }
        assert!(pid > 0);
        let actor = Self { pid: pid as u32, page, status: None };
        until("it is in its cgroup", || actor.page().get(READY) != 0);
        actor
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn page(&self) -> &Page {
        // SAFETY: mapped until this value is dropped.
        unsafe { self.page.as_ref() }
    }

    pub(super) fn go(&self) {
        self.page().set(GO, 1);
    }

    pub(super) fn took(&self) -> Duration {
        Duration::from_nanos(self.page().get(TOOK) as u64)
    }

    pub(super) fn threads(&self) -> Vec<u32> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return vec![] };
        tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    fn has_held_thread(&self) -> bool {
        self.threads().into_iter().any(|tid| status_field(tid, "State").as_deref() == Some("t"))
    }

    /// Tells it to go, and waits until one of its threads is held by the tracer.
    #[track_caller]
    pub(super) fn go_and_park(&self) {
        self.go();
        until("it makes its call", || self.page().get(STARTED) != 0);
        // Birth stops a thread as well, for a moment.
        until("a thread waits", || {
            self.has_held_thread() && {
                sleep(20);
                self.has_held_thread()
            }
        });
    }

    /// Waits for the call to have returned.
    #[track_caller]
    pub(super) fn returned(&self) {
        until("the call returns", || self.page().get(DONE) != 0);
    }

    pub(super) fn tracer(&self) -> u32 {
        status_field(self.pid, "TracerPid").and_then(|pid| pid.parse().ok()).unwrap_or(0)
    }

    pub(super) fn signal(&self, signal: i32) {
        // SAFETY: a child of ours, not reaped.
        assert_eq!(unsafe { libc::kill(self.pid as i32, signal) }, 0);
    }

    /// Waits for its end; the status is `waitpid(2)`'s.
    #[track_caller]
    pub(super) fn end(&mut self) -> i32 {
        let pid = self.pid as i32;
        let mut status = 0;
        until("it ends", || {
            // SAFETY: the kernel writes one status of a child of ours.
            unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) == pid }
        });
        self.status = Some(status);
        status
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub(super) fn finish(mut self) {
        assert_eq!(self.end(), 0, "it died or could not enter its cgroup");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if self.status.is_none() {
            // SAFETY: a child of ours, not reaped.
            unsafe {
                libc::kill(self.pid as i32, libc::SIGKILL);
                libc::waitpid(self.pid as i32, std::ptr::null_mut(), 0);
            }
        }
        // SAFETY: mapped by us; whoever else has it mapped has a mapping of their own.
        unsafe { munmap(self.page.cast(), size_of::<Page>()) }.unwrap();
    }
}
