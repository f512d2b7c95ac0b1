//! Which paths rules hit, and how they are shown.

use std::{fs, path::Path};

use super::*;
use crate::engine::launch::tests::{Folder, role::program};

const OPEN: &[&str] = &["openat", "open", "read", "fsync", "write", "unlinkat", "mkdirat"];

#[test]
fn no_space_for_the_programs_files_but_the_system_is_spared() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    stage.deny(&["openat", "open"], "ENOSPC", &[]);
    // The loader opens libraries all the while.
    assert_eq!(stage.play("create-file", &[&file], OPEN), libc::ENOSPC);
    assert!(!Path::new(&file).exists());
    assert!(stage.has("openat", denied("ENOSPC"), &Object::File(file.into())));
    let cache = Object::File("/etc/ld.so.cache".into());
    assert!(stage.has("openat", Decision::AllowSystemPath, &cache));
}

#[test]
fn reads_of_system_files_are_spared_too() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    fs::write(folder.file("data"), "text").unwrap();
    stage.deny(&["read", "fsync"], "EIO", &[]);
    assert_eq!(stage.play("read-and-fsync", &[&folder.file("data")], OPEN), libc::EIO);
    assert_eq!(stage.play("read-and-fsync", &["/etc/nsswitch.conf"], OPEN), 0);
    let shown = stage.records("fsync");
    assert!(shown.iter().all(|record| record.decision == Decision::AllowSystemPath));
    assert!(!shown.is_empty());
}

#[test]
fn relative_paths_are_resolved_for_the_record() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let at = folder.0.to_str().unwrap();
    stage.deny(&["openat", "open"], "EROFS", &[]);
    assert_eq!(stage.play("create-relative", &[at, "data"], OPEN), libc::EROFS);
    assert!(stage.has("openat", denied("EROFS"), &Object::File(folder.0.join("data"))));
    // In the root, the first name is the system's.
    assert_eq!(stage.play("create-relative", &["/", "dev/null"], OPEN), 0);
}

#[test]
fn a_directory_descriptor_leads_to_the_path() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    fs::create_dir_all(folder.0.join("a/b")).unwrap();
    fs::write(folder.0.join("a/b/c"), "").unwrap();
    stage.deny(&["unlinkat"], "EBUSY", &[]);
    let tree = folder.file("a");
    let mut process = stage.start(&program("/bin/rm", &["-r", &tree]), &["unlinkat"]);
    assert_eq!(process.wait(LONG), Some(Exit::Code(1)));
    let file = Object::File(folder.0.join("a/b/c"));
    assert!(stage.has("unlinkat", denied("EBUSY"), &file), "{:?}", stage.records("unlinkat"));
    assert!(folder.0.join("a/b/c").exists());
}

#[test]
fn a_path_is_shown_as_the_process_sees_it() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: chroot(2) needs root");
        return;
    }
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(&["write"], "EIO", &[]);
    assert_eq!(stage.play("change-root", &[folder.0.to_str().unwrap()], OPEN), 0);
    assert!(stage.has("write", denied("EIO"), &Object::File("/data".into())));
    let library = Object::File("/usr/lib/data".into());
    assert!(stage.has("write", Decision::AllowSystemPath, &library));
}

#[test]
fn an_execve_may_be_trapped_and_denied() {
    let stage = Stage::new(TraceLevel::Default);
    let sink: Arc<dyn RecordSink> = stage.log.clone();
    let launch = in_role("exit", &["0"]);
    assert_eq!(stage.start(&launch, &["execve"]).wait(LONG), Some(Exit::Code(0)));
    stage.deny(&["execve"], "ENOMEM", &[]);
    let error = stage.start_with(&launch, &["execve"], &sink).unwrap_err();
    assert!(error.0.ends_with(": Cannot allocate memory"), "{error}");
}
