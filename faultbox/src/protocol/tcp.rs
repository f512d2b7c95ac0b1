//! The step of `tcp` interfaces: one line out, one line in.

use std::{io, time::Duration};

use super::{Dialer, Limit, wire::Wire};

/// To get a connection.
const DIAL: Duration = Duration::from_secs(5);
/// From then until the line is there.
const EXCHANGE: Duration = Duration::from_secs(10);
/// Longer lines are an error.
const MAX_LINE: usize = 1 << 20;

/// Sends `data`, ended by a newline, and returns the first line of the answer, trimmed. A peer
/// that closes first has answered with what it sent so far, if only the empty line.
pub(super) fn send(
    dialer: &Dialer,
    host: &str,
    port: u16,
    data: &str,
    limit: &Limit<'_>,
) -> io::Result<String> {
    let stream = dialer.connect(host, port, &limit.within(DIAL)).map_err(|error| {
        io::Error::new(error.kind(), format!("connect to {host}:{port}: {error}"))
    })?;
    let mut wire = Wire { stream, limit: limit.within(EXCHANGE) };
    let mut message = data.as_bytes().to_vec();
    if !message.ends_with(b"\n") {
        message.push(b'\n');
    }
    // A peer that closed without reading may have said why: its answer counts, not our EPIPE.
    wire.write(&message)?;
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = wire.read(&mut buffer)?;
        let chunk = &buffer[..count];
        let end = chunk.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(count)]);
        if end.is_some() || count == 0 {
            return Ok(String::from_utf8_lossy(&line).trim().to_owned());
        }
        if line.len() > MAX_LINE {
            let text = format!("the answer has no end of line within {MAX_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        thread,
        time::Instant,
    };

    use super::{
        super::server::{Server, refused_port, reset},
        *,
    };

    fn send_to(port: u16, data: &str) -> io::Result<String> {
        let limit = Limit::new(Instant::now() + Duration::from_secs(5), &|| false);
        send(&Dialer::default(), "localhost", port, data, &limit)
    }

    #[test]
    fn the_first_line_comes_back_trimmed_and_the_newline_is_added_once() {
        let server = Server::start(|mut stream| {
            let mut got = [0; 16];
            let count = stream.read(&mut got).unwrap();
            write!(stream, "  got {:?} \r\nmore\n", String::from_utf8_lossy(&got[..count]))
                .unwrap();
        });
        assert_eq!(send_to(server.port, "PING").unwrap(), r#"got "PING\n""#);
        assert_eq!(send_to(server.port, "PING\n").unwrap(), r#"got "PING\n""#);
    }

    #[test]
    fn a_line_may_arrive_byte_by_byte() {
        let server = Server::start(|mut stream| {
            for byte in b"slow\nrest" {
                stream.write_all(&[*byte]).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(send_to(server.port, "x").unwrap(), "slow");
    }

    #[test]
    fn a_peer_that_closes_without_a_line_has_said_nothing() {
        let server = Server::start(|mut stream| {
            let _ = stream.read(&mut [0; 16]).unwrap();
        });
        assert_eq!(send_to(server.port, "x").unwrap(), "");
    }

    #[test]
    fn a_last_line_without_its_newline_counts() {
        let server = Server::start(|mut stream| {
            let _ = stream.read(&mut [0; 16]).unwrap();
            stream.write_all(b"half").unwrap();
        });
        assert_eq!(send_to(server.port, "x").unwrap(), "half");
    }

    #[test]
    fn refused_and_reset_are_errors_with_the_systems_text() {
        let held = refused_port();
        let error = send_to(held.port, "x").unwrap_err().to_string();
        let port = held.port;
        let expected = format!("connect to localhost:{port}: Connection refused (os error 111)");
        assert_eq!(error, expected);

        let server = Server::start(|mut stream| {
            let _ = stream.read(&mut [0; 16]).unwrap();
            reset(&stream);
        });
        let error = send_to(server.port, "x").unwrap_err().to_string();
        assert_eq!(error, "Connection reset by peer (os error 104)");
    }

    #[test]
    fn a_line_without_end_is_an_error_and_no_memory_hog() {
        let server = Server::start(|mut stream| {
            let block = vec![b'x'; 1 << 16];
            while stream.write_all(&block).is_ok() {}
        });
        let error = send_to(server.port, "x").unwrap_err().to_string();
        assert!(error.contains("no end of line"), "{error}");
    }

    #[test]
    fn a_silent_peer_costs_the_deadline_and_no_more() {
        let server = Server::start(|mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        let limit = Limit::new(started + Duration::from_millis(200), &|| false);
        let error = send(&Dialer::default(), "localhost", server.port, "x", &limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
