//! Reading a request.

use crate::connection::Connection;
use std::fmt;
use std::io;

/// The longest request line and headers together, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// A request with everything that a demo service looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method as sent, such as `GET`.
    pub method: String,
    /// The path with its percent escapes decoded, without the query.
    pub path: String,
    /// The body; empty if there was none.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one request from `connection`.
    ///
    /// # Errors
    /// [`BadRequest`]; its `status` says whether the client is there to be answered.
    pub fn read(connection: &Connection) -> Result<Self, BadRequest> {
        let mut received = Vec::new();
        let head_end = loop {
            if let Some(at) = find(&received, b"\r\n\r\n") {
                break at;
            }
            if received.len() > MAX_HEAD {
                return Err(BadRequest::HeadTooLong);
            }
            receive(connection, &mut received)?;
        };
        let mut body = received.split_off(head_end + 4);
        let head = Head::parse(&received[..head_end])?;
        while body.len() < head.body_length {
            receive(connection, &mut body)?;
        }
        body.truncate(head.body_length);
        Ok(Self { method: head.method, path: head.path, body })
    }
}

/// The request line and the one header that matters here.
#[derive(Debug)]
struct Head {
    method: String,
    path: String,
    body_length: usize,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, BadRequest> {
        let text = str::from_utf8(bytes).map_err(|_| BadRequest::Syntax("head is not UTF-8"))?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BadRequest::Syntax("first line is not METHOD PATH VERSION"));
        };
        if !version.starts_with("HTTP/1.") {
            return Err(BadRequest::Syntax("version is not HTTP/1.x"));
        }
        let mut body_length = 0;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return Err(BadRequest::Syntax("header line has no colon"));
            };
            if name.eq_ignore_ascii_case("content-length") {
                body_length = value
                    .trim()
                    .parse()
                    .map_err(|_| BadRequest::Syntax("content-length is not a number"))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(BadRequest::LengthRequired);
            }
        }
        if body_length > MAX_BODY {
            return Err(BadRequest::BodyTooLong);
        }
        let path = target.split('?').next().unwrap_or_default();
        Ok(Self {
            method: method.to_owned(),
            path: decode(path).ok_or(BadRequest::Syntax("path has a bad percent escape"))?,
            body_length,
        })
    }
}

/// One `read`, appended to `buffer`; the end of the stream is an error here.
fn receive(connection: &Connection, buffer: &mut Vec<u8>) -> Result<(), BadRequest> {
    let mut chunk = [0; 4096];
    match connection.read(&mut chunk) {
        Ok(0) => Err(BadRequest::Gone),
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Ok(())
        }
        Err(error) => Err(BadRequest::Io(error)),
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Decodes `%41` escapes; `None` if one is malformed or the result is not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = hex(bytes.next()?)?;
            let low = hex(bytes.next()?)?;
            decoded.push(high << 4 | low);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Why there is no [`Request`].
#[derive(Debug)]
pub enum BadRequest {
    /// The client closed before the request was complete.
    Gone,
    /// The `read` failed.
    Io(io::Error),
    /// The head is not HTTP/1.x; the text says where.
    Syntax(&'static str),
    /// The head is longer than [`MAX_HEAD`].
    HeadTooLong,
    /// The body is longer than [`MAX_BODY`].
    BodyTooLong,
    /// The body comes in chunks, which is not understood here.
    LengthRequired,
}

impl BadRequest {
    /// The status to answer with; `None` if nobody is left to answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Gone | Self::Io(_) => None,
            Self::Syntax(_) => Some(400),
            Self::LengthRequired => Some(411),
            Self::BodyTooLong => Some(413),
            Self::HeadTooLong => Some(431),
        }
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("client closed before the request was complete"),
            Self::Io(error) => write!(f, "read from client: {error}"),
            Self::Syntax(problem) => write!(f, "bad request: {problem}"),
            Self::HeadTooLong => write!(f, "request head is longer than {MAX_HEAD} bytes"),
            Self::BodyTooLong => write!(f, "request body is longer than {MAX_BODY} bytes"),
            Self::LengthRequired => f.write_str("send a content-length instead of chunks"),
        }
    }
}

impl std::error::Error for BadRequest {}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(head: &[u8]) -> Option<u16> {
        Head::parse(head).unwrap_err().status()
    }

    #[test]
    fn the_head_yields_method_decoded_path_and_length() {
        let head =
            Head::parse(b"POST /data/a%20b%2Fc?x=1 HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 12");
        let head = head.unwrap();
        assert_eq!(head.method, "POST");
        assert_eq!(head.path, "/data/a b/c");
        assert_eq!(head.body_length, 12);
    }

    #[test]
    fn a_bad_head_has_a_status_of_its_own() {
        assert_eq!(status_of(b""), Some(400));
        assert_eq!(status_of(b"GET /"), Some(400));
        assert_eq!(status_of(b"GET / SPDY/3"), Some(400));
        assert_eq!(status_of(b"GET /%4 HTTP/1.1"), Some(400));
        assert_eq!(status_of(b"GET /%ff HTTP/1.1"), Some(400));
        assert_eq!(status_of(b"GET / HTTP/1.1\r\nnonsense"), Some(400));
        let length = |value: &str| format!("POST / HTTP/1.1\r\nContent-Length: {value}");
        assert_eq!(status_of(length("-1").as_bytes()), Some(400));
        assert_eq!(status_of(length("1048577").as_bytes()), Some(413));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked";
        assert_eq!(status_of(chunked), Some(411));
    }
}
