//! Processes some of whose writes are delayed. They report with `pwrite(2)`, which is not trapped.

use std::{
    fs::File,
    io::Write as _,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Role, append, errno, exit_code};
use crate::engine::supervisor::notification::now;

/// All of them.
pub(in crate::engine) const ROLES: &[(&str, Role)] = &[
    ("write-timed", |a| write_timed(&a[0], &a[1])),
    ("write-beside", |a| write_beside(&a[0], &a[1])),
    ("write-with-handler", |a| write_with_handler(&a[0], &a[1], &a[2], a[3] == "threads")),
    ("write-in-handler", |a| write_in_handler(&a[0], &a[1])),
    ("write-under-timer", |a| write_under_timer(&a[0], a[1].parse().unwrap(), &a[2])),
    ("write-under-kills", |a| write_under_kills(&a[0], a[1].parse().unwrap())),
    ("write-at-once", |a| {
        write_at_once(&a[0], &a[1], a[2].parse().unwrap(), a[3].parse().unwrap())
    }),
    ("count-failures", |a| count_failures(&a[0])),
    ("exit-beside", |a| leave_beside(&a[0], || 7)),
    ("execute-beside", |a| {
        leave_beside(&a[0], || {
            // SAFETY: the strings end in zero, and the lists in a null pointer.
            unsafe {
                let arguments = [c"true".as_ptr(), std::ptr::null()];
                libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr());
            }
            1
        })
    }),
    ("end-threads-beside", |a| end_threads_beside(&a[0])),
    ("fork-beside", |a| fork_beside(&a[0])),
    ("fsync-with-handler", |a| {
        handle(libc::SIGUSR1, note, 0);
        let file = append(&a[0]).unwrap();
        let start = now();
        let code = errno(file.sync_all());
        report(&a[1], &[now() - start, HANDLINGS.load(Ordering::SeqCst).into()]);
        code
    }),
    ("read-short", |a| {
        let mut buffer = [7; 8];
        // SAFETY: the buffer is as long as said.
        let n = unsafe {
            let fd = File::open(&a[0]).unwrap();
            libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
        };
        if buffer == [7; 8] { n as i32 } else { 100 }
    }),
    ("write-result", |a| {
        let file = append(&a[0]).unwrap();
        // SAFETY: eight bytes are live.
        let n = unsafe { libc::write(file.as_raw_fd(), c"12345678".as_ptr().cast(), 8) };
        n as i32
    }),
];

/// Leaves numbers for the test to read.
fn report(path: &str, numbers: &[u64]) {
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let file = File::create(path).unwrap();
    file.write_all_at(format!("{}\n", text.join(" ")).as_bytes(), 0).unwrap();
}

/// Reports how long a write took, in nanoseconds.
fn write_timed(path: &str, to: &str) -> i32 {
    let mut file = append(path).unwrap();
    let start = now();
    let code = errno(file.write(b"x"));
    report(to, &[now() - start]);
    code
}

/// Reports how long a write took, and the longest time that a busy thread and one that sleeps for
/// a millisecond at a time did not get on.
fn write_beside(path: &str, to: &str) -> i32 {
    let mut file = append(path).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let beat = |pause: Option<Duration>| {
        let done = Arc::clone(&done);
        thread::spawn(move || {
            let (mut longest, mut last) = (0, now());
            while !done.load(Ordering::SeqCst) {
                if let Some(pause) = pause {
                    thread::sleep(pause);
                }
                let time = now();
                longest = longest.max(time - last);
                last = time;
            }
            longest
        })
    };
    let beats = [beat(None), beat(Some(Duration::from_millis(1)))];
    let start = now();
    let code = errno(file.write(b"x"));
    let took = now() - start;
    done.store(true, Ordering::SeqCst);
    let [busy, idle] = beats.map(|beat| beat.join().unwrap());
    report(to, &[took, busy, idle]);
    code
}

