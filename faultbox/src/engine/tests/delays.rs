//! Delays on the in-kernel rungs.
//!
//! Bounds are for an emulated machine on a busy host. A call that returns sooner than its delay
//! is an error anywhere.

use std::{
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        Action, Choice, Decision, Driver, Engine, Errno, Rule, RuleId, Rung, Site, Target,
        expand_keyword, launch::tests::Folder,
    },
    Kept, in_kernel, own_engine, shared_engine, start_engine,
    subject::{TestCgroup, result},
};

mod actor;
mod ends;
mod killed;
mod signals;

use actor::{
    Actor, DONE, FREE, GO, LONG, RESULT, STARTED, TOOK, now, processor_time, sleep, write,
};

/// How late a thread may be when the host is busy with other things.
const LATE: Duration = Duration::from_millis(400);

/// An engine with one target.
struct Stage {
    target: Target,
    kept: Arc<Kept>,
    cgroup: TestCgroup,
    engine: Engine,
    /// Calls that the engine had failed to delay before.
    undelayed: u64,
    folder: Folder,
}

impl Stage {
    /// `None`: not to be had here; says so.
    fn new(name: &str) -> Option<Self> {
        Self::with(name, shared_engine)
    }

    /// With an engine of its own.
    fn alone(name: &str) -> Option<Self> {
        Self::with(name, || own_engine(Choice::Ebpf).unwrap())
    }

    fn with(name: &str, engine: fn() -> Engine) -> Option<Self> {
        if !in_kernel() {
            return None;
        }
        let engine = engine();
        let cgroup = TestCgroup::new(&format!("delay-{name}"));
        let kept = Kept::new();
        let target = engine.target("subject", Some(cgroup.path()), Driver::default(), kept.clone());
        let target = target.unwrap();
        let undelayed = engine.undelayed();
        Some(Self { target, kept, cgroup, engine, undelayed, folder: Folder::new() })
    }

    /// Calls that should have been delayed and were not.
    fn undelayed(&self) -> u64 {
        self.engine.undelayed() - self.undelayed
    }

    fn rule(&self, keyword: &str, action: Action) -> Rule {
        let site = Site::of(self.target.id());
        Rule::new(RuleId(7), site, expand_keyword(keyword).unwrap(), action)
    }

    fn delay(&self, keyword: &str, milliseconds: u64) -> Rule {
        self.rule(keyword, Action::Delay(Duration::from_millis(milliseconds)))
    }

    /// A new file, for appending.
    fn file(&self, name: &str) -> (File, PathBuf) {
        let path = PathBuf::from(self.folder.file(name));
        let file = File::options().create_new(true).append(true).open(&path).unwrap();
        (file, path)
    }

    fn start(&self, body: impl FnOnce(&'static actor::Page)) -> Actor {
        Actor::start(Some(self.cgroup.path()), body)
    }

    /// A process that writes `x` to a file when it is told to.
    fn writer(&self, name: &str) -> (Actor, PathBuf) {
        let (file, path) = self.file(name);
        let actor = self.start(|page| {
            page.wait(GO);
            page.time_write(&file, b'x');
        });
        (actor, path)
    }
}

fn content(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Asserts that something took its time, and not much longer.
#[track_caller]
fn assert_took(took: Duration, milliseconds: u64) {
    let delay = Duration::from_millis(milliseconds);
    assert!(took >= delay, "{took:?} and not {delay:?}");
    assert!(took < delay + LATE, "{took:?} and not {delay:?}");
}

#[test]
fn only_the_calling_thread_waits_and_its_call_runs_once() {
    let Some(stage) = Stage::new("alone") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        std::thread::spawn(|| {
            loop {
                page.add(FREE);
                sleep(1);
            }
        });
        page.wait(GO);
        let before = page.get(FREE);
        page.time_write(&file, b'x');
        page.set(FREE + 1, page.get(FREE) - before);
    });
    let injection = stage.engine.inject(&[stage.delay("write", 500)]).unwrap();
    actor.go_and_park();
    assert_eq!(content(&path), "", "the call waits before it runs");
    actor.returned();
    assert_took(actor.took(), 500);
    assert_eq!(actor.page().get(RESULT), 1);
    sleep(10);
    let ticks = actor.page().get(FREE + 1);
    assert!(ticks >= 50, "another thread ran {ticks} times only");
    actor.finish();
    assert_eq!(content(&path), "x");
    let counts = injection.lift()[0].1;
    assert_eq!((counts.matched, counts.fired), (1, 1));
    assert_eq!(stage.undelayed(), 0);
    stage.engine.drain();
    let records = stage.kept.records();
    let delayed: Vec<_> = records.iter().filter(|it| it.rule.is_some()).collect();
    assert_eq!(delayed.len(), 1, "{delayed:?}");
    assert_eq!(delayed[0].delay, Duration::from_millis(500));
    assert_eq!(delayed[0].decision, Decision::Delay(Duration::from_millis(500)));
}

