//! `faultbox run`: one program, whose calls are broken.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    fs,
    io::{self, stderr},
    os::{
        fd::AsFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{AccessFlags, access},
};

use super::{
    fault_option::{FaultOption, Grammar},
    interception,
    live_counts::{may_color, summary},
    signals::Signals,
    test::{EngineName, TraceName},
};
use crate::{
    engine::{Driver, Engine, Exit, Launch, Options, Process, Syscall, Target},
    runner::{self, Janitor, Session, SessionPaths, cgroup, mark},
};

/// Exit code when faultbox itself cannot do what it was asked to.
const BROKEN: u8 = 1;
/// Exit code when there is no such program, or it cannot be executed, as of a shell.
const NOT_EXECUTED: u8 = 127;
/// The program's name towards the engine, and where its chance starts.
const NAME: &str = "run";

/// The flags of `faultbox run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// What to break: CALL=ERRNO:PROB%[:GLOB][:nth=N|:after=N],
    /// CALL=delay:DURATION:PROB%[…], or as in a spec: KEYWORD=deny(EIO, probability=10%)
    #[arg(long = "fault", value_name = "SPEC")]
    faults: Vec<String>,
    /// What to break on files: open, read, write, sync, fsync, mkdir, delete or stat, as in
    /// write=EIO:10%:/data/**
    #[arg(long = "fs-fault", value_name = "SPEC")]
    fs_faults: Vec<String>,
    /// A variable of the program's environment, beside those of faultbox
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<OsString>,
    /// Decides what chance decides
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What breaks the calls
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineName,
    /// Which calls to record besides those that a rule breaks
    #[arg(long, value_name = "LEVEL", default_value = "default")]
    trace: TraceName,
    /// Print every recorded call
    #[arg(long)]
    debug: bool,
    /// The program, searched for in PATH, and its arguments
    #[arg(
        value_name = "BIN [ARGUMENT]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// Runs the command; returns the program's exit code, or 128 + the signal that ended it.
pub(super) fn run(arguments: &RunArguments) -> u8 {
    prepare(arguments).unwrap_or_else(|error| {
        runner::message(format_args!("error: {error}"));
        BROKEN
    })
}

/// From nothing to nothing, as `faultbox test`: what the program has left running is killed, by
/// the janitor if this process is killed itself.
fn prepare(arguments: &RunArguments) -> Result<u8, String> {
    let mut faults = FaultOption::parse_all(Grammar::Either, &arguments.faults)
        .map_err(|error| error.to_string())?;
    faults.extend(
        FaultOption::parse_all(Grammar::Files, &arguments.fs_faults)
            .map_err(|error| error.to_string())?,
    );
    let environment = environment(&arguments.environment)?;
    let unprepared = |error: io::Error| format!("cannot prepare a session: {error}");
    let paths = SessionPaths::choose().map_err(unprepared)?;
    // Dropped in the opposite order: the janitor must outlive the session.
    let _janitor = Janitor::start(&paths).map_err(unprepared)?;
    let session = Session::open(paths).map_err(unprepared)?;
    let signals = Signals::take_over().map_err(unprepared)?;

    let options = Options {
        choice: arguments.engine.choice(),
        trace: arguments.trace.level(),
        extra: faults.iter().flat_map(|fault| fault.syscalls.iter().copied()).collect(),
    };
    let engine = Engine::start(&options).map_err(|error| error.to_string())?;
    runner::message(format_args!("engine: {}", engine.summary()));
    supervise(arguments, &faults, environment, &session, &signals, &engine)
}

fn supervise(
    arguments: &RunArguments,
    faults: &[FaultOption],
    mut environment: BTreeMap<OsString, OsString>,
    session: &Session,
    signals: &Signals,
    engine: &Engine,
) -> Result<u8, String> {
    let mark = mark::of_run(session.id(), 1);
    environment.insert(mark::VARIABLE.into(), mark.clone().into());
    let cgroup = session.cgroup().map(|parent| parent.join(NAME));
    if let Some(path) = &cgroup {
        let failed = |error| format!("cannot create the cgroup {}: {error}", path.display());
        fs::create_dir(path).map_err(failed)?;
    }
    let (sink, printer) =
        interception::start(arguments.debug).map_err(|error| format!("cannot print: {error}"))?;
    let target = engine
        .target(NAME, cgroup.as_deref(), Driver::default(), sink)
        .map_err(|error| error.to_string())?;
    let rules = faults.iter().enumerate();
    let rules: Vec<_> =
        rules.map(|(index, fault)| fault.rule(target.id(), NAME, arguments.seed, index)).collect();
    let injection = engine.inject(&rules).map_err(|error| error.to_string())?;
    let exit = match start(&target, &arguments.command, environment) {
        Ok(process) => Some(wait(process, signals)),
        Err(error) => {
            runner::message(format_args!("error: {error}"));
            None
        }
    };
    // Nobody answers for what is left of it once the supervisor is gone.
    match &cgroup {
        Some(path) => cgroup::kill_all(path),
        None => mark::kill_run(&mark),
    }
    engine.drain();
    let counts = injection.lift();
    let calls = target.calls();
    drop(target);
    printer.finish();
    let Some(exit) = exit else { return Ok(NOT_EXECUTED) };
    for line in summary(faults, &counts, may_color(&stderr())) {
        runner::message(line);
    }
    if counts.iter().any(|(_, it)| it.matched == 0) && !calls.is_empty() {
        runner::message(format_args!("  hint: calls it made: {}", most_frequent(calls)));
    }
    say_what_was_missed(engine);
    if let Some(failure) = engine.failure() {
        return Err(failure);
    }
    Ok(match exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(BROKEN),
        Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(BROKEN),
    })
}

