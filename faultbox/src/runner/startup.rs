//! Bringing up all services of a test: each as soon as its dependencies are ready, each watched
//! for its end while its healthcheck is tried.

use std::{
    io::ErrorKind,
    net::IpAddr,
    os::fd::AsFd as _,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{
    addresses::Peer,
    containers::{RunContainers, Started},
    environment::declared_environment,
    interrupt,
    listening::Listening,
    output::Outputs,
    port::{self, Occupant},
    sandbox::Sandbox,
    service::{Phase, RunningService, describe},
};
use crate::{
    engine::Exit,
    protocol::Limit,
    report::{Lap, Stopwatch},
    spec::{Service, Source},
    trace::{EventKind, Log},
};

/// Pauses between two attempts of one healthcheck, while nothing tells that a service listens:
/// what is checked may be something else of it, and not every kernel lets us see. They grow with the
/// time that has passed, so that a service is noticed at most a quarter later than it was ready,
/// and no later than this.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// A service is known to listen a moment before it does: so many attempts, and this far apart.
const EAGER: u32 = 10;
const EAGER_PAUSE: Duration = Duration::from_micros(100);

/// The environment of a container.
type Variables = Vec<(String, String)>;

/// Starts services and waits for them.
pub(crate) struct Startup<'a> {
    /// All services of the spec, as declared.
    pub(crate) declared: &'a [Service],
    /// Where they run.
    pub(crate) sandbox: &'a Sandbox<'a>,
    /// What reads their output.
    pub(crate) outputs: &'a Outputs,
    /// Those that are containers; `None`: none is.
    pub(crate) containers: Option<&'a RunContainers<'a>>,
    /// Whether the engine reaches containers.
    pub(crate) in_kernel: bool,
    /// Where starts, readiness and ends are noted.
    pub(crate) log: &'a Log,
    /// Measures what their time goes into.
    pub(crate) watch: &'a Stopwatch,
    /// Tells when one of them listens.
    pub(crate) listening: &'a Listening,
    /// Called with each started service and its process id.
    pub(crate) started: &'a dyn Fn(&RunningService, u32),
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
    /// How many attempts are made without much of a pause.
    eager: u32,
    /// Why the last attempt before the deadline failed.
    last: Option<std::io::Error>,
}