/// When a handler ran last, and how often one did.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static HANDLINGS: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(_: i32) {
    HANDLED.store(now(), Ordering::SeqCst);
    HANDLINGS.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: i32, handler: extern "C" fn(i32), flags: i32) {
    // SAFETY: handlers here make system calls and touch atomics only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

fn flags(restart: &str) -> i32 {
    if restart == "restart" { libc::SA_RESTART } else { 0 }
}

/// Reports how long a write took, how often a handler ran, and when it did last.
fn write_with_handler(path: &str, to: &str, restart: &str, has_threads: bool) -> i32 {
    handle(libc::SIGTERM, note, flags(restart));
    handle(libc::SIGUSR1, note, flags(restart));
    if has_threads {
        thread::spawn(|| thread::sleep(Duration::from_secs(60)));
    }
    let mut file = append(path).unwrap();
    let start = now();
    let code = errno(file.write(b"x"));
    let took = now() - start;
    report(to, &[took, HANDLINGS.load(Ordering::SeqCst).into(), HANDLED.load(Ordering::SeqCst)]);
    code
}

/// The descriptor that a handler writes to, and how it went.
static OUTPUT: AtomicU32 = AtomicU32::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

/// The one place in this program that writes for them: a handler's call is told from the one that
/// it interrupts by nothing but its stack.
#[inline(never)]
fn write_one() -> i64 {
    let fd = OUTPUT.load(Ordering::SeqCst).cast_signed();
    // SAFETY: one byte is live.
    unsafe { libc::syscall(libc::SYS_write, fd, c"x".as_ptr(), 1) }
}

extern "C" fn write_as_well(_: i32) {
    HANDLED.store(now(), Ordering::SeqCst);
    RESULT.store(write_one().cast_unsigned(), Ordering::SeqCst);
}

/// Like `write-with-handler`, but the handler makes the very same call.
fn write_in_handler(path: &str, to: &str) -> i32 {
    handle(libc::SIGUSR1, write_as_well, 0);
    let file = append(path).unwrap();
    OUTPUT.store(file.as_raw_fd().cast_unsigned(), Ordering::SeqCst);
    let start = now();
    let result = write_one();
    report(to, &[now() - start, result.cast_unsigned(), RESULT.load(Ordering::SeqCst)]);
    0
}

/// Writes, and tries again if interrupted: a signal that comes before the supervisor has received
/// the call ends it so, unless its handler asks for a restart. Returns the error's number.
fn write_persistently() -> i32 {
    loop {
        if write_one() == 1 {
            return 0;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            code => return code.unwrap_or(1000),
        }
    }
}

/// Writes under a signal every 3 ms. Returns the first error's number.
fn write_under_timer(path: &str, count: u64, restart: &str) -> i32 {
    handle(libc::SIGALRM, note, flags(restart));
    let file = append(path).unwrap();
    OUTPUT.store(file.as_raw_fd().cast_unsigned(), Ordering::SeqCst);
    let interval = libc::timeval { tv_sec: 0, tv_usec: 3000 };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: the structure is live.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    let failed = (0..count).map(|_| write_persistently()).find(|code| *code != 0);
    failed.unwrap_or_else(|| i32::from(HANDLINGS.load(Ordering::SeqCst) == 0))
}

/// Four threads write, and each is sent a signal about every 2 ms. Returns an error's number.
fn write_under_kills(path: &str, count: u64) -> i32 {
    handle(libc::SIGUSR1, note, 0);
    let file = append(path).unwrap();
    OUTPUT.store(file.as_raw_fd().cast_unsigned(), Ordering::SeqCst);
    let left = Arc::new(AtomicU32::new(4));
    let writers = [(); 4].map(|()| {
        let left = Arc::clone(&left);
        thread::spawn(move || {
            let failed = (0..count).map(|_| write_persistently()).find(|code| *code != 0);
            left.fetch_sub(1, Ordering::SeqCst);
            // Signals may come until the last is done.
            while left.load(Ordering::SeqCst) > 0 {
                thread::yield_now();
            }
            failed.unwrap_or(0)
        })
    });
    while left.load(Ordering::SeqCst) > 0 {
        thread::sleep(Duration::from_millis(2));
        for writer in &writers {
            use std::os::unix::thread::JoinHandleExt as _;
            // SAFETY: not joined yet.
            unsafe { libc::pthread_kill(writer.as_pthread_t(), libc::SIGUSR1) };
        }
    }
    writers.map(|it| it.join().unwrap()).into_iter().find(|code| *code != 0).unwrap_or(0)
}

/// Many threads sleep at once, and then write at once, if that is delayed equally long. Reports
/// how long the process kept processors busy while they wrote, how late each sleep was, and how
/// long each write took, in nanoseconds.
fn write_at_once(path: &str, to: &str, count: usize, delay: u64) -> i32 {
    let file = append(path).unwrap();
    OUTPUT.store(file.as_raw_fd().cast_unsigned(), Ordering::SeqCst);
    let barrier = Arc::new(Barrier::new(count + 1));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let timed = |act: &dyn Fn()| {
                    barrier.wait();
                    let start = now();
                    act();
                    let took = now() - start;
                    barrier.wait();
                    took
                };
                let slept = timed(&|| thread::sleep(Duration::from_nanos(delay)));
                let wrote = timed(&|| assert_eq!(write_one(), 1));
                (slept, wrote)
            })
        })
        .collect();
    barrier.wait();
    barrier.wait();
    let before = busy();
    barrier.wait();
    barrier.wait();
    let busy = busy() - before;
    let (slept, wrote): (Vec<_>, Vec<_>) = threads.into_iter().map(|it| it.join().unwrap()).unzip();
    report(to, &[vec![busy], slept, wrote].concat());
    0
}

