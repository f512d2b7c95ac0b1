//! What can go wrong with containers, each in one sentence that says what to do.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use bollard::errors::Error;
use thiserror::Error as ThisError;

use crate::spec::quoted;

/// Why Docker could not be asked, or would not.
#[derive(Debug, ThisError)]
pub(crate) enum DockerError {
    /// `DOCKER_HOST` names another machine.
    #[error(
        "DOCKER_HOST is {0}, and only containers of this machine can be broken; run faultbox on \
         that one, or unset DOCKER_HOST"
    )]
    Elsewhere(String),
    /// Nobody answers.
    #[error(
        "cannot reach Docker at {host}: {why}; is it running, and may you use it (root, or the \
         group docker)?"
    )]
    Unreachable {
        /// Where it should have been.
        host: String,
        /// What the system says.
        why: String,
    },
    /// No answer in time.
    #[error("Docker at {host} was told to {what} and has not answered within {waited:?}")]
    Silent {
        /// Where it is.
        host: String,
        /// What it was told to do.
        what: String,
        /// How long that was.
        waited: Duration,
    },
    /// Docker's own refusal.
    #[error("Docker cannot {what}: {said}")]
    Refused {
        /// What it was told to do.
        what: String,
        /// What it says, on one line.
        said: String,
        /// The status of its answer.
        status: u16,
    },
    /// An answer that this program does not understand.
    #[error("Docker at {host} was told to {what} and gave an answer that makes no sense: {why}")]
    Nonsense {
        /// Where it is.
        host: String,
        /// What it was told to do.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Such a name can be no container's.
    #[error(
        "{} is no name of a container; use its name, its id, or PROJECT/SERVICE for one of Docker \
         Compose", quoted(.0)
    )]
    NoName(String),
    /// No container has that name.
    #[error("Docker knows no container {name:?}{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// Names that may have been meant, or nothing.
        hint: String,
    },
    /// It is there, but has no process.
    #[error("container {name:?} is not running (it is {status}); start it, as by {start}{hint}")]
    NotRunning {
        /// The name that was asked for.
        name: String,
        /// What it does instead.
        status: String,
        /// A command that starts it.
        start: String,
        /// What is running, or nothing.
        hint: String,
    },
    /// A service of a Compose project runs several times.
    #[error("{name:?} runs more than once ({}); name one of them", .containers.join(", "))]
    Several {
        /// The name that was asked for.
        name: String,
        /// The names of the containers.
        containers: Vec<String>,
    },
    /// Such a name can be no image's.
    #[error("{} is no name of an image", quoted(.0))]
    NoImage(String),
    /// Neither here nor to be had.
    #[error("image {image} not found locally and pull failed: {why}")]
    NotPulled {
        /// The image.
        image: String,
        /// What the registry says.
        why: String,
    },
    /// What is to be built cannot be read.
    #[error("cannot build {}: {why}", directory.display())]
    NoContext {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A step of the Dockerfile failed.
    #[error("building {} failed: {why}{}", directory.display(), indented(.output))]
    NotBuilt {
        /// The directory.
        directory: PathBuf,
        /// What Docker says.
        why: String,
        /// The end of what the build has said.
        output: Vec<String>,
    },
    /// No range of addresses is free.
    #[error(
        "Docker has no addresses left for network {name} ({said}); remove networks that nobody \
         uses (docker network prune), or give it more (default-address-pools in \
         /etc/docker/daemon.json)"
    )]
    NoAddresses {
        /// The network.
        name: String,
        /// What Docker says.
        said: String,
    },
    /// A network that has no bridge with IPv4.
    #[error("Docker's network {name} {why}; attach the container to a bridge network with IPv4")]
    NoBridge {
        /// The network.
        name: String,
        /// What it lacks.
        why: String,
    },
    /// The container's processes cannot be told from others.
    #[error("container {id} has no cgroup of version 2 to itself: {why}")]
    NoCgroup {
        /// The container, shortened.
        id: String,
        /// Why, and what to do.
        why: String,
    },
    /// Its output cannot be copied, or its restarts not be seen.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl DockerError {
    /// What the client says went wrong when Docker was told to do `what`.
    pub(super) fn from_api(error: Error, host: &str, what: String) -> Self {
        let host = host.to_owned();
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { what, said: one_line(&message), status: status_code }
            }
            Error::DockerStreamError { error } => {
                Self::Refused { what, said: one_line(&error), status: 0 }
            }
            Error::JsonDataError { .. }
            | Error::JsonSerdeError { .. }
            | Error::StrParseError { .. } => {
                Self::Nonsense { host, what, why: one_line(&error.to_string()) }
            }
            _ => Self::Unreachable { host, why: one_line(&causes(&error)) },
        }
    }

    /// The status of Docker's answer, if it was a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether Docker does not know what was named.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some repeat their cause themselves.
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}

/// White space of any kind as single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines below the first, or nothing.
fn indented(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n    {line}");
        text
    })
}
