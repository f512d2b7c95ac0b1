//! The client that keeps its connection.

use crate::peer::{Behaviour, misbehaving_peer};
use crate::program::{Program, path_of};
use std::process::Command;

fn client(peer: &str) -> Program {
    let mut command = Command::new(path_of("pool-client"));
    command.env("PEER_ADDR", peer).env("TIMEOUT_MS", "200");
    Program::launch(&mut command, "pool-client")
}

#[test]
fn every_line_goes_over_the_same_connection() {
    let db = Program::start("mock-db", &[]);
    let client = client(&db.address());
    assert_eq!(client.ask("DIALS"), "0");
    assert_eq!(client.ask("SET k v"), "OK");
    assert_eq!(client.ask("GET k"), "v");
    assert_eq!(client.ask("DIALS"), "1");
}

#[test]
fn a_connection_that_fails_is_given_up_and_the_next_line_gets_a_new_one() {
    let client = client(&misbehaving_peer(&[
        Behaviour::Close,
        Behaviour::Silence,
        Behaviour::Send("late\n"),
    ]));
    assert_eq!(client.ask("a"), "ERR no response from peer");
    assert_eq!(client.ask("b"), "ERR read from peer: Connection timed out (os error 110)");
    assert_eq!(client.ask("c"), "late");
    assert_eq!(client.ask("DIALS"), "3");
}
