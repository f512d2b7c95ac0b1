//! Bringing up all services of a test: each as soon as its dependencies are ready, each watched
//! for its end while its healthcheck is tried.

use std::{
    io::ErrorKind,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{
    interrupt,
    output::Outputs,
    port::{self, Occupant},
    sandbox::Sandbox,
    service::{Phase, RunningService, describe},
};
use crate::{
    engine::Exit,
    protocol::{Dialer, Limit},
    spec::Service,
    trace::{EventKind, Log},
};

/// Pauses between two attempts of one healthcheck. They grow with the time that has passed, so
/// that a service is noticed at most a quarter later than it was ready, and no later than this.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Starts services and waits for them.
pub(crate) struct Startup<'a> {
    /// All services of the spec, as declared.
    pub(crate) declared: &'a [Service],
    /// Where they run.
    pub(crate) sandbox: &'a Sandbox,
    /// What reads their output.
    pub(crate) outputs: &'a Outputs,
    /// Where starts, readiness and ends are noted.
    pub(crate) log: &'a Log,
    /// Called with the name and process id of each started service.
    pub(crate) started: &'a dyn Fn(&Service, u32),
    /// Called for each service that ends by itself although it was ready.
    pub(crate) ended: &'a dyn Fn(&Service, Exit),
    /// Whether to give up.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// A healthcheck that has not passed.
struct Check {
    begin: Instant,
    deadline: Instant,
    next: Instant,
}

impl Startup<'_> {
    /// Returns when all services are ready. The error is the whole reason for which the test
    /// fails.
    pub(crate) fn run(&self, services: &mut [RunningService]) -> Result<(), String> {
        let mut checks: Vec<Option<Check>> = services.iter().map(|_| None).collect();
        loop {
            // One at a time, so that starting many does not use up the time of the first
            // healthcheck.
            let has_started = self.start_next(services, &mut checks)?;
            if services.iter().all(|service| service.phase == Phase::Ready) {
                return Ok(());
            }
            let due = checks.iter().flatten().map(|check| check.next).min();
            if !has_started && let Some(due) = due {
                wait(services, due);
            }
            self.note_ends(services)?;
            if (self.cancelled)() {
                return Err("stopped while services were starting".to_owned());
            }
            for (service, check) in services.iter_mut().zip(&mut checks) {
                if let Some(pending) = check
                    && Instant::now() >= pending.next
                    && self.attempt(service, pending)?
                {
                    *check = None;
                    self.ready(service);
                }
            }
        }
    }

    /// Starts the first service, in the order declared, whose dependencies are ready. Returns
    /// whether there was one.
    fn start_next(
        &self,
        services: &mut [RunningService],
        checks: &mut [Option<Check>],
    ) -> Result<bool, String> {
        let is_ready = |name: &String| {
            let mut all = services.iter();
            all.any(|it| it.declared.name == *name && it.phase == Phase::Ready)
        };
        let can_start = |service: &RunningService| {
            service.phase == Phase::Waiting && service.declared.depends_on.iter().all(is_ready)
        };
        let Some(index) = services.iter().position(can_start) else {
            return Ok(false);
        };
        refuse_taken_port(services, index)?;
        let service = &mut services[index];
        let pid = service.start(self.declared, self.sandbox, self.outputs)?;
        let name = &service.declared.name;
        self.log.push(name, EventKind::ServiceStarted { pid });
        (self.started)(&service.declared, pid);
        match &service.declared.healthcheck {
            Some(healthcheck) => {
                let now = Instant::now();
                checks[index] =
                    Some(Check { begin: now, deadline: now + healthcheck.timeout(), next: now });
            }
            None => self.ready(service),
        }
        Ok(true)
    }

    fn ready(&self, service: &mut RunningService) {
        service.phase = Phase::Ready;
        self.log.push(&service.declared.name, EventKind::ServiceReady);
    }

    /// Tries a healthcheck once.
    fn attempt(&self, service: &mut RunningService, check: &mut Check) -> Result<bool, String> {
        let Some(healthcheck) = &service.declared.healthcheck else {
            return Ok(true);
        };
        let not_ready = |why: &str| {
            let name = &service.declared.name;
            format!("failed to start services: service {name:?} not ready: {why}")
        };
        let has_ended = || service.process().is_none_or(|it| is_readable(it.as_fd()));
        let cancelled = || (self.cancelled)() || has_ended();
        let dialer = Dialer { driver: self.sandbox.driver };
        match healthcheck.attempt(&dialer, &Limit::new(check.deadline, &cancelled)) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return Err(not_ready(&error.to_string()));
            }
            Err(_) => {}
        }
        let now = Instant::now();
        if now >= check.deadline {
            return Err(not_ready(&healthcheck.timed_out()));
        }
        let pause = ((now - check.begin) / 4).clamp(PAUSES.0, PAUSES.1);
        check.next = (now + pause).min(check.deadline);
        Ok(false)
    }

    /// A service that ends before it is ready has failed; one that ends later is only noted.
    fn note_ends(&self, services: &mut [RunningService]) -> Result<(), String> {
        for service in services {
            let Some(exit) = service.ended() else {
                continue;
            };
            if service.phase == Phase::Ready {
                (self.ended)(&service.declared, exit);
                continue;
            }
            let how = describe(exit);
            let name = &service.declared.name;
            self.log.push(name, EventKind::ServiceExited { how: how.clone() });
            return Err(format!("service {name:?} exited before becoming ready ({how})"));
        }
        Ok(())
    }
}

/// Two services of a spec cannot have the same port. The first may not listen yet, so that only
/// the spec says it is taken.
fn refuse_taken_port(services: &[RunningService], index: usize) -> Result<(), String> {
    for interface in &services[index].declared.interfaces {
        let owner = services.iter().find_map(|other| {
            let process = other.process()?;
            let mut ports = other.declared.interfaces.iter().map(|it| it.port);
            ports.any(|port| port == interface.port).then(|| process.pid())
        });
        if let Some(pid) = owner {
            let process = Some((pid, port::name_of(pid)));
            return Err(Occupant { port: interface.port, process }.to_string());
        }
    }
    Ok(())
}

/// Sleeps until a process ends, the user interrupts, or `until`.
fn wait(services: &[RunningService], until: Instant) {
    let processes = services.iter().filter_map(RunningService::process).map(AsFd::as_fd);
    let mut descriptors: Vec<_> = processes
        .chain(interrupt::descriptor())
        .map(|it| PollFd::new(it, PollFlags::POLLIN))
        .collect();
    let left = until.saturating_duration_since(Instant::now());
    // An error is a signal, and the caller looks at everything again anyway.
    let _ = ppoll(&mut descriptors, Some(TimeSpec::from(left)), None);
}

fn is_readable(descriptor: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    ppoll(&mut descriptors, Some(TimeSpec::from(Duration::ZERO)), None).is_ok_and(|it| it > 0)
}
