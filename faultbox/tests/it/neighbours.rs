//! Others on the same machine: they are not disturbed, and they do not disturb.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::{
    litter,
    project::{Place, finish, fsync_is_refused, have_machine_alone, not_tested, share_machine},
};

/// Makes the calls that the faults of the tutorial break, outside of any target, until told to
/// stop; returns how often.
fn canary(place: &Place, stop: &AtomicBool) -> u64 {
    let path = place.path.join("canary");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let rounds = AtomicU64::new(0);
    while !stop.load(Ordering::Relaxed) {
        let mut file =
            File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.write_all(b"chirp").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "chirp");
        let mut near = TcpStream::connect(address).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        far.read_exact(&mut bytes).unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    rounds.into_inner()
}

#[test]
fn a_process_outside_sees_no_error_while_services_do() {
    let place = Place::new();
    let stop = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let canary = scope.spawn(|| canary(&place, &stop));
        for file in ["fault-test", "disk-full", "ops", "never-fired"] {
            // Whether the spec's own tests pass or a fault is refused, the canary notices nothing.
            let code = if fsync_is_refused() && file != "fault-test" { 2 } else { 0 };
            place.test(&[&format!("specs/tutorial/{file}.star")]).expect(code);
        }
        stop.store(true, Ordering::Relaxed);
        canary.join().unwrap()
    });
    assert!(rounds > 100, "only {rounds} rounds");
}

#[test]
fn two_runs_of_the_same_spec_pass_at_once_while_strangers_have_the_ports() {
    if !nix::unistd::geteuid().is_root() {
        not_tested("two runs at once: ports are private to a run as root only");
        return;
    }
    let _shared = have_machine_alone();
    // Where somebody else has the port already, that is the stranger.
    let strangers: Vec<_> =
        [5432, 8080].iter().filter_map(|port| TcpListener::bind(("0.0.0.0", *port)).ok()).collect();
    let places = [Place::new(), Place::new()];
    thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| {
                let run = finish(place.faultbox_test(&["specs/tutorial/fault-test.star"]));
                run.expect(0).prints(" passed, 0 failed");
                litter::assert_none(place, Duration::ZERO);
            });
        }
    });
    for stranger in strangers {
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.accept().is_err(), "a test has talked to a stranger");
    }
}

#[test]
fn runs_share_the_machine_with_many_others() {
    let _shared = share_machine();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let place = Place::new();
                finish(place.faultbox_test(&["specs/tutorial/first-test.star"]))
                    .expect(0)
                    .prints("4 passed, 0 failed");
                litter::assert_none(&place, Duration::ZERO);
            });
        }
    });
}
