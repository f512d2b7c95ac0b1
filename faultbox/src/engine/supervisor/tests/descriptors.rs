//! Which descriptors rules hit: language.md 1.9.4.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
};

use super::*;
use crate::engine::launch::tests::{Folder, role::program};

#[test]
fn a_denied_write_to_a_file_does_nothing_but_fail() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    let file = folder.file("data");
    let slot = stage.deny(&["write"], "EIO", &[]);
    assert_eq!(stage.play("write-file", &[&file], IO), libc::EIO);
    assert_eq!(fs::read(&file).unwrap(), b"");

    let [record] = &stage.records("write")[..] else { panic!("{:?}", stage.records("write")) };
    assert_eq!(record.decision, denied("EIO"));
    assert_eq!(record.object, Object::File(Path::new(&file).into()));
    assert_eq!((record.size, record.rule.unwrap().0), (1, slot));
    assert_eq!((record.pid, record.target.0), (record.tid, TARGET));
    let counters = &stage.tables.rule(slot).counters;
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    assert_eq!((counters.matched.load(relaxed), counters.fired.load(relaxed)), (1, 1));
    assert_eq!(stage.calls("write"), 1);

    stage.tables.arm(slot, false);
    assert_eq!(stage.play("write-file", &[&file], IO), 0);
    assert_eq!(fs::read(&file).unwrap(), b"x");
    assert!(stage.has("write", Decision::Allow, &Object::File(file.into())));
}

#[test]
fn standard_output_is_hit_whatever_it_is() {
    let folder = Folder::new();
    let file = || OwnedFd::from(fs::File::create(folder.file("out")).unwrap());
    let null = || OwnedFd::from(fs::File::create("/dev/null").unwrap());
    let pipe = || std::io::pipe().unwrap();
    let pair = || std::os::unix::net::UnixStream::pair().unwrap();
    let ((_reader, writer), (_end, other_end)) = (pipe(), pair());
    for (name, output) in
        [("file", file()), ("null", null()), ("pipe", writer.into()), ("pair", other_end.into())]
    {
        let stage = Stage::new(TraceLevel::Default);
        stage.deny(&["write"], "EPIPE", &[]);
        let mut launch = in_role("write-stdout", &[]);
        launch.output = Some((output, null()));
        // EPIPE is a network error.
        assert_eq!(stage.start(&launch, IO).wait(LONG), Some(Exit::Code(0)), "{name}");
        stage.deny(&["write"], "ENOSPC", &[]);
        let exit = stage.start(&launch, IO).wait(LONG);
        assert_eq!(exit, Some(Exit::Code(libc::ENOSPC)), "{name}");
    }
}

#[test]
fn descriptors_that_runtimes_wake_themselves_up_by_are_untouched() {
    let stage = Stage::new(TraceLevel::Default);
    stage.deny(IO, "EIO", &[]);
    assert_eq!(stage.play("wake-up", &[], IO), 0);
    assert_eq!(stage.records("write"), []);
    assert!(stage.calls("write") >= 3, "they are counted all the same");
}

#[test]
fn the_drivers_connections_are_exempt_and_others_are_not() {
    let stage = Stage::new(TraceLevel::Default);
    // Two listeners, because the role tells them apart by the address it dials.
    let listen = |address: &str| TcpListener::bind(address).unwrap();
    let (driver, other) = (listen("127.77.0.1:0"), listen("127.0.0.1:0"));
    let (dial, call) = (driver.local_addr().unwrap(), other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = driver.accept().unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(b"y").unwrap();
    });
    let slot = stage.deny(IO, "ECONNRESET", &[]);
    let code = stage.play("talk", &[&dial.to_string(), &call.to_string()], IO);
    assert_eq!(code, 0);
    answering.join().unwrap();
    assert!(stage.has("write", Decision::AllowDriver, &Object::Socket(Some(dial))));
    assert!(stage.has("write", denied("ECONNRESET"), &Object::Socket(Some(call))));
    let counters = &stage.tables.rule(slot).counters;
    assert_eq!(counters.exempt.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn a_connection_that_the_driver_broke_is_still_the_drivers() {
    let stage = Stage::new(TraceLevel::Default);
    let driver = TcpListener::bind("127.77.0.1:0").unwrap();
    let address = driver.local_addr().unwrap();
    let breaking = std::thread::spawn(move || {
        let (stream, _) = driver.accept().unwrap();
        // Closed with a reset and not with an end.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    });
    stage.deny(IO, "ENOSPC", &[]);
    let code = stage.play("write-until-broken", &[&address.to_string()], IO);
    breaking.join().unwrap();
    assert_eq!(code, libc::EPIPE);
    let records = stage.records("sendto");
    assert!(records.iter().all(|it| it.decision == Decision::AllowDriver), "{records:?}");
    assert!(!records.is_empty());
}

#[test]
fn a_pipe_on_standard_input_is_hit() {
    let stage = Stage::new(TraceLevel::Default);
    let slot = stage.deny(&["read"], "EIO", &[]);
    let launch = program("/bin/sh", &["-c", "/bin/echo x | /bin/cat"]);
    assert_eq!(stage.start(&launch, IO).wait(LONG), Some(Exit::Code(1)));
    assert!(stage.has("read", denied("EIO"), &Object::Stream));
    stage.tables.arm(slot, false);
    assert_eq!(stage.start(&launch, IO).wait(LONG), Some(Exit::Code(0)));
}

#[test]
fn local_sockets_and_fifos_with_a_name_are_hit() {
    let (stage, folder) = (Stage::new(TraceLevel::Default), Folder::new());
    stage.deny(IO, "EIO", &[]);
    assert_eq!(stage.play("talk-locally", &[folder.0.to_str().unwrap()], IO), 0);
    assert!(stage.has("write", denied("EIO"), &Object::Stream));
    let is_unix = |record: &Record| record.object == Object::UnixSocket;
    let all: Vec<_> = IO.iter().flat_map(|name| stage.records(name)).collect();
    assert_eq!(all.iter().filter(|record| is_unix(record)).count(), 2, "{all:?}");
}

#[test]
fn connects_to_some_ports_are_refused_and_to_others_are_not() {
    let stage = Stage::new(TraceLevel::Default);
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let driver = TcpListener::bind("127.77.0.1:0").unwrap();
    let refused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    stage.deny(&["connect"], "EHOSTUNREACH", &[9, port(&refused)]);
    let ports = [port(&refused), port(&open), port(&driver)].map(|port| port.to_string());
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    assert_eq!(stage.play("dial", &ports, &["connect"]), 0);
    let address = Object::Socket(Some(refused.local_addr().unwrap()));
    assert!(stage.has("connect", denied("EHOSTUNREACH"), &address));
    let records = stage.records("connect").len();
    assert_eq!(records, 6, "TCP only: {:?}", stage.records("connect"));
}
