//! Lines on standard error.

use std::{
    fmt::Display,
    io::{Write, stderr},
};

/// Prints a line on standard error, in one write so that lines of several threads do not mix.
///
/// Unlike `eprintln!`, which panics, this goes on when nobody reads: `2>&1 | head` is a choice of
/// the user's and no reason to leave services running.
pub(crate) fn message(text: impl Display) {
    let _ = stderr().write_all(format!("{text}\n").as_bytes());
}
