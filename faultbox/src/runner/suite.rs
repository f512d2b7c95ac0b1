//! A session: every file is loaded, every chosen test runs, one result comes out.

use std::{
    io::{self, Write},
    iter,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    containers::Containers,
    interrupt, loading,
    message::{Turns, message},
    plan::Selection,
    pool,
    possibilities::try_namespace,
    results::{Patient, Results, write_document},
    session::Session,
    test_run::{Setting, TestRun},
};
use crate::{
    engine::{Engine, Options},
    report::{Document, MatrixReport, Outcome, Style, Terminal, TestReport},
    spec::{
        Declarations, Matrix, Service, SpecError, SpecFile, TestDeclaration, TestKind, no_tests,
    },
};

/// What `faultbox test` was asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The specs, in the order to run them.
    pub(crate) files: Vec<PathBuf>,
    /// Which tests of them.
    pub(crate) selection: Selection,
    /// Which engine; the calls that the specs mention are added.
    pub(crate) engine: Options,
    /// How long a test function may take.
    pub(crate) timeout: Duration,
    /// How results look.
    pub(crate) style: Style,
    /// Standard output gets the JSON document instead of what people read.
    pub(crate) json: bool,
    /// A file for the JSON document.
    pub(crate) output: Option<PathBuf>,
    /// No log lines on standard error.
    pub(crate) quiet: bool,
    /// A rule that never fired is a failure.
    pub(crate) strict_faults: bool,
    /// How many runs go side by side, if they can.
    pub(crate) jobs: usize,
    /// After how many failures no more runs are begun.
    pub(crate) max_fail: Option<usize>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every test ran and passed.
    Passed,
    /// Something could not even be tried; said on standard error.
    Broken,
    /// A test failed.
    Failed,
    /// The user stopped it.
    Interrupted,
}

impl Ending {
    /// The exit code (language.md 4.1).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Broken => 1,
            Self::Failed => 2,
            Self::Interrupted => 130,
        }
    }
}

/// A file and the tests chosen of it.
struct Suite {
    file: SpecFile,
    /// Services that are containers.
    containers: Vec<String>,
    /// A service that only one run can have at a time, and why.
    alone: Option<String>,
    tests: Vec<TestDeclaration>,
    /// All that the file has.
    matrices: Vec<Matrix>,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    not_run: usize,
}

/// Runs everything, printing blocks to `out` as tests finish.
pub(crate) fn run(order: &Order, session: &Session, out: impl Write) -> Ending {
    let loaded = load_all(order);
    let any_unusable = loaded.any_unusable;
    if interrupt::requested() {
        return Ending::Interrupted;
    }
    if loaded.suites.iter().all(|suite| suite.tests.is_empty()) {
        if let Some(name) = &order.selection.test
            && !loaded.suites.is_empty()
        {
            message(format_args!(
                "error: no test matches {name:?}; available: {}",
                loaded.known.join(", ")
            ));
        }
        return Ending::Broken;
    }
    let engine = match start_engine(order, &loaded.suites) {
        Ok(engine) => engine,
        Err(error) => {
            message(format_args!("error: {error}"));
            return Ending::Broken;
        }
    };
    let containers = Containers::new(session);
    let jobs = jobs(order, &loaded.suites);
    let setting = Setting {
        engine: &engine,
        session,
        containers: &containers,
        trace: order.engine.trace,
        timeout: order.timeout,
        debug: order.style.debug,
        quiet: order.quiet,
        strict_faults: order.strict_faults,
        jobs,
    };
    let begin = Instant::now();
    let mut out = Patient { out, is_gone: false };
    let mut nowhere = io::sink();
    let shown: &mut dyn Write = if order.json { &mut nowhere } else { &mut out };
    let wants_document = order.json || order.output.is_some();
    let mut results = Results {
        terminal: Terminal::new(shown, order.style),
        document: wants_document.then(Document::default),
    };
    let mut tally = Tally::default();
    let printed =
        run_all(order, setting, &loaded.suites, &mut results, &mut tally).and_then(|()| {
            let why = match order.max_fail {
                _ if interrupt::requested() => "interrupted".to_owned(),
                Some(2..) => format!("stopped after {} failures", tally.failed),
                _ => "stopped after the first failure".to_owned(),
            };
            results.terminal.summary(tally.passed, tally.failed, (tally.not_run, &why))
        });
    let document = results.document;
    let printed = printed.and_then(|()| match document {
        Some(document) => {
            let first = order.files.first().map_or_else(String::new, |it| it.display().to_string());
            let document = document.finish(&first, begin.elapsed());
            let shown = order.json.then_some(&mut out as &mut dyn Write);
            write_document(&document, shown, order.output.as_deref())
        }
        None => Ok(()),
    });
    if let Err(error) = printed {
        message(format_args!("error: cannot write the results: {error}"));
        return Ending::Broken;
    }
    match tally {
        _ if interrupt::requested() => Ending::Interrupted,
        _ if any_unusable => Ending::Broken,
        Tally { failed: 1.., .. } => Ending::Failed,
        Tally { .. } => Ending::Passed,
    }
}

