//! `faultbox attach`: breaks calls of processes that run already, and of those they start.

mod target;

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, stdout},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{ArgGroup, Args};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    fault_option::{FaultOption, Grammar},
    live_counts::{LiveCounts, may_color, summary},
    run::say_what_was_missed,
    signals::Signals,
    test::EngineName,
};
use crate::{
    engine::{
        Choice, Driver, Engine, Injection, Options, Record, RecordSink, Rung, TraceLevel, survey,
    },
    runner,
    spec::parse_duration,
};
use target::Place;

/// Exit code when it cannot do what it was asked to.
const BROKEN: u8 = 1;
/// Exit code when the user ended it, as of `faultbox test`.
const INTERRUPTED: u8 = 130;
/// How often counts are looked at.
const ROUND: Duration = Duration::from_secs(1);
/// Where chance starts, and the target's name towards the engine.
const NAME: &str = "attach";

/// The flags of `faultbox attach`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["pid", "cgroup", "container"])))]
pub(super) struct AttachArguments {
    /// A process; it, its descendants, and those to come are hit
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// With --pid: hit every process of its cgroup instead of moving it into one of its own
    #[arg(long)]
    whole_cgroup: bool,
    /// A directory of cgroup v2; every process in it and below it is hit
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// A Docker container, by name, id, or PROJECT/SERVICE of Compose; every process in it is hit,
    /// and those it has when it is restarted
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// What to break, as in a spec: KEYWORD=deny(EIO, probability=10%)
    #[arg(long = "fault", value_name = "KEYWORD=ACTION", required = true)]
    faults: Vec<String>,
    /// How long, such as 30s [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    period: Option<Duration>,
    /// Decides what chance decides
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What breaks the calls: a supervisor cannot be put before a process that runs
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineName,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use e.g. 500ms or 30s".to_owned())
}

/// Counts are all that is wanted.
struct Silent;

impl RecordSink for Silent {
    fn record(&self, _: Record) {}
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The time is over.
    Time,
    /// No process is left.
    Empty,
    /// The user had enough.
    Interrupted,
}

/// Runs the command; returns the exit code.
pub(super) fn run(arguments: &AttachArguments) -> u8 {
    attach(arguments).unwrap_or_else(|error| {
        runner::message(format_args!("error: {error}"));
        BROKEN
    })
}

fn attach(arguments: &AttachArguments) -> Result<u8, String> {
    if arguments.whole_cgroup && arguments.pid.is_none() {
        // clap's own `requires` says nothing when another argument of the group is there.
        return Err("--whole-cgroup belongs to --pid; the others mean a whole cgroup anyway".into());
    }
    let faults = FaultOption::parse_all(Grammar::Expression, &arguments.faults)
        .map_err(|error| error.to_string())?;
    let signals = Signals::take_over().map_err(|error| format!("signals: {error}"))?;
    let engine = start_engine(arguments, &faults)?;
    // Dropped after the target: processes go back to where they were when nothing breaks their
    // calls any more.
    let place = find_place(arguments)?;
    let target = engine
        .target(NAME, Some(place.cgroup()), Driver::default(), Arc::new(Silent))
        .map_err(|error| error.to_string())?;
    let target = Arc::new(target);
    let restarts = place.on_restart({
        let target = Arc::clone(&target);
        move |cgroup| {
            if let Err(error) = target.rebind(cgroup) {
                runner::message(format_args!("warning: not broken since its restart: {error}"));
            }
        }
    })?;
    let rules = faults.iter().enumerate();
    let rules: Vec<_> =
        rules.map(|(index, fault)| fault.rule(target.id(), NAME, arguments.seed, index)).collect();
    let injection = engine.inject(&rules).map_err(|error| error.to_string())?;
    runner::message(format_args!(
        "engine: {}\nattached to {}; Ctrl-C ends it",
        engine.summary(),
        place.describe()
    ));
    let mut live = LiveCounts::new(stdout());
    let end = watch(&faults, &injection, &place, arguments.period, &signals, &mut live);
    let counts = injection.lift();
    let end = end?;
    drop(restarts);
    drop(target);
    // Nobody to tell is no reason to leave anything behind.
    let _ = live.finish(&summary(&faults, &counts, may_color(&stdout())));
    say_what_was_missed(&engine);
    runner::message(match end {
        End::Time => "detached: the time is over",
        End::Empty => "detached: no process is left",
        End::Interrupted => "detached",
    });
    Ok(if end == End::Interrupted { INTERRUPTED } else { 0 })
}

fn find_place(arguments: &AttachArguments) -> Result<Place, String> {
    match (arguments.pid, &arguments.cgroup, &arguments.container) {
        (Some(pid), ..) => Place::of_process(pid, arguments.whole_cgroup),
        (_, Some(path), _) => Place::of_cgroup(path),
        (.., Some(name)) => Place::of_container(name),
        _ => Err("one of --pid, --cgroup and --container is required".to_owned()),
    }
}

