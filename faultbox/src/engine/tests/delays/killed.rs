//! What is left when the tracer or the runner is killed, or somebody else traces.

use std::time::{Duration, Instant};

use super::{
    DONE, FREE, GO, LATE, RESULT, Stage, TOOK,
    actor::{Actor, block, status_field, until},
    assert_took, content, sleep, until_set, write,
};

fn kill(pid: u32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid as i32, signal) };
}

#[test]
fn a_killed_tracer_is_replaced_and_no_call_is_lost() {
    let Some(stage) = Stage::alone("tracer") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        loop {
            page.wait(GO);
            page.set(GO, 0);
            page.time_write(&file, b'x');
        }
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 1000)]).unwrap();
    for round in 1..=5 {
        actor.page().set(super::STARTED, 0);
        actor.page().set(DONE, 0);
        actor.go_and_park();
        let tracer = actor.tracer();
        kill(tracer, libc::SIGKILL);
        actor.returned();
        assert_eq!(actor.page().get(RESULT), 1);
        assert_eq!(content(&path).len(), round * 2 - 1);
        assert!(actor.took() < Duration::from_secs(1) + LATE, "{:?}", actor.took());
        until("there is another tracer", || ![0, tracer].contains(&actor.tracer()));
        until("that is counted", || stage.engine.tracer_restarts() == round as u64);

        actor.page().set(super::STARTED, 0);
        actor.page().set(DONE, 0);
        actor.go();
        actor.returned();
        assert_took(actor.took(), 1000);
        assert_eq!((actor.page().get(RESULT), content(&path).len()), (1, round * 2));
    }
    assert_eq!(stage.engine.failure(), None);
}

#[test]
fn nobody_stays_stopped_when_the_tracer_is_killed_again_and_again() {
    const ROUNDS: u32 = 25;
    let Some(stage) = Stage::alone("stops") else { return };
    let (file, path) = stage.file("file");
    let mut actor = stage.start(|page| {
        block(&[libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD]);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let file = file.try_clone();
                std::thread::spawn(move || {
                    let Ok(file) = file else { return };
                    while page.get(GO) == 0 {
                        match write(&file, b'x') {
                            1 => page.add(FREE),
                            _ => page.add(FREE + 1),
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            drop(thread.join());
        }
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 2)]).unwrap();
    let mut tracer = 0;
    for round in 0..ROUNDS {
        let former = tracer;
        until("there is another tracer", || {
            tracer = actor.tracer();
            ![0, former].contains(&tracer)
        });
        sleep(u64::from(round % 7) * 5 + 3);
        kill(tracer, libc::SIGKILL);
    }
    until("there is another tracer", || ![0, tracer].contains(&actor.tracer()));
    let before = actor.page().get(FREE);
    until("it still works", || actor.page().get(FREE) > before + 20);
    actor.go();
    assert_eq!(actor.end(), 0);
    let [written, wrong] = [0, 1].map(|word| actor.page().get(FREE + word));
    assert_eq!(wrong, 0, "calls that failed, by errno 513 or otherwise");
    assert_eq!(stage.engine.tracer_restarts(), u64::from(ROUNDS));
    assert_eq!(stage.engine.failure(), None);
    assert_eq!(content(&path).len() as i64, written, "bytes lost or doubled");
}

#[test]
fn a_killed_runner_leaves_no_tracer_and_its_calls_complete() {
    if !super::in_kernel() {
        return;
    }
    let cgroup = super::TestCgroup::new("delay-runner");
    let folder = super::Folder::new();
    let path = std::path::PathBuf::from(folder.file("file"));
    let file = std::fs::File::create(&path).unwrap();
    let actor = Actor::start(Some(cgroup.path()), |page| {
        page.wait(GO);
        page.time_write(&file, b'x');
        page.wait(FREE);
        page.set(TOOK, 0);
        page.time_write(&file, b'y');
        page.set(FREE + 1, 1);
    });
    let mut runner = Actor::start(None, |page| {
        let engine = super::start_engine(super::Choice::Ebpf);
        let Ok(engine) = engine else { return };
        let driver = super::Driver::default();
        let target = engine.target("subject", Some(cgroup.path()), driver, super::Kept::new());
        let Ok(target) = target else { return };
        let rule = super::Rule::new(
            super::RuleId(1),
            super::Site::of(target.id()),
            super::expand_keyword("write").unwrap_or_default(),
            super::Action::Delay(Duration::from_secs(20)),
        );
        let Ok(_injection) = engine.inject(&[rule]) else { return };
        page.set(FREE, 1);
        page.wait(GO);
    });
    until_set(&runner, FREE);
    actor.go_and_park();
    let tracer = actor.tracer();
    let killed = Instant::now();
    runner.signal(libc::SIGKILL);
    actor.returned();
    eprintln!("the call returned {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!((actor.page().get(RESULT), &*content(&path)), (1, "x"));
    runner.end();
    until("there is no tracer process", || {
        matches!(status_field(tracer, "State").as_deref(), None | Some("Z" | "X"))
    });
    assert_eq!(actor.tracer(), 0);
    actor.page().set(FREE, 1);
    until_set(&actor, FREE + 1);
    assert!(actor.took() < LATE, "nothing is left of the delay");
    actor.finish();
    assert_eq!(content(&path), "xy");
}

#[test]
fn a_process_with_another_tracer_is_refused_by_name() {
    let Some(stage) = Stage::alone("traced") else { return };
    let (actor, path) = stage.writer("file");
    let pid = actor.pid();
    let debugger = Actor::start(None, |page| {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: attaches; no data.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) };
        page.set(FREE, if seized == 0 { 1 } else { -1 });
        page.wait(GO);
    });
    until_set(&debugger, FREE);
    assert_eq!(debugger.page().get(FREE), 1);
    let start = Instant::now();
    let error = stage.engine.inject(&[stage.delay("write", 300)]).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(error.contains(&format!("process {pid} ")), "{error}");
    assert!(error.contains(&format!("already traced by process {} ", debugger.pid())), "{error}");
    // Other faults need no tracer.
    let deny = stage.rule("read", super::Action::Allow);
    drop(stage.engine.inject(&[deny]).unwrap());
    debugger.go();
    debugger.finish();
    let _injection = stage.engine.inject(&[stage.delay("write", 300)]).unwrap();
    actor.go();
    actor.returned();
    assert_took(actor.took(), 300);
    actor.finish();
    assert_eq!(content(&path), "x");
}
