//! What the demo services share: listening, lines, HTTP, dialling a peer.
//!
//! The services exist to be broken, so they are written for the observer rather than for speed:
//! threads that block, `read(2)` and `write(2)` on sockets, and exactly one `write` per reply.
//! A trace of such a service reads like its source. Where std would retry a call that failed
//! with `EINTR`, or would send with `send(2)`, the bare system call is made instead, because an
//! injected error has to arrive exactly once and under the name that the spec used.

pub mod budget;
pub mod client;
pub mod connection;
pub mod dial;
pub mod environment;
pub mod file;
pub mod http;
pub mod line_server;
pub mod listener;
pub mod output;
pub mod redis;
pub mod signals;
pub mod startup;
pub mod wal;

mod sockaddr;
mod system_call;
