//! A session: every file is loaded, every chosen test runs, one result comes out.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    containers::Containers,
    descriptors, interrupt,
    journal::{Header, Journal},
    loading,
    message::message,
    plan::Selection,
    progress::Progress,
    results::{Patient, Results, Tally, write_file},
    schedule::{Schedule, run_all},
    session::Session,
    sharing::{Sharing, alone, shares_files, uses_shared_memory},
    supply::{Files, Supply},
    test_run::Setting,
    writes::Writes,
};
use crate::{
    engine::{Engine, Options},
    protocol::go_duration,
    report::{AllTimings, Document, Failures, Junit, Style, Terminal},
    spec::{Declarations, Matrix, SpecError, SpecFile, TestDeclaration, no_tests},
};

/// What `faultbox test` was asked to do.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
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
    /// A file for JUnit's XML.
    pub(crate) junit: Option<PathBuf>,
    /// A file that gets each result as soon as there is one.
    pub(crate) journal: Option<JournalOrder>,
    /// What the runs' time went into is printed.
    pub(crate) timings: bool,
    /// No log lines on standard error.
    pub(crate) quiet: bool,
    /// A rule that never fired is a failure.
    pub(crate) strict_faults: bool,
    /// How many runs go side by side, if they can; `None`: as many as there are processors.
    pub(crate) jobs: Option<usize>,
    /// Services use this machine's own temporary directories.
    pub(crate) shared_tmp: bool,
    /// After how many failures no more runs are begun.
    pub(crate) max_fail: Option<usize>,
}

/// A file that gets each result as soon as there is one.
#[derive(Clone, Debug)]
pub(crate) struct JournalOrder {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it may be there, and what is in it need not be run again.
    pub(crate) resume: bool,
}

