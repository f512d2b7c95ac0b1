//! The engine: targets, rules and records, whatever rung serves them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use faultbox_common::{MAX_PORTS, MAX_TARGETS, RuleKey, RuleSet};

use super::{
    Action, RecordSink, Rule, RuleCounts, RuleId, Syscall, Target, TargetId,
    arming::{self, Armed, Places},
    coverage::Coverage,
    kernel::{self, EventReader, Kernel, KernelError, Rung, Sinks},
    parking::{Lease, Parking},
    partition::Partitions,
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
    /// Of those, kprobes only, which `Auto` and `Ebpf` take where there is nothing better.
    Kprobe,
    /// The supervisor only.
    Seccomp,
}

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceLevel {
    /// None: rules and their hits are counted. (The supervisor records the calls that it breaks
    /// all the same.)
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
    /// Where threads wait for delayed calls of the in-kernel rungs.
    parking: Option<Parking>,
    /// The targets that rules delay in the kernel, once for each.
    delayed: Mutex<Vec<TargetId>>,
    trace: TraceLevel,
    extra: Vec<Syscall>,
    pub(super) partitions: Arc<Mutex<Partitions>>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) kernel: Option<Kernel>,
    pub(super) free_targets: Vec<u32>,
    /// Targets whose processes the supervisor cannot be put before, with their names.
    pub(super) running: HashMap<u32, String>,
    pub(super) places: Places,
}

