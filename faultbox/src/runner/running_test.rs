//! The running test as the spec sees it: steps, faults, and when to stop.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    addresses::Whereabouts,
    faults::{self, Closed, Faults, Opened, Places},
    interrupt,
    message::message,
    partitions::{Healed, Partitions},
    sandbox::Sandbox,
    service::{RunningService, describe},
    step_text,
    tasks::Tasks,
};
use crate::{
    engine::{Decision, Engine, Exit, Syscall, TargetId, TraceLevel},
    protocol::{self, Limit},
    report::PartitionReport,
    spec::{
        FaultAction, FaultRequest, FaultWindow, Host, HostError, PartitionId, PartitionRequest,
        ScopeId, Service, Step, StepReply,
    },
    trace::{Event, EventKind, Log},
};

/// How long a process may take to die of a signal before nobody waits for it any more.
const DYING: Duration = Duration::from_millis(200);

/// The longest wait between two looks at whether the test is to end.
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Why a test was told to end before it had finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cancellation {
    /// The user wants it.
    Interrupted,
    /// The engine no longer does what it promised.
    EngineFailed(String),
    /// Its time is over.
    TimedOut,
}

/// A test under way.
pub(crate) struct RunningTest<'a> {
    engine: &'a Engine,
    sandbox: &'a Sandbox<'a>,
    log: &'a Arc<Log>,
    deadline: Cell<Instant>,
    timeout: Cell<Duration>,
    /// False while the file is evaluated once more, which says nothing new.
    is_running: Cell<bool>,
    declared: RefCell<Vec<Service>>,
    targets: RefCell<Vec<TargetId>>,
    services: RefCell<Vec<RunningService>>,
    /// Where containers find programs.
    uplinks: RefCell<Vec<(String, IpAddr)>>,
    faults: RefCell<Faults<'a>>,
    partitions: RefCell<Partitions<'a>>,
    warnings: RefCell<Vec<String>>,
    tasks: Tasks,
    /// What the engine had lost before this test.
    lost_before: u64,
}

impl<'a> RunningTest<'a> {
    /// A test without services; its file has this long to be evaluated.
    pub(crate) fn new(
        engine: &'a Engine,
        sandbox: &'a Sandbox<'a>,
        log: &'a Arc<Log>,
        timeout: Duration,
        seed: u64,
    ) -> Self {
        Self {
            engine,
            sandbox,
            log,
            deadline: Cell::new(after(timeout)),
            timeout: Cell::new(timeout),
            is_running: Cell::new(false),
            declared: RefCell::default(),
            targets: RefCell::default(),
            services: RefCell::default(),
            uplinks: RefCell::default(),
            faults: RefCell::new(Faults::new(engine, log, seed)),
            partitions: RefCell::new(Partitions::new(engine)),
            warnings: RefCell::default(),
            tasks: Tasks::default(),
            lost_before: engine.dropped(),
        }
    }

    /// Gives the test its services, whether or not they could all be started.
    pub(crate) fn adopt(
        &self,
        declared: &[Service],
        services: Vec<RunningService>,
        uplinks: &[(String, IpAddr)],
    ) {
        *self.uplinks.borrow_mut() = uplinks.to_vec();
        *self.targets.borrow_mut() = services.iter().map(|it| it.target.id()).collect();
        *self.declared.borrow_mut() = declared.to_vec();
        *self.services.borrow_mut() = services;
    }

    /// The test function is called now and may take this long.
    pub(crate) fn begin(&self, timeout: Duration) {
        self.deadline.set(after(timeout));
        self.timeout.set(timeout);
        self.is_running.set(true);
    }

    /// Why the test is to end, if so.
    pub(crate) fn cancellation(&self) -> Option<Cancellation> {
        cancellation(self.engine, self.deadline.get())
    }

    /// Whether functions of the test have run at the same time.
    pub(crate) fn has_overlapped(&self) -> bool {
        self.tasks.were_used()
    }

    /// Puts everything that has happened so far into the log, in order.
    pub(crate) fn settle(&self) {
        self.log.barrier(|| self.engine.drain());
    }

    /// Switches off whatever is still on.
    pub(crate) fn lift_all(&self) {
        let left = self.faults.borrow().all_on();
        for window in left {
            self.close(window);
        }
        let apart = self.partitions.borrow().all_on();
        for partition in apart {
            self.close_partition(partition);
        }
    }

    /// Waits for the end of services of which a rule has crashed a process: its connections are
    /// closed before it can be seen to have ended.
    pub(crate) fn await_crashed(&self) {
        let is_crash = |event: &&Event| {
            matches!(event.kind, EventKind::Syscall { decision: Decision::Crash(_), .. })
        };
        let crashed: HashSet<String> = self
            .log
            .read(|events| events.iter().filter(is_crash).map(|it| it.service.clone()).collect());
        for service in self.services.borrow_mut().iter_mut() {
            if crashed.contains(&service.declared.name)
                && let Some(exit) = service.ends_within(DYING)
            {
                self.note_end(&service.declared, exit);
            }
        }
    }