impl Startup<'_> {
    /// Returns when all services are ready. The error is the whole reason for which the test
    /// fails.
    pub(crate) fn run(&self, services: &mut [RunningService]) -> Result<(), String> {
        let mut checks: Vec<Option<Check>> = services.iter().map(|_| None).collect();
        loop {
            // One program at a time, so that starting many does not use up the time of the first
            // healthcheck.
            self.watch.lap(Lap::Ready);
            let has_started = self.start_next(services, &mut checks)?;
            self.watch.lap(Lap::Spawn);
            if services.iter().all(|service| service.phase == Phase::Ready) {
                return Ok(());
            }
            let due = checks.iter().flatten().map(|check| check.next).min();
            match due {
                Some(due) if !has_started => self.wait(services, due),
                None if !has_started => return Err(Self::stuck(services)),
                _ => {}
            }
            if self.listening.take() {
                // Which of them it is, its healthcheck finds out.
                for check in checks.iter_mut().flatten() {
                    (check.next, check.eager) = (Instant::now(), EAGER);
                }
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

    /// Starts all containers that can be started, at once, or else the first program, in the
    /// order declared. Returns whether there was one.
    fn start_next(
        &self,
        services: &mut [RunningService],
        checks: &mut [Option<Check>],
    ) -> Result<bool, String> {
        let startable = |index: &usize| self.can_start(&services[*index], services);
        let containers: Vec<usize> = (0..services.len())
            .filter(|index| services[*index].declared.source.is_container())
            .filter(startable)
            .collect();
        if !containers.is_empty() {
            let all = self.start_containers(&containers, services);
            // Each that was started is watched over and stopped, whatever became of the others.
            let mut result = Ok(true);
            for (index, started) in containers.into_iter().zip(all) {
                let adopted = started.and_then(|it| services[index].adopt(it, self.in_kernel));
                match adopted {
                    Ok(pid) => self.started(&mut services[index], &mut checks[index], pid),
                    Err(error) => result = result.and(Err(error)),
                }
            }
            return result;
        }
        let Some(index) = (0..services.len()).find(startable) else {
            return Ok(false);
        };
        let Source::Binary(program) = services[index].declared.source.clone() else {
            return Ok(false);
        };
        refuse_taken_port(services, index)?;
        let hosts = self.hosts(index, services);
        let peers = peers(self.declared, index, &hosts);
        let pid = services[index].start(&program, &peers, self.sandbox, self.outputs)?;
        self.started(&mut services[index], &mut checks[index], pid);
        Ok(true)
    }

    /// Whether a service waits for nothing any more: its dependencies are ready, and what it is
    /// to find has an address. A container that runs anyway waits for nothing.
    fn can_start(&self, service: &RunningService, services: &[RunningService]) -> bool {
        let RunningService { declared, phase, .. } = service;
        if *phase != Phase::Waiting {
            return false;
        }
        if declared.source.is_foreign() {
            return true;
        }
        let waits_for = |other: &RunningService| {
            let name = &other.declared.name;
            let is_dependency = declared.depends_on.contains(name);
            let lacks_address = match &other.declared.source {
                Source::Container(_) => true,
                Source::Image(_) | Source::Build(_) => {
                    !declared.source.is_container()
                        && !self.depends(&other.declared, &declared.name)
                }
                Source::Binary(_) => false,
            };
            (is_dependency && other.phase != Phase::Ready)
                || (lacks_address && other.phase == Phase::Waiting)
        };
        !services.iter().any(waits_for)
    }

    /// Whether a service depends on another, itself or by those that it depends on.
    fn depends(&self, service: &Service, on: &str) -> bool {
        service.depends_on.iter().any(|name| {
            let found = self.declared.iter().find(|it| it.name == *name);
            name == on || found.is_some_and(|it| self.depends(it, on))
        })
    }

    fn start_containers(
        &self,
        indices: &[usize],
        services: &[RunningService],
    ) -> Vec<Result<Started, String>> {
        let (containers, outputs, names) = (self.containers, self.outputs, self.names(services));
        let environment = |index: &usize| {
            let service = &services[*index].declared;
            let hosts = self.hosts(*index, services);
            let env = declared_environment(service, &peers(self.declared, *index, &hosts));
            let env = env.map_err(|why| format!("service {:?}: {why}", service.name));
            (service, env)
        };
        let start = |(service, env): (&Service, Result<Variables, String>)| {
            let containers = containers.ok_or("no container was prepared for")?;
            containers.start(service, env?, names.clone(), outputs)
        };
        thread::scope(|scope| {
            let start = &start;
            let threads: Vec<_> = indices
                .iter()
                .map(environment)
                .map(|one| scope.spawn(move || start(one)))
                .collect();
            let joined = threads.into_iter().map(ScopedJoinHandle::join);
            joined
                .map(|it| it.unwrap_or_else(|_| Err("a bug in faultbox: panic".to_owned())))
                .collect()
        })
    }

    /// Under which host each service is found by the one at `index`.
    fn hosts(&self, index: usize, services: &[RunningService]) -> Vec<Option<String>> {
        let own = &services[index].declared.source;
        let uplinks = self.containers.map_or_else(Vec::new, RunContainers::uplinks);
        let host = |service: &RunningService| match (&service.declared.source, own) {
            (Source::Binary(_), Source::Binary(_)) => Some("localhost".to_owned()),
            (Source::Binary(_), _) if uplinks.is_empty() => None,
            (_, Source::Binary(_)) => {
                let consumer = services[index].whereabouts(&uplinks);
                service.container()?;
                let found = consumer.hosts(&service.whereabouts(&uplinks));
                Some(found.first()?.map_or("localhost".to_owned(), |it| it.to_string()))
            }
            _ => Some(service.declared.name.clone()),
        };
        services.iter().map(host).collect()
    }

    /// Names that Docker's own name server does not know in the network of the run's containers.
    fn names(&self, services: &[RunningService]) -> Vec<(String, IpAddr)> {
        let uplinks = self.containers.map_or_else(Vec::new, RunContainers::uplinks);
        let uplink = uplinks.first();
        let address = |service: &RunningService| match &service.declared.source {
            Source::Binary(_) => uplink.map(|(_, address)| *address),
            Source::Container(_) => {
                service.container()?.addresses().first().map(|(_, address)| *address)
            }
            Source::Image(_) | Source::Build(_) => None,
        };
        let named = |it: &RunningService| Some((it.declared.name.clone(), address(it)?));
        services.iter().filter_map(named).collect()
    }

    /// Sleeps until a process ends or listens, the user interrupts, or `until`.
    fn wait(&self, services: &[RunningService], until: Instant) {
        let processes = services.iter().filter_map(RunningService::descriptor);
        let mut descriptors: Vec<_> = processes
            .chain(interrupt::descriptor())
            .chain([self.listening.as_fd()])
            .map(|it| PollFd::new(it, PollFlags::POLLIN))
            .collect();
        let left = until.saturating_duration_since(Instant::now());
        // An error is a signal, and the caller looks at everything again anyway.
        let _ = ppoll(&mut descriptors, Some(TimeSpec::from(left)), None);
    }

    fn started(&self, service: &mut RunningService, check: &mut Option<Check>, pid: u32) {
        self.log.push(&service.declared.name, EventKind::ServiceStarted { pid });
        (self.started)(service, pid);
        match &service.declared.healthcheck {
            Some(healthcheck) => {
                let now = Instant::now();
                *check = Some(Check {
                    begin: now,
                    deadline: now + healthcheck.timeout(),
                    next: now,
                    eager: 0,
                    last: None,
                });
            }
            None => self.ready(service),
        }
    }

    /// Why no service can be started although some are left.
    fn stuck(services: &[RunningService]) -> String {
        let waiting = services.iter().filter(|it| it.phase == Phase::Waiting);
        let names: Vec<_> = waiting.map(|it| it.declared.name.as_str()).collect();
        format!(
            "services wait for each other: {}: a program waits for the address of each container, \
             and a container for what it depends on; change depends_on",
            names.join(", ")
        )
    }

    fn ready(&self, service: &mut RunningService) {
        service.phase = Phase::Ready;
        self.log.push(&service.declared.name, EventKind::ServiceReady);
    }

    /// Tries a healthcheck once.
    fn attempt(&self, service: &mut RunningService, check: &mut Check) -> Result<bool, String> {
        let name = service.declared.name.clone();
        let not_ready =
            |why: &str| format!("failed to start services: service {name:?} not ready: {why}");
        let dialer = service.dialer(self.sandbox.driver);
        let Some(healthcheck) = &service.declared.healthcheck else {
            return Ok(true);
        };
        let has_ended = || service.descriptor().is_some_and(is_readable);
        let cancelled = || (self.cancelled)() || has_ended();
        let limit = Limit::new(check.deadline, &cancelled);
        let failed = match healthcheck.attempt(service.environment(), &dialer, &limit) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return Err(not_ready(&error.to_string()));
            }
            Err(error) => error,
        };
        let now = Instant::now();
        if now >= check.deadline {
            // Cut short by the deadline, that attempt only says so.
            return Err(not_ready(&healthcheck.timed_out(check.last.as_ref().unwrap_or(&failed))));
        }
        check.last = Some(failed);
        let pause = match check.eager.checked_sub(1) {
            Some(left) => {
                check.eager = left;
                EAGER_PAUSE
            }
            None => ((now - check.begin) / 4).clamp(PAUSES.0, PAUSES.1),
        };
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

/// The services but for the one at `index`, each with where it is found.
fn peers<'a>(declared: &'a [Service], index: usize, hosts: &[Option<String>]) -> Vec<Peer<'a>> {
    let all = declared.iter().zip(hosts).enumerate().filter(|(other, _)| *other != index);
    all.map(|(_, (service, host))| Peer { service, host: host.clone() }).collect()
}

/// Two services of a spec cannot have the same port. The first may not listen yet, so that only
/// the spec says it is taken.
fn refuse_taken_port(services: &[RunningService], index: usize) -> Result<(), String> {
    for interface in &services[index].declared.interfaces {
        let owner = services.iter().find_map(|other| {
            let pid = other.local_pid()?;
            let mut ports = other.declared.interfaces.iter().map(|it| it.port);
            ports.any(|port| port == interface.port).then_some(pid)
        });
        if let Some(pid) = owner {
            let process = Some((pid, port::name_of(pid)));
            return Err(Occupant { port: interface.port, process }.to_string());
        }
    }
    Ok(())
}

fn is_readable(descriptor: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    ppoll(&mut descriptors, Some(TimeSpec::from(Duration::ZERO)), None).is_ok_and(|it| it > 0)
}
