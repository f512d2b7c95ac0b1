//! The engine: targets, rules and records, whatever rung serves them.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use faultbox_common::{MAX_PORTS, MAX_TARGETS, RuleKey, RuleSet};

use super::{
    RecordSink, Rule, RuleCounts, RuleId, Syscall, Target,
    arming::{self, Armed, Places},
    coverage::Coverage,
    kernel::{EventReader, Kernel, KernelError, Rung, Sinks},
    supervisor::Supervisor,
    tables::Tables,
    target::Cgroups,
};

/// Which mechanisms the engine may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that this kernel really offers, per system call.
    #[default]
    Auto,
    /// In-kernel programs only.
    Ebpf,
    /// The supervisor only.
    Seccomp,
}

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceLevel {
    /// Only calls that a rule breaks.
    Off,
    /// The calls of the default set (`Syscall::is_observed`) and those that a rule names.
    #[default]
    Default,
    /// Every call in the table.
    All,
}

/// How to start an engine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which mechanisms.
    pub choice: Choice,
    /// How much is recorded.
    pub trace: TraceLevel,
    /// Calls that rules may name, beyond the default set. Only the supervisor must know them
    /// before a process starts.
    pub extra: Vec<Syscall>,
}

/// Why an engine could not do something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

impl From<KernelError> for EngineError {
    fn from(error: KernelError) -> Self {
        Self(error.to_string())
    }
}

/// Breaks calls of its targets until it and they are dropped. Cheap to clone.
///
/// Everything it puts into the kernel ends with the process, however the process ends: nothing
/// is pinned.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) tables: Arc<Tables>,
    pub(super) coverage: Coverage,
    pub(super) supervisor: Option<Supervisor>,
    pub(super) sinks: Arc<Sinks>,
    pub(super) cgroups: Arc<Cgroups>,
    reader: Option<EventReader>,
    trace: TraceLevel,
    extra: Vec<Syscall>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) kernel: Option<Kernel>,
    pub(super) free_targets: Vec<u32>,
    places: Places,
}

