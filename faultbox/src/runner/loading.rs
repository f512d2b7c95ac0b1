//! Evaluating a spec for what it declares, without running anything.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{interrupt, message::message, running_test::after, test_run::STACK};
use crate::{
    engine::Syscall,
    spec::{
        FaultRequest, Host, HostError, Loaded, PartitionId, PartitionRequest, ScopeId, SpecError,
        SpecFile, Step, StepReply, evaluate,
    },
    trace::Log,
};

/// Reads and evaluates a file on a thread with stack enough, and hands what it declares to `then`.
/// What the file prints goes to standard error; it may take this long.
pub(crate) fn load<R: Send>(
    path: &Path,
    timeout: Duration,
    then: impl FnOnce(&SpecFile, &Loaded<'_, '_, '_>) -> R + Send,
) -> Result<(SpecFile, R), SpecError> {
    let work = || {
        let file = SpecFile::read(path)?;
        let host = Loading::within(timeout);
        let result = evaluate(&file, &host, |loaded| then(&file, loaded))?;
        Ok((file, result))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("load".to_owned()).stack_size(STACK);
        let result = thread.spawn_scoped(scope, work).map(thread::ScopedJoinHandle::join);
        let broken = |text: String| SpecError { text, location: None, line: None };
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(broken(format!("{}: a bug in faultbox", path.display()))),
            Err(error) => Err(broken(format!("cannot start a thread: {error}"))),
        }
    })
}

/// A spec that is evaluated to learn what it declares.
struct Loading {
    deadline: Instant,
}

impl Loading {
    /// May take this long.
    fn within(timeout: Duration) -> Self {
        Self { deadline: after(timeout) }
    }
}

/// The spec layer refuses steps and faults outside a test, so these are never called.
impl Host for Loading {
    fn step(&self, _: &str, _: &str, _: &Step) -> Result<StepReply, HostError> {
        Err(HostError("only valid while a test is running".to_owned()))
    }

    fn fault(&self, _: &FaultRequest) -> Result<ScopeId, HostError> {
        Err(HostError("only valid while a test is running".to_owned()))
    }

    fn partition(&self, _: &PartitionRequest) -> Result<PartitionId, HostError> {
        Err(HostError("only valid while a test is running".to_owned()))
    }

    fn heal(&self, _: PartitionId) {}

    fn heal_imperative(&self, _: &str, _: &str) {}

    fn lift(&self, _: ScopeId) {}

    fn lift_imperative(&self, _: &str) {}

    fn sleep(&self, _: Duration) {}

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn timeout(&self) -> Duration {
        self.time_left()
    }

    fn has_timed_out(&self) -> bool {
        !interrupt::requested() && Instant::now() >= self.deadline
    }

    fn settled(&self) -> Result<Arc<Log>, HostError> {
        Err(HostError("only valid while a test is running".to_owned()))
    }

    fn lost(&self) -> u64 {
        0
    }

    fn records(&self, _: Syscall) -> bool {
        false
    }

    fn pause(&self, _: Duration) {}

    fn lift_traces(&self, _: &str) {}

    fn warn(&self, text: &str) {
        message(format_args!("warning: {text}"));
    }

    fn overlap(&self, _: Vec<Box<dyn FnOnce() + '_>>) -> Result<(), HostError> {
        Err(HostError("only valid while a test is running".to_owned()))
    }

    fn print(&self, line: &str) {
        message(line);
    }

    fn is_cancelled(&self) -> bool {
        interrupt::requested() || Instant::now() >= self.deadline
    }
}
