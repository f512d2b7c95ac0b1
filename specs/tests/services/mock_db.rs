//! The commands of mock-db.

use crate::program::Program;
use std::io::{BufRead, BufReader, Write};

#[test]
fn every_command_has_its_answer() {
    let db = Program::start("mock-db", &[]);
    assert_eq!(db.ask("PING"), "PONG");
    assert_eq!(db.ask("ping"), "PONG");
    assert_eq!(db.ask("GET nonexistent"), "NOT_FOUND");
    assert_eq!(db.ask("SET greeting hello"), "OK");
    assert_eq!(db.ask("GET greeting"), "hello");
    assert_eq!(db.ask("set greeting good  bye now"), "OK");
    assert_eq!(db.ask("get greeting"), "good  bye now");
    assert_eq!(db.ask("Get greeting"), "good  bye now");
}

#[test]
fn a_command_that_lacks_something_is_told_its_usage() {
    let db = Program::start("mock-db", &[]);
    for line in ["SET", "SET ", "SET k", "SET k ", "SET  v"] {
        assert_eq!(db.ask(line), "ERR usage: SET key value", "{line:?}");
    }
    for line in ["GET", "GET "] {
        assert_eq!(db.ask(line), "ERR usage: GET key", "{line:?}");
    }
    assert_eq!(db.ask("Drop table"), "ERR unknown command: Drop");
    assert_eq!(db.ask(""), "ERR unknown command: ");
}

#[test]
fn one_connection_may_send_many_commands_and_quit_closes_it() {
    let db = Program::start("mock-db", &[]);
    let mut stream = db.dial();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    for number in 0..100 {
        stream
            .write_all(format!("SET k{number} v{number}\r\nGET k{number}\r\n").as_bytes())
            .unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK\nv{number}\n"));
    }
    stream.write_all(b"QUIT\nPING\n").unwrap();
    line.clear();
    // The unread PING makes the kernel reset the connection on some timings; both are a close.
    assert!(matches!(answers.read_line(&mut line), Ok(0) | Err(_)), "{line}");
}

#[test]
fn a_last_command_without_newline_is_answered() {
    let db = Program::start("mock-db", &[]);
    assert_eq!(db.send(b"PING"), "PONG\n");
    assert_eq!(db.send(b""), "");
}

#[test]
fn bytes_that_are_not_text_are_kept() {
    let db = Program::start("mock-db", &[]);
    let mut stream = db.dial();
    stream.write_all(b"SET k \xff\xfe\nGET k\n").unwrap();
    let mut answers = BufReader::new(stream);
    let mut bytes = Vec::new();
    answers.read_until(b'\n', &mut bytes).unwrap();
    answers.read_until(b'\n', &mut bytes).unwrap();
    assert_eq!(bytes, b"OK\n\xff\xfe\n");
}

#[test]
fn a_line_without_end_costs_only_its_own_connection() {
    let db = Program::start("mock-db", &[]);
    assert_eq!(db.ask("SET k v"), "OK");
    let mut stream = db.dial();
    // The service stops reading and closes, after which writing fails at some point.
    let flooded = (0..1000).any(|_| stream.write_all(&[b'x'; 4096]).is_err());
    assert!(flooded, "4 MB without a newline were accepted");
    assert_eq!(db.ask("GET k"), "v");
}

#[test]
fn clients_that_vanish_do_not_end_the_service() {
    let mut db = Program::start("mock-db", &[]);
    for _ in 0..50 {
        let mut stream = db.dial();
        for _ in 0..20 {
            // The replies hit a closed socket, first with a reset and then with EPIPE.
            if stream.write_all(b"PING\n").is_err() {
                break;
            }
        }
    }
    assert_eq!(db.ask("PING"), "PONG");
    assert!(db.is_running());
}

#[test]
fn many_connections_are_served_at_once() {
    let db = Program::start("mock-db", &[]);
    let mut streams: Vec<_> = (0..200).map(|_| db.dial()).collect();
    for stream in &mut streams {
        stream.write_all(b"PING\n").unwrap();
    }
    for stream in streams {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(line, "PONG\n");
    }
}
