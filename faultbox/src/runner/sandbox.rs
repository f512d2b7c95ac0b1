//! What one run has to itself: a network namespace, files, a cgroup subtree, a mark.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    cgroup, mark,
    message::message,
    netns,
    session::Session,
    supply::{Namespaces, Supply},
};
use crate::engine::Driver;

/// How long killed processes may take to die.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest name of a service that is used as it is for its cgroup.
const NAME: usize = 100;

/// Why a run could not get a sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// No cgroup.
    #[error("cannot create the cgroup {}: {error}", path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Neither a network of its own, nor may it share the host's with other runs.
    #[error("cannot make a network namespace: {0}")]
    Network(String),
    /// Neither files of its own, nor may it share the host's with other runs.
    #[error("cannot make a mount namespace: {0}")]
    Files(String),
}

/// What other runs that are under way would share as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoesBeside {
    /// The host's network.
    pub(crate) network: bool,
    /// Its files.
    pub(crate) files: bool,
}

/// The sandbox of one run. Dropping it kills whatever is left in it and removes it.
#[derive(Debug)]
pub(crate) struct Sandbox<'s> {
    /// Where the run's steps and healthchecks dial from.
    pub(crate) driver: Driver,
    /// Why the run shares the host's network; `None`: it has one of its own.
    pub(crate) shared_network: Option<String>,
    /// Why its services share the host's files, although they should not; `None`: they have their
    /// own, or share them as is wanted.
    pub(crate) shared_files: Option<String>,
    /// The mount namespace of its services.
    pub(crate) files: Option<Arc<OwnedFd>>,
    /// The mark in the environment of its processes.
    pub(crate) mark: String,
    cgroup: Option<PathBuf>,
    supply: &'s Supply,
    namespaces: Option<Namespaces>,
}

impl<'s> Sandbox<'s> {
    /// Puts the calling thread, and with it everything it starts, into a sandbox. What cannot be
    /// had, for lack of privilege perhaps, the run shares with the host, unless it `goes_beside`
    /// others, which would share it, too.
    pub(crate) fn enter(
        session: &Session,
        supply: &'s Supply,
        run: u32,
        goes_beside: GoesBeside,
    ) -> Result<Self, SandboxError> {
        let cgroup = session.cgroup().map(|parent| parent.join(run.to_string()));
        if let Some(path) = &cgroup {
            create(path)?;
        }
        let namespaces = supply.take();
        let network = namespaces.network.as_ref().map_err(Clone::clone);
        let entered = network.and_then(|(network, driver)| {
            netns::join(network).map_err(|error| error.to_string()).map(|()| *driver)
        });
        let (driver, shared_network) = match entered {
            Ok(driver) => (driver, None),
            Err(why) if goes_beside.network => return Err(SandboxError::Network(why)),
            Err(why) => (netns::host(), Some(why)),
        };
        let (files, shared_files) = match &namespaces.files {
            Some(Ok(files)) => (Some(Arc::clone(files)), None),
            Some(Err(why)) if goes_beside.files => return Err(SandboxError::Files(why.clone())),
            Some(Err(why)) => (None, Some(why.clone())),
            None => (None, None),
        };
        Ok(Self {
            driver,
            shared_network,
            shared_files,
            files,
            mark: mark::of_run(session.id(), run),
            cgroup,
            supply,
            namespaces: Some(namespaces),
        })
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

    /// Says, once in all, what its services share with the host although they should not.
    pub(crate) fn note_what_is_shared(&self) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let (network, files) = (&self.shared_network, &self.shared_files);
        if (network.is_none() && files.is_none()) || SAID.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(why) = network {
            message(format_args!(
                "note: services run in this machine's own network, where their ports may clash: \
                 no network namespace ({why}; root, or CAP_SYS_ADMIN and CAP_NET_ADMIN, give each run one)"
            ));
        }
        // Said already, if it is for the same lack of privilege.
        if let Some(why) = files.as_ref().filter(|it| Some(*it) != network.as_ref()) {
            message(format_args!(
                "note: services use this machine's own /tmp, /var/tmp and /dev/shm, where they find \
                 what others have left: {why} (--shared-tmp, if that is meant)"
            ));
        }
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
    fs::create_dir(path).map_err(|error| SandboxError::Cgroup { path: path.to_owned(), error })
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.cgroup {
            if let Err(error) = cgroup::remove(path, Instant::now() + PATIENCE) {
                let path = path.display();
                message(format_args!("warning: cannot remove the cgroup {path}: {error}"));
            }
        } else {
            mark::kill_run(&self.mark);
        }
        self.files = None;
        self.namespaces.take().into_iter().for_each(|it| self.supply.give_back(it));
    }
}
