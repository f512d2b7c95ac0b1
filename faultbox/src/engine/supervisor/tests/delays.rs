//! Who waits for a delay, how long, and what may happen meanwhile.

use std::{fs, time::Instant};

use super::{processes::wait_until, *};
use crate::engine::launch::tests::Folder;

const WRITE: &[&str] = &["write"];

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The numbers that a role has reported.
pub(super) fn reported(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// A stage, its files `data` and `report`, and the folder that they are in.
pub(super) fn set() -> (Stage, Folder, String, String) {
    let folder = Folder::new();
    let (file, report) = (folder.file("data"), folder.file("report"));
    (Stage::new(TraceLevel::Default), folder, file, report)
}

/// Plays a role that reports. Returns its first number as a time, and the others.
fn timed(stage: &Stage, role: &str, arguments: &[&str; 2], code: i32) -> (Duration, Vec<u64>) {
    assert_eq!(stage.play(role, arguments, WRITE), code);
    let numbers = reported(arguments[1]);
    (Duration::from_nanos(numbers[0]), numbers[1..].to_vec())
}

#[test]
fn only_the_calling_thread_waits() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, ms(400));
    let (took, beats) = timed(&stage, "write-beside", &[&file, &report], 0);
    assert!(took >= ms(400), "{took:?}");
    // Far more than a scheduler keeps a thread waiting, and far less than the delay.
    for longest in beats {
        assert!(longest < ms(200).as_nanos() as u64, "another thread stood still for {longest} ns");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x", "it ran once");
    let records = stage.records("write");
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record.decision, Decision::Delay(ms(400)));
    assert_eq!((record.delay, record.rule.map(|it| it.0)), (ms(400), Some(1)));
}

#[test]
fn other_processes_are_served_while_one_waits() {
    let (stage, folder, file, report) = set();
    let first = Rule { value: ms(2500).as_nanos() as i64, nth: 1, ..rule(ACTION_DELAY) };
    stage.install(WRITE, &[], first);
    let mut waiting = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    assert_eq!(stage.play("write-many", &[&folder.file("other"), "200"], WRITE), 0);
    assert_eq!(waiting.wait(Duration::ZERO), None, "the others have not waited for it");
    assert_eq!(waiting.wait(LONG), Some(Exit::Code(0)));
    assert!(reported(&report)[0] >= ms(2500).as_nanos() as u64);
}

#[test]
fn delays_add_up_and_a_denial_comes_after_them() {
    let (stage, _folder, file, report) = set();
    let first = stage.delay(WRITE, ms(60));
    stage.delay(WRITE, ms(50));
    let (took, _) = timed(&stage, "write-timed", &[&file, &report], 0);
    assert!(took >= ms(110), "{took:?}");
    let deny = stage.deny(WRITE, "EIO", &[]);
    let (took, _) = timed(&stage, "write-timed", &[&file, &report], libc::EIO);
    assert!(took >= ms(110), "{took:?}");
    assert_eq!(fs::read(&file).unwrap(), b"x", "only the first ran");
    let records = stage.records("write");
    let shown: Vec<_> =
        records.iter().map(|it| (it.decision, it.delay, it.rule.map(|it| it.0))).collect();
    let both = ms(110);
    let delayed = (Decision::Delay(both), both, Some(first));
    assert_eq!(shown, [delayed, (denied("EIO"), both, Some(deny))]);
    assert_eq!((stage.fired(first), stage.fired(deny)), (2, 1));
}

#[test]
fn a_delay_runs_to_its_end_when_its_window_closes() {
    let (stage, _folder, file, report) = set();
    let slot = stage.delay(WRITE, ms(300));
    let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    stage.tables.arm(slot, false);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert!(reported(&report)[0] >= ms(300).as_nanos() as u64);
    let (took, _) = timed(&stage, "write-timed", &[&file, &report], 0);
    assert!(took < ms(250), "{took:?}");
}

