//! Who makes a call, and how: threads at the same time, `io_uring(7)`, and the 32-bit entry.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    super::{Action, Driver, Engine, Errno, Rule, RuleId, Site, Target, expand_keyword},
    Kept, in_kernel, shared_engine,
    subject::{Results, TestCgroup, inside, result},
};

fn start(cgroup: &TestCgroup) -> (Engine, Target) {
    let engine = shared_engine();
    let path = Some(cgroup.path());
    let target = engine.target("subject", path, Driver::default(), Kept::new()).unwrap();
    (engine, target)
}

fn deny(target: &Target, keyword: &str) -> Rule {
    let site = Site::of(target.id());
    let errno = Errno::from_name("EIO").unwrap();
    Rule::new(RuleId(1), site, expand_keyword(keyword).unwrap(), Action::Deny(errno))
}

/// A file of no name that lives in memory: a regular one, to a rule.
unsafe fn file() -> i32 {
    // SAFETY: a string of our own.
    unsafe { libc::memfd_create(c"callers".as_ptr(), 0) }
}

const THREADS: usize = 8;
const WRITES: usize = 250;

#[test]
fn nth_breaks_exactly_one_call_of_eight_threads() {
    if !in_kernel() {
        return;
    }
    let cgroup = TestCgroup::new("nth");
    let (engine, target) = start(&cgroup);
    let nth = |n| Rule { nth: NonZeroU64::new(n), ..deny(&target, "write") };
    for n in [3, 1000] {
        let before = engine.misses();
        let injection = engine.inject(&[nth(n)]).unwrap();
        let results = inside(cgroup.path(), write_in_threads);
        let counts = injection.lift()[0].1;
        let missed = engine.misses() - before;
        let failed: i64 = results[..THREADS].iter().sum();
        let said = format!("nth={n}: {counts:?}, {failed} failed, {missed} missed");
        // A preemptible kernel may skip the program for others while a thread was preempted in
        // it. Such calls are counted, for the whole machine: others write, too.
        let all = (THREADS * WRITES) as u64;
        assert!(counts.matched <= all && all <= counts.matched + missed, "{said}");
        let due = u64::from(counts.matched >= n);
        assert_eq!((counts.fired, failed as u64), (due, due), "{said}");
    }
}

static READY: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static FAILED: [AtomicU32; THREADS] = [const { AtomicU32::new(0) }; THREADS];

extern "C" fn write_often(index: *mut libc::c_void) -> i32 {
    // SAFETY: plain calls on our own buffers.
    unsafe {
        let fd = file();
        READY.fetch_add(1, Ordering::SeqCst);
        while READY.load(Ordering::SeqCst) < THREADS as u32 {
            libc::sched_yield();
        }
        for _ in 0..WRITES {
            // By number: the function would store errno, and all threads here share one.
            let written = raw_write(fd);
            FAILED[index as usize].fetch_add(u32::from(written < 0), Ordering::SeqCst);
        }
        DONE.fetch_add(1, Ordering::SeqCst);
        libc::syscall(libc::SYS_exit, 0);
    }
    0
}

