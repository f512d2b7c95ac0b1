//! Asking a line-speaking peer one question.

use crate::connection::{Connection, MAX_LINE, find_newline, without_line_end};
use crate::dial::dial;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How long a connection may take, counted from the moment that `connect(2)` returned.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long question and answer together may take once connected.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A service that answers one line with one line.
#[derive(Debug)]
pub struct Peer {
    name: &'static str,
    address: String,
}

impl Peer {
    /// The peer at `address` (`host:port`), called `name` in error texts.
    pub fn new(name: &'static str, address: String) -> Self {
        Self { name, address }
    }

    /// Opens a new connection, sends `question` as a line and returns the first line that comes
    /// back, without its line end. Nothing is pooled, so every question is a `connect` of its
    /// own for a fault to hit.
    ///
    /// # Errors
    /// A [`PeerError`] that says which step failed and what the system said.
    pub fn ask(&self, question: &[u8]) -> Result<Vec<u8>, PeerError> {
        let failed = |step| move |source| PeerError::Io { step, peer: self.name, source };
        let connection = dial(&self.address, CONNECT_TIMEOUT).map_err(failed(Step::Connect))?;
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        // The send buffer of a new connection is empty, so this cannot wait for the peer.
        connection.write_once(&[question, b"\n"].concat()).map_err(failed(Step::Write))?;
        read_line(&connection, deadline)
            .map_err(failed(Step::Read))?
            .ok_or(PeerError::NoResponse { peer: self.name })
    }
}

/// A [`Peer`] that is asked over one connection, for as long as that works.
#[derive(Debug)]
pub struct Pooled {
    peer: Peer,
    timeout: Duration,
    connection: Option<Connection>,
    dials: u64,
}

impl Pooled {
    /// Connects when it is first asked. `timeout` is for a connect, and for an answer.
    pub fn new(peer: Peer, timeout: Duration) -> Self {
        Self { peer, timeout, connection: None, dials: 0 }
    }

    /// Connects that were tried so far.
    pub fn dials(&self) -> u64 {
        self.dials
    }

    /// Sends `question` as a line and returns the line that comes back. After an error the
    /// connection is given up, so that a late answer is not taken for the next one.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, PeerError> {
        let peer = self.peer.name;
        let failed = |step| move |source| PeerError::Io { step, peer, source };
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            self.dials += 1;
            dial(&self.peer.address, self.timeout).map_err(failed(Step::Connect))?
        };
        let deadline = Instant::now() + self.timeout;
        connection.write_once(&[question, b"\n"].concat()).map_err(failed(Step::Write))?;
        let answer = read_line(&connection, deadline)
            .map_err(failed(Step::Read))?
            .ok_or(PeerError::NoResponse { peer })?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// The first line, or `None` if the peer closed before it was complete. Each `read` is made only
/// once there is something to read, so the deadline holds without a non-blocking socket.
fn read_line(connection: &Connection, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    while line.len() <= MAX_LINE {
        connection.wait_readable(deadline)?;
        let mut chunk = [0; 4096];
        let count = connection.read(&mut chunk)?;
        if count == 0 {
            return Ok(None);
        }
        let searched = line.len();
        line.extend_from_slice(&chunk[..count]);
        if let Some(at) = find_newline(&line, searched) {
            line.truncate(at + 1);
            return Ok(Some(without_line_end(line)));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("answer is longer than {MAX_LINE} bytes"),
    ))
}

/// What a [`Peer`] was being asked when the system said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `connect`, or the name before it.
    Connect,
    /// Sending the question.
    Write,
    /// Waiting for or reading the answer.
    Read,
}

/// Why a [`Peer`] gave no answer.
#[derive(Debug)]
pub enum PeerError {
    /// A system call failed, or a limit was reached.
    Io {
        /// What was being done.
        step: Step,
        /// The peer's name.
        peer: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The peer closed the connection without a complete line.
    NoResponse {
        /// The peer's name.
        peer: &'static str,
    },
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { step, peer, source } => {
                let step = match step {
                    Step::Connect => "connect to",
                    Step::Write => "write to",
                    Step::Read => "read from",
                };
                write!(f, "{step} {peer}: {source}")
            }
            Self::NoResponse { peer } => write!(f, "no response from {peer}"),
        }
    }
}

impl Error for PeerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NoResponse { .. } => None,
        }
    }
}
