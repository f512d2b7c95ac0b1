//! Signals to threads that are delayed: they act at once, and the call still runs once.

use std::{fs, time::Instant};

use super::{
    delays::{ms, reported, set},
    processes::wait_until,
    *,
};
use crate::engine::supervisor::notification::now;

const WRITE: &[&str] = &["write"];

/// Within this time a signal is handled "at once", on a machine with other work to do.
const SOON: Duration = Duration::from_millis(250);

#[test]
fn deadly_signals_kill_at_once() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1, libc::SIGRTMIN() + 2] {
        let (stage, _folder, file, report) = set();
        stage.delay(WRITE, LONG * 10);
        let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
        wait_until(|| !stage.records("write").is_empty());
        std::thread::sleep(ms(20));
        let start = Instant::now();
        process.signal(signal);
        assert_eq!(process.wait(LONG), Some(Exit::Signal(signal)));
        assert!(start.elapsed() < SOON, "signal {signal} took {:?}", start.elapsed());
        assert_eq!(fs::read(&file).unwrap(), b"", "the call did not run");
    }
}

/// Sends a signal 100 ms after a call began to wait. Returns how long the call took, how long it
/// was until the handler had run last, and how often one ran.
fn signalled(
    role: [&str; 2],
    send: fn(&Process, i32),
    signal: i32,
    delay: Duration,
) -> (Duration, Duration, u64) {
    let (stage, _folder, file, report) = set();
    let slot = stage.delay(WRITE, delay);
    let arguments: Vec<&str> = [&*file, &*report].into_iter().chain(role.iter().copied()).collect();
    let mut process = stage.start(&in_role("write-with-handler", &arguments), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    std::thread::sleep(ms(100));
    let before = now();
    send(&process, signal);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)), "{role:?}");
    assert_eq!(fs::read(&file).unwrap(), b"x", "it ran once");
    assert_eq!((stage.records("write").len(), stage.calls("write")), (1, 1), "it counts once");
    assert_eq!(stage.fired(slot), 1);
    let numbers = reported(&report);
    let handled = Duration::from_nanos(numbers[2].saturating_sub(before));
    (Duration::from_nanos(numbers[0]), handled, numbers[1])
}

#[test]
fn a_handler_runs_at_once_and_the_call_waits_for_the_rest_only() {
    for signal in [libc::SIGTERM, libc::SIGUSR1] {
        for restart in ["restart", "plain"] {
            let (took, handled, count) =
                signalled([restart, "alone"], Process::signal, signal, ms(800));
            assert!(took >= ms(800) && took < ms(800) + SOON, "{restart}: {took:?}");
            assert!(handled < SOON, "{restart}: handled after {handled:?}");
            assert_eq!(count, 1);
        }
    }
}

#[test]
fn a_signal_for_one_of_many_threads_is_handled_at_once() {
    let to_the_first_thread = |process: &Process, signal: i32| {
        // It has the process's id.
        // SAFETY: no pointers.
        unsafe { libc::syscall(libc::SYS_tgkill, process.pid(), process.pid(), signal) };
    };
    let role = ["plain", "threads"];
    let (took, handled, count) = signalled(role, to_the_first_thread, libc::SIGUSR1, ms(800));
    assert!(took >= ms(800) && took < ms(800) + SOON, "{took:?}");
    assert!(handled < SOON && count == 1, "handled after {handled:?}");
}

#[test]
fn a_signal_for_a_process_of_many_threads_is_handled_once_and_fails_no_call() {
    // Some thread handles it, at the latest when the delay of the first is over.
    let (took, handled, count) =
        signalled(["plain", "threads"], Process::signal, libc::SIGUSR1, ms(400));
    assert!(took >= ms(400) && handled < ms(400) + SOON, "{took:?}, {handled:?}");
    assert_eq!(count, 1);
}

#[test]
fn a_handler_that_makes_the_same_call_is_delayed_itself() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, ms(500));
    let mut process = stage.start(&in_role("write-in-handler", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    std::thread::sleep(ms(100));
    process.signal(libc::SIGUSR1);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(fs::read(&file).unwrap(), b"xx");
    let numbers = reported(&report);
    let took = Duration::from_nanos(numbers[0]);
    // The handler begins to wait at 100 ms, and the rest of the first is over by then.
    assert!(took >= ms(600) && took < ms(900), "{took:?}");
    assert_eq!(numbers[1..], [1, 1], "what both returned");
    assert_eq!((stage.records("write").len(), stage.calls("write")), (2, 2));
}

#[test]
fn a_stopped_program_goes_on_with_its_call() {
    let (stage, _folder, file, report) = set();
    stage.delay(WRITE, ms(300));
    let mut process = stage.start(&in_role("write-timed", &[&file, &report]), WRITE);
    wait_until(|| !stage.records("write").is_empty());
    process.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", process.pid());
    let sent = Instant::now();
    wait_until(|| fs::read_to_string(&stat).unwrap().contains(") T "));
    assert!(sent.elapsed() < SOON, "stopped after {:?}", sent.elapsed());
    assert_eq!(process.wait(ms(500)), None);
    assert_eq!(fs::read(&file).unwrap(), b"");
    process.signal(libc::SIGCONT);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(fs::read(&file).unwrap(), b"x");
    assert_eq!(stage.records("write").len(), 1);
}

#[test]
fn no_error_of_the_restart_is_ever_seen_under_a_storm_of_signals() {
    for restart in ["restart", "plain"] {
        let (stage, _folder, file, _) = set();
        let slot = stage.delay(WRITE, ms(7));
        let mut process =
            stage.start(&in_role("write-under-timer", &[&file, "200", restart]), WRITE);
        assert_eq!(process.wait(LONG), Some(Exit::Code(0)), "{restart}");
        assert_eq!(fs::read(&file).unwrap().len(), 200);
        assert_eq!((stage.fired(slot), stage.calls("write")), (200, 200), "{restart}");
    }
    let (stage, _folder, file, _) = set();
    let slot = stage.delay(WRITE, ms(7));
    let mut process = stage.start(&in_role("write-under-kills", &[&file, "150"]), WRITE);
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
    assert_eq!(fs::read(&file).unwrap().len(), 600);
    assert_eq!((stage.fired(slot), stage.calls("write")), (600, 600));
}
