//! What the runner and the tracer say to each other, one message per packet.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};

use super::error::Refusal;

/// Larger than any message: a path, or [`REFUSALS`].
const PACKET: usize = 8192;
/// Refusals that are told. Who reads more than these, and ends those tracers, asks again.
const REFUSALS: usize = 16;

/// What the runner wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Trace every thread of a cgroup and its descendants, by its directory.
    Seize(PathBuf),
    /// End, when no thread waits any more, unless the other request comes before.
    Idle,
}

/// The tracer's answer to [`Request::Seize`], and its first word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// 0, or why it could not be done.
    pub(super) errno: i32,
    /// Threads that were not traced before.
    pub(super) seized: u32,
    pub(super) refusals: Vec<Refusal>,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Seize(path) => [b"s", path.as_os_str().as_bytes()].concat(),
            Self::Idle => b"i".to_vec(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b's', path) => Some(Self::Seize(std::ffi::OsString::from_vec(path.to_vec()).into())),
            (b'i', []) => Some(Self::Idle),
            _ => None,
        }
    }
}

impl Reply {
    /// Names end with a zero byte, which they cannot have.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PACKET);
        bytes.extend(self.errno.to_ne_bytes());
        bytes.extend(self.seized.to_ne_bytes());
        for Refusal { pid, comm, tracer } in self.refusals.iter().take(REFUSALS) {
            let (tracer, name) = tracer.as_ref().map_or((0, ""), |(pid, name)| (*pid, name));
            bytes.extend(pid.to_ne_bytes());
            bytes.extend(tracer.to_ne_bytes());
            for name in [comm, name] {
                bytes.extend(name.bytes().take(64));
                bytes.push(0);
            }
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        fn number(bytes: &mut &[u8]) -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.split_off(..4)?.try_into().ok()?))
        }
        fn text(bytes: &mut &[u8]) -> Option<String> {
            let end = bytes.iter().position(|&byte| byte == 0)?;
            let text = bytes.split_off(..=end)?;
            Some(String::from_utf8_lossy(&text[..end]).into_owned())
        }
        let mut reply = Self {
            errno: number(&mut bytes)? as i32,
            seized: number(&mut bytes)?,
            refusals: Vec::new(),
        };
        while !bytes.is_empty() {
            let (pid, tracer) = (number(&mut bytes)?, number(&mut bytes)?);
            let (comm, name) = (text(&mut bytes)?, text(&mut bytes)?);
            let tracer = (tracer != 0).then_some((tracer, name));
            reply.refusals.push(Refusal { pid, comm, tracer });
        }
        Some(reply)
    }
}

/// One end of the connection. Closing the runner's ends the tracer.
pub(super) struct Control(OwnedFd);

impl Control {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// An empty packet is the end of the connection.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PACKET];
        let len = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// The runner's next request if there is one; an error when there will never be another.
    pub(super) fn request(&self) -> io::Result<Option<Request>> {
        match self.receive() {
            Ok(bytes) => {
                Request::decode(&bytes).map(Some).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn reply(&self, reply: &Reply) -> io::Result<()> {
        self.send(&reply.encode())
    }

    /// Tells the tracer that no delay is armed.
    pub(super) fn idle(&self) -> io::Result<()> {
        self.send(&Request::Idle.encode())
    }

    /// Has a cgroup seized.
    pub(super) fn seize(&self, cgroup: &Path, patience: Duration) -> io::Result<Reply> {
        self.send(&Request::Seize(cgroup.to_owned()).encode())?;
        self.answer(patience)
    }

    /// Waits for the tracer's next word. `UnexpectedEof`, `ConnectionReset`: it has ended.
    pub(super) fn answer(&self, patience: Duration) -> io::Result<Reply> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {
                    let bytes = self.receive()?;
                    return Reply::decode(&bytes)
                        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (runner, tracer) = Control::pair().unwrap();
        let reply = Reply {
            errno: -5,
            seized: 70_000,
            refusals: vec![
                Refusal { pid: 12, comm: "a b".into(), tracer: Some((7, "gdb".into())) },
                Refusal { pid: 13, comm: String::new(), tracer: None },
            ],
        };
        tracer.reply(&reply).unwrap();
        assert_eq!(runner.answer(Duration::ZERO).unwrap(), reply);
        assert!(tracer.request().unwrap().is_none());
        runner.idle().unwrap();
        assert_eq!(tracer.request().unwrap(), Some(Request::Idle));
        let timeout = runner.seize(Path::new("/a/b"), Duration::ZERO).unwrap_err();
        assert_eq!(timeout.kind(), io::ErrorKind::TimedOut);
        assert_eq!(tracer.request().unwrap(), Some(Request::Seize("/a/b".into())));
        drop(runner);
        assert!(tracer.request().is_err());
    }
}
