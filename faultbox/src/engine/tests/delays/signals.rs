//! Signals to threads that wait.

use std::{
    fs::File,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    DONE, FREE, GO, LATE, RESULT, Stage, TOOK,
    actor::{Actor, Page, block, handle, now, write},
    assert_took, content, sleep, until_set,
};

/// When the handler ran, in nanoseconds of `CLOCK_MONOTONIC`.
const HANDLED: usize = FREE;
/// What the handler's own call returned.
const INNER: usize = FREE + 1;
/// When it returned.
const INNER_END: usize = FREE + 2;
/// How often the handler ran.
const TIMES: usize = FREE + 3;

/// What handlers know, in the child.
static STAGE: OnceLock<(&'static Page, File)> = OnceLock::new();

extern "C" fn note(_: i32) {
    if let Some((page, _)) = STAGE.get() {
        page.set(HANDLED, now());
        page.add(TIMES);
    }
}

extern "C" fn note_and_write(signal: i32) {
    note(signal);
    if let Some((page, file)) = STAGE.get() {
        page.set(INNER, write(file, b'h'));
        page.set(INNER_END, now());
    }
}

/// A writer with a handler for a signal, which may write to a file of its own.
fn handler(
    stage: &Stage,
    signal: i32,
    handler: extern "C" fn(i32),
) -> (Actor, [std::path::PathBuf; 2]) {
    let (file, path) = stage.file("outer");
    let (own, own_path) = stage.file("inner");
    let actor = stage.start(|page| {
        let _ = STAGE.set((page, own));
        handle(signal, handler);
        page.wait(GO);
        page.time_write(&file, b'x');
    });
    (actor, [path, own_path])
}

/// Sends a signal and returns when, on the clock of the actor's words.
fn signal(actor: &Actor, signal: i32) -> i64 {
    let at = now();
    actor.signal(signal);
    at
}

fn passed(from: i64, to: i64) -> Duration {
    Duration::from_nanos((to - from).max(0) as u64)
}

#[test]
fn a_deadly_signal_kills_at_once_and_the_call_never_runs() {
    let Some(stage) = Stage::new("deadly") else { return };
    for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGINT] {
        let (mut actor, path) = stage.writer(&number.to_string());
        let _injection = stage.engine.inject(&[stage.delay("write", 20_000)]).unwrap();
        actor.go_and_park();
        let start = Instant::now();
        actor.signal(number);
        let status = actor.end();
        assert!(start.elapsed() < LATE, "signal {number} took {:?}", start.elapsed());
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == number, "{status:#x}");
        assert_eq!(content(&path), "");
    }
}