    /// Notes services that have ended by themselves.
    pub(crate) fn note_ends(&self) {
        for service in self.services.borrow_mut().iter_mut() {
            if let Some(exit) = service.ended() {
                self.note_end(&service.declared, exit);
            }
        }
    }

    /// Notes that a service has ended by itself: an event and a warning, not a failure.
    pub(crate) fn note_end(&self, service: &Service, exit: Exit) {
        let (name, how) = (&service.name, describe(exit));
        let text = format!("SERVICE_CRASHED: service {name:?} ended during the test ({how})");
        self.warnings.borrow_mut().push(text);
        self.log.push(name, EventKind::ServiceExited { how });
    }

    /// Whether a service was started for this test.
    pub(crate) fn is_fresh(&self, service: &str) -> bool {
        self.services.borrow().iter().any(|it| it.declared.name == service && it.is_fresh)
    }

    /// The services, to be stopped and reported.
    pub(crate) fn services(&self) -> std::cell::RefMut<'_, Vec<RunningService>> {
        self.services.borrow_mut()
    }

    /// What the windows have done, and what else there is to say.
    pub(crate) fn into_findings(self) -> (Vec<crate::report::WindowReport>, Vec<String>) {
        (self.faults.into_inner().into_reports(), self.warnings.into_inner())
    }

    /// What the partitions have cut.
    pub(crate) fn partitions(&self) -> Vec<PartitionReport> {
        self.partitions.borrow().reports()
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        self.services.borrow().iter().map(|it| it.whereabouts(&self.uplinks.borrow())).collect()
    }

    fn close_partition(&self, index: usize) {
        let healed = self.partitions.borrow_mut().close(index);
        if let Some(Healed { partition, a, b, hits }) = healed {
            self.log.push(&a, EventKind::PartitionRemoved { partition, peer: b, hits });
        }
    }

    fn close(&self, window: usize) {
        let closed = self.faults.borrow_mut().close(window);
        if let Some(closed) = closed {
            self.note_closed(closed);
        }
    }

    fn note_closed(&self, Closed { window, service, keywords, is_trace }: Closed) {
        if is_trace {
            return;
        }
        self.log.push(&service, EventKind::FaultRemoved { window, keywords });
    }
}

