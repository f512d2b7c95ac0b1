//! One run of one test, from an empty sandbox to its report, on a thread of its own.

use std::{
    any::Any,
    cell::OnceCell,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    containers::{Containers, RunContainers},
    descriptors,
    gaps::Gaps,
    listening::Listening,
    message::{Voice, message, speak_for},
    output::Outputs,
    quiet::Quiet,
    running_test::{Cancellation, RunningTest},
    sandbox::{GoesBeside, Sandbox},
    service::RunningService,
    session::Session,
    shutdown,
    startup::Startup,
    supply::Supply,
    writes::Writes,
};
use crate::{
    engine::{Engine, TraceLevel},
    protocol::go_duration,
    report::{
        FailureType, Lap, Level, Outcome, PartitionReport, ServiceReport, Stopwatch, TestReport,
        Timings, WindowReport, log_line, nothing_fired, uncut, unfired,
    },
    spec::{
        FailureKind, Hook, Loaded, Location, Service, Source, SpecFile, TestDeclaration, evaluate,
    },
    trace::{Log, Names, faulted_per_service, now},
};

/// The evaluator needs 16 MiB for a thousand calls inside each other; pages that are not touched
/// cost nothing.
pub(crate) const STACK: usize = 64 << 20;

/// What is the same for all runs of a session.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub(crate) struct Setting<'a> {
    /// What breaks calls.
    pub(crate) engine: &'a Engine,
    /// Whose run it is.
    pub(crate) session: &'a Session,
    /// What its runs have written to.
    pub(crate) writes: &'a Writes,
    /// What they may not fall back on, because others would, too.
    pub(crate) goes_beside: GoesBeside,
    /// What makes its runs' namespaces.
    pub(crate) supply: &'a Supply,
    /// The session's containers.
    pub(crate) containers: &'a Containers<'a>,
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
    /// Whether services use this machine's temporary directories because the user wants it.
    pub(crate) shared_tmp: bool,
    /// How many runs go side by side.
    pub(crate) jobs: usize,
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
    /// What it says, it says when it is its turn.
    pub(crate) voice: &'a Voice,
}

/// What a run has while it lasts.
#[derive(Clone, Copy)]
struct Stage<'r, 't, 's> {
    test: &'r RunningTest<'t>,
    sandbox: &'r Sandbox<'r>,
    outputs: &'r Outputs,
    log: &'r Arc<Log>,
    /// Prepared once it is known which services there are.
    containers: &'r OnceCell<Option<RunContainers<'s>>>,
    watch: &'r Stopwatch,
}

/// Why a test failed.
struct Failed {
    reason: String,
    location: Option<Location>,
    kind: FailureType,
}

impl Failed {
    /// Because of a service that was not ready.
    fn to_start(reason: String) -> Self {
        Self { reason, location: None, kind: FailureType::ServiceStart }
    }
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

impl<'s> TestRun<'s> {
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
        let Setting { engine, session, supply, goes_beside, timeout, debug, .. } = self.setting;
        speak_for(Some(self.voice.clone()));
        let (watch, began) = (Stopwatch::start(), now());
        self.say("running test", &[("test", &self.test.name)]);
        let sandbox = match Sandbox::enter(session, supply, self.number, goes_beside) {
            Ok(sandbox) => sandbox,
            Err(error) => return self.failed(error.to_string()),
        };
        sandbox.note_what_is_shared();
        let outputs = match Outputs::start(debug) {
            Ok(outputs) => outputs,
            Err(error) => return self.failed(format!("cannot capture output: {error}")),
        };
        let log = Arc::new(Log::new(Names::default()));
        let (dropped, gaps) = (engine.dropped(), Gaps::of(engine));
        let test = RunningTest::new(engine, &sandbox, &log, timeout, self.seed);
        let containers = OnceCell::new();
        let stage = Stage {
            test: &test,
            sandbox: &sandbox,
            outputs: &outputs,
            log: &log,
            containers: &containers,
            watch: &watch,
        };
        watch.lap(Lap::Sandbox);
        let verdict = evaluate(self.file, &test, |loaded| self.test(loaded, stage));
        let verdict = verdict.unwrap_or_else(|error| Verdict {
            outcome: match test.cancellation() {
                Some(Cancellation::Interrupted) => Outcome::Interrupted,
                _ => failure(FailureType::Error, error.text, error.location),
            },
            returned: None,
            duration: Duration::ZERO,
            kill: true,
        });

