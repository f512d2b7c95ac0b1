//! Asking another service.

use crate::client::{PeerError, Step};
use crate::connection::{Connection, MAX_LINE};
use crate::dial::dial;
use std::io;
use std::time::{Duration, Instant};

/// Gets `path` from the service at `address` (`host:port`), called `peer` in error texts, and
/// returns status and body. `timeout` is for the connect once `connect(2)` has returned, and for
/// request and answer together.
///
/// # Errors
/// A [`PeerError`] that says which step failed and what the system said.
pub fn get(
    peer: &'static str,
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), PeerError> {
    let failed = |step| move |source| PeerError::Io { step, peer, source };
    let connection = dial(address, timeout).map_err(failed(Step::Connect))?;
    let deadline = Instant::now() + timeout;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_once(request.as_bytes()).map_err(failed(Step::Write))?;
    let answer = read_to_end(&connection, deadline).map_err(failed(Step::Read))?;
    parse(&answer).ok_or(PeerError::NoResponse { peer })
}

/// Everything until the service closes, which is how it ends its answer.
fn read_to_end(connection: &Connection, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while received.len() <= MAX_LINE {
        connection.wait_readable(deadline)?;
        let mut chunk = [0; 4096];
        match connection.read(&mut chunk)? {
            0 => return Ok(received),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
    let problem = format!("answer is longer than {MAX_LINE} bytes");
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Status and body; `None` if this is no complete answer.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nno\r\n\r\nno";
        assert_eq!(parse(answer), Some((503, b"no\r\n\r\nno".to_vec())));
    }

    #[test]
    fn what_breaks_off_is_no_answer() {
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 xxx\r\n\r\n", b"+PONG\r\n\r\n"] {
            assert_eq!(parse(bytes), None);
        }
    }
}
