//! An HTTP response as it comes over the wire. Whatever arrives, it ends in an answer or an
//! error: sizes are bounded here, time by the connection's limit.

use std::{io, time::Duration};

use super::wire::Wire;

/// Status line and headers, and likewise the trailers of a chunked body.
const MAX_HEAD: usize = 64 << 10;
/// Headers of one response.
const MAX_HEADERS: usize = 128;
/// A body larger than this is an error.
const MAX_BODY: usize = 64 << 20;
/// Interim (1xx) responses before the final one.
const MAX_INTERIM: usize = 16;
/// The line before each chunk, with its extensions.
const MAX_CHUNK_LINE: usize = 4 << 10;

/// Status and headers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case, in the order received.
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header, by its name in lower case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

/// How the end of a body is known (RFC 9112, 6.3).
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Reads one response off a connection.
pub(super) struct ResponseReader<'a> {
    wire: Wire<'a>,
    /// Received and not yet used, from `start` on.
    buffer: Vec<u8>,
    start: usize,
}

impl<'a> ResponseReader<'a> {
    pub(super) fn new(wire: Wire<'a>) -> Self {
        Self { wire, buffer: Vec::new(), start: 0 }
    }

    /// Gives the rest of the response at most this long from now on.
    pub(super) fn limit_to(&mut self, time: Duration) {
        self.wire.limit = self.wire.limit.within(time);
    }

    /// The head of the final response.
    pub(super) fn head(&mut self) -> io::Result<Head> {
        for _ in 0..=MAX_INTERIM {
            let head = self.one_head()?;
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok(head);
            }
        }
        Err(invalid(format!("more than {MAX_INTERIM} interim responses")))
    }

    fn one_head(&mut self) -> io::Result<Head> {
        let mut looked_at = 0;
        loop {
            let pending = &self.buffer[self.start..];
            // Parsing at each line's end, not at each byte, keeps slow heads cheap; the first
            // bytes alone tell what is not HTTP at all.
            if pending.len() < 64 || pending[looked_at..].contains(&b'\n') {
                if let Some((used, head)) = parse_head(pending)? {
                    self.start += used;
                    return Ok(head);
                }
                looked_at = pending.len();
            }
            let (empty, too_long) = (pending.is_empty(), pending.len() > MAX_HEAD);
            if too_long {
                return Err(invalid(format!("response head larger than {} KiB", MAX_HEAD >> 10)));
            }
            if !self.fill()? {
                let text = if empty {
                    "connection closed without an answer"
                } else {
                    "connection closed in the middle of the response head"
                };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
        }
    }

    /// The body that belongs to `head`.
    pub(super) fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        if matches!(head.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        let mut body = Vec::new();
        match framing(head)? {
            Framing::Length(length) => {
                check_size(length)?;
                self.take(length, &mut body)?;
            }
            Framing::Chunked => self.chunks(&mut body)?,
            Framing::UntilClose => loop {
                body.extend_from_slice(&self.buffer[self.start..]);
                self.start = self.buffer.len();
                check_size(body.len())?;
                if !self.fill()? {
                    break;
                }
            },
        }
        Ok(body)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let size = loop {
                let pending = &self.buffer[self.start..];
                match httparse::parse_chunk_size(pending) {
                    Ok(httparse::Status::Complete((used, size))) => {
                        self.start += used;
                        break usize::try_from(size).unwrap_or(usize::MAX);
                    }
                    Ok(httparse::Status::Partial) if pending.len() <= MAX_CHUNK_LINE => {}
                    Ok(httparse::Status::Partial) | Err(_) => {
                        return Err(invalid(format!(
                            "malformed chunk size {}",
                            preview(&self.buffer[self.start..])
                        )));
                    }
                }
                if !self.fill()? {
                    return Err(cut_short(body.len(), None));
                }
            };
            if size == 0 {
                return self.trailers();
            }
            check_size(size.saturating_add(body.len()))?;
            self.take(size, body)?;
            let mut end = Vec::new();
            self.take(2, &mut end).map_err(|_| cut_short(body.len(), None))?;
            if end != b"\r\n" {
                return Err(invalid(format!("chunk not ended by a line break: {}", preview(&end))));
            }
        }
    }

    /// Reads past the trailers: the body is whole, so a peer that closes early has done no harm.
    fn trailers(&mut self) -> io::Result<()> {
        let mut read = 0;
        loop {
            let pending = &self.buffer[self.start..];
            if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let blank = pending[..end].iter().all(|byte| *byte == b'\r');
                self.start += end + 1;
                read += end + 1;
                if blank {
                    return Ok(());
                }
            } else if !self.fill()? {
                return Ok(());
            }
            if read + self.buffer.len() - self.start > MAX_HEAD {
                return Err(invalid(format!("trailers larger than {} KiB", MAX_HEAD >> 10)));
            }
        }
    }

    /// Moves exactly `count` bytes to the end of `to`.
    fn take(&mut self, count: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let mut missing = count;
        loop {
            let pending = &self.buffer[self.start..];
            let now = missing.min(pending.len());
            to.extend_from_slice(&pending[..now]);
            self.start += now;
            missing -= now;
            if missing == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(cut_short(count - missing, Some(count)));
            }
        }
    }

    /// Receives some more; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut chunk = [0; 16 << 10];
        let count = self.wire.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }
}

/// The head at the start of `bytes` and its length, if it is complete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(used)) => {
            let headers = response.headers.iter().map(|header| {
                let value = String::from_utf8_lossy(header.value).trim().to_owned();
                (header.name.to_ascii_lowercase(), value)
            });
            let headers = headers.collect();
            Ok(Some((used, Head { status: response.code.unwrap_or(0), headers })))
        }
        Err(httparse::Error::TooManyHeaders) => {
            Err(invalid(format!("more than {MAX_HEADERS} response headers")))
        }
        Err(error) => Err(invalid(format!("not an HTTP response ({error}): {}", preview(bytes)))),
    }
}

fn framing(head: &Head) -> io::Result<Framing> {
    let coding = head.values("transfer-encoding").last();
    if let Some(coding) = coding {
        let last = coding.rsplit(',').next().unwrap_or_default().trim();
        let chunked = last.eq_ignore_ascii_case("chunked");
        return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
    }
    let mut length = None;
    for value in head.values("content-length").flat_map(|it| it.split(',')).map(str::trim) {
        let digits = !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit());
        let number = digits.then(|| value.parse().unwrap_or(usize::MAX));
        if number.is_none() || length.is_some_and(|it| Some(it) != number) {
            return Err(invalid(format!("malformed content-length {value:?}")));
        }
        length = number;
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}

fn check_size(size: usize) -> io::Result<()> {
    if size <= MAX_BODY {
        return Ok(());
    }
    Err(invalid(format!("response body larger than {} MiB", MAX_BODY >> 20)))
}

fn cut_short(got: usize, wanted: Option<usize>) -> io::Error {
    let of = wanted.map(|it| format!(" of {it}")).unwrap_or_default();
    let text = format!("connection closed after {got}{of} bytes of the response body");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The first bytes, quoted and escaped.
fn preview(bytes: &[u8]) -> String {
    let more = if bytes.len() > 40 { "…" } else { "" };
    format!("\"{}{more}\"", bytes[..bytes.len().min(40)].escape_ascii())
}
