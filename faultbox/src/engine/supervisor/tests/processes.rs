//! Whose calls are served: every thread and descendant, whoever they are, until they end.

use std::{collections::HashSet, fs, process::id, time::Instant};

use super::*;
use crate::engine::launch::tests::{Folder, role::program};

#[test]
fn every_thread_is_hit_and_told_apart() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(&["write"], "EIO", &[]);
    assert_eq!(stage.play("write-in-threads", &[&folder.file("data"), "8"], IO), 0);
    let records = stage.records("write");
    let threads: HashSet<u32> = records.iter().map(|record| record.tid).collect();
    let processes: HashSet<u32> = records.iter().map(|record| record.pid).collect();
    assert_eq!((records.len(), threads.len(), processes.len()), (400, 8, 1));
    assert!(!threads.contains(processes.iter().next().unwrap()));
}

#[test]
fn children_and_grandchildren_are_hit() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(&["write"], "EIO", &[]);
    assert_eq!(stage.play("write-in-children", &[&folder.file("data")], IO), 0);
    let pids: HashSet<u32> = stage.records("write").iter().map(|record| record.pid).collect();
    assert_eq!(pids.len(), 2);
}

#[test]
fn programs_that_they_execute_are_hit() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(&["write"], "EIO", &[]);
    let script = format!("/bin/sh -c '/bin/echo x > {0}'; /bin/echo y >> {0}", folder.file("data"));
    let mut process = stage.start(&program("/bin/sh", &["-c", &script]), IO);
    assert!(matches!(process.wait(LONG), Some(Exit::Code(1..))));
    assert_eq!(fs::read(folder.file("data")).unwrap(), b"");
}

#[test]
fn a_process_whose_first_thread_has_ended_is_still_hit() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(&["write"], "EIO", &[]);
    let code = stage.play("outlive-the-first-thread", &[&folder.file("data")], IO);
    assert_eq!(code, libc::EIO);
}

#[test]
fn signals_do_not_keep_a_call_from_ending() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    assert_eq!(stage.play("write-under-signals", &[&file], IO), 0);
    assert_eq!(fs::read(&file).unwrap().len(), 2000, "each is done once");
}

#[test]
fn only_denials_are_recorded_where_others_record_the_rest() {
    let (stage, folder) = (Stage::new(TraceLevel::Off), Folder::new());
    let file = folder.file("data");
    assert_eq!(stage.play("write-file", &[&file], IO), 0);
    assert_eq!((stage.records("write"), stage.calls("write")), (vec![], 0));
    stage.deny(&["write"], "EIO", &[]);
    assert_eq!(stage.play("write-file", &[&file], IO), libc::EIO);
    assert_eq!((stage.records("write").len(), stage.calls("write")), (1, 1));
}

#[test]
fn calls_outside_the_default_set_are_recorded_when_a_rule_names_them() {
    let stage = Stage::new(TraceLevel::Default);
    let traps = &["uname", "openat"];
    let run = || stage.start(&program("/bin/uname", &[]), traps).wait(LONG);
    assert_eq!(run(), Some(Exit::Code(0)));
    assert_eq!(stage.records("uname"), []);
    assert_eq!(stage.calls("uname"), 1);
    stage.deny(&["uname"], "EPERM", &[]);
    assert_eq!(run(), Some(Exit::Code(1)));
    assert!(stage.has("uname", denied("EPERM"), &Object::None));
}

#[test]
fn a_forgotten_target_runs_on_untouched() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    let mut process = stage.start(&in_role("write-for-ever", &[&file]), IO);
    let length = || fs::metadata(&file).map_or(0, |it| it.len());
    wait_until(|| length() > 0);
    stage.supervisor.forget(TARGET);
    stage.deny(&["write"], "EIO", &[]);
    let (records, before) = (stage.log.0.lock().unwrap().len(), length());
    wait_until(|| length() > before + 100);
    assert_eq!(stage.log.0.lock().unwrap().len(), records);
    assert_eq!(process.wait(Duration::ZERO), None);
}

/// Waits for something that other processes do.
pub(super) fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_works_without_any_privilege() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not needed: all tests here run without privilege");
        return;
    }
    // The role must be able to execute this binary, which may lie where only root may go.
    let binary = std::env::temp_dir().join(format!("faultbox-engine-binary-{}", id()));
    // By another process: a child that other tests start meanwhile would hold the copy open for
    // writing until it executes its program, and what is open for writing cannot be executed.
    let (from, to) = (std::env::current_exe().unwrap(), binary.to_str().unwrap());
    let copy = program("/bin/cp", &[from.to_str().unwrap(), to]);
    assert_eq!(launch::start(&copy, None, None).unwrap().wait(LONG), Some(Exit::Code(0)));
    let mut launch = in_role("without-privilege", &[&id().to_string()]);
    launch.program.clone_from(&binary);
    let exit = launch::start(&launch, None, None).unwrap().wait(LONG);
    fs::remove_file(&binary).unwrap();
    let _ = fs::remove_file(unprivileged_file(&id().to_string()));
    assert_eq!(exit, Some(Exit::Code(0)));
}

fn unprivileged_file(name: &str) -> String {
    format!("{}/faultbox-engine-nobody-{name}", std::env::temp_dir().display())
}

/// Becomes nobody, and supervises a child.
pub(super) fn without_privilege(name: &str) -> i32 {
    const NOBODY: u32 = 65534;
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
    // Changing the user makes a process one that its like may not look at; executing a program
    // as that user, as everyone does who is not root to begin with, makes it one that they may.
    // SAFETY: changes only this process.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");

    let stage = Stage::new(TraceLevel::Default);
    stage.deny(&["write"], "EIO", &[]);
    stage.deny(&["openat"], "EROFS", &[]);
    let own = unprivileged_file(name);
    assert_eq!(stage.play("create-file", &[&own], &["openat", "open"]), libc::EROFS);
    assert_eq!(stage.play("write-file", &[&own], IO), libc::EIO);
    assert_eq!(stage.play("wake-up", &[], IO), 0);
    0
}
