//! One run of one test, from an empty sandbox to its report, on a thread of its own.

use std::{
    any::Any,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    descriptors,
    message::message,
    output::Outputs,
    quiet::Quiet,
    running_test::{Cancellation, RunningTest},
    sandbox::Sandbox,
    service::RunningService,
    session::Session,
    shutdown,
    startup::Startup,
};
use crate::{
    engine::{Engine, RecordSink, TraceLevel},
    protocol::go_duration,
    report::{
        Level, Outcome, PartitionReport, ServiceReport, TestReport, WindowReport, log_line,
        nothing_fired, uncut, unfired,
    },
    spec::{FailureKind, Loaded, Location, Service, Source, SpecFile, TestDeclaration, evaluate},
    trace::{Log, Names, faulted_per_service},
};

/// The evaluator needs 16 MiB for a thousand calls inside each other; pages that are not touched
/// cost nothing.
pub(crate) const STACK: usize = 64 << 20;

/// What is the same for all runs of a session.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// What breaks calls.
    pub(crate) engine: &'a Engine,
    /// Whose run it is.
    pub(crate) session: &'a Session,
    /// How much the engine records.
    pub(crate) trace: TraceLevel,
    /// How long a test function may take.
    pub(crate) timeout: Duration,
    /// Whether the services' output is printed as it comes.
    pub(crate) debug: bool,
    /// Whether the runner says what it does.
    pub(crate) quiet: bool,
    /// Whether a rule that never fired is a failure.
    pub(crate) strict_faults: bool,
}

/// One run of one test.
#[derive(Clone, Copy)]
pub(crate) struct TestRun<'a> {
    /// What it has in common with the others.
    pub(crate) setting: Setting<'a>,
    /// Where it is defined.
    pub(crate) file: &'a SpecFile,
    /// Which.
    pub(crate) test: &'a TestDeclaration,
    /// Of its streams of chance.
    pub(crate) seed: u64,
    /// Its number in the session, from 1.
    pub(crate) number: u32,
}

/// How a test ended, before anything is stopped.
struct Verdict {
    outcome: Outcome,
    /// What the test, or its scenario, returned, as a spec would write it.
    returned: Option<String>,
    duration: Duration,
    /// Whether nobody may wait for the services.
    kill: bool,
}