struct LoadedFiles {
    suites: Vec<Suite>,
    any_unusable: bool,
    /// All tests that could have been chosen.
    known: Vec<String>,
}

/// Loads every file, saying on standard error which cannot be used and why.
fn load_all(order: &Order) -> LoadedFiles {
    let mut all = LoadedFiles { suites: Vec::new(), any_unusable: false, known: Vec::new() };
    for path in &order.files {
        match load(path, order.timeout) {
            Ok((file, Declarations { tests, matrices, services, .. })) => {
                let chosen = order.selection.choose(&tests);
                let alone = services.iter().find_map(alone);
                let containers = services.into_iter().filter(|it| it.source.is_container());
                let containers = containers.map(|it| it.name).collect();
                all.suites.push(Suite { file, containers, alone, tests: chosen, matrices });
                all.known.extend(tests.into_iter().map(|it| it.name));
            }
            Err(error) => {
                all.any_unusable = true;
                if !interrupt::requested() {
                    message(format_args!("error: {error}"));
                }
            }
        }
    }
    all
}

/// Reads and evaluates a file for the tests that it declares: at least one.
fn load(path: &Path, timeout: Duration) -> Result<(SpecFile, Declarations), SpecError> {
    let (file, declarations) =
        loading::load(path, timeout, |_, loaded| loaded.declarations().clone())?;
    if declarations.tests.is_empty() {
        return Err(no_tests(&file));
    }
    Ok((file, declarations))
}

/// Starts the engine once for all files, and says what it can do.
fn start_engine(order: &Order, suites: &[Suite]) -> Result<Engine, crate::engine::EngineError> {
    let mut options = order.engine.clone();
    for suite in suites {
        for syscall in suite.file.mentioned_syscalls() {
            if !options.extra.contains(&syscall) {
                options.extra.push(syscall);
            }
        }
    }
    let engine = Engine::start(&options)?;
    if !order.quiet {
        message(format_args!("engine: {}", engine.summary()));
        let containers: Vec<_> =
            suites.iter().flat_map(|it| &it.containers).map(String::as_str).collect();
        if let Some(note) = out_of_reach(&engine, &containers) {
            message(format_args!("note: {note}"));
        }
    }
    Ok(engine)
}

/// What cannot be broken in these containers on this kernel, and what to do about it.
fn out_of_reach(engine: &Engine, containers: &[&str]) -> Option<String> {
    /// How many names are listed.
    const LISTED: usize = 8;
    let supervised = engine.coverage().supervised();
    if containers.is_empty() || supervised.is_empty() {
        return None;
    }
    let what = if engine.coverage().uses_kernel() {
        let names: Vec<_> = supervised.iter().take(LISTED).map(|it| it.name()).collect();
        let more = if supervised.len() > LISTED { ", …" } else { "" };
        format!("{}{more}", names.join(", "))
    } else {
        "no calls at all, and none is recorded,".to_owned()
    };
    let how = if engine.coverage().uses_kernel() { "cannot break" } else { "can break" };
    Some(format!(
        "on this kernel faultbox {how} {what} of services in containers ({}): a seccomp supervisor \
         has to start a process itself, and containers are left as they are. Lifecycle, steps and \
         partitions work; for faults use Linux 7.1 or newer, or a kernel with \
         CONFIG_FUNCTION_ERROR_INJECTION, or run the service as a local binary (faultbox doctor \
         says what this kernel has)",
        containers.join(", ")
    ))
}

/// Why runs that have this service cannot go side by side.
fn alone(service: &Service) -> Option<String> {
    let Service { name, source, container, .. } = service;
    let why = if source.is_foreign() {
        "there is only one of that container"
    } else if container.reuse {
        "reuse=True keeps one for all tests"
    } else if !container.ports.is_empty() {
        "ports= takes ports of this machine"
    } else {
        return None;
    };
    Some(format!("service {name:?}: {why}"))
}

