//! Real processes that are really parked: by a program that sends the signal as the engine's do.
//! What is missing is the restart of the call, so a thread that is released early does not park
//! again for the rest.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use faultbox_common::{Park, WAKE_SEIZE, WAKE_SIGNAL, Wake};

use super::{
    Lease, Parking, ParkingError, Refusal, Switches, clock::now, status::Status, table::ParkTable,
};
use crate::engine::{
    Exit, Process,
    launch::{self, tests::role::in_role},
};

mod bpf;
mod ends;
pub(in crate::engine) mod roles;

const LONG: Duration = Duration::from_secs(20);

/// Programs that need not be told.
struct Silent;

impl Switches for Silent {
    fn set_tracer(&self, _: u32) {}
    fn set_parks(&self, _: bool) {}
}

/// What the programs were told last.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<(u32, bool)>>);

impl Told {
    fn last(&self) -> (u32, bool) {
        *self.0.lock().unwrap()
    }
}

impl Switches for Told {
    fn set_tracer(&self, pid: u32) {
        self.0.lock().unwrap().0 = pid;
    }

    fn set_parks(&self, on: bool) {
        self.0.lock().unwrap().1 = on;
    }
}

/// A cgroup with processes in it, and what parks them.
struct Stage {
    parking: Parking,
    told: Told,
    cgroup: PathBuf,
    table: OwnedFd,
    ring: OwnedFd,
    signal: OwnedFd,
    wake: OwnedFd,
}

/// A process in a role, and what it says.
struct Actor {
    process: Process,
    lines: BufReader<File>,
}

impl Stage {
    /// `None`: not to be had here; says so.
    fn new(name: &str) -> Option<Self> {
        let table = match bpf::park_map() {
            Ok(table) => table,
            Err(error) => {
                eprintln!("not run here: cannot make an eBPF map: {error}");
                return None;
            }
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(mount) = mounts.lines().find(|line| line.contains(" - cgroup2 ")) else {
            eprintln!("not run here: no cgroup v2 is mounted");
            return None;
        };
        let name = format!("faultbox-parking-{}-{name}", std::process::id());
        let cgroup = PathBuf::from(mount.split(' ').nth(4).unwrap()).join(name);
        fs::create_dir(&cgroup).unwrap();
        let ring = bpf::ring().unwrap();
        let (signal, wake) = (bpf::signal_program().unwrap(), bpf::wake_program(&ring).unwrap());
        let told = Told::default();
        let clone = |fd: &OwnedFd| fd.try_clone().unwrap();
        let parking = Parking::new(clone(&table), clone(&ring), Box::new(told.clone()));
        Some(Self { parking, told, cgroup, table, ring, signal, wake })
    }

    fn begin(&self) -> Lease {
        self.parking.begin(&self.cgroup).unwrap()
    }

    /// Starts a role with these arguments, in the cgroup.
    fn act(&self, role: &str, arguments: &[&str]) -> Actor {
        let cgroup = File::open(&self.cgroup).unwrap();
        Actor::start(role, arguments, Some(&cgroup))
    }

    /// Starts a role that parks itself.
    fn park(&self, role: &str, arguments: &[&str]) -> Actor {
        let numbers = [
            std::process::id().to_string(),
            self.table.as_raw_fd().to_string(),
            self.signal.as_raw_fd().to_string(),
        ];
        let all: Vec<&str> =
            numbers.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        self.act(role, &all)
    }

    fn table(&self) -> ParkTable {
        ParkTable::new(self.table.try_clone().unwrap())
    }

    /// A thread of the process that is held. One that has an entry has left its birth behind, in
    /// which it is stopped as well.
    fn parked(&self, pid: u32) -> Option<u32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut tids = tasks.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
        let waits = |tid| self.table().get(tid).is_some_and(|park| park.until != 0);
        tids.find(|tid| waits(*tid) && state_of(*tid) == 't')
    }

    fn has_parked(&self, pid: u32) -> bool {
        self.parked(pid).is_some()
    }

    fn wake(&self, kind: u32, pid: u32, tid: u32, signal: i32) {
        let wake = Wake { kind, pid, tid, signal: signal as u32 };
        bpf::send_wake(self.wake.as_fd(), wake);
    }

    fn tracer(&self) -> u32 {
        self.parking.tracer().expect("a tracer")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        until("its cgroup is empty", || fs::remove_dir(&self.cgroup).is_ok());
    }
}