/// Threads by `clone(2)` itself: the child of a process with threads must not allocate, as
/// libraries do that make a thread. Tells how many writes of each failed.
fn write_in_threads(out: &mut Results) {
    const STACK: usize = 64 << 10;
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    for i in 0..THREADS {
        // SAFETY: a fresh mapping for the stack of each, which stays until the process ends.
        unsafe {
            let stack = libc::mmap(
                std::ptr::null_mut(),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::clone(write_often, stack.byte_add(STACK), flags, i as *mut libc::c_void);
        }
    }
    while DONE.load(Ordering::SeqCst) < THREADS as u32 {
        // SAFETY: no arguments.
        unsafe { libc::sched_yield() };
    }
    for (to, failed) in out.iter_mut().zip(&FAILED) {
        *to = failed.load(Ordering::SeqCst).into();
    }
}

/// One byte, by the processor's own instruction. Returns what the kernel returned.
#[cfg(target_arch = "x86_64")]
unsafe fn raw_write(fd: i32) -> i64 {
    let byte = b'x';
    let mut result = libc::SYS_write;
    // SAFETY: `write(2)` from a byte of ours; the kernel changes these two registers.
    unsafe {
        std::arch::asm!(
            "syscall",
            inout("rax") result,
            in("rdi") i64::from(fd),
            in("rsi") &raw const byte,
            in("rdx") 1,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn raw_write(fd: i32) -> i64 {
    // SAFETY: a byte of ours.
    unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) as i64 }
}

#[cfg(target_arch = "x86_64")]
mod compatible {
    //! Calls by the 32-bit entry from 64-bit code, which kernels with `CONFIG_IA32_EMULATION` take.

    use super::*;

    /// `asm/unistd_32.h`.
    const WRITE: i64 = 4;
    const GETPID: i64 = 20;

    /// A call by `int 0x80`. Arguments are cut to 32 bits.
    unsafe fn call(number: i64, first: i64, second: i64, third: i64) -> i32 {
        let mut result = number;
        // SAFETY: the caller's arguments; rbx is LLVM's own and put back.
        unsafe {
            std::arch::asm!(
                "xchg {first}, rbx",
                "int 0x80",
                "xchg {first}, rbx",
                first = inout(reg) first => _,
                inout("rax") result,
                in("rcx") second,
                in("rdx") third,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        result as i32
    }

    /// Whether this kernel takes such calls: without, they are a fault of the program (SIGSEGV).
    fn is_served() -> bool {
        // SAFETY: the child makes one call and exits.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(i32::from(call(GETPID, 0, 0, 0) <= 0));
            }
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            status == 0
        }
    }

    /// A byte at an address that 32 bits can tell.
    unsafe fn low_byte() -> i64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping.
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) as i64 }
    }

    #[test]
    fn a_call_by_the_32_bit_entry_is_neither_broken_nor_counted() {
        if !in_kernel() {
            return;
        }
        if !is_served() {
            eprintln!("not run here: this kernel has no 32-bit entry");
            return;
        }
        let cgroup = TestCgroup::new("compatible");
        let (engine, target) = start(&cgroup);
        // Number 4 is `stat` of 64-bit programs, and 20 is `writev`, which `write` stands for, too.
        let keywords = ["write", "stat", "getpid"];
        let rules = keywords.iter().map(|it| deny(&target, it));
        // Rung 2 does not serve all of them.
        let served = |it: &Rule| engine.inject(std::slice::from_ref(it)).is_ok();
        let rules: Vec<_> = rules.filter(served).collect();
        let injection = engine.inject(&rules).unwrap();
        let results = inside(cgroup.path(), |out| {
            // SAFETY: plain calls on our own buffers.
            unsafe {
                let (fd, byte) = (file(), low_byte());
                out[0] = call(WRITE, fd.into(), byte, 1).into();
                out[1] = i64::from(call(GETPID, 0, 0, 0) > 0);
                out[2] = result(libc::write(fd, c"x".as_ptr().cast(), 1) as i64);
            }
        });
        let counts = injection.lift();
        assert_eq!(results[..3], [1, 1, -i64::from(libc::EIO)]);
        let matched: Vec<_> = counts.iter().map(|(_, it)| (it.matched, it.fired)).collect();
        assert_eq!(matched[0], (1, 1), "only the call by the 64-bit entry");
        assert!(matched[1..].iter().all(|it| *it == (0, 0)), "{matched:?}");
    }
}

mod ring {
    //! `io_uring(7)`: calls that a program has the kernel make.

    use super::*;

    /// `linux/io_uring.h`.
    const IORING_OP_WRITE: u8 = 23;
    const IORING_ENTER_GETEVENTS: i64 = 1;
    const IORING_OFF_CQ_RING: i64 = 0x800_0000;
    const IORING_OFF_SQES: i64 = 0x1000_0000;
    const IOSQE_ASYNC: u8 = 1 << 4;

