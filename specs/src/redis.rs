//! As much of the redis protocol as the demo services need: one command and its reply per
//! connection (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use crate::client::{PeerError, Step};
use crate::connection::{Connection, MAX_LINE};
use crate::dial::dial;
use std::io;
use std::time::{Duration, Instant};

/// A redis server, which is dialled anew for every command.
#[derive(Clone, Debug)]
pub struct Redis {
    address: String,
    timeout: Duration,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and its like.
    Simple(Vec<u8>),
    /// A value, or none under that key.
    Value(Option<Vec<u8>>),
    /// What the server had to complain about.
    Error(String),
}

impl Redis {
    /// The server at `address` (`host:port`); `timeout` is for the connect once `connect(2)` has
    /// returned, and for command and reply together.
    pub fn new(address: String, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    /// Sends a command with one `write` and reads its reply.
    ///
    /// # Errors
    /// A [`PeerError`] that says which step failed and what the system said. What the server
    /// itself complains about is a [`Reply`].
    pub fn command(&self, words: &[&[u8]]) -> Result<Reply, PeerError> {
        let failed = |step| move |source| PeerError::Io { step, peer: "redis", source };
        let connection = dial(&self.address, self.timeout).map_err(failed(Step::Connect))?;
        let deadline = Instant::now() + self.timeout;
        connection.write_once(&encode(words)).map_err(failed(Step::Write))?;
        read_reply(&connection, deadline)
            .map_err(failed(Step::Read))?
            .ok_or(PeerError::NoResponse { peer: "redis" })
    }
}

/// An array of bulk strings, which is what servers expect of clients.
fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The reply, or `None` if the server closed before it was complete.
fn read_reply(connection: &Connection, deadline: Instant) -> io::Result<Option<Reply>> {
    let mut received = Vec::new();
    while received.len() <= MAX_LINE {
        if let Some(reply) = parse(&received)? {
            return Ok(Some(reply));
        }
        connection.wait_readable(deadline)?;
        let mut chunk = [0; 4096];
        match connection.read(&mut chunk)? {
            0 => return Ok(None),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
    Err(malformed("the reply is longer than any that was asked for"))
}

/// The reply at the start of `bytes`; `None` as long as its end is missing.
fn parse(bytes: &[u8]) -> io::Result<Option<Reply>> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    match line.split_first() {
        Some((b'+', text)) => Ok(Some(Reply::Simple(text.to_vec()))),
        Some((b'-', text)) => Ok(Some(Reply::Error(String::from_utf8_lossy(text).into_owned()))),
        Some((b'$', b"-1")) => Ok(Some(Reply::Value(None))),
        Some((b'$', length)) => {
            let length: usize = str::from_utf8(length)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| malformed("the length of a value is not a number"))?;
            // The line end behind the value belongs to it.
            Ok(rest
                .get(..length)
                .filter(|_| rest.len() - length >= 2)
                .map(|value| Reply::Value(Some(value.to_vec()))))
        }
        _ => Err(malformed("the reply is none that was asked for")),
    }
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_how_long_each_word_is() {
        assert_eq!(
            encode(&[b"SET", b"k", b"a b\n"]),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na b\n\r\n"
        );
    }

    #[test]
    fn a_reply_is_complete_with_its_last_byte_and_not_before() {
        let value = |text: &str| Reply::Value(Some(text.as_bytes().to_vec()));
        for (bytes, reply) in [
            (&b"+OK\r\n"[..], Reply::Simple(b"OK".to_vec())),
            (b"-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (b"$-1\r\n", Reply::Value(None)),
            (b"$0\r\n\r\n", value("")),
            (b"$5\r\na\r\nbc\r\n", value("a\r\nbc")),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]).unwrap(), None, "{bytes:?} up to {end}");
            }
            assert_eq!(parse(bytes).unwrap(), Some(reply));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b":1\r\n", b"\r\n"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
