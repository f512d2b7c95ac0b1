//! A session: every file is loaded, every chosen test runs, one result comes out.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    interrupt, loading,
    message::message,
    plan::Selection,
    session::Session,
    test_run::{Setting, TestRun},
};
use crate::{
    engine::{Engine, Options},
    report::{MatrixReport, Outcome, Style, Terminal, TestReport},
    spec::{Declarations, Matrix, SpecError, SpecFile, TestDeclaration, TestKind, no_tests},
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
    /// No log lines on standard error.
    pub(crate) quiet: bool,
    /// A rule that never fired is a failure.
    pub(crate) strict_faults: bool,
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

/// Where results go, whether or not somebody reads them to the end. `head` and `grep -q` close
/// what they read from when they have seen enough; the exit code still says how the tests ended.
struct Patient<W> {
    out: W,
    is_gone: bool,
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_gone {
            return Ok(bytes.len());
        }
        match self.out.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_gone = true;
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// A file and the tests chosen of it.
struct Suite {
    file: SpecFile,
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
    let setting = Setting {
        engine: &engine,
        session,
        trace: order.engine.trace,
        timeout: order.timeout,
        debug: order.style.debug,
        quiet: order.quiet,
        strict_faults: order.strict_faults,
    };
    let mut terminal = Terminal::new(Patient { out, is_gone: false }, order.style);
    let mut tally = Tally::default();
    let printed = run_all(order, setting, &loaded.suites, &mut terminal, &mut tally)
        .and_then(|()| terminal.summary(tally.passed, tally.failed, tally.not_run));
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
            Ok((file, Declarations { tests, matrices, .. })) => {
                let chosen = order.selection.choose(&tests);
                all.suites.push(Suite { file, tests: chosen, matrices });
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
    }
    Ok(engine)
}

fn run_all(
    order: &Order,
    setting: Setting<'_>,
    suites: &[Suite],
    terminal: &mut Terminal<impl Write>,
    tally: &mut Tally,
) -> io::Result<()> {
    let mut number = 0;
    for suite in suites {
        let repeated = order.selection.runs > 1;
        let mut matrices: Vec<MatrixReport> =
            suite.matrices.iter().map(|it| MatrixReport::new(it.clone(), repeated)).collect();
        for test in &suite.tests {
            let mut reports: Vec<TestReport> = Vec::new();
            for seed in order.selection.seeds() {
                if interrupt::requested() {
                    tally.not_run += 1;
                    continue;
                }
                number += 1;
                let run = TestRun { setting, file: &suite.file, test, seed, number };
                let report = run.run();
                match report.outcome {
                    Outcome::Passed => tally.passed += 1,
                    Outcome::Failed { .. } => tally.failed += 1,
                    Outcome::Interrupted => tally.not_run += 1,
                }
                keep(&mut reports, report);
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
