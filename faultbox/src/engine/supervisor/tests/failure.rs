//! What happens when callers or the supervisor itself go away. No call may hang.

use std::{
    fs,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use super::{processes::wait_until, *};
use crate::engine::launch::tests::Folder;

/// Does something at the record of that number, from 0.
struct At<F: Fn()>(AtomicU32, u32, F);

impl<F: Fn() + Send + Sync> RecordSink for At<F> {
    fn record(&self, _: Record) {
        if self.0.fetch_add(1, Ordering::SeqCst) == self.1 {
            (self.2)();
        }
    }
}

pub(super) fn at(number: u32, action: impl Fn() + Send + Sync + 'static) -> Arc<dyn RecordSink> {
    Arc::new(At(AtomicU32::new(0), number, action))
}

#[test]
fn a_caller_killed_while_it_waits_disturbs_nobody() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    for _ in 0..20 {
        let (entered, leave) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sink = {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            at(3, move || {
                entered.store(1, Ordering::SeqCst);
                wait_until(|| leave.load(Ordering::SeqCst) == 1);
            })
        };
        let launch = in_role("write-for-ever", &[&file]);
        let mut process = stage.start_with(&launch, IO, &sink).unwrap();
        wait_until(|| entered.load(Ordering::SeqCst) == 1);
        process.signal(libc::SIGKILL);
        assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
        leave.store(1, Ordering::SeqCst);
        assert_eq!(stage.play("write-file", &[&file], IO), 0);
    }
}

#[test]
fn callers_killed_at_any_instant_disturb_nobody() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    for round in 0..100 {
        let launch = in_role("write-for-ever", &[&file]);
        let mut process = stage.start(&launch, IO);
        std::thread::sleep(Duration::from_micros(round * 37));
        process.signal(libc::SIGKILL);
        assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
        assert_eq!(stage.supervisor.failure(), None);
    }
    assert_eq!(stage.play("write-file", &[&file], IO), 0);
}

/// Waits for a failure, and that it is for good.
fn assert_failed(stage: &Stage, with: &str) {
    wait_until(|| stage.supervisor.failure().is_some());
    let failure = stage.supervisor.failure().unwrap();
    assert!(failure.starts_with("the supervisor failed: ") && failure.contains(with), "{failure}");
    let error = stage.start_with(&in_role("exit", &["0"]), IO, &at(0, || {})).unwrap_err();
    assert!(error.0.contains(with), "{error}");
}

#[test]
fn a_panic_is_a_failure_and_kills_everyone() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let launch = in_role("write-for-ever", &[&folder.file("bystander")]);
    let mut bystander = stage.start(&launch, IO);
    let launch = in_role("write-in-threads", &[&folder.file("data"), "16"]);
    stage.deny(&["write"], "EIO", &[]);
    let sink = at(100, || panic!("on purpose"));
    let mut process = stage.start_with(&launch, IO, &sink).unwrap();
    let start = Instant::now();
    assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    bystander.wait(LONG).expect("it ends");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_failed(&stage, "panic: on purpose");
}

#[test]
fn an_unexpected_error_of_the_kernel_is_a_failure_and_kills_everyone() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let launch = in_role("write-for-ever", &[&folder.file("data")]);
    let mut process = stage.start(&launch, IO);
    // Readable, but no listener: ENOTTY.
    let (read, write) = std::io::pipe().unwrap();
    drop(std::io::Write::write(&mut &write, b"x"));
    stage.supervisor.add(TARGET, DRIVER, stage.log.clone(), OwnedFd::from(read)).unwrap();
    assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    assert_failed(&stage, "Inappropriate ioctl");
}

#[test]
fn a_caller_that_nobody_else_kills_is_killed_at_its_next_call() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let sink = at(20_000, || panic!("on purpose"));
    let start = |role, arguments: &[&str]| {
        let process = stage.start_with(&in_role(role, arguments), IO, &sink).unwrap();
        stage.pids.lock().unwrap().clear();
        process
    };
    let file = folder.file("data");
    let mut idle = start("stay", &[]);
    let mut writers = [0; 3].map(|_| start("write-for-ever", &[&file]));
    let mut threads = start("write-in-threads", &[&file, "4"]);
    for writer in &mut writers {
        assert_eq!(writer.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    }
    // Its threads have got no error that no rule asked for.
    let exit = threads.wait(LONG);
    assert!([Some(Exit::Code(1)), Some(Exit::Signal(libc::SIGKILL))].contains(&exit), "{exit:?}");
    assert_failed(&stage, "on purpose");
    assert_eq!(idle.wait(Duration::ZERO), None, "it calls nothing");
}

#[test]
fn a_dropped_supervisor_leaves_no_call_hanging() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let launch = in_role("write-for-ever", &[&folder.file("data")]);
    let mut process = stage.start(&launch, IO);
    wait_until(|| fs::metadata(folder.file("data")).is_ok_and(|it| it.len() > 10));
    drop(stage);
    assert_eq!(process.wait(LONG), Some(Exit::Code(libc::ENOSYS)));
}

#[test]
fn a_listener_is_let_go_with_its_last_process() {
    let stage = Stage::new(TraceLevel::Default);
    for _ in 0..10 {
        stage.play("exit", &["0"], IO);
    }
    wait_until(|| stage.supervisor.watched() == 0);
}