#[test]
fn a_handler_runs_at_once_and_the_call_waits_for_the_rest() {
    let Some(stage) = Stage::new("handler") else { return };
    let (actor, [path, _]) = handler(&stage, libc::SIGUSR1, note);
    let injection = stage.engine.inject(&[stage.delay("write", 1500)]).unwrap();
    actor.go_and_park();
    for times in 1..=3 {
        let sent = signal(&actor, libc::SIGUSR1);
        super::actor::until("the handler runs", || actor.page().get(TIMES) == times);
        let waited = passed(sent, actor.page().get(HANDLED));
        assert!(waited < LATE, "handler {times} ran after {waited:?}");
        assert_eq!(actor.page().get(DONE), 0);
        sleep(100);
    }
    actor.returned();
    assert_eq!(actor.page().get(RESULT), 1, "neither EINTR nor errno 513");
    assert_took(actor.took(), 1500);
    actor.finish();
    assert_eq!(content(&path), "x");
    assert_eq!(injection.lift()[0].1.fired, 1, "one call, however often it was restarted");
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_handlers_own_call_waits_inside_the_one_that_it_interrupts() {
    let Some(stage) = Stage::new("nested") else { return };
    // The handler's call ends before the outer one's time, and after it.
    for (round, pause, outer_took) in [("before", 0, 1000), ("after", 700, 0)] {
        let (actor, paths) = handler(&stage, libc::SIGUSR1, note_and_write);
        let injection = stage.engine.inject(&[stage.delay("write", 1000)]).unwrap();
        // The rule is for both; the inner one starts later and so ends later.
        actor.go_and_park();
        sleep(pause);
        let sent = signal(&actor, libc::SIGUSR1);
        actor.returned();
        let page = actor.page();
        assert!(passed(sent, page.get(HANDLED)) < LATE, "{round}");
        assert_eq!((page.get(RESULT), page.get(INNER)), (1, 1), "{round}");
        assert_took(passed(page.get(HANDLED), page.get(INNER_END)), 1000);
        assert!(actor.took() >= Duration::from_millis(outer_took));
        let after = passed(page.get(INNER_END), page.get(super::STARTED) + page.get(TOOK));
        assert!(after < LATE, "{round}: the outer call was due, and took {after:?} more");
        actor.finish();
        assert_eq!(paths.each_ref().map(content), ["x", "h"], "{round}");
        assert_eq!(injection.lift()[0].1.fired, 2, "{round}");
        for path in paths {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_handlers_short_call_leaves_the_outer_one_the_rest_of_its_time() {
    let Some(stage) = Stage::new("inner") else { return };
    let (actor, paths) = handler(&stage, libc::SIGUSR1, note_and_write);
    let glob = |milliseconds, name: &str| super::Rule {
        id: super::RuleId(milliseconds as u32),
        path: Some(stage.folder.file(name).parse().unwrap()),
        ..stage.delay("write", milliseconds)
    };
    let rules = [glob(2000, "outer"), glob(300, "inner")];
    let injection = stage.engine.inject(&rules).unwrap();
    actor.go_and_park();
    let sent = signal(&actor, libc::SIGUSR1);
    actor.returned();
    let page = actor.page();
    assert!(passed(sent, page.get(HANDLED)) < LATE);
    assert_took(passed(page.get(HANDLED), page.get(INNER_END)), 300);
    assert_took(actor.took(), 2000);
    assert_eq!((page.get(RESULT), page.get(INNER)), (1, 1));
    actor.finish();
    assert_eq!(paths.each_ref().map(content), ["x", "h"]);
    let fired: Vec<_> = injection.lift().iter().map(|(_, counts)| counts.fired).collect();
    assert_eq!(fired, [1, 1]);
}

#[test]
fn a_program_that_handles_sigurg_itself_is_delayed_and_loses_none() {
    let Some(stage) = Stage::new("sigurg") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        let _ = STAGE.set((page, file));
        for number in [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD] {
            handle(number, note);
        }
        page.wait(GO);
        if let Some((_, file)) = STAGE.get() {
            page.time_write(file, b'x');
        }
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 1000)]).unwrap();
    actor.go_and_park();
    assert_eq!(actor.page().get(TIMES), 0);
    let sent = signal(&actor, libc::SIGURG);
    until_set(&actor, TIMES);
    assert!(passed(sent, actor.page().get(HANDLED)) < LATE);
    actor.returned();
    assert_eq!(actor.page().get(RESULT), 1);
    assert_took(actor.took(), 1000);
    actor.finish();
    assert_eq!(content(&path), "x");
    assert_eq!(stage.undelayed(), 0);
}

#[test]
fn a_program_that_blocks_every_harmless_signal_is_delayed_and_never_left_stopped() {
    let Some(stage) = Stage::new("sigstop") else { return };
    let (file, path) = stage.file("file");
    let actor = stage.start(|page| {
        block(&[libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD]);
        page.wait(GO);
        page.time_write(&file, b'x');
        page.set(GO, 0);
        page.wait(GO);
    });
    let _injection = stage.engine.inject(&[stage.delay("write", 500)]).unwrap();
    actor.go_and_park();
    // Job control still works on a thread that waits so.
    actor.signal(libc::SIGSTOP);
    sleep(50);
    actor.signal(libc::SIGCONT);
    actor.returned();
    assert_eq!(actor.page().get(RESULT), 1);
    assert_took(actor.took(), 500);
    assert_eq!(content(&path), "x");
    assert_eq!(stage.undelayed(), 0);
    sleep(20);
    let left_in = super::actor::status_field(actor.pid(), "State").unwrap();
    assert!(["S", "R"].contains(&&*left_in), "it is left in state {left_in}");
    actor.go();
    actor.finish();
}
