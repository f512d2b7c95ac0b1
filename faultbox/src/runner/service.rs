//! A service of a running test: its target, its process or container, and how far it is.

use std::{
    ffi::CString,
    fs,
    net::IpAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    addresses::{Peer, Whereabouts},
    container::{NamespaceId, RunningContainer},
    containers::Started,
    environment::environment,
    message::message,
    netns,
    output::Outputs,
    port,
    sandbox::Sandbox,
};
use crate::{
    docker::{Restarts, of_container},
    engine::{Driver, Engine, Exit, Launch, Process, RecordSink, Target},
    protocol::Dialer,
    spec::Service,
};

/// How far a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its dependencies.
    Waiting,
    /// Its process runs and its healthcheck has not passed.
    Starting,
    /// Those that depend on it can start.
    Ready,
}

/// What a service is, once it is started.
enum Instance {
    /// Not yet.
    None,
    /// A process that the target has started.
    Process(Process),
    /// A container.
    Container(Arc<RunningContainer>),
}

/// A service of the running test.
pub(crate) struct RunningService {
    /// As declared.
    pub(crate) declared: Service,
    /// Its cgroup as the engine knows it.
    pub(crate) target: Arc<Target>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// How it ended, if it has.
    pub(crate) exit: Option<Exit>,
    /// Whether it was started for this test.
    pub(crate) is_fresh: bool,
    instance: Instance,
    /// Has the target follow a container that others start again.
    restarts: Option<Restarts>,
}

