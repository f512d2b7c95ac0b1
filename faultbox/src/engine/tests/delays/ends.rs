//! Processes that end, change or multiply while a thread of theirs waits.

use std::{ffi::CString, ptr, time::Instant};

use super::{
    FREE, GO, LATE, LONG, RESULT, Stage,
    actor::{Actor, block},
    assert_took, content, sleep, until_set, write,
};
use crate::engine::launch::tests::role::in_role;

/// A process with a thread that waits in a write, and another that does something meanwhile.
fn pair(
    stage: &Stage,
    other: impl FnOnce(&'static super::actor::Page) + Send + 'static,
) -> (Actor, std::path::PathBuf) {
    let (file, path) = stage.file("waits");
    let actor = stage.start(move |page| {
        let thread = std::thread::spawn(move || {
            page.wait(FREE);
            other(page);
        });
        page.wait(GO);
        page.time_write(&file, b'x');
        drop(thread.join());
    });
    (actor, path)
}

#[test]
fn another_threads_exit_group_ends_the_process_at_once() {
    let Some(stage) = Stage::new("exit") else { return };
    // SAFETY: ends the process.
    let (mut actor, path) = pair(&stage, |_| unsafe { libc::_exit(7) });
    let _injection = stage.engine.inject(&[stage.delay("write", 20_000)]).unwrap();
    actor.go_and_park();
    let start = Instant::now();
    actor.page().set(FREE, 1);
    let status = actor.end();
    assert!(start.elapsed() < LATE, "{:?}", start.elapsed());
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    assert_eq!(content(&path), "");
}

#[test]
fn another_threads_exec_replaces_the_program_at_once() {
    let Some(stage) = Stage::new("exec") else { return };
    let launch = in_role("exit", &["7"]);
    let program = CString::new(launch.program.as_os_str().as_encoded_bytes()).unwrap();
    let (mut actor, path) = pair(&stage, move |_| {
        let pointers = |strings: &[CString]| {
            let all = strings.iter().map(|it| it.as_ptr());
            all.chain([ptr::null()]).collect::<Vec<_>>()
        };
        let (arguments, environment) = (pointers(&launch.arguments), pointers(&launch.environment));
        // SAFETY: strings and arrays that end as they must.
        unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 40_000)]).unwrap();
    actor.go_and_park();
    actor.page().set(FREE, 1);
    let name = || super::actor::status_field(actor.pid(), "Name");
    let before = Instant::now();
    super::actor::until("the threads are gone", || actor.threads().len() == 1);
    assert!(before.elapsed() < LATE * 5, "{:?} {:?}", before.elapsed(), name());
    let status = actor.end();
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    assert_eq!(content(&path), "");
}

#[test]
fn a_fork_meanwhile_makes_a_child_that_is_delayed_by_itself() {
    let Some(stage) = Stage::new("fork") else { return };
    let (file, child_path) = stage.file("child");
    let (actor, path) = pair(&stage, move |page| {
        // SAFETY: the child does nothing but system calls.
        match unsafe { libc::fork() } {
            0 => {
                let start = super::now();
                page.set(FREE + 1, write(&file, b'c'));
                page.set(FREE + 2, super::now() - start);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
            child => {
                // SAFETY: our own child.
                unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
            }
        }
    });
    let injection = stage.engine.inject(&[stage.delay("write", 1000)]).unwrap();
    actor.go_and_park();
    actor.page().set(FREE, 1);
    actor.returned();
    assert_took(actor.took(), 1000);
    until_set(&actor, FREE + 2);
    let page = actor.page();
    assert_eq!((page.get(RESULT), page.get(FREE + 1)), (1, 1));
    assert_took(std::time::Duration::from_nanos(page.get(FREE + 2) as u64), 1000);
    actor.finish();
    assert_eq!((&*content(&path), &*content(&child_path)), ("x", "c"));
    assert_eq!(injection.lift()[0].1.fired, 2);
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_threads_end_concerns_no_other_thread() {
    let Some(stage) = Stage::new("thread") else { return };
    let (actor, path) = pair(&stage, |_| ());
    // The first thread ends, and the one that waits goes on alone.
    let (file, survivor_path) = stage.file("survivor");
    let survivor = stage.start(|page| {
        std::thread::spawn(move || {
            page.wait(GO);
            page.time_write(&file, b'x');
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        });
        page.wait(FREE);
        // SAFETY: ends this thread only, without anything of the library's.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 500)]).unwrap();
    actor.go_and_park();
    actor.page().set(FREE, 1);
    super::actor::until("the other thread ends", || actor.threads().len() == 1);
    actor.returned();
    assert_took(actor.took(), 500);
    actor.finish();
    assert_eq!(content(&path), "x");

    survivor.go_and_park();
    survivor.page().set(FREE, 1);
    sleep(50);
    survivor.returned();
    assert_took(survivor.took(), 500);
    survivor.finish();
    assert_eq!(content(&survivor_path), "x");
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_process_that_stops_itself_by_another_thread_is_continued_by_its_owner_only() {
    let Some(stage) = Stage::new("stopped") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        block(&[libc::SIGTTIN]);
        page.wait(GO);
        page.time_write(&file, b'x');
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 300)]).unwrap();
    actor.go_and_park();
    actor.signal(libc::SIGSTOP);
    sleep(600);
    assert_eq!(content(&path), "", "it is stopped, whether its time has come or not");
    actor.signal(libc::SIGCONT);
    let start = Instant::now();
    actor.returned();
    assert!(start.elapsed() < LATE.min(LONG));
    assert_eq!(actor.page().get(RESULT), 1);
    actor.finish();
    assert_eq!(content(&path), "x");
}
