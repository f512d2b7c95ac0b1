//! The program that gives a command-line client a port.

use crate::program::{Program, path_of};
use std::process::Command;

fn gateway(client: &[&str]) -> Program {
    Program::launch(Command::new(path_of("line-gateway")).args(client), "line-gateway")
}

#[test]
fn each_line_is_read_by_a_client_of_its_own() {
    let gateway = gateway(&["sh", "-c", "cat; echo; echo end"]);
    assert_eq!(gateway.ask("SELECT  'a b'"), "OK SELECT  'a b' | end");
    assert_eq!(gateway.send(b"one\ntwo\n"), "OK one | end\nOK two | end\n");
}

#[test]
fn a_client_that_says_nothing_was_successful_or_not() {
    assert_eq!(gateway(&["true"]).ask("x"), "OK");
    assert_eq!(gateway(&["false"]).ask("x"), "ERR exit status: 1");
}

#[test]
fn a_failure_is_told_in_the_clients_words() {
    let gateway = gateway(&["sh", "-c", "echo printed; echo bad >&2; echo worse >&2; exit 3"]);
    assert_eq!(gateway.ask("x"), "ERR bad | worse | printed");
}

#[test]
fn a_client_that_cannot_be_started_is_named() {
    let answer = gateway(&["/nowhere/client"]).ask("x");
    assert_eq!(answer, "ERR cannot run /nowhere/client: No such file or directory (os error 2)");
}

#[test]
fn without_a_client_it_says_what_it_wants() {
    let output = Command::new(path_of("line-gateway")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: line-gateway COMMAND"));
}
