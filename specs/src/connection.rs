//! One TCP connection, read and written with `read(2)` and `write(2)`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// A connected socket. It is held as a `File` because `TcpStream` would use `recv` and `send`.
#[derive(Debug)]
pub struct Connection {
    socket: File,
}

impl Connection {
    /// Takes over a connected, blocking socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: File::from(socket) }
    }

    /// One `read`: the number of bytes, 0 at the end of the stream.
    ///
    /// # Errors
    /// Whatever `read(2)` returned, `EINTR` included: nothing is retried.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Sends all of `bytes` with exactly one `write`.
    ///
    /// # Errors
    /// Whatever `write(2)` returned; `WriteZero` if the kernel took only a part, which on a
    /// blocking socket means that the connection is going down.
    pub fn write_once(&self, bytes: &[u8]) -> io::Result<()> {
        let taken = (&self.socket).write(bytes)?;
        if taken == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("only {taken} of {} bytes were taken", bytes.len()),
            ))
        }
    }

    /// Waits until a `read` would not block, at most until `deadline`.
    ///
    /// # Errors
    /// `ETIMEDOUT` when the deadline passes first, or whatever `poll(2)` returned.
    pub fn wait_readable(&self, deadline: Instant) -> io::Result<()> {
        wait(self.socket.as_raw_fd(), libc::POLLIN, deadline)
    }
}

/// Waits with `poll(2)` for `events` on `fd`, at most until `deadline`; `ETIMEDOUT` after that.
pub(crate) fn wait(fd: libc::c_int, events: libc::c_short, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: the pointer is to one initialised entry, and the count says one.
    match unsafe { libc::poll(&raw mut entry, 1, milliseconds(left)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
        _ => Ok(()),
    }
}

/// Whole milliseconds for `poll`, rounded up so that it never wakes before the deadline.
fn milliseconds(left: Duration) -> libc::c_int {
    let whole = left.as_nanos().div_ceil(1_000_000);
    libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX)
}

/// The lines that arrive on a connection, without their line ends.
#[derive(Debug)]
pub struct Lines<'a> {
    connection: &'a Connection,
    pending: Vec<u8>,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// Starts reading `connection`.
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection, pending: Vec::new(), ended: false }
    }

    /// The next line, without `\n` or `\r\n`; `None` at the end of the stream. Bytes after the
    /// last newline count as a line, so `printf PING | nc` is answered too.
    ///
    /// # Errors
    /// The error of the `read`, or `InvalidData` for a line beyond [`MAX_LINE`].
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find_newline(&self.pending, searched) {
                let rest = self.pending.split_off(at + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                return Ok(Some(without_line_end(line)));
            }
            searched = self.pending.len();
            if searched > MAX_LINE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line is longer than {MAX_LINE} bytes"),
                ));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then(|| without_line_end(rest)));
            }
            let mut chunk = [0; 4096];
            let count = self.connection.read(&mut chunk)?;
            self.ended = count == 0;
            self.pending.extend_from_slice(&chunk[..count]);
        }
    }
}

/// Where the first newline at or after `from` is.
pub(crate) fn find_newline(bytes: &[u8], from: usize) -> Option<usize> {
    let at = bytes[from..].iter().position(|byte| *byte == b'\n')?;
    Some(from + at)
}

/// Cuts one `\n` or `\r\n` off the end.
pub(crate) fn without_line_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn lines_of(bytes: &'static [u8]) -> Vec<Vec<u8>> {
        let (near, mut far) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || {
            // A reader that gave up has closed its end, which is what the error would say.
            let _ = far.write_all(bytes);
        });
        let connection = Connection::new(near.into());
        let mut lines = Lines::new(&connection);
        let mut seen = Vec::new();
        while let Ok(Some(line)) = lines.next_line() {
            seen.push(line);
        }
        drop(connection);
        sender.join().unwrap();
        seen
    }

    #[test]
    fn lines_end_at_newlines_with_or_without_carriage_return() {
        assert_eq!(lines_of(b"a\r\n\nb c\n"), [&b"a"[..], b"", b"b c"]);
    }

    #[test]
    fn the_rest_before_the_end_of_the_stream_is_a_line() {
        assert_eq!(lines_of(b"a\nPING"), [&b"a"[..], b"PING"]);
        assert!(lines_of(b"").is_empty());
    }

    #[test]
    fn a_line_without_end_is_refused_instead_of_filling_the_memory() {
        static LONG: [u8; MAX_LINE * 4] = [b'x'; MAX_LINE * 4];
        assert!(lines_of(&LONG).is_empty());
    }

    #[test]
    fn waiting_ends_at_the_deadline_with_etimedout() {
        let (near, _far) = UnixStream::pair().unwrap();
        let connection = Connection::new(near.into());
        let start = Instant::now();
        let error = connection.wait_readable(start + Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
