//! Programs whose threads are parked, and their neighbours.

use std::{
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use faultbox_common::Park;

use super::{
    super::{Parking, clock::now, ptrace, status::Status, table::ParkTable},
    Silent, bpf,
};
use crate::engine::launch::tests::role::{Role, in_role};

/// Roles of these tests.
pub(in crate::engine) const ROLES: &[(&str, Role)] = &[
    ("park", park),
    ("park-two", park_two),
    ("park-exec", park_and_execute),
    ("park-unseen", park_unseen),
    ("family", family),
    ("tick", tick),
    ("hold", hold),
    ("run", run),
];

/// A descriptor of the test's.
fn take(test: &str, number: &str) -> OwnedFd {
    let (test, number): (i32, RawFd) = (test.parse().unwrap(), number.parse().unwrap());
    // SAFETY: no pointers; both calls make descriptors for us.
    unsafe {
        let test = OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, test, 0) as RawFd);
        let raw = std::os::fd::AsRawFd::as_raw_fd(&test);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, raw, number, 0) as RawFd;
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// The kernel's half, by hand.
struct Programs {
    table: ParkTable,
    signal: OwnedFd,
}

impl Programs {
    /// From the first three arguments.
    fn new(arguments: &[String]) -> Self {
        let table = ParkTable::new(take(&arguments[0], &arguments[1]));
        Self { table, signal: take(&arguments[0], &arguments[2]) }
    }

    /// Parks the calling thread, or only sends the signal if there is nothing to wait for.
    /// Returns how long that took, in nanoseconds.
    fn park(&self, signal: i32, deliver: u32, wait: Duration) -> u64 {
        let tid = nix::unistd::gettid().as_raw() as u32;
        let start = now();
        let until = start + wait.as_nanos() as u64;
        let mut park = Park { until, signal: signal as u32, deliver, ..Park::default() };
        if !wait.is_zero() {
            self.table.set(tid, park).unwrap();
        }
        bpf::send_signal(self.signal.as_fd(), signal);
        let took = now() - start;
        park.until = 0;
        self.table.set(tid, park).unwrap();
        took
    }
}

fn wait_until_traced() {
    let me = nix::unistd::gettid().as_raw() as u32;
    while Status::of(me).unwrap().tracer == 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: i32) {
    let handler = count as extern "C" fn(i32);
    // SAFETY: the handler only touches an atomic.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// `SIG_BLOCK` or `SIG_UNBLOCK`, for the calling thread and those that it makes.
fn mask(how: i32, signal: i32) {
    // SAFETY: plain calls on a set of our own.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// `… THREADS SIGNAL DELIVER MILLISECONDS ROUNDS [HANDLED]`: parks, and tells how many
/// microseconds each time took, then how often a handler ran.
fn park(arguments: &[String]) -> i32 {
    let programs = Programs::new(arguments);
    let numbers: Vec<i32> = arguments[3..].iter().map(|it| it.parse().unwrap()).collect();
    let &[threads, signal, deliver, millis, rounds, ref handled @ ..] = &numbers[..] else {
        panic!("arguments")
    };
    for signal in handled {
        handle(*signal);
    }
    println!("{}", std::process::id());
    wait_until_traced();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let wait = Duration::from_millis(millis as u64);
                for _ in 0..rounds {
                    let took = programs.park(signal, deliver as u32, wait);
                    println!("took {}", took / 1000);
                }
            });
        }
    });
    println!("handled {}", HANDLED.load(Ordering::SeqCst));
    0
}

/// Parks two threads for 3 s, the first of which blocks SIGUSR1 as the main thread does, and tells which was how long.
fn park_two(arguments: &[String]) -> i32 {
    let programs = Programs::new(arguments);
    handle(libc::SIGUSR1);
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    wait_until_traced();
    thread::scope(|scope| {
        for (name, is_open) in [("deaf", false), ("open", true)] {
            let programs = &programs;
            scope.spawn(move || {
                if is_open {
                    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
                }
                println!("{}", nix::unistd::gettid());
                let took = programs.park(libc::SIGURG, 0, Duration::from_secs(3));
                println!("{name} {}", took / 1000);
            });
        }
    });
    println!("handled {}", HANDLED.load(Ordering::SeqCst));
    0
}

/// Parks for long when its tracer is stopped, and tells how long it took.
fn park_unseen(arguments: &[String]) -> i32 {
    let programs = Programs::new(arguments);
    handle(libc::SIGUSR1);
    wait_until_traced();
    let tracer = Status::of(std::process::id()).unwrap().tracer;
    while Status::of(tracer).unwrap().state != 'T' {
        thread::sleep(Duration::from_millis(1));
    }
    println!("took {}", programs.park(libc::SIGURG, 0, Duration::from_secs(15)) / 1000);
    println!("handled {}", HANDLED.load(Ordering::SeqCst));
    0
}

/// Executes a program on another thread while the first is parked for long.
fn park_and_execute(arguments: &[String]) -> i32 {
    let programs = Programs::new(arguments);
    wait_until_traced();
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(100));
        let launch = in_role("exit", &["7"]);
        let program = std::ffi::CString::new(launch.program.to_str().unwrap()).unwrap();
        let _ = nix::unistd::execve(&program, &launch.arguments, &launch.environment);
    });
    programs.park(libc::SIGURG, 0, Duration::from_secs(30));
    1
}

/// Makes a thread, and when it is traced a child and another thread; tells all ids, and stays.
fn family(_: &[String]) -> i32 {
    let tell_and_stay = || {
        println!("{}", nix::unistd::gettid());
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    };
    thread::spawn(tell_and_stay);
    thread::sleep(Duration::from_millis(50));
    wait_until_traced();
    thread::spawn(tell_and_stay);
    thread::sleep(Duration::from_millis(50));
    // SAFETY: the child's threads are of its own making; `println` is not used by others now.
    unsafe { libc::fork() };
    tell_and_stay()
}

/// Says something all the time.
fn tick(_: &[String]) -> i32 {
    loop {
        println!("tick");
        thread::sleep(Duration::from_millis(5));
    }
}

/// `PID`: another tracer.
fn hold(arguments: &[String]) -> i32 {
    let pid: u32 = arguments[0].parse().unwrap();
    ptrace::seize(pid).unwrap();
    println!("{pid}");
    tick_away()
}

fn tick_away() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// `… RING CGROUP`: a runner with a tracer.
fn run(arguments: &[String]) -> i32 {
    let [test, table, ring, cgroup] = arguments else { panic!("arguments") };
    let parking = Parking::new(take(test, table), take(test, ring), Box::new(Silent));
    let _lease = parking.begin(Path::new(cgroup)).unwrap();
    println!("{}", parking.tracer().unwrap());
    tick_away()
}
