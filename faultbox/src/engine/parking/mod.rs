//! Threads that wait for a delayed call: the tracer process, and the runner's handle to it.
//!
//! An eBPF program cannot sleep. To delay a call it stores until when, sends its own thread a
//! signal and has the kernel restart the call; somebody must hold the thread at that signal until
//! the time has come. Only a ptrace tracer can, and that is all that it does here: whether, how
//! long and what then is decided and remembered in the kernel (`faultbox-common/src/park.rs`).
//!
//! The tracer is a process of its own, and not a thread of the runner, because
//! - its end is what frees every waiting thread, and the kernel closes a dying process's
//!   descriptors before it detaches its tracees: with the engine's programs and links among them
//!   that takes seconds, with three descriptors no time at all;
//! - ptrace binds a tracee to one *thread*, which must be the one that waits for it, while the
//!   runner's threads come and go, and its own children must not be reaped by a `waitpid(-1)`;
//! - a debugger, a panic or the OOM killer that hits the runner must not stop a service.
//!
//! One per engine is started when the first delay is armed (`birth.rs`), seizes the threads of the
//! services that the delay is for (`seize.rs`), holds and releases (`tracer.rs`), and ends when no
//! delay is armed any more, because a traced process cannot be debugged. It ends at once when the
//! runner does. Should it die by itself, the runner frees whom it left stopped and starts another
//! (`guardian.rs`).
//!
//! The whole needs Linux 5.9, and the initial pid namespace: programs know threads by their ids
//! there.

mod birth;
mod clock;
mod error;
mod guardian;
mod handle;
mod message;
mod ptrace;
mod seize;
mod status;
mod stop;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod tracer;

#[cfg(test)]
pub(super) use error::{ParkingError, Refusal};
pub(super) use handle::{Lease, Parking, Switches};
