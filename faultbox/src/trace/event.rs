//! One entry of the log.

use std::{net::SocketAddr, time::Duration};

use crate::engine::{Decision, PartitionDirection, PartitionMode, Syscall};

/// One entry of a test's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// From 1, without gaps, in the order of time.
    pub seq: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time: u64,
    /// Name of the service concerned; empty for the driver's own.
    pub service: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A system call of the service.
    Syscall {
        /// Which.
        syscall: Syscall,
        /// Process and thread id.
        pid: u32,
        /// Thread id.
        tid: u32,
        /// What became of it.
        decision: Decision,
        /// Op under whose name the rule was declared.
        op: Option<String>,
        /// Label of the rule.
        label: Option<String>,
        /// Path of a file.
        path: Option<String>,
        /// What it worked on, when that was no file.
        channel: Option<Channel>,
        /// Peer of a socket.
        peer: Option<SocketAddr>,
        /// The service and interface that the peer is, such as `db.main`.
        peer_interface: Option<String>,
        /// Service that the rule was declared on, when it is another: an inbound connect rule.
        rule_target: Option<String>,
        /// Window (by index, in the order of time) whose rule applied.
        window: Option<usize>,
        /// Bytes asked for.
        size: u64,
        /// How long rules made its thread wait before; the field `latency_ms` of language.md 1.12.
        latency: Duration,
    },
    /// A service was started with this process id.
    ServiceStarted {
        /// Its process id.
        pid: u32,
    },
    /// Its healthcheck passed.
    ServiceReady,
    /// It ended by itself.
    ServiceExited {
        /// How, as in `exit code 1` or `signal SIGSEGV`.
        how: String,
    },
    /// Rules were switched on; the keywords.
    FaultApplied {
        /// Index of their window, in the order of time.
        window: usize,
        /// Sorted.
        keywords: Vec<String>,
    },
    /// Rules of a window were switched off: all of them, or those that others took the place of.
    FaultRemoved {
        /// Index of the window.
        window: usize,
        /// Sorted.
        keywords: Vec<String>,
    },
    /// The service was cut off from another.
    PartitionApplied {
        /// Index of the partition, in the order of time.
        partition: usize,
        /// The other service.
        peer: String,
        /// How.
        mode: PartitionMode,
        /// Which way; the service itself is `a`.
        direction: PartitionDirection,
    },
    /// That has ended.
    PartitionRemoved {
        /// Index of the partition.
        partition: usize,
        /// The other service.
        peer: String,
        /// Connects refused, flows reset and flows dropped.
        hits: u64,
    },
    /// The driver sent a step to the service.
    StepSend {
        /// Such as `public.post /data/key`.
        step: String,
    },
    /// The step's answer arrived.
    StepReceive {
        /// Such as `public.post 200`.
        step: String,
    },
    /// A monitor objected to an earlier event.
    Violation {
        /// What it said.
        message: String,
        /// The number of that event.
        event: u64,
    },
}

/// What data goes through and that has no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A TCP or UDP socket.
    Internet,
    /// An `AF_UNIX` socket.
    Unix,
    /// A named FIFO, or whatever descriptors 0 to 2 are.
    Pipe,
}

impl Channel {
    /// What specs see in place of a path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internet => "socket:tcp",
            Self::Unix => "socket:unix",
            Self::Pipe => "pipe",
        }
    }
}

/// Whether a rule did something to the call.
pub fn is_faulted(decision: Decision) -> bool {
    match decision {
        Decision::Deny(_) | Decision::Delay(_) | Decision::Return(_) | Decision::Crash(_) => true,
        Decision::Allow | Decision::AllowSystemPath | Decision::AllowDriver | Decision::Traced => {
            false
        }
    }
}
