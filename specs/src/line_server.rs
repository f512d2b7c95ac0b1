//! Serving a protocol of one line in, one line out.

use crate::connection::{Connection, Lines};
use crate::listener::Listener;

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This line, sent with its newline in one `write`.
    Line(Vec<u8>),
    /// The connection is closed without a word.
    Close,
}

impl Reply {
    /// A reply of plain text.
    pub fn text(line: impl Into<String>) -> Self {
        Self::Line(line.into().into_bytes())
    }
}

/// Answers every line of every connection with `answer`, until the process ends.
///
/// A read or write that fails closes that one connection; the service and its data live on.
pub fn serve(listener: Listener, answer: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> ! {
    listener.serve(move |connection| converse(connection, &answer))
}

fn converse(connection: &Connection, answer: &impl Fn(&[u8]) -> Reply) {
    let mut lines = Lines::new(connection);
    while let Ok(Some(line)) = lines.next_line() {
        let Reply::Line(mut reply) = answer(&line) else {
            return;
        };
        reply.push(b'\n');
        if connection.write_once(&reply).is_err() {
            return;
        }
    }
}

/// Splits a command line into its word, in upper case, and the rest after one single space.
pub fn command(line: &[u8]) -> (String, &[u8]) {
    let (word, rest) = split_space(line);
    (String::from_utf8_lossy(word).to_ascii_uppercase(), rest)
}

/// The bytes before the first space and those after it; the second part may be empty.
pub fn split_space(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_at_single_spaces_and_its_case_does_not_matter() {
        assert_eq!(command(b"ping"), ("PING".to_owned(), &b""[..]));
        assert_eq!(command(b"Set k  v w"), ("SET".to_owned(), &b"k  v w"[..]));
        assert_eq!(command(b""), (String::new(), &b""[..]));
        assert_eq!(split_space(b"k  v w"), (&b"k"[..], &b" v w"[..]));
    }
}
