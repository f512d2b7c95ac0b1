//! What a trapped call costs. Run alone for figures:
//! `cargo test -p faultbox --release supervisor::tests::speed -- --nocapture --test-threads 1`.

use std::{net::UdpSocket, time::Instant};

use super::*;
use crate::engine::launch::tests::Folder;

/// Calls per measurement.
const CALLS: u32 = 20_000;

/// Far above what a trapped call costs even in an emulated machine with other work to do; a wait
/// for anything but caller and supervisor would be more.
const BOUND: Duration = Duration::from_millis(2);

fn measure(what: &str, stage: &Stage, role: &str, place: &str, traps: &[&str]) -> Duration {
    let (start, before) = (Instant::now(), cpu_time());
    let mut process = stage.start(&in_role(role, &[place, &CALLS.to_string()]), traps);
    assert_eq!(process.wait(LONG * 4), Some(Exit::Code(0)));
    let each = start.elapsed() / CALLS;
    let [ours, its] = [0, 1].map(|i| (cpu_time()[i] - before[i]) / f64::from(CALLS));
    let each_us = each.as_secs_f64() * 1e6;
    eprintln!("{what}: {each_us:.2} µs per call; of processors, {ours:.2} here and {its:.2} there");
    each
}

/// Microseconds that this process, and those that it has waited for, have kept a processor busy:
/// unlike the time that passes, hardly longer on a machine with other work to do.
fn cpu_time() -> [f64; 2] {
    use nix::sys::resource::{UsageWho, getrusage};
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(|who| {
        let usage = getrusage(who).unwrap();
        [usage.user_time(), usage.system_time()]
            .map(|time| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64)
            .iter()
            .sum()
    })
}

#[test]
fn a_trapped_call_is_a_matter_of_microseconds() {
    let folder = Folder::new();
    let file = folder.file("data");
    let recording = Stage::new(TraceLevel::Default);
    let looking = Stage::new(TraceLevel::Off);
    // Never fires, but must be asked.
    looking.deny(&["write", "sendto"], "EIO", &[1]);
    let passing = Stage::new(TraceLevel::Off);

    measure("file, filter does not name the call", &passing, "write-many", &file, &["fsync"]);
    let bare = measure("file, no rule", &passing, "write-many", &file, &["write"]);
    let asked = measure("file, rule that spares", &looking, "write-many", &file, &["write"]);
    let recorded = measure("file, recorded", &recording, "write-many", &file, &["write"]);

    // What nobody reads is dropped.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap().to_string();
    let sockets = ["sendto"];
    measure("socket, filter does not name the call", &passing, "send-many", &address, &["fsync"]);
    let socket = measure("socket, rule that spares", &looking, "send-many", &address, &sockets);
    for each in [bare, asked, recorded, socket] {
        assert!(each < BOUND, "{each:?}");
    }
    assert_eq!(recording.calls("write"), u64::from(CALLS));
}