#[test]
fn short_delays_are_kept_to_the_millisecond() {
    const CALLS: usize = 300;
    const ROUNDS: usize = 3;
    let Some(stage) = Stage::new("short") else { return };
    // A machine that takes the processor away for a while makes every delay late, ours too: what
    // is late in every round is late by us.
    let mut rounds = [(); ROUNDS].iter().enumerate().map(|(round, ())| {
        let (file, path) = stage.file(&format!("file {round}"));
        let actor = stage.start(|page| {
            page.wait(GO);
            let mut took = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                page.time_write(&file, b'x');
                took.push(page.get(TOOK));
            }
            took.sort_unstable();
            page.set(FREE, took[0]);
            page.set(FREE + 1, took[CALLS / 2]);
            page.set(FREE + 2, took[CALLS * 99 / 100]);
        });
        let _injection = stage.engine.inject(&[stage.delay("write", 5)]).unwrap();
        actor.go();
        until_set(&actor, FREE + 2);
        let [least, median, most] = [0, 1, 2].map(|word| actor.page().get(FREE + word) / 1000);
        actor.finish();
        eprintln!("5 ms: at least {least} us, median {median} us, p99 {most} us");
        assert!(least >= 5000);
        assert_eq!(content(&path), "x".repeat(CALLS));
        // Natively less than a millisecond late; an emulated processor may be away for longer.
        median <= 15_000 && most <= 60_000
    });
    assert!(rounds.any(|in_time| in_time), "late in all of {ROUNDS} rounds");
}

#[test]
fn a_waiting_thread_burns_no_processor_time() {
    let Some(stage) = Stage::new("cpu") else { return };
    let (actor, _) = stage.writer("file");
    let _injection = stage.engine.inject(&[stage.delay("write", 4000)]).unwrap();
    let ids = [actor.pid(), actor.tracer(), std::process::id()];
    assert_ne!(ids[1], 0);
    let used = || ids.iter().map(|id| processor_time(*id)).sum::<i64>();
    actor.go_and_park();
    let before = used();
    sleep(3000);
    let used = used() - before;
    eprintln!("3 s of waiting used {} us of processor time", used / 1000);
    assert!(used <= 3_000_000_000 / 50, "{used} ns of processor time in 3 s");
    actor.returned();
    assert_took(actor.took(), 4000);
}

#[test]
fn children_and_latecomers_are_delayed_like_those_who_were_there() {
    let Some(stage) = Stage::new("joins") else { return };
    let (file, path) = stage.file("family");
    let family = stage.start(|page| {
        page.wait(GO);
        // SAFETY: the child does nothing but system calls.
        match unsafe { libc::fork() } {
            0 => {
                page.time_write(&file, b'c');
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
            child => {
                // SAFETY: our own child.
                let reaped = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                page.set(FREE, i64::from(reaped == child));
            }
        }
    });
    let (file, joined) = stage.file("latecomer");
    let latecomer = Actor::start(None, |page| {
        page.wait(GO);
        let start = now();
        write(&file, b'1');
        page.set(FREE, now() - start);
        // The tracer is told of us by that call.
        sleep(300);
        page.time_write(&file, b'2');
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 300)]).unwrap();
    family.go();
    family.returned();
    assert_took(family.took(), 300);
    until_set(&family, FREE);
    family.finish();
    assert_eq!(content(&path), "c");
    assert_eq!(stage.undelayed(), 0);

    let procs = stage.cgroup.path().join("cgroup.procs");
    std::fs::write(procs, latecomer.pid().to_string()).unwrap();
    latecomer.go();
    latecomer.returned();
    assert_took(latecomer.took(), 300);
    let first = Duration::from_nanos(latecomer.page().get(FREE) as u64);
    latecomer.finish();
    assert_eq!(content(&joined), "12");
    let undelayed = u64::from(first < Duration::from_millis(300));
    assert_eq!(stage.undelayed(), undelayed, "its first call took {first:?}");
}

