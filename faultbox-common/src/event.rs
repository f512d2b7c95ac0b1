//! What a program reports of a call, through the ring buffer.

use crate::Peer;

/// Bytes of path that an event carries; longer ones lose their outermost components.
pub const PATH_CAPACITY: usize = 768;

/// No rule decided.
pub const NO_RULE: u32 = u32::MAX;

/// What became of a call.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It ran, after [`Event::delay`] if there is one. Whether it works on one of the system's own
    /// files is for the reader to see by the path.
    Allow = 0,
    /// It ran, because its peer is the test driver.
    AllowDriver = 2,
    /// It failed with [`Event::value`], a negated errno.
    Deny = 3,
    /// It was skipped and reported [`Event::value`].
    Return = 4,
    /// Its process was killed by the signal [`Event::value`].
    Crash = 5,
}

impl Decision {
    /// The decision with this discriminant; `Allow` for an unknown one.
    pub fn from_raw(raw: u8) -> Self {
        match raw {
            2 => Self::AllowDriver,
            3 => Self::Deny,
            4 => Self::Return,
            5 => Self::Crash,
            _ => Self::Allow,
        }
    }
}

/// One call, at its entry. Events about files are followed by a path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time: u64,
    /// Third argument of the call: for the read and write families, the bytes asked for.
    pub size: u64,
    /// How long the thread was made to wait before, in nanoseconds.
    pub delay: u64,
    /// What the decision says.
    pub value: i64,
    /// The other end, for sockets.
    pub peer: Peer,
    /// Index of the target.
    pub target: u32,
    /// Process (thread group) id, in the initial namespace.
    pub pid: u32,
    /// Thread id, in the initial namespace.
    pub tid: u32,
    /// System call number.
    pub syscall: u32,
    /// Id of the rule, or [`NO_RULE`].
    pub rule: u32,
    /// To be zero.
    pub reserved: u16,
    /// [`Decision`].
    pub decision: u8,
    /// [`crate::Object`].
    pub object: u8,
    /// Bytes of the path's components: names ending in zero, innermost first.
    pub walked: u16,
    /// Bytes of the path as the program gave it, relative to the components.
    pub given: u16,
}
