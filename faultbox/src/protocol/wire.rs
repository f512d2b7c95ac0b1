//! Bytes to and from a service, within a limit.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::AsFd,
};

use nix::poll::PollFlags;

use super::Limit;

/// An open connection whose reads and writes end with their limit.
pub(super) struct Wire<'a> {
    /// Non-blocking.
    pub(super) stream: TcpStream,
    /// For every read and write from now on.
    pub(super) limit: Limit<'a>,
}

impl Wire<'_> {
    /// Reads at least one byte; 0 at the end of the stream.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Looked at before each read: a peer that never stops talking is no excuse.
            self.limit.remaining()?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.limit.wait(self.stream.as_fd(), PollFlags::POLLIN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Writes all of `bytes`. `Ok(Some(error))`: the peer has closed before it took everything,
    /// and may have answered all the same.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<Option<io::Error>> {
        while !bytes.is_empty() {
            self.limit.remaining()?;
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.limit.wait(self.stream.as_fd(), PollFlags::POLLOUT)?;
                    }
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        return Ok(Some(error));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }
}
