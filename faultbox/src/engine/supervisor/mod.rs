//! The last rung: calls that no in-kernel hook covers are trapped by a seccomp filter in the
//! processes that we start, and answered from here (`seccomp_unotify(2)`).
//!
//! `filter` says which calls stop, `notification` is the conversation with the kernel, `caller`
//! is the thread that waits, `operand` and `socket` find out what its call works on, `judge` asks
//! the rule table, and `thread` answers: what it has to do is on its `desk`, with the calls that are
//! delayed in `delays`. What a rule means is not decided here: see
//! [`super::tables::Tables::decide`].
//!
//! A delay is an answer that comes late. `signals` finds out whether a delayed thread has a signal
//! to handle: then it is made to do so, and the call, which the kernel starts again, waits for the
//! rest. A signal for a process of several threads whose first thread is delayed waits until
//! another thread takes it or the delay is over, if it is not deadly.
//!
//! A trapped call costs its caller two context switches, some 5 to 10 µs, and only calls that
//! the filter names are trapped. It needs Linux 5.6 (`pidfd_getfd(2)`), and 5.19 for programs that
//! receive many signals.
//!
//! Between our answer and the kernel's own reading of a path or address another thread of the
//! program may change it. That is harmless here: rules are not a security boundary.

mod caller;
mod delays;
mod desk;
mod filter;
mod judge;
mod notification;
mod operand;
mod signals;
mod socket;
#[cfg(test)]
pub(super) mod tests;
mod thread;

pub(super) use filter::Filter;
pub(super) use thread::Supervisor;

/// Why this kernel cannot serve this rung; `None`: it can.
pub(super) fn unavailable() -> Option<String> {
    notification::unavailable()
}
