//! `faultbox test`.

use std::{
    io::{IsTerminal, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    engine::{Choice, Options, TraceLevel},
    report::Style,
    runner::{self, Ending, JournalOrder, Order, Selection},
    spec::parse_duration,
};

/// The spec that is used when none is named.
const DEFAULT_FILE: &str = "faultbox.star";

/// The flags of `faultbox test`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub(super) struct TestArguments {
    /// Specs to run, in this order [default: faultbox.star]
    files: Vec<PathBuf>,
    /// Run only this test, with or without its prefix test_
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Run each test this often, with seeds counting up
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Repeat all tests, with seeds counting up, until one fails; at most --runs times, if given
    #[arg(long, conflicts_with_all = ["fail_fast", "max_fail"])]
    until_fail: bool,
    /// Seed of the first run
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// How to print results; JSON is one document, at the end
    #[arg(long, value_name = "FORMAT", default_value = "console")]
    format: Format,
    /// Also write the JSON document to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write JUnit's XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write each result to this file as soon as there is one, a line of JSON each
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Go on with the journal: what is in it is not run again
    #[arg(long, requires = "journal")]
    resume: bool,
    /// Print what the runs' time went into
    #[arg(long)]
    timings: bool,
    /// Which tests to print
    #[arg(long, value_name = "WHICH", default_value = "all")]
    show: Show,
    /// Print every recorded call, and what services print
    #[arg(long)]
    debug: bool,
    /// What breaks the calls
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineName,
    /// Which calls to record
    #[arg(long, value_name = "LEVEL", default_value = "default")]
    trace: TraceName,
    /// How long a test may take, such as 500ms or 1m30s; fault scenarios and matrices say it
    /// themselves
    #[arg(long, value_name = "DURATION", default_value = "180s", value_parser = duration)]
    timeout: Duration,
    /// Fail tests in which a rule never fired
    #[arg(long)]
    strict_faults: bool,
    /// Run this many side by side [default: one for each processor]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Let services use this machine's /tmp, /var/tmp and /dev/shm, instead of each run its own
    #[arg(long)]
    shared_tmp: bool,
    /// Begin no more runs after the first failure
    #[arg(long, conflicts_with = "max_fail")]
    fail_fast: bool,
    /// Begin no more runs after this many failures
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    max_fail: Option<u32>,
    /// Print results only
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Console,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// All of them
    All,
    /// Those that failed
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineName {
    /// The best that this kernel offers, per call
    Auto,
    /// In-kernel programs only
    Ebpf,
    /// Kprobes only
    Kprobe,
    /// The supervisor only
    Seccomp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TraceName {
    /// None: hits are counted only
    Off,
    /// Those that move data or change files and connections
    Default,
    /// All
    All,
}

impl EngineName {
    pub(super) fn choice(self) -> Choice {
        match self {
            Self::Auto => Choice::Auto,
            Self::Ebpf => Choice::Ebpf,
            Self::Kprobe => Choice::Kprobe,
            Self::Seccomp => Choice::Seccomp,
        }
    }
}

impl TraceName {
    pub(super) fn level(self) -> TraceLevel {
        match self {
            Self::Off => TraceLevel::Off,
            Self::Default => TraceLevel::Default,
            Self::All => TraceLevel::All,
        }
    }
}

/// Runs the command; returns the exit code.
pub(super) fn run(arguments: &TestArguments) -> u8 {
    match order(arguments) {
        Ok(order) => runner::run(&order, stdout()).code(),
        Err(error) => {
            runner::message(format_args!("error: {error}"));
            Ending::Broken.code()
        }
    }
}

fn order(arguments: &TestArguments) -> Result<Order, String> {
    let mut files = arguments.files.clone();
    if files.is_empty() {
        if !Path::new(DEFAULT_FILE).exists() {
            return Err(format!(
                "no spec given and there is no {DEFAULT_FILE} here\n\n\
                 usage: faultbox test [flags] FILE.star…"
            ));
        }
        files.push(DEFAULT_FILE.into());
    }
    for (flag, path) in [
        ("--output", &arguments.output),
        ("--junit", &arguments.junit),
        ("--journal", &arguments.journal),
    ] {
        if let Some(path) = path {
            refuse_output(flag, path)?;
        }
    }
    Ok(Order {
        files,
        selection: Selection {
            test: arguments.test.clone(),
            runs: arguments.runs.unwrap_or(if arguments.until_fail { u32::MAX } else { 1 }),
            seed: arguments.seed,
            until_fail: arguments.until_fail,
        },
        engine: Options {
            choice: arguments.engine.choice(),
            trace: arguments.trace.level(),
            extra: Vec::new(),
        },
        timeout: arguments.timeout,
        style: Style {
            debug: arguments.debug,
            only_failures: arguments.show == Show::Fail,
            color: stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
        },
        json: arguments.format == Format::Json,
        output: arguments.output.clone(),
        quiet: arguments.quiet,
        strict_faults: arguments.strict_faults,
        jobs: arguments.jobs.map(usize::from),
        shared_tmp: arguments.shared_tmp,
        junit: arguments.junit.clone(),
        journal: arguments
            .journal
            .clone()
            .map(|path| JournalOrder { path, resume: arguments.resume }),
        timings: arguments.timings,
        max_fail: if arguments.fail_fast || arguments.until_fail {
            Some(1)
        } else {
            arguments.max_fail.map(|it| it as usize)
        },
    })
}

/// Says what is wrong with a file for results, before anything has run.
fn refuse_output(flag: &str, path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
    let why = if path.is_dir() {
        "it is a directory; name a file".to_owned()
    } else if !folder.is_dir() {
        format!("there is no directory {}", folder.display())
    } else {
        return Ok(());
    };
    Err(format!("{flag} {}: {why}", path.display()))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use e.g. 500ms or 2s".to_owned())
}
