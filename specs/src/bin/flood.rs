//! A service that writes to stdout without end, to test what a reader does with too much of it.
//!
//! `PORT` (default 5432) is the port; `PING` is answered all the while, everything else too.

use faultbox_specs::line_server::{self, Reply};
use faultbox_specs::startup;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;

fn main() -> ExitCode {
    startup::run("flood", 5432, |listener| {
        thread::spawn(flood);
        line_server::serve(listener, |_| Reply::text("PONG"))
    })
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
