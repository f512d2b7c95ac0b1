//! The connection to Docker, and how its answers are waited for.

use std::{future::Future, os::fd::BorrowedFd, pin::pin, sync::Arc, time::Duration};

use bollard::{API_DEFAULT_VERSION, errors::Error};
use futures_util::future::{Either, select};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::DockerError;

/// How long Docker may take to say that it is there.
const GREETING: Duration = Duration::from_secs(10);
/// How long Docker may take to do one thing, such as to start or to remove a container.
const PATIENCE: Duration = Duration::from_secs(60);
/// The client's own limit, out of the way of those here.
const NO_LIMIT: u64 = 24 * 60 * 60;
/// The engine's socket, unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "unix:///var/run/docker.sock";

/// A Docker Engine, or another one with its API, on this machine.
///
/// Clones share one connection and the one thread that serves it, which lives in the namespaces of
/// the thread that connected. Every method blocks, and may be called from any thread: a socket
/// with a path is the same one in every network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    pub(super) api: bollard::Docker,
    pub(super) host: Arc<str>,
    interrupt: Option<BorrowedFd<'static>>,
    // Ends with the last clone, and with it whatever is still being copied.
    runtime: Arc<Runtime>,
}

impl Docker {
    /// Connects to what `DOCKER_HOST` names, or to the usual socket.
    pub(crate) fn connect() -> Result<Self, DockerError> {
        let host = std::env::var("DOCKER_HOST").ok().filter(|it| !it.is_empty());
        Self::connect_to(host.as_deref().unwrap_or(SOCKET))
    }

    /// Connects to a socket, by `unix://` or by its path alone. It brings a thread of its own, so
    /// it can be called in a child after a fork as well, if that has one thread only.
    pub(crate) fn connect_to(host: &str) -> Result<Self, DockerError> {
        if !host.starts_with("unix://") && !host.starts_with('/') {
            return Err(DockerError::Elsewhere(host.to_owned()));
        }
        let unreachable = |why: String| DockerError::Unreachable { host: host.to_owned(), why };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("docker")
            .enable_all()
            .build()
            .map_err(|error| unreachable(format!("cannot start a thread: {error}")))?;
        let api = bollard::Docker::connect_with_unix(host, NO_LIMIT, API_DEFAULT_VERSION)
            .map_err(|error| unreachable(error.to_string()))?;
        let docker = Self { api, host: host.into(), interrupt: None, runtime: Arc::new(runtime) };
        match docker.block_within(GREETING, docker.api.ping()) {
            Ok(Ok(_)) => Ok(docker),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no answer within {GREETING:?}"))),
        }
    }

    /// The same, but what may take minutes (pulling and building) ends as soon as this descriptor
    /// becomes readable.
    pub(crate) fn interrupted_by(self, descriptor: BorrowedFd<'static>) -> Self {
        Self { interrupt: Some(descriptor), ..self }
    }

    /// What was connected to.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Waits for something asynchronous, on the calling thread.
    pub(super) fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The same, unless it takes too long or is interrupted.
    pub(super) fn block_within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Late> {
        // The limit and the descriptor belong to the runtime, so they have to be made there.
        self.block(async {
            let work = pin!(timeout(limit, work));
            let interrupt = pin!(readable(self.interrupt));
            match select(work, interrupt).await {
                Either::Left((Ok(answer), _)) => Ok(answer),
                Either::Left((Err(_), _)) => Err(Late::Limit(limit)),
                Either::Right(_) => Err(Late::Interrupt),
            }
        })
    }

    /// Does something in the background.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Detached: it ends with the runtime at the latest.
        drop(self.runtime.spawn(work));
    }

    /// How many things are being done in the background.
    #[cfg(test)]
    pub(super) fn background(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Does something that waits for no descriptor, such as reading files, on a thread of its own.
    pub(super) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.runtime.spawn_blocking(work));
    }

    /// One answer of Docker's to one request, within [`PATIENCE`]. `what` completes "Docker
    /// cannot …".
    pub(super) async fn answer<T>(
        &self,
        what: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DockerError> {
        match timeout(PATIENCE, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(DockerError::from_api(error, &self.host, what())),
            Err(_) => {
                let host = self.host.to_string();
                Err(DockerError::Silent { host, what: what(), waited: PATIENCE })
            }
        }
    }
}

/// Why something was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Late {
    /// It took too long.
    #[error("it has not ended within {0:?}")]
    Limit(Duration),
    /// The user wants no more of it.
    #[error("it was interrupted")]
    Interrupt,
}

/// Ends when there is something to read.
async fn readable(descriptor: Option<BorrowedFd<'static>>) {
    // A failure to wait is no reason to give up the work.
    let Some(Ok(own)) = descriptor.map(|it| it.try_clone_to_owned()) else {
        return std::future::pending().await;
    };
    // SAFETY: a descriptor of its own, which is closed when the registration has ended, and which
    // nobody else can register.
    match unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) } {
        Ok(own) if own.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_that_is_not_there_is_told_from_one_elsewhere() {
        let error = |host| Docker::connect_to(host).err().unwrap().to_string();
        let text = error("unix:///no/such.sock");
        assert!(text.contains("cannot reach Docker at unix:///no/such.sock"), "{text}");
        assert!(text.contains("is it running"), "{text}");
        let text = error("tcp://db.example:2375");
        assert!(text.contains("only containers of this machine"), "{text}");
    }
}
