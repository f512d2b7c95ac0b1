//! What ends a call instead of running it: results and signals, alone and after a delay.

use std::fs;

use faultbox_common::{ACTION_CRASH, ACTION_RETURN, RuleKey};
use nix::sys::signal::Signal;

use super::{
    delays::{ms, reported, set},
    *,
};

const WRITE: &[&str] = &["write"];

#[test]
fn a_call_that_returns_a_value_does_nothing() {
    let (stage, _folder, file, _) = set();
    let slot = stage.install(WRITE, &[], Rule { value: 3, ..rule(ACTION_RETURN) });
    assert_eq!(stage.play("write-result", &[&file], WRITE), 3);
    assert_eq!(fs::read(&file).unwrap(), b"");
    assert!(stage.has("write", Decision::Return(3), &Object::File(file.clone().into())));
    assert_eq!(stage.fired(slot), 1);

    let traps = &["read"];
    fs::write(&file, "text").unwrap();
    stage.install(traps, &[], Rule { nth: 1, ..rule(ACTION_RETURN) });
    assert_eq!(stage.play("read-short", &[&file], traps), 0, "the end of the file");
    assert!(stage.has("read", Decision::Return(0), &Object::File(file.into())));
}

#[test]
fn a_value_is_returned_after_the_delay() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, ms(80));
    stage.install(WRITE, &[], Rule { value: 1, ..rule(ACTION_RETURN) });
    assert_eq!(stage.play("write-timed", &[&file, &report], WRITE), 0);
    assert!(reported(&report)[0] >= ms(80).as_nanos() as u64);
    assert_eq!(fs::read(&file).unwrap(), b"");
    let record = &stage.records("write")[0];
    assert_eq!((record.decision, record.delay), (Decision::Return(1), ms(80)));
}

#[test]
fn a_process_crashes_at_exactly_the_call_that_is_hit() {
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGTERM] {
        let (stage, _folder, file, _) = set();
        let crash = Rule { value: signal as i64, nth: 5, ..rule(ACTION_CRASH) };
        stage.install(WRITE, &[], crash);
        let mut process = stage.start(&in_role("write-for-ever", &[&file]), WRITE);
        assert_eq!(process.wait(LONG), Some(Exit::Signal(signal as i32)));
        assert_eq!(fs::read(&file).unwrap(), b"xxxx", "{signal}");
        let last = stage.records("write").pop().unwrap();
        assert_eq!((last.decision, last.delay), (Decision::Crash(signal), Duration::ZERO));
        assert_eq!(stage.records("write").len(), 5);
    }
}

#[test]
fn a_process_crashes_after_the_delay() {
    let (stage, _folder, file, _) = set();
    stage.delay(WRITE, ms(150));
    stage.install(WRITE, &[], Rule { value: libc::SIGKILL.into(), ..rule(ACTION_CRASH) });
    let mut process = stage.start(&in_role("write-file", &[&file]), WRITE);
    let start = std::time::Instant::now();
    assert_eq!(process.wait(LONG), Some(Exit::Signal(libc::SIGKILL)));
    assert!(start.elapsed() >= ms(140), "{:?}", start.elapsed());
    assert_eq!(fs::read(&file).unwrap(), b"");
    let record = &stage.records("write")[0];
    assert_eq!((record.decision, record.delay), (Decision::Crash(Signal::SIGKILL), ms(150)));
}

#[test]
fn who_handles_the_signal_of_a_crash_sees_the_call_interrupted() {
    for restart in ["restart", "plain"] {
        let (stage, _folder, file, report) = set();
        stage.install(WRITE, &[], Rule { value: libc::SIGTERM.into(), ..rule(ACTION_CRASH) });
        let arguments = [&*file, &*report, restart, "alone"];
        assert_eq!(stage.play("write-with-handler", &arguments, WRITE), libc::EINTR, "{restart}");
        assert_eq!(reported(&report)[1], 1, "the handler ran");
        assert_eq!(fs::read(&file).unwrap(), b"");
        assert_eq!(stage.records("write").len(), 1);
    }
}

#[test]
fn the_third_match_among_eight_threads_is_one_call() {
    let (stage, _folder, file, _) = set();
    let third = Rule { value: -i64::from(libc::EIO), nth: 3, ..rule(ACTION_DENY) };
    let slot = stage.install(WRITE, &[], third);
    assert_eq!(stage.play("count-failures", &[&file], WRITE), 1);
    assert_eq!(fs::read(&file).unwrap().len(), 399);
    assert_eq!((stage.fired(slot), stage.calls("write")), (1, 400));
}

#[test]
fn a_rule_with_a_path_hits_that_file_only() {
    let (stage, folder, file, _) = set();
    let mut globs = Box::new(faultbox_common::Globs::EMPTY);
    globs.compile([b"/**/*.wal".as_slice()]).unwrap();
    stage.tables.fill_globs(4, &globs);
    let errno = -i64::from(libc::EIO);
    let slot = stage.install(WRITE, &[], Rule { value: errno, ..rule(ACTION_DENY) });
    for name in WRITE {
        let syscall = Syscall::from_name(name).unwrap().number();
        stage.tables.change_set(RuleKey { target: TARGET, syscall }, |set| {
            (set.globs, set.sites[0].globs) = (4, 1);
        });
    }
    assert_eq!(stage.play("write-file", &[&folder.file("a.wal")], WRITE), libc::EIO);
    assert_eq!(stage.play("write-file", &[&file], WRITE), 0);
    assert_eq!(stage.play("write-stdout", &[], WRITE), 0);
    assert_eq!(stage.fired(slot), 1);
}