fn busy() -> u64 {
    crate::engine::supervisor::notification::nanoseconds(
        nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID,
    )
}

/// Eight threads write fifty times each. Returns how many writes failed.
fn count_failures(path: &str) -> i32 {
    let threads = [(); 8].map(|()| {
        let mut file = append(path).unwrap();
        thread::spawn(move || (0..50).filter(|_| errno(file.write(b"x")) == libc::EIO).count())
    });
    threads.into_iter().map(|it| it.join().unwrap() as i32).sum()
}

/// Has a thread write, and leaves soon after.
fn leave_beside(path: &str, leave: impl Fn() -> i32) -> i32 {
    let mut file = append(path).unwrap();
    thread::spawn(move || errno(file.write(b"x")));
    thread::sleep(Duration::from_millis(100));
    leave()
}

/// Has a thread write while others begin and end.
fn end_threads_beside(path: &str) -> i32 {
    let mut file = append(path).unwrap();
    let writer = thread::spawn(move || errno(file.write(b"x")));
    let start = Instant::now();
    let mut ended = 0;
    while !writer.is_finished() {
        thread::spawn(|| thread::sleep(Duration::from_millis(1))).join().unwrap();
        ended += 1;
    }
    if ended < 5 || start.elapsed() < Duration::from_millis(100) {
        return 1;
    }
    writer.join().unwrap()
}

/// Has a thread write while children are forked, each of which writes as well.
fn fork_beside(path: &str) -> i32 {
    let mut file = append(path).unwrap();
    let writer = thread::spawn(move || errno(file.write(b"x")));
    thread::sleep(Duration::from_millis(20));
    let own = append(path).unwrap();
    OUTPUT.store(own.as_raw_fd().cast_unsigned(), Ordering::SeqCst);
    // SAFETY: the child makes system calls only.
    let children = [(); 3].map(|()| unsafe {
        match libc::fork() {
            0 => libc::_exit(i32::from(write_one() != 1)),
            child => child,
        }
    });
    let failed: i32 = children.map(exit_code).iter().sum();
    failed + writer.join().unwrap()
}
