//! What the engine reports of the calls of its targets.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use super::{Errno, RuleId, Syscall, TargetId};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It ran.
    Allow,
    /// It ran: it works on one of the system's own files, which rules without a path spare.
    AllowSystemPath,
    /// It ran: its peer is the test driver.
    AllowDriver,
    /// It ran: it is on record only because somebody asked for that. The engine itself says
    /// [`Decision::Allow`].
    Traced,
    /// Its body did not run and it failed with this error.
    Deny(Errno),
    /// It ran after its thread had waited this long.
    Delay(Duration),
    /// Its body did not run and it reported this result.
    Return(i64),
    /// Its body did not run and its process got this signal.
    Crash(Signal),
}

/// What a call worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Nothing in particular.
    None,
    /// A file or directory, at this path as the process sees it.
    File(PathBuf),
    /// A TCP or UDP socket, with its peer if it has one; for `connect`, the address asked for.
    Socket(Option<SocketAddr>),
    /// An `AF_UNIX` socket.
    UnixSocket,
    /// A named FIFO, or whatever descriptors 0 to 2 are.
    Stream,
}

/// One observed call, taken at its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time: u64,
    /// Whose call.
    pub target: TargetId,
    /// Process id, as the caller of the engine sees it.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// Which call.
    pub syscall: Syscall,
    /// What became of it.
    pub decision: Decision,
    /// How long its thread was made to wait before, whatever became of it then; zero: not at all.
    pub delay: Duration,
    /// The rule that decided, or the first that applied.
    pub rule: Option<RuleId>,
    /// What it worked on.
    pub object: Object,
    /// Bytes asked for, for the read and write families; else the third argument.
    pub size: u64,
}

/// Takes the records of a target. Called from the engine's own threads, in the order of entry
/// as far as one processor can tell; must not block.
pub trait RecordSink: Send + Sync {
    /// Takes one record.
    fn record(&self, record: Record);
}