impl TestRun<'_> {
    /// Runs the test. The thread, its network namespace and the services are gone when this
    /// returns.
    pub(crate) fn run(self) -> TestReport {
        let result = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("run {}", self.number));
            let thread = thread.stack_size(STACK).spawn_scoped(scope, move || self.execute())?;
            thread.join().map_err(|payload| io::Error::other(describe_panic(&payload)))
        });
        result.unwrap_or_else(|error| self.failed(format!("cannot run the test: {error}")))
    }

    fn execute(self) -> TestReport {
        let Setting { engine, session, timeout, debug, .. } = self.setting;
        self.say("running test", &[("test", &self.test.name)]);
        let sandbox = match Sandbox::enter(session, self.number) {
            Ok(sandbox) => sandbox,
            Err(error) => return self.failed(error.to_string()),
        };
        Self::note_shared_network(&sandbox);
        let outputs = match Outputs::start(debug) {
            Ok(outputs) => outputs,
            Err(error) => return self.failed(format!("cannot capture output: {error}")),
        };
        let log = Arc::new(Log::new(Names::default()));
        let (dropped, misses) = (engine.dropped(), engine.misses());
        let (undelayed, restarts) = (engine.undelayed(), engine.tracer_restarts());
        let test = RunningTest::new(engine, &sandbox, &log, timeout, self.seed);
        let verdict =
            evaluate(self.file, &test, |loaded| self.test(loaded, &test, &sandbox, &outputs, &log));
        let verdict = verdict.unwrap_or_else(|error| Verdict {
            outcome: failure(error.text, error.location),
            returned: None,
            duration: Duration::ZERO,
            kill: true,
        });

        let mut services: Vec<_> = test.services().iter().map(report_service).collect();
        // Locked for no longer than it takes: the end of the services is events, too.
        shutdown::stop(&mut test.services(), &sandbox, verdict.kill);
        test.services().clear();
        let has_overlapped = test.has_overlapped();
        let partitions = test.partitions();
        let (windows, mut warnings) = test.into_findings();
        drop(sandbox);
        let events = log.finish();
        let faulted = faulted_per_service(&events);
        for service in &mut services {
            service.faulted = faulted.get(service.name.as_str()).copied().unwrap_or_default();
        }
        for (name, lines) in outputs.finish() {
            if let Some(service) = services.iter_mut().find(|it| it.name == name) {
                service.output = lines;
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let unexamined = engine.misses() - misses;
        if unexamined > 0 {
            warnings
                .push(format!("{unexamined} calls passed unexamined (their path was not in memory, or the kernel skipped a hook)"));
        }
        let undelayed = engine.undelayed() - undelayed;
        if undelayed > 0 {
            warnings.push(format!(
                "{undelayed} calls ran undelayed (their thread was not traced yet, or by another tracer)"
            ));
        }
        let restarts = engine.tracer_restarts() - restarts;
        if restarts > 0 {
            warnings.push(format!("the tracer that delays calls was killed {restarts} times"));
        }
        let outcome = match verdict.outcome {
            Outcome::Passed
                if self.setting.strict_faults
                    || (self.test.must_fire && nothing_fired(&windows, &partitions)) =>
            {
                judge_strictly(&windows, &partitions)
            }
            outcome => outcome,
        };
        let result = match outcome {
            Outcome::Passed => "pass",
            Outcome::Failed { .. } => "fail",
            Outcome::Interrupted => "interrupted",
        };
        self.say("test completed", &[("test", &self.test.name), ("result", result)]);
        TestReport {
            outcome,
            returned: verdict.returned,
            duration: verdict.duration,
            events,
            windows,
            partitions,
            services,
            dropped: engine.dropped() - dropped + log.dropped(),
            warnings,
            has_overlapped,
            ..self.failed(String::new())
        }
    }

    /// Starts the services, calls the test function, and says what came of it.
    fn test(
        self,
        loaded: &mut Loaded<'_, '_, '_>,
        test: &RunningTest<'_>,
        sandbox: &Sandbox,
        outputs: &Outputs,
        log: &Arc<Log>,
    ) -> Verdict {
        let begin = Instant::now();
        let quiet = Arc::new(Quiet::new(Arc::clone(log)));
        let sink: Arc<dyn RecordSink> = quiet.clone();
        let declared = loaded.declarations().services.clone();
        let result = self.start(&declared, test, sandbox, outputs, log, &sink).and_then(|()| {
            let has_checks = declared.iter().any(|it| it.healthcheck.is_some());
            if has_checks && self.setting.trace > TraceLevel::Off {
                // What the last healthcheck has caused must not be taken for the test's doing.
                quiet.wait();
            }
            let timeout = self.test.timeout.unwrap_or(self.setting.timeout);
            test.begin(timeout);
            loaded.call(&self.test.name).map_err(|failed| {
                let reason = match failed.kind {
                    FailureKind::Timeout => format!("timed out after {}", go_duration(timeout)),
                    _ => failed.reason,
                };
                (reason, failed.location)
            })
        });
        let duration = begin.elapsed();
        let cancellation = test.cancellation();
        test.lift_all();
        test.settle();
        test.await_crashed();
        test.note_ends();
        test.settle();
        let mut returned = None;
        let outcome = match (result, &cancellation) {
            (_, Some(Cancellation::EngineFailed(why))) => {
                failure(format!("the fault engine failed: {why}"), None)
            }
            (Ok(value), _) => {
                returned = value;
                Outcome::Passed
            }
            (Err(_), Some(Cancellation::Interrupted)) => Outcome::Interrupted,
            (Err((reason, location)), _) => failure(reason, location),
        };
        // A service that hangs is the likeliest reason for a timeout: no need to ask it nicely.
        let kill = cancellation.is_some_and(|it| it != Cancellation::Interrupted);
        Verdict { outcome, returned, duration, kill }
    }

    fn start(
        self,
        declared: &[Service],
        test: &RunningTest<'_>,
        sandbox: &Sandbox,
        outputs: &Outputs,
        log: &Log,
        sink: &Arc<dyn RecordSink>,
    ) -> Result<(), (String, Option<Location>)> {
        let engine = self.setting.engine;
        descriptors::make_room(declared.len());
        let mut services = Vec::with_capacity(declared.len());
        let mut result = Ok(());
        for (position, service) in declared.iter().enumerate() {
            match RunningService::prepare(engine, sandbox, position, service, Arc::clone(sink)) {
                Ok(service) => services.push(service),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        log.name(|names| {
            for service in &services {
                names.add_service(service.target.id(), &service.declared.name);
                for interface in &service.declared.interfaces {
                    let name = format!("{}.{}", service.declared.name, interface.name);
                    names.add_interface(([127, 0, 0, 1], interface.port).into(), &name);
                }
            }
        });
        let started = |service: &Service, pid: u32| {
            let Source::Binary(binary) = &service.source;
            self.say("starting session", &[("binary", binary), ("service", &service.name)]);
            self.say("target started", &[("pid", &pid.to_string()), ("service", &service.name)]);
        };
        let startup = Startup {
            declared,
            sandbox,
            outputs,
            log,
            started: &started,
            ended: &|service, exit| test.note_end(service, exit),
            // The time of the test has not begun; healthchecks have their own.
            cancelled: &|| {
                matches!(
                    test.cancellation(),
                    Some(Cancellation::Interrupted | Cancellation::EngineFailed(_))
                )
            },
        };
        let result = result.and_then(|()| startup.run(&mut services));
        test.adopt(declared, services);
        result.map_err(|reason| (reason, None))
    }

    fn say(&self, event: &str, values: &[(&str, &str)]) {
        if !self.setting.quiet {
            message(format_args!(
                "{}",
                log_line(SystemTime::now(), Level::Info, "starlark", event, values)
            ));
        }
    }

    fn note_shared_network(sandbox: &Sandbox) {
        static SAID: Mutex<bool> = Mutex::new(false);
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &sandbox.shared_network
            && !*said
        {
            *said = true;
            message(format_args!(
                "note: services run in this machine's own network, where their ports may clash: \
                 no network namespace ({why}; root, or CAP_SYS_ADMIN and CAP_NET_ADMIN, give each run one)"
            ));
        }
    }

    /// The report of a run that failed for this reason and did nothing else.
    fn failed(self, reason: String) -> TestReport {
        TestReport {
            name: self.test.name.clone(),
            kind: self.test.kind,
            file: self.file.path().to_owned(),
            outcome: failure(reason, None),
            returned: None,
            duration: Duration::ZERO,
            seed: self.seed,
            strict_faults: self.setting.strict_faults,
            events: Vec::new(),
            windows: Vec::new(),
            partitions: Vec::new(),
            services: Vec::new(),
            dropped: 0,
            warnings: Vec::new(),
            has_overlapped: false,
        }
    }
}

/// A test that passed, under `--strict-faults`.
fn judge_strictly(windows: &[WindowReport], partitions: &[PartitionReport]) -> Outcome {
    let unfired = [unfired(windows), uncut(partitions)].concat();
    if unfired.is_empty() {
        return Outcome::Passed;
    }
    failure(format!("no fault fired: {}", unfired.join(", ")), None)
}

fn failure(reason: String, location: Option<Location>) -> Outcome {
    Outcome::Failed { reason, location }
}

/// What is known of a service before it is stopped.
fn report_service(service: &RunningService) -> ServiceReport {
    ServiceReport {
        name: service.declared.name.clone(),
        calls: service.target.calls(),
        faulted: 0,
        output: Vec::new(),
    }
}

fn describe_panic(payload: &Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("a bug in faultbox: {}", text.unwrap_or("panic"))
}
