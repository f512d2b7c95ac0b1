//! A service that writes to stdout without end, to test what a reader does with too much of it.
//!
//! `PORT` (default 5432) is the port; `PING` is answered all the while, everything else too.
//! `BURST n` is answered with `n` after as many writes of one byte to the file `SINK` (default
//! /tmp/faultbox-flood), which is emptied before. With `QUIET` set nothing is written to stdout.

use faultbox_specs::environment;
use faultbox_specs::line_server::{self, Reply, command};
use faultbox_specs::startup;
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;

fn main() -> ExitCode {
    startup::run("flood", 5432, |listener| {
        if env::var_os("QUIET").is_none() {
            thread::spawn(flood);
        }
        line_server::serve(listener, |line| match command(line) {
            (word, count) if word == "BURST" => burst(count),
            _ => Reply::text("PONG"),
        })
    })
}

/// As many system calls as were asked for, one right after the other.
fn burst(count: &[u8]) -> Reply {
    let Some(count) = std::str::from_utf8(count).ok().and_then(|it| it.parse::<u64>().ok()) else {
        return Reply::text("ERR usage: BURST n");
    };
    let path = environment::text("SINK", "/tmp/faultbox-flood");
    let Ok(mut sink) = File::create(&path) else {
        return Reply::text(format!("ERR cannot create {path}"));
    };
    let written = (0..count).filter(|_| sink.write(b".").is_ok()).count();
    Reply::text(written.to_string())
}

/// One `write` per line, as fast as the reader takes them, until one fails. If the reader stops
/// reading, this thread waits in `write` and the service goes on answering.
fn flood() {
    let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned() else {
        return;
    };
    let mut stdout = File::from(stdout);
    for number in 0_u64.. {
        let line = format!("flood line {number}: the quick brown fox jumps over the lazy dog\n");
        if stdout.write(line.as_bytes()).is_err() {
            return;
        }
    }
}