impl JournalOrder {
    fn open(&self, order: &Order, suites: &[Suite]) -> Result<Journal, String> {
        let files = suites.iter().map(|it| (it.file.path().to_owned(), it.file.digest()));
        let Order { engine, timeout, strict_faults, shared_tmp, .. } = order;
        let flags = [
            ("--engine", format!("{:?}", engine.choice).to_lowercase()),
            ("--trace", format!("{:?}", engine.trace).to_lowercase()),
            ("--timeout", go_duration(*timeout)),
            ("--strict-faults", if *strict_faults { "on" } else { "off" }.to_owned()),
            ("--shared-tmp", if *shared_tmp { "on" } else { "off" }.to_owned()),
        ];
        let flags = flags.map(|(name, value)| (name.to_owned(), value));
        Journal::open(&self.path, self.resume, &Header::new(files.collect(), flags.to_vec()))
    }
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
pub(super) struct Suite {
    pub(super) file: SpecFile,
    /// Services that are containers.
    containers: Vec<String>,
    /// A service that only one run can have at a time, and why.
    pub(super) alone: Option<String>,
    /// A container that shares files with this machine which runs have of their own, and how.
    pub(super) shares_files: Option<String>,
    /// Whether one of its programs lies in `/dev/shm`.
    pub(super) uses_shared_memory: bool,
    /// How many services it has.
    pub(super) services: usize,
    pub(super) tests: Vec<TestDeclaration>,
    /// All that the file has.
    pub(super) matrices: Vec<Matrix>,
}

/// Runs everything, printing blocks to `out` as tests finish.
pub(crate) fn run(order: &Order, session: &Session, out: impl Write) -> Ending {
    let loaded = load_all(order);
    let any_unusable = loaded.any_unusable;
    if interrupt::requested() {
        return Ending::Interrupted;
    }
    if loaded.suites.iter().all(|suite| suite.tests.is_empty()) {
        loaded.say_that_none_matches(order);
        return Ending::Broken;
    }
    let schedule = Schedule::new(order, &loaded.suites);
    let Sharing { files, jobs, goes_beside } = Sharing::of(order, &loaded.suites, schedule.total());
    let Some(supply) = start_supply(files, jobs, schedule.total()) else {
        return Ending::Broken;
    };
    let engine = match start_engine(order, &loaded.suites) {
        Ok(engine) => engine,
        Err(error) => {
            message(format_args!("error: {error}"));
            return Ending::Broken;
        }
    };
    let containers = Containers::new(session);
    let setting = Setting {
        engine: &engine,
        session,
        supply: &supply,
        writes: &Writes::new(jobs > 1),
        goes_beside,
        containers: &containers,
        trace: order.engine.trace,
        timeout: order.timeout,
        debug: order.style.debug,
        // A night's log would be six lines for each of its runs.
        quiet: order.quiet || (order.selection.is_repeated() && !order.style.debug),
        strict_faults: order.strict_faults,
        shared_tmp: order.shared_tmp,
        jobs,
    };
    let begin = Instant::now();
    let journal = match order.journal.as_ref().map(|it| it.open(order, &loaded.suites)).transpose()
    {
        Ok(journal) => journal,
        Err(error) => {
            message(format_args!("error: {error}"));
            return Ending::Broken;
        }
    };
    let mut out = Patient { out, is_gone: false };
    let mut nowhere = io::sink();
    let shown: &mut dyn Write = if order.json { &mut nowhere } else { &mut out };
    let repeated = order.selection.is_repeated();
    let known = journal.as_ref().map_or(0, Journal::known);
    let mut results = Results {
        terminal: Terminal::new(shown, order.style),
        document: (order.json || order.output.is_some()).then(Document::default),
        junit: order.junit.is_some().then(|| Junit::new(repeated)),
        timings: order.timings.then(AllTimings::default),
        failures: Failures::default(),
        progress: (repeated && !order.quiet).then(|| Progress::new(schedule.total(), known)),
        tally: Tally::default(),
    };
    let printed = run_all(order, setting, &schedule, journal.as_ref(), &mut results);
    let failure = journal.as_ref().and_then(Journal::failure);
    let broken = failure.as_ref().map(|_| "the journal cannot be written");
    let printed = printed.and_then(|()| finish(order, &schedule, broken, &mut results));
    let Results { document, junit, tally, .. } = results;
    let printed = printed.and_then(|()| {
        let first = order.files.first().map_or_else(String::new, |it| it.display().to_string());
        let elapsed = begin.elapsed();
        if let Some(document) = document {
            if order.json {
                document.write(&mut out, &first, elapsed)?;
            }
            if let Some(path) = &order.output {
                write_file(path, |file| document.write(file, &first, elapsed))?;
            }
        }
        match (junit, &order.junit) {
            (Some(junit), Some(path)) => write_file(path, |file| junit.write(file)),
            _ => Ok(()),
        }
    });
    if let Err(error) = printed {
        message(format_args!("error: cannot write the results: {error}"));
        return Ending::Broken;
    }
    if let Some(error) = failure {
        message(format_args!("error: {error}"));
        return Ending::Broken;
    }
    match tally {
        _ if interrupt::requested() => Ending::Interrupted,
        _ if any_unusable => Ending::Broken,
        Tally { failed: 1.., .. } => Ending::Failed,
        Tally { .. } => Ending::Passed,
    }
}

/// Prints what is to be said of all runs together, and the final line.
fn finish(
    order: &Order,
    schedule: &Schedule<'_>,
    broken: Option<&str>,
    results: &mut Results<'_>,
) -> io::Result<()> {
    results.progress = None;
    let Tally { passed, failed } = results.tally;
    let nothing = Failures::default();
    let failures = if order.selection.is_repeated() { &results.failures } else { &nothing };
    let timings = results.timings.as_ref().map_or_else(Vec::new, AllTimings::lines);
    results.terminal.findings(failures, &timings)?;
    let why = match order.max_fail {
        _ if interrupt::requested() => "interrupted".to_owned(),
        _ if broken.is_some() => broken.unwrap_or_default().to_owned(),
        Some(2..) => format!("stopped after {failed} failures"),
        _ => "stopped after the first failure".to_owned(),
    };
    let not_run = schedule.total().map_or(0, |all| all - passed - failed);
    results.terminal.summary(passed, failed, (not_run, &why))
}

struct LoadedFiles {
    suites: Vec<Suite>,
    any_unusable: bool,
    /// All tests that could have been chosen.
    known: Vec<String>,
}

impl LoadedFiles {
    fn say_that_none_matches(&self, order: &Order) {
        if let Some(name) = &order.selection.test
            && !self.suites.is_empty()
        {
            let known = self.known.join(", ");
            message(format_args!("error: no test matches {name:?}; available: {known}"));
        }
    }
}

/// Loads every file, saying on standard error which cannot be used and why.
fn load_all(order: &Order) -> LoadedFiles {
    let mut all = LoadedFiles { suites: Vec::new(), any_unusable: false, known: Vec::new() };
    for path in &order.files {
        match load(path, order.timeout) {
            Ok((file, Declarations { tests, matrices, services, .. })) => {
                let chosen = order.selection.choose(&tests);
                let alone = services.iter().find_map(alone);
                let shares_files = services.iter().find_map(shares_files);
                let uses_shared_memory = services.iter().any(uses_shared_memory);
                let count = services.len();
                let containers = services.into_iter().filter(|it| it.source.is_container());
                let containers = containers.map(|it| it.name).collect();
                all.suites.push(Suite {
                    file,
                    containers,
                    alone,
                    shares_files,
                    uses_shared_memory,
                    services: count,
                    tests: chosen,
                    matrices,
                });
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

/// Starts what makes namespaces, or says why not.
fn start_supply(files: Files, jobs: usize, total: Option<usize>) -> Option<Supply> {
    // Two for each run that is under way, and for each to come.
    descriptors::make_room(jobs);
    let supply = Supply::start(files, jobs, total);
    let fail = |error| message(format_args!("error: cannot start a thread: {error}"));
    supply.map_err(fail).ok()
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