/// Starts an engine that can serve all rules inside the kernel.
fn start_engine(arguments: &AttachArguments, faults: &[FaultOption]) -> Result<Engine, String> {
    let choice = arguments.engine.choice();
    if choice == Choice::Seccomp {
        return Err(
            "--engine seccomp cannot attach: a seccomp filter cannot be put into a process \
                    that runs already; start it through faultbox run, or use --engine auto"
                .to_owned(),
        );
    }
    let options = Options { choice, trace: TraceLevel::Off, extra: Vec::new() };
    let engine = match Engine::start(&options) {
        Ok(engine) if engine.coverage().uses_kernel() => engine,
        // The error of a chosen engine says to use another one, which would not help here.
        Err(error) if choice == Choice::Auto => return Err(error.to_string()),
        Ok(_) | Err(_) => return Err(refusal()),
    };
    for syscall in faults.iter().flat_map(|fault| &fault.syscalls) {
        match engine.coverage().rung(*syscall) {
            Ok(Rung::Supervisor) => {
                return Err(format!(
                    "{syscall} cannot be broken in a process that runs already: on this kernel \
                     only the seccomp supervisor serves it, which has to be there when a process \
                     starts; start it through faultbox run or faultbox test (faultbox doctor says \
                     what the kernel lacks)"
                ));
            }
            Ok(_) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(engine)
}

/// Why no running process can be broken on this kernel, as `faultbox doctor` has it, and what to
/// do about it.
fn refusal() -> String {
    let survey = survey();
    let write = survey.families.iter().find(|family| family.family == "write");
    let rungs = write.into_iter().flat_map(|family| &family.rungs);
    // Rungs that are refused for the same reason share a line.
    let mut reasons: Vec<(String, &str)> = Vec::new();
    for (rung, available) in rungs.filter(|(rung, _)| *rung != Rung::Supervisor) {
        if let Err(why) = available {
            match reasons.iter_mut().find(|(_, it)| it == why) {
                Some((names, _)) => names.extend([", ", rung.name()]),
                None => reasons.push((rung.name().to_owned(), why)),
            }
        }
    }
    let reasons: Vec<_> = reasons.iter().map(|(names, why)| format!("{names}: {why}")).collect();
    format!(
        "this kernel cannot break calls of processes that run already: it serves no faults in \
         the kernel\n  {}\n\
         What to do: start the program through faultbox run or faultbox test, where the seccomp \
         supervisor stands in; or attach on Linux 7.1 or newer, on a kernel with \
         CONFIG_FUNCTION_ERROR_INJECTION, or, for most calls, on any that lets root load tracing \
         programs and has BTF (/sys/kernel/btf/vmlinux)",
        reasons.join("\n  ")
    )
}

/// Shows counts until it is time to end.
fn watch(
    faults: &[FaultOption],
    injection: &Injection,
    place: &Place,
    period: Option<Duration>,
    signals: &Signals,
    live: &mut LiveCounts<io::Stdout>,
) -> Result<End, String> {
    // Beyond what the clock can say: for ever.
    let deadline = period.and_then(|period| Instant::now().checked_add(period));
    let mut events = None;
    let mut waits = false;
    loop {
        if let Err(error) = live.show(faults, &injection.counts()) {
            return match error.kind() {
                // Whoever watched has gone.
                io::ErrorKind::BrokenPipe => Ok(End::Interrupted),
                _ => Err(format!("cannot show counts: {error}")),
            };
        }
        // The cgroup of a container that was restarted is another one.
        events = populated(events).or_else(|| populated(cgroup_events(place.cgroup())));
        if events.is_none() {
            if !place.may_start_again() {
                return Ok(End::Empty);
            }
            if !waits {
                runner::message("it has stopped; waiting until it is started again");
            }
        }
        waits = events.is_none();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|it| it.is_zero()) {
            return Ok(End::Time);
        }
        let round = left.map_or(ROUND, |left| left.min(ROUND));
        // Rounded up: a wait of nothing would spin.
        let timeout = PollTimeout::try_from(round.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(events.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLPRI)));
        // An error is an interruption or lack of memory: both pass.
        let _ = poll(&mut fds, timeout);
        if signals.next().is_some() {
            return Ok(End::Interrupted);
        }
    }
}

/// What tells when the last process of a cgroup has ended.
fn cgroup_events(cgroup: &Path) -> Option<File> {
    File::open(cgroup.join("cgroup.events")).ok()
}

/// The same if the cgroup has processes, its descendants included. One that is gone has none.
fn populated(events: Option<File>) -> Option<File> {
    let mut events = events?;
    let mut text = String::new();
    let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
    (read.is_ok() && !text.lines().any(|line| line == "populated 0")).then_some(events)
}
