//! A key-value store over TCP that keeps everything in memory.
//!
//! `PORT` (default 5432) is the port. One command per line, one line per answer:
//! `PING`, `SET key value`, `GET key`, `QUIT`.

use faultbox_specs::line_server::{self, Reply, command, split_space};
use faultbox_specs::startup;
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Values by key; both are bytes, so nothing that fits on a line is refused.
type Store = Mutex<HashMap<Vec<u8>, Vec<u8>>>;

fn main() -> ExitCode {
    startup::run("mock-db", 5432, |listener| {
        let store = Store::default();
        line_server::serve(listener, move |line| answer(&store, line))
    })
}

fn answer(store: &Store, line: &[u8]) -> Reply {
    // A thread that panicked while it held the lock cannot have left half a value behind.
    let entries = || store.lock().unwrap_or_else(PoisonError::into_inner);
    let (word, arguments) = command(line);
    match word.as_str() {
        "PING" => Reply::text("PONG"),
        "SET" => match split_space(arguments) {
            (b"", _) | (_, b"") => Reply::text("ERR usage: SET key value"),
            (key, value) => {
                entries().insert(key.to_vec(), value.to_vec());
                Reply::text("OK")
            }
        },
        "GET" => match split_space(arguments) {
            (b"", _) => Reply::text("ERR usage: GET key"),
            (key, _) => match entries().get(key) {
                Some(value) => Reply::Line(value.clone()),
                None => Reply::text("NOT_FOUND"),
            },
        },
        "QUIT" => Reply::Close,
        _ => {
            let (typed, _) = split_space(line);
            Reply::Line([b"ERR unknown command: ", typed].concat())
        }
    }
}