#[track_caller]
fn until_set(actor: &Actor, word: usize) {
    actor::until("a word is set", || actor.page().get(word) != 0);
}

#[test]
fn delays_add_up_and_an_error_comes_after_the_wait() {
    let Some(stage) = Stage::new("sums") else { return };
    let deny = stage.rule("write", Action::Deny(Errno::from_name("EIO").unwrap()));
    for (name, rules, took, expected) in [
        ("two", vec![stage.delay("write", 200), stage.delay("write", 300)], 500, 1),
        ("deny", vec![stage.delay("write", 200), deny.clone()], 200, -i64::from(libc::EIO)),
        ("denied", vec![deny, stage.delay("write", 200)], 200, -i64::from(libc::EIO)),
    ] {
        let (actor, path) = stage.writer(name);
        let rules: Vec<_> =
            rules.into_iter().zip(1..).map(|(rule, id)| Rule { id: RuleId(id), ..rule }).collect();
        let injection = stage.engine.inject(&rules).unwrap();
        actor.go();
        actor.returned();
        assert_took(actor.took(), took);
        assert_eq!(actor.page().get(RESULT), expected, "{name}");
        actor.finish();
        assert_eq!(content(&path), if expected == 1 { "x" } else { "" }, "{name}");
        let fired: Vec<_> = injection.lift().iter().map(|(_, counts)| counts.fired).collect();
        assert_eq!(fired, [1, 1], "{name}");
    }
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_delay_that_has_begun_runs_to_its_end_when_it_is_lifted() {
    let Some(stage) = Stage::new("lifted") else { return };
    let (actor, path) = stage.writer("file");
    let injection = stage.engine.inject(&[stage.delay("write", 800)]).unwrap();
    actor.go_and_park();
    injection.lift();
    assert_eq!(content(&path), "");
    actor.returned();
    assert_took(actor.took(), 800);
    assert_eq!(actor.page().get(RESULT), 1);
    actor.finish();
    assert_eq!(content(&path), "x");
    assert_eq!(stage.undelayed(), 0);
    // Nobody is traced for longer than it takes.
    let (actor, _) = stage.writer("later");
    actor::until("there is no tracer", || actor.tracer() == 0);
    actor.go();
    actor.returned();
    assert!(actor.took() < LATE);
}

#[test]
fn other_calls_wait_and_then_run_once() {
    let Some(stage) = Stage::new("others") else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let new = std::ffi::CString::new(stage.folder.file("new")).unwrap();
    let body = |connects: bool| {
        let new = new.clone();
        move |page: &'static actor::Page| {
            page.wait(GO);
            if connects {
                let port = address.port().to_be();
                page.time(|| connect(port));
            } else {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
                page.time(|| {
                    // SAFETY: a path of ours.
                    let fd = unsafe { libc::openat(libc::AT_FDCWD, new.as_ptr(), flags, 0o600) };
                    result(fd.into())
                });
            }
        }
    };
    for (keyword, connects) in [("connect", true), ("openat", false)] {
        let actor = stage.start(body(connects));
        let _injection = stage.engine.inject(&[stage.delay(keyword, 300)]).unwrap();
        actor.go();
        actor.returned();
        assert!(actor.page().get(RESULT) >= 0, "{keyword}: {}", actor.page().get(RESULT));
        assert_took(actor.took(), 300);
        actor.finish();
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok());
    assert!(listener.accept().is_err(), "it has connected twice");
    assert!(PathBuf::from(stage.folder.file("new")).exists());
    assert_eq!(stage.undelayed(), 0);

    let fsync = stage.engine.inject(&[stage.delay("fsync", 10)]);
    match stage.engine.coverage().rung(expand_keyword("fsync").unwrap()[0]) {
        Ok(_) => drop(fsync.unwrap()),
        Err(why) => assert_eq!(fsync.unwrap_err().to_string(), why),
    }
}