        watch.lap(Lap::Test);
        let mut services: Vec<_> = test.services().iter().map(report_service).collect();
        let programs = programs(&test.services());
        // Locked for no longer than it takes: the end of the services is events, too.
        shutdown::stop(&mut test.services(), &sandbox, verdict.kill);
        test.services().clear();
        watch.lap(Lap::Stop);
        let has_overlapped = test.has_overlapped();
        let partitions = test.partitions();
        let (windows, mut warnings) = test.into_findings();
        let has_files = sandbox.files.is_some();
        drop(sandbox);
        let epoch = log.epoch();
        let events = log.finish();
        let by_programs = events.iter().filter(|it| programs.contains(&it.service));
        self.setting.writes.add(began, by_programs, has_files);
        let faulted = faulted_per_service(&events);
        for service in &mut services {
            service.faulted = faulted.get(service.name.as_str()).copied().unwrap_or_default();
        }
        // What they have said last is still on its way.
        let made = containers.get().into_iter().flatten().flat_map(RunContainers::made);
        outputs.await_ends(&made.collect::<Vec<_>>());
        drop(containers);
        for (name, lines) in outputs.finish() {
            if let Some(service) = services.iter_mut().find(|it| it.name == name) {
                service.output = lines;
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        warnings.extend(gaps.since(engine));
        watch.lap(Lap::CleanUp);
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
            epoch,
            windows,
            partitions,
            services,
            dropped: engine.dropped() - dropped + log.dropped(),
            warnings,
            has_overlapped,
            timings: watch.timings(),
            ..self.failed(String::new())
        }
    }