impl Engine {
    /// Probes the kernel and loads what it offers.
    ///
    /// # Errors
    ///
    /// With [`Choice::Ebpf`], when the kernel refuses tracing programs or the process lacks the
    /// privilege to load them; with the other choices, when not even the supervisor can start.
    pub fn start(options: &Options) -> Result<Self, EngineError> {
        let (mut kernel, refusal) = match options.choice {
            Choice::Seccomp => (None, None),
            Choice::Auto | Choice::Ebpf => match Kernel::load(options.trace) {
                Ok(kernel) => (Some(kernel), None),
                Err(error) if options.choice == Choice::Ebpf => return Err(error.into()),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        let coverage = Coverage::find(options, kernel.as_ref(), refusal)?;
        if !coverage.uses_kernel() && options.trace < TraceLevel::All {
            // The supervisor sees all there is to see: no need to tax the machine as well.
            kernel = None;
        }
        let observes = kernel.is_some() && options.trace > TraceLevel::Off;
        let tables = match &kernel {
            Some(kernel) => kernel.with_tables(|maps| Tables::new(Some(maps)))?,
            None => Tables::new(None),
        };
        let tables =
            Arc::new(tables.map_err(|error| EngineError(format!("cannot map tables: {error}")))?);
        let cgroups = Arc::new(Cgroups::default());
        let supervisor = if coverage.supervised().is_empty() {
            None
        } else {
            let level = if observes { TraceLevel::Off } else { options.trace };
            let doomed = Arc::clone(&cgroups);
            let kill = Arc::new(move || doomed.kill_all());
            let started = Supervisor::start(Arc::clone(&tables), level, kill);
            let refused = |error| EngineError(format!("cannot start the supervisor: {error}"));
            Some(started.map_err(refused)?)
        };
        let sinks = Arc::new(Sinks::default());
        let reader = match &mut kernel {
            Some(kernel) => {
                let events = kernel.take_events()?;
                kernel.attach_tracepoints(observes)?;
                let reader = EventReader::start(events, Arc::clone(&sinks));
                Some(reader.map_err(|error| EngineError(format!("cannot read events: {error}")))?)
            }
            None => None,
        };
        let state = State {
            kernel,
            free_targets: (0..MAX_TARGETS).rev().collect(),
            places: Places::default(),
        };
        let state = Mutex::new(state);
        let (trace, extra) = (options.trace, options.extra.clone());
        let inner =
            Inner { tables, coverage, supervisor, sinks, cgroups, reader, trace, extra, state };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which rung serves which call here.
    pub fn coverage(&self) -> &Coverage {
        &self.inner.coverage
    }

    /// One line that says which rung serves what.
    pub fn summary(&self) -> String {
        self.inner.coverage.to_string()
    }

    /// Makes a target of a cgroup and its descendants, by the path of its directory. Without a
    /// cgroup only the processes that [`Target::spawn`] starts, with their descendants, are hit,
    /// and only by the supervisor.
    ///
    /// # Errors
    ///
    /// When in-kernel rungs are in use and there is no cgroup, or it is not one of cgroup v2, or
    /// there are too many targets.
    pub fn target(
        &self,
        name: &str,
        cgroup: Option<&Path>,
        driver: faultbox_common::Driver,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Target, EngineError> {
        Target::new(self.clone(), name, cgroup, driver, sink)
    }

    /// Switches rules on, all at once for every later call. Dropping the guard switches them off.
    ///
    /// # Errors
    ///
    /// When a call cannot be broken on this kernel by the chosen mechanisms, with the reason.
    pub fn inject(&self, rules: &[Rule]) -> Result<Injection, EngineError> {
        let mut state = self.inner.lock();
        let state = &mut *state;
        for rule in rules {
            if let Some(site) = rule.sites.iter().find(|site| site.ports.len() > MAX_PORTS) {
                return Err(EngineError(format!(
                    "a rule names {} ports, more than the {MAX_PORTS} that it can hold",
                    site.ports.len()
                )));
            }
            for syscall in &rule.syscalls {
                let rung = self.inner.coverage.rung(*syscall).map_err(EngineError)?;
                if rung != Rung::Supervisor
                    && let Some(kernel) = &mut state.kernel
                {
                    kernel.hook(*syscall).map_err(EngineError)?;
                }
            }
        }
        let State { kernel, places, .. } = state;
        let armed = places.arm(&self.inner.tables, rules, |key, set| {
            self.inner.publish(kernel.as_mut(), key, set)
        })?;
        Ok(Injection { engine: self.clone(), armed: Some(armed) })
    }

    /// Returns when every record of a call that was decided before has reached its sink.
    pub fn drain(&self) {
        if let Some(reader) = &self.inner.reader {
            reader.drain();
        }
    }

    /// Records lost so far to a full ring buffer.
    pub fn dropped(&self) -> u64 {
        self.inner.lock().kernel.as_ref().map_or(0, Kernel::dropped)
    }

    /// Calls with a rule that passed unexamined so far, because the kernel skipped a program that
    /// another thread was preempted in on the same processor (`recursion_misses`), or because
    /// their path was not in memory yet.
    pub fn misses(&self) -> u64 {
        self.inner.lock().kernel.as_ref().map_or(0, Kernel::misses)
    }

    /// Why the engine no longer does what it promised, if so: its targets must be killed.
    pub fn failure(&self) -> Option<String> {
        self.inner.supervisor.as_ref().and_then(Supervisor::failure)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.summary())
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a changed set known to the programs, unless the supervisor serves the call: then
    /// the tracepoint goes on recording what the supervisor lets run.
    fn publish(
        &self,
        kernel: Option<&mut Kernel>,
        key: RuleKey,
        set: &RuleSet,
    ) -> Result<(), EngineError> {
        let rung = Syscall::from_number(key.syscall).map(|syscall| self.coverage.rung(syscall));
        match (kernel, rung) {
            (Some(kernel), Some(Ok(rung))) if rung != Rung::Supervisor => {
                Ok(kernel.set_rules(key, set)?)
            }
            _ => Ok(()),
        }
    }

    /// Calls of a target so far, exact: those that are counted at this trace level.
    pub(super) fn calls(&self, target: u32) -> BTreeMap<Syscall, u64> {
        let watched = |it: &Syscall| {
            self.trace == TraceLevel::All || it.is_observed() || self.extra.contains(it)
        };
        let counted = Syscall::all().filter(watched);
        let counted = counted.map(|it| (it, self.tables.calls(target, it.number())));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// Rules that are on. Dropping it switches them off: every call that is entered later, on any
/// processor, runs as if they had never been there.
pub struct Injection {
    engine: Engine,
    armed: Option<Armed>,
}

impl Injection {
    /// Exact counts so far, in the order the rules were given.
    pub fn counts(&self) -> Vec<(RuleId, RuleCounts)> {
        let tables = &self.engine.inner.tables;
        self.armed.as_ref().map(|armed| arming::counts(tables, armed)).unwrap_or_default()
    }

    /// Switches the rules off and returns their final counts.
    pub fn lift(mut self) -> Vec<(RuleId, RuleCounts)> {
        self.disarm()
    }

    fn disarm(&mut self) -> Vec<(RuleId, RuleCounts)> {
        let Some(armed) = self.armed.take() else { return Vec::new() };
        let mut state = self.engine.inner.lock();
        let State { kernel, places, .. } = &mut *state;
        let inner = &self.engine.inner;
        places.disarm(&inner.tables, &armed, |key, set| inner.publish(kernel.as_mut(), key, set))
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.counts()).finish()
    }
}