impl Actor {
    fn start(role: &str, arguments: &[&str], cgroup: Option<&File>) -> Self {
        let (lines, output) = io::pipe().unwrap();
        let mut launch = in_role(role, arguments);
        launch.output = Some((output.try_clone().unwrap().into(), output.into()));
        let process = launch::start(&launch, cgroup.map(File::as_fd), None).unwrap();
        let lines = BufReader::new(File::from(OwnedFd::from(lines)));
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn id(&mut self) -> u32 {
        self.line().parse().unwrap()
    }

    /// The next line, a number after this word.
    fn number(&mut self, word: &str) -> u64 {
        let line = self.line();
        let number = line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?} and not {word}"));
        number.trim().parse().unwrap()
    }

    fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }
}

/// Waits for something to become true.
#[track_caller]
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn tracer_of(tid: u32) -> u32 {
    Status::of(tid).map_or(0, |status| status.tracer)
}

fn state_of(tid: u32) -> char {
    Status::of(tid).map_or('-', |status| status.state)
}

fn is_gone(pid: u32) -> bool {
    Status::of(pid).is_none()
}

#[test]
fn threads_are_traced_with_all_that_are_born_later() {
    let Some(stage) = Stage::new("family") else { return };
    let mut actor = stage.act("family", &[]);
    let first = actor.id();
    let _lease = stage.begin();
    assert_eq!(stage.told.last(), (stage.tracer(), true));
    let ids = [actor.process.pid(), first, actor.id(), actor.id(), actor.id()];
    for id in ids {
        assert_eq!(tracer_of(id), stage.tracer(), "{id} of {ids:?}");
    }
}

#[test]
fn a_thread_is_held_until_its_time_by_whatever_signal() {
    let Some(stage) = Stage::new("time") else { return };
    let _lease = stage.begin();
    for signal in [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD, libc::SIGSTOP] {
        let mut actor = stage.park("park", &["1", &signal.to_string(), "0", "200", "2"]);
        let pid = actor.id();
        stage.wake(WAKE_SEIZE, pid, 0, 0);
        for _ in 0..2 {
            let took = actor.number("took");
            assert!((200_000..5_000_000).contains(&took), "signal {signal}: {took} us");
        }
    }
}

#[test]
fn a_handler_sees_the_signal_only_if_it_is_to_be_delivered() {
    let Some(stage) = Stage::new("deliver") else { return };
    let urgent = libc::SIGURG.to_string();
    for (deliver, expected) in [("0", 0), ("1", 3)] {
        let mut actor = stage.park("park", &["1", &urgent, deliver, "20", "3", &urgent]);
        actor.id();
        let lease = stage.begin();
        for _ in 0..3 {
            assert!(actor.number("took") >= 20_000);
        }
        assert_eq!(actor.number("handled"), expected);
        drop(lease);
    }
}

#[test]
fn a_signal_for_a_parked_process_is_delivered_early() {
    let Some(stage) = Stage::new("early") else { return };
    let (urgent, user) = (libc::SIGURG.to_string(), libc::SIGUSR1.to_string());
    for is_for_thread in [false, true] {
        let mut actor = stage.park("park", &["1", &urgent, "0", "15000", "1", &user]);
        let pid = actor.id();
        let _lease = stage.begin();
        until("a thread is parked", || stage.has_parked(pid));
        let tid = stage.parked(pid).unwrap();
        // SAFETY: no pointers.
        unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR1) };
        stage.wake(WAKE_SIGNAL, pid, if is_for_thread { tid } else { 0 }, libc::SIGUSR1);
        let took = actor.number("took");
        assert!(took < 10_000_000, "{took} us");
        assert_eq!(actor.number("handled"), 1);
    }
}

#[test]
fn of_a_process_the_thread_is_woken_that_takes_the_signal() {
    let Some(stage) = Stage::new("choice") else { return };
    let mut actor = stage.park("park-two", &[]);
    let pid = actor.process.pid();
    let _lease = stage.begin();
    let tids = [actor.id(), actor.id()];
    until("both are parked", || {
        let waits = |tid: &u32| stage.table().get(*tid).is_some_and(|park| park.until != 0);
        tids.iter().all(|tid| waits(tid) && state_of(*tid) == 't')
    });
    actor.signal(libc::SIGUSR1);
    stage.wake(WAKE_SIGNAL, pid, 0, libc::SIGUSR1);
    let open = actor.number("open");
    assert!(open < 2_900_000, "{open} us");
    assert!(actor.number("deaf") >= 3_000_000);
    assert_eq!(actor.number("handled"), 1);
}

