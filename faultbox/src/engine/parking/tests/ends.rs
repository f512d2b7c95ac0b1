//! What happens when somebody ends: the parked, the tracer, the runner.

use super::*;

/// One thread, parked for longer than any test.
fn park_for_long(stage: &Stage) -> Actor {
    let mut actor = stage.park("park", &["1", &libc::SIGURG.to_string(), "0", "60000", "1"]);
    actor.id();
    actor
}

#[test]
fn a_parked_process_can_be_killed() {
    let Some(stage) = Stage::new("kill") else { return };
    let mut actor = park_for_long(&stage);
    let _lease = stage.begin();
    until("it is parked", || stage.has_parked(actor.process.pid()));
    actor.signal(libc::SIGKILL);
    assert_eq!(actor.process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
}

#[test]
fn a_thread_can_execute_while_the_first_is_parked() {
    let Some(stage) = Stage::new("exec") else { return };
    let mut actor = stage.park("park-exec", &[]);
    let _lease = stage.begin();
    assert_eq!(actor.process.wait(LONG), Some(Exit::Code(7)));
}

#[test]
fn the_threads_go_on_when_the_handle_is_dropped() {
    let Some(mut stage) = Stage::new("drop") else { return };
    let mut actor = park_for_long(&stage);
    let lease = stage.begin();
    let tracer = stage.tracer();
    until("it is parked", || stage.has_parked(actor.process.pid()));
    let clone = |fd: &OwnedFd| fd.try_clone().unwrap();
    stage.parking = Parking::new(clone(&stage.table), clone(&stage.ring), Box::new(Silent));
    assert!(is_gone(tracer));
    assert_eq!(stage.told.last(), (0, false));
    assert!(actor.number("took") < 30_000_000);
    assert_eq!(actor.process.wait(LONG), Some(Exit::Code(0)));
    drop(lease);
}

#[test]
fn the_threads_go_on_when_the_runner_is_killed() {
    let Some(stage) = Stage::new("orphan") else { return };
    let mut actor = park_for_long(&stage);
    let numbers =
        [std::process::id(), stage.table.as_raw_fd() as u32, stage.ring.as_raw_fd() as u32];
    let [a, b, c] = numbers.map(|it| it.to_string());
    let mut runner = Actor::start("run", &[&a, &b, &c, stage.cgroup.to_str().unwrap()], None);
    let tracer = runner.id();
    until("it is parked", || stage.has_parked(actor.process.pid()));
    runner.signal(libc::SIGKILL);
    assert!(actor.number("took") < 30_000_000);
    // Its new parent may not reap it, where that is the test's container's first process.
    until("the tracer ends", || matches!(state_of(tracer), '-' | 'Z'));
}

#[test]
fn a_tracer_that_is_killed_is_replaced() {
    let Some(stage) = Stage::new("guardian") else { return };
    let _lease = stage.begin();
    for round in 1..=3 {
        let mut actor = park_for_long(&stage);
        let pid = actor.process.pid();
        stage.wake(WAKE_SEIZE, pid, 0, 0);
        until("it is parked", || stage.has_parked(pid));
        let tracer = stage.tracer();
        // SAFETY: no pointers; the tracer is ours.
        unsafe { libc::kill(tracer as i32, libc::SIGKILL) };
        assert!(actor.number("took") < 30_000_000);
        until("there is another", || stage.parking.restarts() == round);
        assert!(is_gone(tracer), "a zombie");
        assert_ne!(stage.tracer(), tracer);
        assert_eq!(stage.told.last(), (stage.tracer(), true));
        let _lease = stage.begin();
    }
    assert_eq!(stage.parking.failure(), None);
    let actor = stage.act("tick", &[]);
    let pid = actor.process.pid();
    stage.wake(WAKE_SEIZE, pid, pid, 0);
    until("it is traced by the new one", || tracer_of(pid) == stage.tracer());
}

#[test]
fn tracers_that_are_killed_all_the_time_harm_nobody() {
    let Some(stage) = Stage::new("hammer") else { return };
    let mut actor = stage.park("park", &["4", &libc::SIGURG.to_string(), "0", "1", "500"]);
    actor.id();
    let _lease = stage.begin();
    for round in 1..=30 {
        // From at once to in the middle of things.
        std::thread::sleep(Duration::from_micros(500 * round));
        // SAFETY: no pointers; the tracer is ours.
        unsafe { libc::kill(stage.tracer() as i32, libc::SIGKILL) };
        until("there is another", || stage.parking.restarts() == round);
    }
    for _ in 0..4 * 500 {
        actor.number("took");
    }
    assert_eq!(actor.process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(stage.parking.failure(), None);
}

#[test]
fn threads_are_traced_again_after_a_restart() {
    let Some(stage) = Stage::new("again") else { return };
    let actor = stage.act("tick", &[]);
    let _lease = stage.begin();
    let tracer = stage.tracer();
    // SAFETY: no pointers; the tracer is ours.
    unsafe { libc::kill(tracer as i32, libc::SIGKILL) };
    until("there is another", || stage.parking.restarts() == 1);
    // It seizes one process after the other, and is counted before it has begun.
    until("it traces", || tracer_of(actor.process.pid()) == stage.tracer());
}

#[test]
fn a_process_that_a_dead_tracer_left_stopped_is_continued() {
    let Some(stage) = Stage::new("heal") else { return };
    let (parked, paused) = (stage.act("tick", &[]), stage.act("tick", &[]));
    let lease = stage.begin();
    let tracer = stage.tracer();
    // As if the stop had been on its way to the tracer when it died: nobody is there to take it.
    // SAFETY: no pointers; the tracer is ours.
    unsafe { libc::kill(tracer as i32, libc::SIGSTOP) };
    until("the tracer is stopped", || state_of(tracer) == 'T');
    let signal = libc::SIGSTOP as u32;
    let park = Park { until: now() + 50_000_000, signal, ..Park::default() };
    stage.table().set(parked.process.pid(), park).unwrap();
    parked.signal(libc::SIGSTOP);
    paused.signal(libc::SIGSTOP);
    for actor in [&parked, &paused] {
        until("it has met the signal", || state_of(actor.process.pid()) == 't');
    }
    // SAFETY: no pointers; the tracer is ours.
    unsafe { libc::kill(tracer as i32, libc::SIGKILL) };
    until("there is another", || stage.parking.restarts() == 1);
    until("the parked one runs", || matches!(state_of(parked.process.pid()), 'S' | 'R'));
    drop(lease);
    until("nobody is traced", || tracer_of(paused.process.pid()) == 0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(state_of(paused.process.pid()), 'T');
}

#[test]
fn it_ends_when_nobody_waits_and_no_sooner() {
    let Some(stage) = Stage::new("idle") else { return };
    let mut actor = stage.park("park", &["1", &libc::SIGURG.to_string(), "0", "700", "1"]);
    actor.id();
    let (one, two) = (stage.begin(), stage.begin());
    let tracer = stage.tracer();
    until("it is parked", || stage.has_parked(actor.process.pid()));
    drop(one);
    drop(two);
    // A new lease finds the same tracer, as long as it waits for the parked.
    drop(stage.begin());
    assert_eq!(stage.tracer(), tracer);
    let took = actor.number("took");
    assert!((700_000..10_000_000).contains(&took), "{took} us");
    until("it ends", || stage.told.last() == (0, false));
    assert!(is_gone(tracer), "a zombie");
    assert_eq!(stage.parking.restarts(), 0);
    let _lease = stage.begin();
    assert_eq!(stage.told.last(), (stage.tracer(), true));
}

#[test]
fn leases_come_and_go_quickly() {
    let Some(stage) = Stage::new("quick") else { return };
    let actor = stage.act("tick", &[]);
    for _ in 0..50 {
        let _lease = stage.begin();
        assert_eq!(tracer_of(actor.process.pid()), stage.tracer());
    }
    assert_eq!(stage.parking.restarts(), 0);
}

#[test]
fn the_tracer_keeps_nothing_and_heeds_nobody() {
    let Some(stage) = Stage::new("nothing") else { return };
    let _lease = stage.begin();
    let pid = stage.tracer();
    assert_eq!(Status::of(pid).unwrap().name, "faultbox-tracer");
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: no pointers; the tracer is ours.
        unsafe { libc::kill(pid as i32, signal) };
    }
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let link = |fd: io::Result<fs::DirEntry>| fs::read_link(fd.unwrap().path()).unwrap();
    let mut kinds: Vec<_> = fds.map(|fd| link(fd).to_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds[3].truncate("socket:".len());
    let expected = ["anon_inode:[signalfd]", "anon_inode:bpf-map", "anon_inode:bpf-map", "socket:"];
    assert_eq!(kinds, expected);
    // It leads a session of its own: the fifth field after the name.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit(')').next().unwrap().split(' ').nth(4).unwrap();
    assert_eq!(session, pid.to_string());
    if may_lower_scores() {
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(score.trim(), "-1000");
    }
    assert_eq!(stage.tracer(), pid);
    assert_eq!(stage.parking.restarts(), 0);
}

/// Whether we have `CAP_SYS_RESOURCE` (24), which the score is a matter of.
fn may_lower_scores() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() >> 24 & 1 == 1
}