impl Host for RunningTest<'_> {
    fn step(&self, service: &str, interface: &str, step: &Step) -> Result<StepReply, HostError> {
        let place = {
            let mut services = self.services.borrow_mut();
            services.iter_mut().find(|it| it.declared.name == service).and_then(|service| {
                let interfaces = &service.declared.interfaces;
                let port = interfaces.iter().find(|it| it.name == interface)?.port;
                let env = service.environment().to_vec();
                Some((port, env, service.dialer(self.sandbox.driver)))
            })
        };
        let Some((port, env, dialer)) = place else {
            return Err(HostError(format!("{service}.{interface} is not running")));
        };
        self.note_ends();
        let sent = step_text::sent(interface, step);
        self.log.push(service, EventKind::StepSend { step: sent });
        let (engine, deadline) = (self.engine, self.deadline.get());
        let exchange = || {
            let cancelled = || cancellation(engine, deadline).is_some();
            let limit = Limit::new(deadline, &cancelled);
            protocol::run(step, &dialer, ("localhost", port), &env, &limit)
        };
        let reply = self.tasks.wait_for(exchange).unwrap_or_else(|error| {
            Err(HostError(format!("{service}.{interface}: cannot start a thread: {error}")))
        });
        let received = step_text::received(interface, step, reply.as_ref());
        self.log.push(service, EventKind::StepReceive { step: received });
        self.note_ends();
        self.settle();
        reply
    }

    fn fault(&self, request: &FaultRequest) -> Result<ScopeId, HostError> {
        let (declared, targets) = (self.declared.borrow(), self.targets.borrow());
        let whereabouts = self.whereabouts();
        let places = Places { services: &declared, targets: &targets, whereabouts: &whereabouts };
        let opened = self.faults.borrow_mut().open(request, places);
        let opened = opened.map_err(|error| HostError(error.to_string()))?;
        let mut keywords: Vec<_> = request.rules.iter().map(|it| it.keyword.clone()).collect();
        keywords.sort();
        let Opened { window, replaced } = opened;
        if request.rules.iter().any(|it| it.action != FaultAction::Trace) {
            self.log.push(&request.service, EventKind::FaultApplied { window, keywords });
        }
        for closed in replaced {
            self.note_closed(closed);
        }
        self.settle();
        Ok(ScopeId(window as u32))
    }

    fn lift(&self, scope: ScopeId) {
        self.close(scope.0 as usize);
        self.settle();
    }

    fn lift_imperative(&self, service: &str) {
        let windows = self.faults.borrow().imperative(service, false);
        for window in windows {
            self.close(window);
        }
        self.settle();
    }

    fn sleep(&self, time: Duration) {
        self.pause(time);
        self.note_ends();
        self.settle();
    }

    fn time_left(&self) -> Duration {
        self.deadline.get().saturating_duration_since(Instant::now())
    }

    fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    fn has_timed_out(&self) -> bool {
        self.cancellation() == Some(Cancellation::TimedOut)
    }

    fn settled(&self) -> Result<Arc<Log>, HostError> {
        if self.engine.trace() == TraceLevel::Off {
            let text = "nothing is recorded with --trace off; run it with --trace default";
            return Err(HostError(text.to_owned()));
        }
        self.settle();
        Ok(Arc::clone(self.log))
    }

    fn lost(&self) -> u64 {
        self.engine.dropped() - self.lost_before + self.log.missed()
    }

    fn records(&self, syscall: Syscall) -> bool {
        faults::records(self.engine, syscall)
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.tasks.pause(left.min(LONGEST_NAP));
        }
    }

    fn lift_traces(&self, service: &str) {
        let windows = self.faults.borrow().imperative(service, true);
        for window in windows {
            self.close(window);
        }
        self.settle();
    }

    fn partition(&self, request: &PartitionRequest) -> Result<PartitionId, HostError> {
        let PartitionRequest { a, b, mode, direction, window } = request;
        let builtin = match window {
            FaultWindow::Scoped => "partition()",
            FaultWindow::Imperative => "partition_start()",
        };
        let is_program =
            |it: &Service| (it.name == *a || it.name == *b) && !it.source.is_container();
        if let Some(why) = &self.sandbox.shared_network
            && self.declared.borrow().iter().any(is_program)
        {
            // There, a socket that listens at a port could be taken for another host's.
            return Err(HostError(format!(
                "{builtin}: cutting traffic needs a network namespace for the run, which takes \
                 root, or CAP_SYS_ADMIN and CAP_NET_ADMIN ({why})"
            )));
        }
        let (declared, targets) = (self.declared.borrow(), self.targets.borrow());
        let whereabouts = self.whereabouts();
        let places = Places { services: &declared, targets: &targets, whereabouts: &whereabouts };
        let earlier = match window {
            FaultWindow::Scoped => Vec::new(),
            FaultWindow::Imperative => self.partitions.borrow().imperative(a, b),
        };
        let opened = self.partitions.borrow_mut().open(request, places);
        let partition = opened.map_err(|error| HostError(format!("{builtin}: {error}")))?;
        let (mode, direction) = (*mode, *direction);
        let applied = EventKind::PartitionApplied { partition, peer: b.clone(), mode, direction };
        self.log.push(a, applied);
        // It has taken their place.
        for replaced in earlier {
            self.close_partition(replaced);
        }
        self.settle();
        Ok(PartitionId(partition as u32))
    }

    fn heal(&self, partition: PartitionId) {
        self.close_partition(partition.0 as usize);
        self.settle();
    }

    fn heal_imperative(&self, a: &str, b: &str) {
        let apart = self.partitions.borrow().imperative(a, b);
        for partition in apart {
            self.close_partition(partition);
        }
        self.settle();
    }

    fn warn(&self, text: &str) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.iter().any(|it| it == text) {
            warnings.push(text.to_owned());
        }
    }

    fn overlap(&self, jobs: Vec<Box<dyn FnOnce() + '_>>) -> Result<(), HostError> {
        if self.tasks.are_running() {
            let text = "not possible inside another parallel(); give that one all functions";
            return Err(HostError(text.to_owned()));
        }
        let refused = |error| HostError(format!("no memory for the functions' stacks: {error}"));
        self.tasks.overlap(jobs).map_err(refused)
    }

    fn print(&self, line: &str) {
        if self.is_running.get() {
            message(line);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancellation().is_some()
    }
}

/// Why a test with this deadline is to end, if so.
fn cancellation(engine: &Engine, deadline: Instant) -> Option<Cancellation> {
    if interrupt::requested() {
        return Some(Cancellation::Interrupted);
    }
    if let Some(why) = engine.failure() {
        return Some(Cancellation::EngineFailed(why));
    }
    (Instant::now() >= deadline).then_some(Cancellation::TimedOut)
}

/// In this time; a duration beyond what the clock can say means a year.
pub(super) fn after(timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + timeout.min(YEAR)
}