#[test]
fn the_delayed_calls_of_a_forgotten_target_run_at_once() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, LONG * 10);
    stage.deny(WRITE, "EIO", &[]);
    let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    assert_eq!(process.wait(ms(50)), None);
    stage.supervisor.forget(TARGET);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn the_delayed_calls_run_when_the_supervisor_is_dropped() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, LONG * 10);
    let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    drop(stage);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn who_is_delayed_when_the_supervisor_fails_is_killed() {
    let (stage, folder, file, report) = set();
    stage.delay(WRITE, LONG * 10);
    let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    // Nobody else kills it.
    stage.pids.lock().unwrap().clear();
    let sink = super::failure::at(0, || panic!("on purpose"));
    let launch = in_role("write-file", &[&folder.file("other")]);
    let mut second = stage.start_with(&launch, WRITE, &sink).unwrap();
    assert_eq!(second.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn exit_and_exec_do_not_wait_for_a_delayed_thread() {
    for (role, code) in [("exit-beside", 7), ("execute-beside", 0)] {
        let (stage, _folder, file, _) = set();
        stage.delay(WRITE, LONG * 10);
        let start = Instant::now();
        assert_eq!(stage.play(role, &[&file], WRITE), code, "{role}");
        assert!(start.elapsed() < ms(5000), "{role}: {:?}", start.elapsed());
        assert_eq!(stage.records("write").len(), 1);
        assert_eq!(fs::read(&file).unwrap(), b"", "{role}");
        wait_until(|| stage.supervisor.watched() == 0);
    }
}

#[test]
fn threads_begin_and_end_while_another_is_delayed() {
    let (stage, _folder, file, _) = set();
    stage.delay(WRITE, ms(300));
    assert_eq!(stage.play("end-threads-beside", &[&file], WRITE), 0);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn children_that_are_forked_meanwhile_are_delayed_too() {
    let (stage, _folder, file, _) = set();
    stage.delay(WRITE, ms(300));
    let start = Instant::now();
    assert_eq!(stage.play("fork-beside", &[&file], WRITE), 0);
    assert!(start.elapsed() >= ms(320));
    assert_eq!(fs::read(&file).unwrap(), b"xxxx");
    assert_eq!(stage.records("write").len(), 4);
}

#[test]
fn a_call_is_delayed_that_works_on_nothing_in_particular() {
    let stage = Stage::new(TraceLevel::Off);
    stage.delay(&["uname"], ms(200));
    let start = Instant::now();
    let launch = crate::engine::launch::tests::role::program("/bin/uname", &[]);
    assert_eq!(stage.start(&launch, &["uname"]).wait(LONG), Some(Exit::Code(0)));
    assert!(start.elapsed() >= ms(200));
    // It did break a call, so it is told at every level.
    assert!(stage.has("uname", Decision::Delay(ms(200)), &Object::None));
    assert_eq!(stage.calls("uname"), 1);
}

#[test]
fn a_program_under_a_tracer_is_delayed_and_signalled_all_the_same() {
    let strace = "/usr/bin/strace";
    if !std::path::Path::new(strace).exists() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let (stage, folder, file, report) = set();
    stage.install(&["fsync"], &[], Rule { value: ms(700).as_nanos() as i64, ..rule(ACTION_DELAY) });
    let mut launch = in_role("fsync-with-handler", &[&file, &report]);
    let output = folder.file("strace");
    let program = launch.program.to_str().unwrap().to_owned();
    launch.arguments = [strace, "-f", "-o", &output, &program]
        .iter()
        .map(|it| std::ffi::CString::new(*it).unwrap())
        .collect();
    launch.program = strace.into();
    // The role must not be played by strace, which is another program; it hands on its environment.
    let mut process = stage.start(&launch, &["fsync"]);
    wait_until(|| !stage.records("fsync").is_empty());
    let target = stage.records("fsync")[0].pid.cast_signed();
    std::thread::sleep(ms(100));
    // SAFETY: no pointers; it waits, so it is alive.
    unsafe { libc::kill(target, libc::SIGUSR1) };
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    let numbers = reported(&report);
    let took = Duration::from_nanos(numbers[0]);
    assert!(took >= ms(700) && took < ms(1300), "{took:?}");
    assert_eq!(numbers[1], 1, "the handler ran");
    let text = fs::read_to_string(&output).unwrap();
    assert!(text.contains("ERESTARTNOINTR"), "{text}");
    assert_eq!(stage.records("fsync").len(), 1);
}