impl Engine {
    /// Probes the kernel and loads what it offers.
    ///
    /// # Errors
    ///
    /// With [`Choice::Ebpf`], when the kernel refuses tracing programs or the process lacks the
    /// privilege to load them; with the other choices, when not even the supervisor can start.
    pub fn start(options: &Options) -> Result<Self, EngineError> {
        // Loading the object takes a tenth of a second, and only `--trace all` has use for it then.
        let refusal = || if options.trace < TraceLevel::All { kernel::refusal() } else { None };
        let (mut kernel, refusal) = match options.choice {
            Choice::Seccomp => (None, None),
            Choice::Auto if let Some(why) = refusal() => (None, Some(why)),
            Choice::Auto | Choice::Ebpf | Choice::Kprobe => {
                match Kernel::load(options.trace, options.choice) {
                    Ok(kernel) => (Some(kernel), None),
                    Err(error) if options.choice == Choice::Auto => (None, Some(error.to_string())),
                    Err(error) => return Err(error.into()),
                }
            }
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
        let parking = match &kernel {
            Some(kernel) => {
                let (parked, wakes, switches) = kernel.parking()?;
                Some(Parking::new(parked, wakes, switches))
            }
            None => None,
        };
        let state = State {
            kernel,
            free_targets: (0..MAX_TARGETS).rev().collect(),
            running: HashMap::new(),
            places: Places::default(),
        };
        let state = Mutex::new(state);
        let (trace, extra) = (options.trace, options.extra.clone());
        let inner = Inner {
            tables,
            coverage,
            supervisor,
            sinks,
            cgroups,
            reader,
            parking,
            delayed: Mutex::default(),
            trace,
            extra,
            partitions: Arc::default(),
            state,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which rung serves which call here.
    pub fn coverage(&self) -> &Coverage {
        &self.inner.coverage
    }

    /// How much it records.
    pub fn trace(&self) -> TraceLevel {
        self.inner.trace
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

    /// A target whose processes somebody else starts, such as a container: nothing is hit until
    /// [`Target::rebind`] says which cgroup it is, and never what only the supervisor serves.
    ///
    /// # Errors
    ///
    /// When there are too many targets.
    pub fn running_target(
        &self,
        name: &str,
        driver: faultbox_common::Driver,
        sink: Arc<dyn RecordSink>,
    ) -> Result<Target, EngineError> {
        Target::running(self.clone(), name, driver, sink)
    }

    /// Switches rules on, all at once for every later call. Dropping the guard switches them off.
    ///
    /// # Errors
    ///
    /// When a call cannot be broken on this kernel by the chosen mechanisms, with the reason.
    pub fn inject(&self, rules: &[Rule]) -> Result<Injection, EngineError> {
        let mut leases = Vec::new();
        for target in self.delayed_in_kernel(rules)? {
            let lease = self.park(target)?;
            let mut delayed = self.inner.delayed.lock().unwrap_or_else(PoisonError::into_inner);
            delayed.push(target);
            leases.push(Delayed { engine: self.clone(), target, _lease: lease });
        }
        let mut state = self.inner.lock();
        let state = &mut *state;
        if !leases.is_empty()
            && let Some(kernel) = &mut state.kernel
        {
            kernel.watch_signals()?;
        }
        let mut uses = Vec::new();
        let armed = self.inner.arm(state, rules, &mut uses);
        if armed.is_err()
            && let Some(kernel) = &mut state.kernel
        {
            for (syscall, action) in &uses {
                kernel.need_no_more(*syscall, *action);
            }
        }
        Ok(Injection { engine: self.clone(), armed: Some(armed?), uses, _leases: leases })
    }

    /// The targets of rules that delay calls in the kernel.
    fn delayed_in_kernel(&self, rules: &[Rule]) -> Result<BTreeSet<TargetId>, EngineError> {
        let mut targets = BTreeSet::new();
        for rule in rules.iter().filter(|rule| matches!(rule.action, Action::Delay(_))) {
            for syscall in &rule.syscalls {
                let rung = self.inner.coverage.rung(*syscall).map_err(EngineError)?;
                if rung == Rung::Kprobe {
                    // Refused in a moment, with the reason: nobody need be traced for that.
                    continue;
                }
                if rung != Rung::Supervisor {
                    targets.extend(rule.sites.iter().map(|site| site.target));
                }
            }
        }
        Ok(targets)
    }

    /// Whether a rule delays calls of a target in the kernel now.
    pub(super) fn is_delayed(&self, target: TargetId) -> bool {
        let delayed = self.inner.delayed.lock().unwrap_or_else(PoisonError::into_inner);
        delayed.contains(&target)
    }

    /// Has the tracer stand by for a target's threads.
    pub(super) fn park(&self, target: TargetId) -> Result<Lease, EngineError> {
        let cgroup = self.inner.cgroups.of(target);
        match (&self.inner.parking, cgroup) {
            (Some(parking), Some(cgroup)) => {
                parking.begin(&cgroup).map_err(|error| EngineError(error.to_string()))
            }
            _ => Err(EngineError("delay() needs a cgroup of the service's own".to_owned())),
        }
    }

    /// Calls that should have been delayed in the kernel and were not, so far: their thread had
    /// another tracer, was not traced yet, or the tracer had died.
    pub fn undelayed(&self) -> u64 {
        self.inner.lock().kernel.as_ref().map_or(0, Kernel::undelayed)
    }

    /// How often the tracer that parks threads had to be replaced, because something killed it.
    pub fn tracer_restarts(&self) -> u64 {
        self.inner.parking.as_ref().map_or(0, Parking::restarts)
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
        let of_parking = || self.inner.parking.as_ref().and_then(Parking::failure);
        self.inner.supervisor.as_ref().and_then(Supervisor::failure).or_else(of_parking)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.summary())
    }
}

/// Why a call of a target that runs by itself cannot be broken.
fn unreachable(syscall: Syscall, target: &str) -> String {
    format!(
        "{syscall} of {target:?} cannot be broken here: it runs in a container, which only faults \
         in the kernel reach, and on this kernel the seccomp supervisor serves {syscall}, which has \
         to start a process itself; use Linux 7.1 or newer, or a kernel with \
         CONFIG_FUNCTION_ERROR_INJECTION (faultbox doctor says what this one has), or run the \
         service as a local binary"
    )
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hooks what rules need, which `uses` tells, and switches them on.
    fn arm(
        &self,
        state: &mut State,
        rules: &[Rule],
        uses: &mut Vec<(Syscall, Action)>,
    ) -> Result<Armed, EngineError> {
        let State { kernel, places, running, .. } = state;
        for rule in rules {
            if let Some(site) = rule.sites.iter().find(|site| site.ports.len() > MAX_PORTS) {
                return Err(EngineError(format!(
                    "a rule names {} ports, more than the {MAX_PORTS} that it can hold",
                    site.ports.len()
                )));
            }
            for syscall in &rule.syscalls {
                let rung = self.coverage.rung(*syscall).map_err(EngineError)?;
                if rung == Rung::Supervisor {
                    let mut names = rule.sites.iter().filter_map(|it| running.get(&it.target.0));
                    if let Some(name) = names.next() {
                        return Err(EngineError(unreachable(*syscall, name)));
                    }
                } else if let Some(kernel) = kernel {
                    let of_call = |why| EngineError(format!("{syscall}: {why}"));
                    if let Some(why) = kernel.refusal(rung, rule.action) {
                        return Err(of_call(why));
                    }
                    kernel.hook(*syscall, rule.action).map_err(of_call)?;
                    kernel.need(*syscall, rule.action);
                    uses.push((*syscall, rule.action));
                }
            }
        }
        places.arm(&self.tables, rules, |key, set| self.publish(kernel.as_mut(), key, set))
    }

    /// Makes a changed set known to the programs, unless the supervisor serves the call: then
    /// the tracepoint goes on recording what the supervisor lets run.
    pub(super) fn publish(
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
    /// What the rules do to which calls.
    uses: Vec<(Syscall, Action)>,
    // Given up when the rules are off.
    _leases: Vec<Delayed>,
}

/// A target that the tracer stands by for.
struct Delayed {
    engine: Engine,
    target: TargetId,
    _lease: Lease,
}

impl Drop for Delayed {
    fn drop(&mut self) {
        let delayed = &self.engine.inner.delayed;
        let mut delayed = delayed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = delayed.iter().position(|target| *target == self.target) {
            delayed.swap_remove(at);
        }
    }
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
        if let Some(kernel) = kernel.as_mut() {
            for (syscall, action) in &self.uses {
                kernel.need_no_more(*syscall, *action);
            }
        }
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
