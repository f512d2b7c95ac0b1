//! The process that is broken by hand.

use crate::program::{Program, free_port, path_of};
use std::path::Path;
use std::process::Command;

#[test]
fn it_reports_its_pid_its_file_work_and_its_request() {
    let file = Path::new("/tmp/faultbox-target-test");
    let run = |address: &str| {
        let mut command = Command::new(path_of("target"));
        let output = command.env("HTTP_ADDR", address).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let orders = Program::start("order-svc", &[]);
    let (code, text) = run(&orders.address());
    assert_eq!(code, Some(0), "{text}");
    let steps: Vec<_> = text.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert!(steps[0].starts_with("target running as pid "), "{text}");
    assert_eq!(
        steps[1..],
        [
            "write /tmp/faultbox-target-test: ok",
            "read /tmp/faultbox-target-test: ok",
            "unlink /tmp/faultbox-target-test: ok",
            &format!("GET http://{}/health: ok", orders.address()),
        ]
    );
    assert!(!file.exists());

    // The request may fail without consequence.
    let (code, text) = run(&format!("localhost:{}", free_port()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Connection refused (os error 111)"), "{text}");

    // The file work may not: a directory stands where the file should.
    std::fs::create_dir(file).unwrap();
    let (code, text) = run(&orders.address());
    std::fs::remove_dir(file).unwrap();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("write /tmp/faultbox-target-test: Is a directory"), "{text}");
}
