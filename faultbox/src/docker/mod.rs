//! Containers, by the API of Docker or of whatever speaks it: a blocking face over an asynchronous
//! client, because nothing else here is asynchronous.
//!
//! It knows nothing of specs and tests. What it creates carries the label [`SESSION_LABEL`], and
//! by that alone is anything ever swept.

mod build;
mod cgroup;
mod client;
mod container;
mod context;
mod create;
mod error;
mod find;
mod ignore_file;
mod image;
mod logs;
mod network;
mod restarts;
mod stop_signal;
mod sweep;

pub(crate) use cgroup::of_container;
pub(crate) use client::Docker;
pub(crate) use container::{Attachment, Container};
pub(crate) use create::NewContainer;
pub(crate) use error::DockerError;
pub(crate) use network::Network;
pub(crate) use restarts::Restarts;
pub(crate) use stop_signal::ignores;

/// The label of everything that is created here; its value is the session's name.
pub(crate) const SESSION_LABEL: &str = "faultbox.session";

#[cfg(test)]
mod tests;
