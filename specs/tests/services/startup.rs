//! What all services do alike: ports, signals, output that nobody reads.

use crate::program::{PATIENCE, Program, free_port, path_of};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SERVICES: [&str; 7] =
    ["mock-db", "mock-api", "inventory-svc", "order-svc", "flood", "company-api", "company-search"];

#[test]
fn both_ip_families_are_listened_on() {
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    for name in SERVICES {
        let service = Program::start(name, &[]);
        TcpStream::connect(("127.0.0.1", service.port)).unwrap();
        if has_ipv6 {
            TcpStream::connect(("::1", service.port)).unwrap();
        }
    }
}

#[test]
fn a_port_that_is_taken_or_no_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for name in SERVICES {
        for (value, problem) in [
            (port.as_str(), format!("listen on port {port}: Address already in use (os error 98)")),
            ("http", r#"PORT must be a number from 1 to 65535, got "http""#.to_owned()),
        ] {
            let output = Command::new(path_of(name)).env("PORT", value).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(stderr, format!("{name}: {problem}\n"));
            assert!(output.stdout.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_port_is_free_again_as_soon_as_the_service_is_gone() {
    let first = Program::start("mock-api", &[]);
    // The service closes first, so the port is left in TIME_WAIT.
    assert_eq!(first.http("GET", "/", "").0, 404);
    let port = first.port;
    drop(first);
    let mut second = Command::new(path_of("mock-api"))
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let listens = wait_for_port(port);
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(listens);
}

#[test]
fn sigterm_ends_a_service_at_once_even_if_the_parent_ignores_it() {
    let wrapped = "trap '' TERM; exec \"$0\"";
    for name in SERVICES {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", wrapped, path_of(name)]);
        for mut service in [Program::start(name, &[]), Program::launch(shell, name)] {
            let _open = service.dial();
            let start = Instant::now();
            let pid = service.child.id().to_string();
            assert!(Command::new("kill").arg(pid).status().unwrap().success());
            let status = service.child.wait().unwrap();
            assert_eq!(status.signal(), Some(15), "{name}");
            assert!(start.elapsed() < Duration::from_millis(500), "{name}");
        }
    }
}

#[test]
fn sigterm_ends_a_service_that_is_the_first_process_of_a_container() {
    // A namespace of processes of its own takes root, or a user namespace.
    let mut wrapper = Command::new("unshare");
    wrapper.args(["--map-root-user", "--pid", "--fork", "--kill-child"]);
    if !wrapper.arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: unshare makes no namespace of processes here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--pid", "--fork", "--kill-child", path_of("mock-db")]);
    let mut service = Program::launch(&mut command, "mock-db");
    let children = format!("/proc/{0}/task/{0}/children", service.child.id());
    let first = std::fs::read_to_string(children).unwrap();
    let start = Instant::now();
    assert!(Command::new("kill").arg(first.trim()).status().unwrap().success());
    let status = service.child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn output_that_cannot_be_written_is_no_reason_to_stop() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (stdout, stderr) in [
        (Stdio::from(writer), Stdio::null()),
        (Stdio::from(full.try_clone().unwrap()), Stdio::from(full)),
    ] {
        let port = free_port();
        let mut child = Command::new(path_of("mock-db"))
            .env("PORT", port.to_string())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let listens = wait_for_port(port);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listens);
    }
}

/// Whether something listens on `port` before the test's patience ends.
fn wait_for_port(port: u16) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
