//! The program under stress, and the runner that breaks it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::super::{
    super::{
        Action, Choice, Driver, Engine, Errno, Injection, Options, Rule, RuleId, Site, Target,
        TraceLevel, expand_keyword, launch::tests::role::Role,
    },
    Kept,
    agreement::Random,
};

/// Roles of these tests.
pub(in crate::engine) const ROLES: &[(&str, Role)] =
    &[("stress-subject", subject), ("stress-owner", owner)];

/// Threads of the program, each with a file of its own.
pub(super) const THREADS: usize = 4;
/// Of the delays.
const DELAY: Duration = Duration::from_micros(300);

/// What one thread came to. Errors that no rule names are told by their numbers.
#[derive(Default)]
struct Done {
    written: u64,
    connected: u64,
    refused_writes: u64,
    refused_connects: u64,
    strange: BTreeMap<String, u64>,
}

/// `DIRECTORY PORT`: when there is a file `go` writes its own numbers to files and connects to a
/// port, until there is a file `stop`.
fn subject(arguments: &[String]) -> i32 {
    let [directory, port] = arguments else { panic!("arguments") };
    let (directory, port) = (Path::new(directory), port.parse().unwrap());
    let is_there = |name| fs::exists(directory.join(name)).unwrap_or(false);
    while !is_there("go") {
        thread::sleep(Duration::from_millis(5));
    }
    let stop = AtomicBool::new(false);
    let done: Vec<Done> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                let file = File::create(directory.join(format!("data{i}"))).unwrap();
                let stop = &stop;
                scope.spawn(move || work(&file, port, stop))
            })
            .collect();
        while !is_there("stop") {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for Done { written, connected, refused_writes, refused_connects, strange } in &done {
        println!(
            "written {written}\nconnected {connected}\nrefused-writes {refused_writes}\n\
             refused-connects {refused_connects}"
        );
        for (what, times) in strange {
            println!("strange: {what}, {times} times");
        }
    }
    i32::from(done.iter().any(|it| !it.strange.is_empty()))
}

fn work(file: &File, port: u16, stop: &AtomicBool) -> Done {
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..8 {
            let bytes = done.written.to_le_bytes();
            // Not by `Write`, which would try again after EINTR.
            // SAFETY: a buffer and a descriptor of our own.
            match unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), 8) } {
                8 => done.written += 1,
                -1 if errno() == libc::EIO => done.refused_writes += 1,
                other => {
                    *done.strange.entry(format!("write: {other}, {}", errno())).or_default() += 1;
                }
            }
        }
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(mut stream) => {
                done.connected += 1;
                if let Err(error) = stream.read_exact(&mut [0]) {
                    *done.strange.entry(format!("read: {error}")).or_default() += 1;
                }
                // No port waits for latecomers: there are not enough of them.
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: an option of that type.
                unsafe {
                    libc::setsockopt(
                        stream.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size_of_val(&linger) as libc::socklen_t,
                    );
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                done.refused_connects += 1;
            }
            Err(error) => *done.strange.entry(format!("connect: {error}")).or_default() += 1,
        }
    }
    done
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `CGROUP SEED`: has faults on the cgroup come and go until it is killed, and tells what they
/// did.
fn owner(arguments: &[String]) -> i32 {
    let [cgroup, seed] = arguments else { panic!("arguments") };
    let mut random = Random::new(seed.parse().unwrap());
    let options = Options { choice: Choice::Ebpf, trace: TraceLevel::Off, ..Options::default() };
    let engine = Engine::start(&options).unwrap();
    let path = Some(Path::new(cgroup));
    let target = engine.target("subject", path, Driver::default(), Kept::new()).unwrap();
    let mut on: Vec<Injection> = Vec::new();
    loop {
        if on.len() < 3 && !random.one_in(3) {
            match engine.inject(&rules(&mut random, &target)) {
                Ok(injection) => on.push(injection),
                // A tracer that is killed while it seizes is replaced only so often.
                Err(error) => println!("not injected: {error}"),
            }
        } else if !on.is_empty() {
            let injection = on.remove(random.below(on.len()));
            for (RuleId(id), counts) in injection.lift() {
                println!("{} {}", if id < 2 { "delayed" } else { "denied" }, counts.fired);
            }
        }
        println!("undelayed {}", engine.undelayed());
        let _ = std::io::stdout().flush();
        thread::sleep(Duration::from_millis(random.below(60) as u64));
    }
}

/// Delays have ids below two.
fn rules(random: &mut Random, target: &Target) -> Vec<Rule> {
    let deny = |name| Action::Deny(Errno::from_name(name).unwrap());
    let all = [
        ("write", Action::Delay(DELAY)),
        ("connect", Action::Delay(DELAY)),
        ("write", deny("EIO")),
        ("connect", deny("ECONNREFUSED")),
    ];
    let mut rules = Vec::new();
    for (id, (keyword, action)) in all.into_iter().enumerate() {
        if random.one_in(2) {
            let calls = expand_keyword(keyword).unwrap();
            let site = Site::of(target.id());
            rules.push(Rule {
                probability: ["100%", "50%", "10%"][random.below(3)].parse().unwrap(),
                stream: random.next(),
                ..Rule::new(RuleId(id as u32), site, calls, action)
            });
        }
    }
    rules
}
