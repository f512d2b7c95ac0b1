//! Threads that wait: what the programs and the tracer tell each other.
//!
//! A delayed call is entered twice. The first time a program stores a [`Token`] with the hour at
//! which the call may run, sends its own thread a signal and lets the kernel restart the call;
//! the tracer keeps the thread stopped at that signal until the hour has come. The second time
//! the program recognises the token and carries out the rest of the decision.

/// Threads with tokens.
pub const MAX_PARKED: u32 = 1 << 14;
/// Calls of one thread that wait inside one another: a handler that runs while a call waits may
/// make a call that waits.
pub const TOKENS: usize = 4;

/// One delayed call of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// `CLOCK_MONOTONIC`, in nanoseconds, at which the call may go on; 0: no call.
    pub until: u64,
    /// Instruction and stack pointer at the call, which with its number tell it from others.
    pub ip: u64,
    /// See `ip`.
    pub sp: u64,
    /// The result, for an `action` other than `ACTION_NONE`.
    pub value: i64,
    /// The call's number.
    pub syscall: u32,
    /// What happens when the time has come: `ACTION_NONE` or one that ends the call.
    pub action: u32,
}

/// A thread with delayed calls, by its thread id in the initial namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Park {
    /// When the tracer shall let the thread go on: the innermost call's.
    pub until: u64,
    /// The signal by which it is parked.
    pub signal: u32,
    /// Non-zero: the program has a handler for that signal, which must be delivered when the
    /// thread goes on, because one of the program's own may have been merged with ours.
    pub deliver: u32,
    /// The calls.
    pub tokens: [Token; TOKENS],
}

/// A thread of this process is parked and somebody sends it a signal.
pub const WAKE_SIGNAL: u32 = 1;
/// A thread should have been parked and is not traced.
pub const WAKE_SEIZE: u32 = 2;

/// What a program tells the tracer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// `WAKE_*`.
    pub kind: u32,
    /// Process id, in the initial namespace.
    pub pid: u32,
    /// Thread id, likewise; 0: any thread of the process.
    pub tid: u32,
    /// For [`WAKE_SIGNAL`], the signal's number.
    pub signal: u32,
}
