//! A service of a running test: its target, its process, and how far it is.

use std::{ffi::CString, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::signal::Signal;

use super::{environment::environment, output::Outputs, port, sandbox::Sandbox};
use crate::{
    engine::{Engine, Exit, Launch, Process, RecordSink, Target},
    spec::{Service, Source},
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

/// A service of the running test.
pub(crate) struct RunningService {
    /// As declared.
    pub(crate) declared: Service,
    /// Its cgroup as the engine knows it.
    pub(crate) target: Target,
    /// How far it is.
    pub(crate) phase: Phase,
    /// How it ended, if it has.
    pub(crate) exit: Option<Exit>,
    process: Option<Process>,
}

impl RunningService {
    /// Makes a target of the service's cgroup. Nothing is started.
    pub(crate) fn prepare(
        engine: &Engine,
        sandbox: &Sandbox,
        position: usize,
        declared: &Service,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Self, String> {
        let cgroup =
            sandbox.service_cgroup(position, &declared.name).map_err(|error| error.to_string())?;
        let target = engine
            .target(&declared.name, cgroup.as_deref(), sandbox.driver, sink)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            declared: declared.clone(),
            target,
            phase: Phase::Waiting,
            exit: None,
            process: None,
        })
    }

    /// Starts the process. The error is the whole reason for which the test fails.
    pub(crate) fn start(
        &mut self,
        all: &[Service],
        sandbox: &Sandbox,
        outputs: &Outputs,
    ) -> Result<u32, String> {
        for interface in &self.declared.interfaces {
            if let Some(occupant) = port::occupant(interface.port) {
                return Err(occupant.to_string());
            }
        }
        let fail = |text: String| format!("service {:?}: {text}", self.declared.name);
        let Source::Binary(program) = &self.declared.source;
        let arguments = [program].into_iter().chain(&self.declared.args);
        let arguments = arguments
            .map(|it| CString::new(it.as_str()))
            .collect::<Result<_, _>>()
            .map_err(|_| fail("an argument contains a zero byte".to_owned()))?;
        let launch = Launch {
            program: PathBuf::from(program),
            arguments,
            environment: environment(&self.declared, all, &sandbox.mark).map_err(fail)?,
            output: Some(
                outputs
                    .capture(&self.declared.name)
                    .map_err(|error| fail(format!("cannot capture its output: {error}")))?,
            ),
        };
        let process = self.target.spawn(&launch).map_err(|error| fail(error.to_string()))?;
        let pid = process.pid();
        self.process = Some(process);
        self.phase = Phase::Starting;
        Ok(pid)
    }

    /// The process, as long as it runs.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref().filter(|_| self.exit.is_none())
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
        self.exit = self.process.as_mut()?.wait(patience);
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