    #[repr(C)]
    #[derive(Default)]
    struct Offsets([u32; 10]);

    /// `struct io_uring_params`: the offsets are those of head, tail, mask, entries,
    /// then flags, dropped and array (submissions) or overflow and cqes (completions).
    #[repr(C)]
    #[derive(Default)]
    struct Params {
        entries: [u32; 2],
        rest: [u32; 8],
        submissions: Offsets,
        completions: Offsets,
    }

    unsafe fn map(fd: i64, offset: i64) -> *mut u8 {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of the ring's memory.
        unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, prot, libc::MAP_SHARED, fd as i32, offset).cast()
        }
    }

    /// Writes a byte through a ring of its own. Returns the completion's result, or -4096 less
    /// the errno if there can be no ring.
    unsafe fn write(fd: i32, flags: u8) -> i64 {
        let mut params = Params::default();
        // SAFETY: structures as the kernel describes them, in mappings that it gives; one entry.
        unsafe {
            let ring = result(libc::syscall(libc::SYS_io_uring_setup, 1i64, &raw mut params));
            if ring < 0 {
                return ring - 4096;
            }
            let (sq, cq) = (map(ring, 0), map(ring, IORING_OFF_CQ_RING));
            let entry = map(ring, IORING_OFF_SQES);
            let byte = b'x';
            entry.write(IORING_OP_WRITE);
            entry.add(1).write(flags);
            entry.add(4).cast::<i32>().write(fd);
            entry.add(8).cast::<u64>().write(u64::MAX);
            entry.add(16).cast::<u64>().write(&raw const byte as u64);
            entry.add(24).cast::<u32>().write(1);
            sq.add(params.submissions.0[6] as usize).cast::<u32>().write(0);
            let tail = sq.add(params.submissions.0[1] as usize).cast::<AtomicU32>();
            (*tail).store(1, Ordering::SeqCst);
            let entered = result(libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                1i64,
                1i64,
                IORING_ENTER_GETEVENTS,
                0i64,
                0i64,
            ));
            let completion = cq.add(params.completions.0[5] as usize).cast::<i32>();
            let done = if entered == 1 { completion.add(2).read().into() } else { entered };
            libc::close(ring as i32);
            done
        }
    }

    #[test]
    fn a_write_through_io_uring_is_no_write_to_a_rule_and_entering_the_ring_can_be_broken() {
        if !in_kernel() {
            return;
        }
        let cgroup = TestCgroup::new("ring");
        let (engine, target) = start(&cgroup);
        let injection = engine.inject(&[deny(&target, "write")]).unwrap();
        // SAFETY: plain calls on our own buffers.
        let calls = |out: &mut Results| unsafe {
            let fd = file();
            out[0] = write(fd, 0);
            out[1] = write(fd, IOSQE_ASYNC);
            out[2] = result(libc::write(fd, c"x".as_ptr().cast(), 1) as i64);
            out[3] = libc::lseek(fd, 0, libc::SEEK_END);
        };
        let results = inside(cgroup.path(), calls);
        let counts = injection.lift()[0].1;
        if results[0] <= -4096 {
            let error = std::io::Error::from_raw_os_error(-(results[0] + 4096) as i32);
            eprintln!("not run here: io_uring_setup: {error}");
            return;
        }
        let eio = -i64::from(libc::EIO);
        assert_eq!(results[..4], [1, 1, eio, 2]);
        assert_eq!((counts.matched, counts.fired), (1, 1));

        let rule = deny(&target, "io_uring_enter");
        match engine.inject(&[rule]) {
            Ok(_injection) => {
                let results = inside(cgroup.path(), calls);
                assert_eq!(results[..4], [eio, eio, 1, 1]);
            }
            Err(error) => assert!(error.to_string().contains("--engine auto"), "{error}"),
        }
    }
}