impl RunningService {
    /// Makes a target of the service's cgroup. Nothing is started.
    pub(crate) fn prepare(
        engine: &Engine,
        sandbox: &Sandbox<'_>,
        position: usize,
        declared: &Service,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Self, String> {
        let name = &declared.name;
        let target = if declared.source.is_container() {
            // Docker makes its cgroup when it starts it. Inside, the driver has only one address.
            engine.running_target(name, netns::host(), sink)
        } else {
            let cgroup =
                sandbox.service_cgroup(position, name).map_err(|error| error.to_string())?;
            engine.target(name, cgroup.as_deref(), sandbox.driver, sink)
        };
        Ok(Self {
            declared: declared.clone(),
            target: Arc::new(target.map_err(|error| error.to_string())?),
            phase: Phase::Waiting,
            exit: None,
            is_fresh: true,
            instance: Instance::None,
            restarts: None,
        })
    }

    /// Starts the program. The error is the whole reason for which the test fails.
    pub(crate) fn start(
        &mut self,
        program: &str,
        peers: &[Peer<'_>],
        sandbox: &Sandbox<'_>,
        outputs: &Outputs,
    ) -> Result<u32, String> {
        for interface in &self.declared.interfaces {
            if let Some(occupant) = port::occupant(interface.port) {
                return Err(occupant.to_string());
            }
        }
        let fail = |text: String| format!("service {:?}: {text}", self.declared.name);
        let program = program.to_owned();
        let arguments = [&program].into_iter().chain(&self.declared.args);
        let arguments = arguments
            .map(|it| CString::new(it.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_| fail("an argument contains a zero byte".to_owned()))?;
        let launch = Launch {
            program: PathBuf::from(program),
            arguments,
            environment: environment(&self.declared, peers, &sandbox.mark).map_err(fail)?,
            mounts: sandbox.files.clone(),
            output: Some(
                outputs
                    .capture(&self.declared.name)
                    .map_err(|error| fail(format!("cannot capture its output: {error}")))?,
            ),
        };
        let process = self.target.spawn(&launch).map_err(|error| fail(error.to_string()))?;
        let pid = process.pid();
        self.instance = Instance::Process(process);
        self.phase = Phase::Starting;
        Ok(pid)
    }

    /// Takes a container that was started, or runs anyway, as what the service is. With
    /// `in_kernel` the engine is to reach its calls, and does from now on.
    pub(crate) fn adopt(
        &mut self,
        Started { container, is_fresh }: Started,
        in_kernel: bool,
    ) -> Result<u32, String> {
        let fail = |text: String| format!("service {:?}: {text}", self.declared.name);
        let pid = container.about.pid;
        let cgroup = of_container(&container.about.id, pid);
        if in_kernel && let Err(error) = &cgroup {
            return Err(fail(error.to_string()));
        }
        // Where no program breaks its calls, only partitions need it, and say so.
        if let Ok(cgroup) = cgroup {
            self.target.rebind(&cgroup).map_err(|error| fail(error.to_string()))?;
            if !container.is_own {
                let target = Arc::clone(&self.target);
                let follow = move |cgroup: &Path| {
                    // What it is about is gone again; the next start is another chance.
                    let _ = target.rebind(cgroup);
                };
                let known = fs::metadata(&cgroup).map_or(0, |it| it.ino());
                let restarts = Restarts::watch(&cgroup, known, follow);
                self.restarts = Some(restarts.map_err(|error| fail(error.to_string()))?);
            }
        }
        self.is_fresh = is_fresh;
        self.instance = Instance::Container(container);
        self.phase = Phase::Starting;
        Ok(pid)
    }

    /// A process or container of ours as long as it runs: readable when it has ended.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.instance {
            _ if self.exit.is_some() => None,
            Instance::Process(process) => Some(process.as_fd()),
            Instance::Container(container) => container.is_own.then(|| container.pidfd()),
            Instance::None => None,
        }
    }

    /// The id of its main process, as long as it runs, if it listens where the driver is.
    pub(crate) fn local_pid(&self) -> Option<u32> {
        match &self.instance {
            Instance::Process(process) if self.exit.is_none() => Some(process.pid()),
            _ => None,
        }
    }

    /// Its container, if it is one and was started.
    pub(crate) fn container(&self) -> Option<&Arc<RunningContainer>> {
        match &self.instance {
            Instance::Container(container) => Some(container),
            Instance::Process(_) | Instance::None => None,
        }
    }

    /// Where it is in the network, which programs reach by `uplinks`.
    pub(crate) fn whereabouts(&self, uplinks: &[(String, IpAddr)]) -> Whereabouts {
        match &self.instance {
            Instance::Container(container) => Whereabouts {
                namespace: Some(container.namespace_id()),
                network: Some(Arc::clone(container.namespace())),
                addresses: container.addresses(),
            },
            Instance::Process(_) | Instance::None => {
                let namespace = NamespaceId::own().ok();
                Whereabouts { namespace, network: None, addresses: uplinks.to_vec() }
            }
        }
    }

    /// Its environment, as far as it can be known.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        match &self.instance {
            Instance::Container(container) => &container.about.env,
            Instance::Process(_) | Instance::None => &self.declared.env,
        }
    }

    /// How steps and healthchecks reach it.
    pub(crate) fn dialer(&mut self, driver: Driver) -> Dialer {
        match &mut self.instance {
            Instance::Container(container) => {
                if !container.is_own
                    && container.has_ended()
                    && let Some(again) = container.started_again()
                {
                    *container = Arc::new(again);
                }
                container.dialer()
            }
            Instance::Process(_) | Instance::None => Dialer { driver, ..Dialer::default() },
        }
    }

    /// Asks it to end, unless it is to go on after the test.
    pub(crate) fn ask_to_end(&self) {
        match &self.instance {
            Instance::Process(process) if self.exit.is_none() => process.signal(libc::SIGTERM),
            Instance::Container(container) if self.is_to_end(container) => {
                // What does not get the signal is killed in the end.
                let _ = container.ask_to_end();
            }
            _ => {}
        }
    }

    /// Kills its container, unless that is to go on after the test.
    pub(crate) fn kill(&self) {
        if let Instance::Container(container) = &self.instance
            && self.is_to_end(container)
            && let Err(error) = container.kill()
        {
            message(format_args!("warning: service {:?}: {error}", self.declared.name));
        }
    }

    fn is_to_end(&self, container: &RunningContainer) -> bool {
        container.is_own && !self.declared.container.reuse && self.exit.is_none()
    }

    /// Whether it is there until somebody else ends it.
    pub(crate) fn goes_on(&self) -> bool {
        self.declared.container.reuse || self.declared.source.is_foreign()
    }

    /// Whether it has ended since the last time somebody asked, and how.
    pub(crate) fn ended(&mut self) -> Option<Exit> {
        self.ends_within(Duration::ZERO)
    }

    /// The same, and waits that long for it.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> Option<Exit> {
        if self.exit.is_some() {
            return None;
        }
        self.exit = match &mut self.instance {
            Instance::Process(process) => process.wait(patience),
            Instance::Container(container) if container.is_own => {
                container.ends_within(patience).then(|| container.exit())
            }
            Instance::Container(_) | Instance::None => None,
        };
        self.exit
    }
}

/// How a process ended, in words: `exit code 1`, `signal SIGSEGV`.
pub(crate) fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {signal}"),
            Err(_) => format!("signal {number}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_described_in_the_words_of_the_contract() {
        assert_eq!(describe(Exit::Code(1)), "exit code 1");
        assert_eq!(describe(Exit::Signal(libc::SIGSEGV)), "signal SIGSEGV");
        assert_eq!(describe(Exit::Signal(40)), "signal 40");
    }
}
