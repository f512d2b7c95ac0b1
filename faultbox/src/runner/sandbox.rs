//! What one run has to itself: a network namespace, a cgroup subtree, a mark.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{cgroup, mark, message::message, netns, session::Session};
use crate::engine::Driver;

/// How long killed processes may take to die.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest name of a service that is used as it is for its cgroup.
const NAME: usize = 100;

/// Why a run could not get a sandbox.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the cgroup {}: {error}", path.display())]
pub(crate) struct SandboxError {
    path: PathBuf,
    error: io::Error,
}

/// The sandbox of one run. Dropping it kills whatever is left in it and removes it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Where the run's steps and healthchecks dial from.
    pub(crate) driver: Driver,
    /// Why the run shares the host's network; `None`: it has one of its own.
    pub(crate) shared_network: Option<String>,
    /// The mark in the environment of its processes.
    pub(crate) mark: String,
    cgroup: Option<PathBuf>,
}

impl Sandbox {
    /// Puts the calling thread, and with it everything it starts, into a sandbox. Without
    /// privilege for a network namespace the run shares the host's network.
    pub(crate) fn enter(session: &Session, run: u32) -> Result<Self, SandboxError> {
        let cgroup = session.cgroup().map(|parent| parent.join(run.to_string()));
        if let Some(path) = &cgroup {
            create(path)?;
        }
        let (driver, shared_network) = match netns::enter() {
            Ok(driver) => (driver, None),
            Err(error) => (netns::host(), Some(error.to_string())),
        };
        Ok(Self { driver, shared_network, mark: mark::of_run(session.id(), run), cgroup })
    }

    /// Creates the cgroup of a service, the `position`th of the run; `None` where there are none.
    pub(crate) fn service_cgroup(
        &self,
        position: usize,
        name: &str,
    ) -> Result<Option<PathBuf>, SandboxError> {
        let Some(parent) = &self.cgroup else {
            return Ok(None);
        };
        let path = if name.len() <= NAME {
            parent.join(name)
        } else {
            let start: String = name.chars().take(NAME / 4).collect();
            parent.join(format!("{position}-{start}"))
        };
        create(&path)?;
        Ok(Some(path))
    }

    /// Sends SIGKILL to everything that runs in it.
    pub(crate) fn kill(&self) {
        match &self.cgroup {
            Some(path) => cgroup::kill_all(path),
            None => mark::kill_run(&self.mark),
        }
    }
}

fn create(path: &std::path::Path) -> Result<(), SandboxError> {
    fs::create_dir(path).map_err(|error| SandboxError { path: path.to_owned(), error })
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Some(path) = &self.cgroup else {
            return mark::kill_run(&self.mark);
        };
        if let Err(error) = cgroup::remove(path, Instant::now() + PATIENCE) {
            message(format_args!("warning: cannot remove the cgroup {}: {error}", path.display()));
        }
    }
}