/// The calls that were made most, with how often.
fn most_frequent(mut calls: Vec<(Syscall, u64)>) -> String {
    const SHOWN: usize = 8;
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = calls.iter().take(SHOWN).map(|(syscall, count)| format!("{syscall}:{count}"));
    shown.collect::<Vec<_>>().join(" ")
}

/// Calls that passed unexamined, and lines that are missing.
pub(super) fn say_what_was_missed(engine: &Engine) {
    let (misses, dropped) = (engine.misses(), engine.dropped());
    if misses > 0 {
        runner::message(format_args!("warning: {misses} calls passed unexamined"));
    }
    let undelayed = engine.undelayed();
    if undelayed > 0 {
        runner::message(format_args!("warning: {undelayed} calls ran undelayed"));
    }
    if dropped > 0 {
        runner::message(format_args!(
            "warning: {dropped} calls are not shown: the buffer was full; the counts are exact"
        ));
    }
}

/// Our own variables with those of the options.
fn environment(options: &[OsString]) -> Result<BTreeMap<OsString, OsString>, String> {
    let mut all: BTreeMap<_, _> = std::env::vars_os().collect();
    for option in options {
        let bytes = option.as_bytes();
        let equals = bytes.iter().position(|it| *it == b'=').filter(|it| *it > 0);
        let Some(equals) = equals else {
            return Err(format!("--env: expected NAME=VALUE, got {}", option.to_string_lossy()));
        };
        let (name, value) = (&bytes[..equals], &bytes[equals + 1..]);
        all.insert(OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned());
    }
    Ok(all)
}

fn start(
    target: &Target,
    command: &[OsString],
    environment: BTreeMap<OsString, OsString>,
) -> Result<Process, String> {
    let name = command.first().ok_or("no program is named")?;
    let path = environment.get(OsStr::new("PATH"));
    let program = find(name, path.map(OsString::as_os_str))?;
    let c_string = |text: Vec<u8>| CString::new(text).map_err(|error| error.to_string());
    let launch = Launch {
        program,
        arguments: command
            .iter()
            .map(|it| c_string(it.as_bytes().to_owned()))
            .collect::<Result<_, _>>()?,
        environment: environment
            .into_iter()
            .map(|(name, value)| {
                let mut entry = name.into_vec();
                entry.push(b'=');
                entry.extend(value.as_bytes());
                c_string(entry)
            })
            .collect::<Result<_, _>>()?,
        mounts: None,
        output: None,
    };
    target.spawn_in_terminal(&launch).map_err(|error| error.to_string())
}

/// Finds a program as `execvp(3)` does: in the directories of `PATH` unless its name has a slash.
fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, String> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let is_program = |it: &PathBuf| it.is_file() && access(it, AccessFlags::X_OK).is_ok();
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    let found = std::env::split_paths(path).map(|it| it.join(name)).find(is_program);
    found.ok_or_else(|| {
        let here = Path::new(name);
        let name = name.to_string_lossy();
        let hint = if here.exists() { format!("; did you mean ./{name}?") } else { String::new() };
        format!("cannot execute {name}: not found in PATH{hint}")
    })
}

/// Waits for the program's end, and passes on signals that were meant for it.
fn wait(mut process: Process, signals: &Signals) -> Exit {
    loop {
        let mut fds = [
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        // An error is an interruption or lack of memory: both pass.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if let Some(exit) = process.wait(Duration::ZERO) {
            return exit;
        }
        while let Some(signal) = signals.next() {
            // The terminal sends to its whole foreground group, so the program has it already.
            if signal.ssi_code <= libc::SI_USER {
                process.signal(signal.ssi_signo as i32);
            }
        }
    }
}