#[test]
fn a_latecomer_is_seized_when_a_program_asks() {
    let Some(stage) = Stage::new("late") else { return };
    let _lease = stage.begin();
    let mut actor = Actor::start("tick", &[], None);
    let pid = actor.process.pid();
    assert_eq!(actor.line(), "tick");
    fs::write(stage.cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
    assert_eq!(tracer_of(pid), 0);
    stage.wake(WAKE_SEIZE, pid, pid, 0);
    until("it is traced", || tracer_of(pid) == stage.tracer());
}

#[test]
fn job_control_works_on_traced_processes() {
    let Some(stage) = Stage::new("jobs") else { return };
    let actor = stage.act("tick", &[]);
    let pid = actor.process.pid();
    let _lease = stage.begin();
    for _ in 0..2 {
        let spoken = || fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        actor.signal(libc::SIGSTOP);
        until("it is stopped", || state_of(pid) == 't');
        let before = spoken();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(spoken(), before);
        actor.signal(libc::SIGCONT);
        until("it goes on", || spoken() != before);
    }
}

#[test]
fn a_signal_that_came_before_the_hold_is_delivered_first() {
    let Some(stage) = Stage::new("before") else { return };
    let mut actor = stage.park("park-unseen", &[]);
    let pid = actor.process.pid();
    let _lease = stage.begin();
    // SAFETY: no pointers; the tracer is ours.
    let tell = |signal| unsafe { libc::kill(stage.tracer() as i32, signal) };
    tell(libc::SIGSTOP);
    until("it stops", || stage.has_parked(pid));
    // Nobody tells the tracer, which could do nothing yet.
    actor.signal(libc::SIGUSR1);
    tell(libc::SIGCONT);
    let took = actor.number("took");
    assert!(took < 10_000_000, "{took} us");
    assert_eq!(actor.number("handled"), 1);
}

#[test]
fn a_stop_that_nobody_ordered_is_swallowed_and_no_other_signal() {
    let Some(stage) = Stage::new("swallow") else { return };
    let _lease = stage.begin();
    let user = libc::SIGUSR1.to_string();
    for (signal, handled) in [("19", 0), (&user, 20)] {
        let mut actor = stage.park("park", &["1", signal, "0", "0", "20", &user]);
        let pid = actor.id();
        stage.wake(WAKE_SEIZE, pid, 0, 0);
        for _ in 0..20 {
            assert!(actor.number("took") < 1_000_000);
        }
        assert_eq!(actor.number("handled"), handled);
    }
}

#[test]
fn another_tracer_is_named() {
    let Some(stage) = Stage::new("other") else { return };
    let subject = stage.act("tick", &[]);
    let pid = subject.process.pid();
    let mut other = Actor::start("hold", &[&pid.to_string()], None);
    assert_eq!(other.id(), pid);
    let Err(ParkingError::Refused(refusals)) = stage.parking.begin(&stage.cgroup) else {
        panic!("not refused")
    };
    let comm = Status::of(pid).unwrap().name;
    let (tracer, name) = (other.process.pid(), Status::of(other.process.pid()).unwrap().name);
    let expected = Refusal { pid, comm: comm.clone(), tracer: Some((tracer, name.clone())) };
    assert_eq!(refusals, [expected]);
    assert_eq!(
        refusals[0].describe(Some("db")),
        format!(
            "process {pid} ({comm}) of db is already traced by process {tracer} ({name}); delay() has to \
             stop its threads by ptrace: end that tracer first, or use --engine seccomp"
        )
    );
    until("the tracer ends, as nobody needs it", || stage.parking.tracer().is_none());
    drop(other);
    drop(stage.begin());
}

#[test]
fn the_handle_may_be_shared_by_threads() {
    fn check<T: Send + Sync>() {}
    check::<Parking>();
    check::<Lease>();
}

#[test]
fn a_cgroup_that_is_not_there_is_an_error() {
    let Some(stage) = Stage::new("missing") else { return };
    let error = stage.parking.begin(&stage.cgroup.join("none")).unwrap_err().to_string();
    let path = stage.cgroup.join("none");
    let expected = format!(
        "cannot list the processes of cgroup {}: No such file or directory",
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
}

/// Not a benchmark: it fails only when something is very wrong. The figures are for reading, with
/// `--nocapture`.
#[test]
fn a_hundred_threads_go_on_in_time() {
    let Some(stage) = Stage::new("precision") else { return };
    for (threads, millis, rounds) in [("1", 10, 50), ("10", 10, 50), ("100", 50, 10)] {
        let urgent = libc::SIGURG.to_string();
        let arguments = [threads, &urgent, "0", &millis.to_string(), &rounds.to_string()];
        let mut actor = stage.park("park", &arguments);
        actor.id();
        let lease = stage.begin();
        let count = threads.parse::<usize>().unwrap() * rounds;
        let mut over: Vec<_> = (0..count).map(|_| actor.number("took") - millis * 1000).collect();
        over.sort_unstable();
        let at = |percent: usize| over[(count - 1) * percent / 100];
        eprintln!(
            "{threads} threads x {millis} ms: {} us p50, {} us p99, {} us max over",
            at(50),
            at(99),
            at(100)
        );
        assert!(at(50) < 100_000, "{over:?}");
        drop(lease);
    }
}