/// Connects to a port of this host's, given in network order.
fn connect(port: u16) -> i64 {
    // SAFETY: all zeros is a valid address, which the kernel reads; the descriptor is ours.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_port = port;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let size = size_of_val(&address) as libc::socklen_t;
        result(libc::connect(socket, (&raw const address).cast(), size).into())
    }
}

#[test]
fn a_hundred_threads_wait_at_once() {
    const THREADS: usize = 100;
    let Some(stage) = Stage::new("hundred") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let file = file.try_clone();
                std::thread::spawn(move || {
                    page.wait(GO);
                    let start = now();
                    if file.is_ok_and(|file| write(&file, b'x') == 1) {
                        page.add(FREE);
                    }
                    let took = now() - start;
                    if took < 1_000_000_000 {
                        page.add(FREE + 1);
                    }
                    if took > 2_500_000_000 {
                        page.add(FREE + 2);
                    }
                })
            })
            .collect();
        page.set(FREE + 3, 1);
        for thread in threads {
            drop(thread.join());
        }
        page.set(DONE, 1);
    });
    until_set(&actor, FREE + 3);
    let missed = stage.engine.misses();
    let injection = stage.engine.inject(&[stage.delay("write", 1000)]).unwrap();
    let start = Instant::now();
    actor.go();
    actor.returned();
    assert!(start.elapsed() < LONG);
    let words = [0, 1, 2].map(|word| actor.page().get(FREE + word));
    // Where kernels preempt, they skip a program that another thread is in on the same processor.
    // They count a stranger's call that passed in the same way.
    let missed = (stage.engine.misses() - missed) as i64;
    let [done, early, late] = words;
    assert_eq!([done, late], [THREADS as i64, 0], "done, too late");
    assert!(early <= missed, "{early} too early, {missed} passed unexamined");
    eprintln!("{early} of {THREADS} calls passed unexamined");
    actor.finish();
    assert_eq!(content(&path), "x".repeat(THREADS));
    assert_eq!(injection.lift()[0].1.fired, (THREADS as i64 - early) as u64);
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_delay_and_a_result_of_zero_take_turns_and_are_refused_together() {
    let Some(stage) = Stage::alone("zero") else { return };
    let write = expand_keyword("write").unwrap()[0];
    if stage.engine.coverage().rung(write) != Ok(Rung::SyscallFunction) {
        eprintln!("not run here: needs fmod_ret on syscall functions");
        return;
    }
    let (zero, delay) = (stage.rule("write", Action::Return(0)), stage.delay("write", 300));
    let refused = |rules: &[Rule]| {
        let error = stage.engine.inject(rules).unwrap_err().to_string();
        assert!(error.contains("use --engine seccomp"), "{error}");
        error
    };
    let [(first, first_path), (second, second_path), (third, third_path)] =
        ["first", "second", "third"].map(|name| stage.writer(name));
    let skips = match stage.engine.inject(std::slice::from_ref(&zero)) {
        Ok(skips) => skips,
        Err(error) => {
            assert!(error.0.contains("use --engine seccomp"), "{error}");
            eprintln!("not run here: {error}");
            return;
        }
    };
    let why = refused(std::slice::from_ref(&delay));
    assert!(why.starts_with("write: "), "{why}");
    first.go();
    first.returned();
    assert_eq!((first.page().get(RESULT), &*content(&first_path)), (0, ""));
    assert_eq!(skips.lift()[0].1.fired, 1);
    refused(&[zero.clone(), delay.clone()]);
    refused(&[delay.clone(), zero.clone()]);

    let waits = stage.engine.inject(&[delay]).unwrap();
    refused(std::slice::from_ref(&zero));
    second.go();
    second.returned();
    assert_took(second.took(), 300);
    assert_eq!((second.page().get(RESULT), &*content(&second_path)), (1, "x"));
    assert_eq!(waits.lift()[0].1.fired, 1);

    let skips = stage.engine.inject(&[zero]).unwrap();
    third.go();
    third.returned();
    assert_eq!((third.page().get(RESULT), &*content(&third_path)), (0, ""));
    assert_eq!(skips.lift()[0].1.fired, 1);
    assert_eq!(stage.undelayed(), 0);
}