    /// Starts the services, calls the test function, and says what came of it.
    fn test(self, loaded: &mut Loaded<'_, '_, '_>, stage: Stage<'_, '_, 's>) -> Verdict {
        let Stage { test, log, watch, .. } = stage;
        watch.lap(Lap::Spec);
        let begin = Instant::now();
        let quiet = Arc::new(Quiet::new(Arc::clone(log)));
        let listening = Listening::new(quiet.clone()).map(Arc::new);
        let listening = listening.map_err(|error| error.to_string());
        let declared = loaded.declarations().services.clone();
        let result = listening.map_err(Failed::to_start);
        let result = result.and_then(|it| self.start(&declared, stage, &it)).and_then(|()| {
            self.put_data_in_place(loaded, &declared, test)?;
            let has_checks = declared.iter().any(|it| it.healthcheck.is_some());
            if has_checks && self.setting.trace > TraceLevel::Off {
                // What the last healthcheck has caused must not be taken for the test's doing.
                quiet.wait(&test.services());
                self.setting.engine.drain();
            }
            let timeout = self.test.timeout.unwrap_or(self.setting.timeout);
            watch.lap(Lap::Ready);
            test.begin(timeout);
            loaded.call(&self.test.name).map_err(|failed| {
                let reason = match failed.kind {
                    FailureKind::Timeout => format!("timed out after {}", go_duration(timeout)),
                    _ => failed.reason,
                };
                Failed { reason, location: failed.location, kind: failed.kind.into() }
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
                failure(FailureType::Error, format!("the fault engine failed: {why}"), None)
            }
            (Ok(value), _) => {
                returned = value;
                Outcome::Passed
            }
            (Err(_), Some(Cancellation::Interrupted)) => Outcome::Interrupted,
            (Err(Failed { reason, location, kind }), _) => failure(kind, reason, location),
        };
        // A service that hangs is the likeliest reason for a timeout: no need to ask it nicely.
        let kill = cancellation.is_some_and(|it| it != Cancellation::Interrupted);
        Verdict { outcome, returned, duration, kill }
    }

    fn start(
        self,
        declared: &[Service],
        stage: Stage<'_, '_, 's>,
        listening: &Arc<Listening>,
    ) -> Result<(), Failed> {
        let Stage { test, sandbox, outputs, log, containers, watch } = stage;
        let Setting { engine, containers: all, .. } = self.setting;
        let prepared = all.of_run(self.number, self.file.path(), declared);
        let prepared = prepared.map_err(Failed::to_start)?;
        let containers = containers.get_or_init(|| prepared);
        descriptors::make_room(declared.len() * self.setting.jobs);
        let mut services = Vec::with_capacity(declared.len());
        let mut result = Ok(());
        for (position, service) in declared.iter().enumerate() {
            match RunningService::prepare(engine, sandbox, position, service, listening.clone()) {
                Ok(service) => services.push(service),
                Err(reason) => {
                    result = Err(Failed::to_start(reason));
                    break;
                }
            }
        }
        log.name(|names| {
            for service in &services {
                names.add_service(service.target.id(), &service.declared.name);
                if service.declared.source.is_container() {
                    continue;
                }
                for interface in &service.declared.interfaces {
                    let name = format!("{}.{}", service.declared.name, interface.name);
                    names.add_interface(([127, 0, 0, 1], interface.port).into(), &name);
                }
            }
        });
        let started = |service: &RunningService, pid: u32| {
            let Service { name, source, interfaces, .. } = &service.declared;
            let what = match source {
                Source::Binary(binary) => ("binary", binary.as_str()),
                Source::Image(image) => ("image", image.as_str()),
                Source::Build(directory) => ("build", directory.to_str().unwrap_or_default()),
                Source::Container(container) => ("container", container.as_str()),
            };
            self.say("starting session", &[what, ("service", name)]);
            self.say("target started", &[("pid", &pid.to_string()), ("service", name)]);
            let addresses = service.container().map(|it| it.addresses()).unwrap_or_default();
            log.name(|names| {
                for (_, address) in addresses {
                    for interface in interfaces {
                        let interface_name = format!("{name}.{}", interface.name);
                        names.add_interface((address, interface.port).into(), &interface_name);
                    }
                }
            });
        };
        let startup = Startup {
            declared,
            sandbox,
            outputs,
            containers: containers.as_ref(),
            in_kernel: engine.coverage().uses_kernel(),
            log,
            watch,
            listening,
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
        let result = result.and_then(|()| startup.run(&mut services).map_err(Failed::to_start));
        let uplinks = containers.as_ref().map_or_else(Vec::new, RunContainers::uplinks);
        test.adopt(declared, services, &uplinks);
        result
    }

    /// Calls `seed=` and `reset=` of the services, all of which are ready.
    fn put_data_in_place(
        self,
        loaded: &mut Loaded<'_, '_, '_>,
        declared: &[Service],
        test: &RunningTest<'_>,
    ) -> Result<(), Failed> {
        for service in declared.iter().filter(|it| it.has_seed || it.has_reset) {
            let is_fresh = test.is_fresh(&service.name);
            let hook = self.setting.containers.hook(self.file.path(), service, is_fresh);
            let Some(hook) = hook else { continue };
            test.begin(self.setting.timeout);
            loaded.call_hook(&service.name, hook).map_err(|failed| {
                let what = match hook {
                    Hook::Seed => "seed",
                    Hook::Reset => "reset",
                };
                let reason = match failed.kind {
                    FailureKind::Timeout => {
                        format!("timed out after {}", go_duration(self.setting.timeout))
                    }
                    _ => failed.reason,
                };
                let reason = format!("{what} of service {:?}: {reason}", service.name);
                Failed { reason, location: failed.location, kind: failed.kind.into() }
            })?;
        }
        Ok(())
    }

    fn say(&self, event: &str, values: &[(&str, &str)]) {
        if !self.setting.quiet {
            message(format_args!(
                "{}",
                log_line(SystemTime::now(), Level::Info, "starlark", event, values)
            ));
        }
    }

    /// The report of a run that failed for this reason and did nothing else.
    fn failed(self, reason: String) -> TestReport {
        TestReport {
            name: self.test.name.clone(),
            kind: self.test.kind,
            file: self.file.path().to_owned(),
            outcome: failure(FailureType::Error, reason, None),
            returned: None,
            duration: Duration::ZERO,
            seed: self.seed,
            strict_faults: self.setting.strict_faults,
            shared_tmp: self.setting.shared_tmp,
            events: Vec::new(),
            epoch: (SystemTime::UNIX_EPOCH, 0),
            windows: Vec::new(),
            partitions: Vec::new(),
            services: Vec::new(),
            dropped: 0,
            warnings: Vec::new(),
            has_overlapped: false,
            timings: Timings::default(),
        }
    }
}

/// A test that passed, under `--strict-faults`.
fn judge_strictly(windows: &[WindowReport], partitions: &[PartitionReport]) -> Outcome {
    let unfired = [unfired(windows), uncut(partitions)].concat();
    if unfired.is_empty() {
        return Outcome::Passed;
    }
    let reason = format!("no fault fired: {}", unfired.join(", "));
    failure(FailureType::Assertion, reason, None)
}

fn failure(kind: FailureType, reason: String, location: Option<Location>) -> Outcome {
    Outcome::Failed { reason, location, kind }
}

/// The services that use this machine's files: containers have their own.
fn programs(services: &[RunningService]) -> Vec<String> {
    let programs = services.iter().filter(|it| !it.declared.source.is_container());
    programs.map(|it| it.declared.name.clone()).collect()
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