/// How many runs go side by side: as many as the user wants, or else one at a time, and why.
fn jobs(order: &Order, suites: &[Suite]) -> usize {
    let wanted = order.jobs;
    if wanted == 1 {
        return 1;
    }
    let shared = || {
        let why = try_namespace().err()?;
        Some(format!("services run in this machine's own network ({why})"))
    };
    let why = suites.iter().find_map(|it| it.alone.clone()).or_else(shared);
    let Some(why) = why else { return wanted };
    if !order.quiet {
        message(format_args!("note: runs one at a time, not {wanted}: {why}"));
    }
    1
}

/// Runs everything, side by side as far as `setting` says, and prints it in order.
fn run_all(
    order: &Order,
    setting: Setting<'_>,
    suites: &[Suite],
    shown: &mut Results<'_>,
    tally: &mut Tally,
) -> io::Result<()> {
    let runs = order.selection.runs as usize;
    let tests: Vec<_> =
        suites.iter().flat_map(|suite| suite.tests.iter().map(move |test| (suite, test))).collect();
    let turns = Turns::default();
    let is_over = AtomicBool::new(false);
    // `None`: it was not begun.
    let work = |number: usize| {
        if is_over.load(Ordering::Relaxed) || interrupt::requested() {
            return None;
        }
        let (suite, test) = tests[number / runs];
        let (seed, voice) = (order.selection.seed_of(number % runs), turns.voice(number));
        let number = number as u32 + 1;
        Some(TestRun { setting, file: &suite.file, test, seed, number, voice: &voice }.run())
    };
    pool::in_order(setting.jobs, tests.len() * runs, work, |results| {
        // Asking for the next result is saying that the one before has been printed.
        let mut is_first = true;
        let mut results = iter::from_fn(|| {
            if !std::mem::take(&mut is_first) {
                turns.next();
            }
            results.next().flatten()
        });
        print_all(order, suites, &mut results, &is_over, shown, tally)
    })
}

/// Prints the blocks of all tests; `results` are those of their runs, in order.
fn print_all(
    order: &Order,
    suites: &[Suite],
    results: &mut dyn Iterator<Item = TestReport>,
    is_over: &AtomicBool,
    Results { terminal, document }: &mut Results<'_>,
    tally: &mut Tally,
) -> io::Result<()> {
    for suite in suites {
        let repeated = order.selection.runs > 1;
        let mut matrices: Vec<MatrixReport> =
            suite.matrices.iter().map(|it| MatrixReport::new(it.clone(), repeated)).collect();
        for test in &suite.tests {
            let mut reports: Vec<TestReport> = Vec::new();
            for _ in 0..order.selection.runs {
                // What was under way besides the last failure that is wanted does not count.
                let report = results.next().filter(|_| !is_over.load(Ordering::Relaxed));
                let Some(report) = report else {
                    tally.not_run += 1;
                    continue;
                };
                match report.outcome {
                    Outcome::Passed => tally.passed += 1,
                    Outcome::Failed { .. } => {
                        tally.failed += 1;
                        if order.max_fail.is_some_and(|most| tally.failed >= most) {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                    Outcome::Interrupted => tally.not_run += 1,
                }
                keep(&mut reports, report);
                if let (Some(document), Some(report)) = (document.as_mut(), reports.last()) {
                    document.test(report);
                }
            }
            match reports.as_slice() {
                [only] if !repeated => terminal.test(only)?,
                reports => terminal.runs(reports)?,
            }
            if let TestKind::Cell { matrix, scenario, fault } = test.kind
                && let Some(matrix) = matrices.get_mut(matrix)
            {
                matrix.add(scenario, fault, &reports);
            }
        }
        for matrix in &matrices {
            terminal.matrix(matrix)?;
            if let Some(document) = document {
                document.matrix(matrix);
            }
        }
    }
    Ok(())
}

/// Keeps a report for the block of its test. Of many runs only the first failure is shown in
/// detail, so the others' logs need not be kept.
fn keep(reports: &mut Vec<TestReport>, mut report: TestReport) {
    let is_first = reports.is_empty();
    let is_failure = |it: &TestReport| matches!(it.outcome, Outcome::Failed { .. });
    let is_first_failure = is_failure(&report) && !reports.iter().any(is_failure);
    if !is_first && !is_first_failure {
        report.events = Vec::new();
        for service in &mut report.services {
            service.output = Vec::new();
        }
    }
    reports.push(report);
}
