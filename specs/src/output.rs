//! Lines on stdout and stderr that may fail without harm.
//!
//! A fault on `write` hits a service's stdout as well, and `println!` panics when its write fails.

use std::io::{self, Write};

/// Writes `line` and a newline to stdout, in one `write`; a failure is ignored.
pub fn say(line: &str) {
    // Nobody is left to tell: stdout is where this service would have said so.
    let _ = io::stdout().write_all(with_newline(line).as_bytes());
}

/// Writes `line` and a newline to stderr, in one `write`; a failure is ignored.
pub fn complain(line: &str) {
    // As above.
    let _ = io::stderr().write_all(with_newline(line).as_bytes());
}

fn with_newline(line: &str) -> String {
    format!("{line}\n")
}
