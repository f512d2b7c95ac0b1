//! faultbox: fault injection at the system call, decided in the kernel.
//!
//! The library has one way through it: [`spec`] says what is wanted, the runner makes it happen
//! in a sandbox, [`engine`] breaks the calls, [`trace`] keeps what happened and [`report`] says
//! it. [`engine`] knows nothing of the others and is useful by itself.

pub mod cli;
mod docker;
pub mod engine;
mod generate;
mod init;
pub mod protocol;
pub mod report;
pub mod runner;
pub mod spec;
pub mod trace;
