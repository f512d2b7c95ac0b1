//! Every case, in the order in which they are measured: engine by engine, so that each is started once.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use faultbox::engine::{Injection, TraceLevel};
use nix::sys::utsname::uname;

use crate::{
    floor,
    measure::{Call, Plan},
    report::Line,
    setting::{Fault, Mechanism, Setting},
    subject::{Folder, Measured, Place},
};

/// A call in the kernel.
const CALLS: u32 = 50_000;
/// A call that another process answers.
const ANSWERED_CALLS: u32 = 10_000;
/// A call that a tracer stops twice.
const TRACED_CALLS: u32 = 5_000;
const ROUNDS: usize = 3;
/// What strace is asked to do.
const STRACE: &[&str] = &["-f", "-o", "/dev/null", "-e", "inject=write:error=EIO"];

/// Whose calls are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A process outside any target.
    Other,
    /// A process like any other, while an empty program is on the function.
    Hooked,
    /// A process outside any target, below strace.
    Traced,
    /// The target that the fault is about.
    Service,
    /// Another target.
    Neighbour,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Null,
    File,
    ParentId,
}

#[derive(Clone, Copy)]
struct Case {
    id: &'static str,
    title: &'static str,
    /// What carries the fault out, and how much it records; none: no engine runs.
    engine: Option<(Mechanism, TraceLevel)>,
    fault: Option<Fault>,
    who: Who,
    what: What,
    /// Whether the calls fail with EIO.
    fails: bool,
    calls: u32,
}

impl Case {
    const fn new(id: &'static str, title: &'static str, who: Who, what: What) -> Self {
        let (engine, fault, fails, calls) = (None, None, false, CALLS);
        Self { id, title, engine, fault, who, what, fails, calls }
    }

    /// In the kernel, by the first rung, without records of calls that run.
    const fn quiet(id: &'static str, title: &'static str, who: Who, fault: Fault) -> Self {
        let engine = Some((Mechanism::Ebpf, TraceLevel::Off));
        Self { engine, fault: Some(fault), ..Self::new(id, title, who, What::Null) }
    }

    /// The same at the default trace level.
    const fn traced(self) -> Self {
        self.by(Mechanism::Ebpf, TraceLevel::Default)
    }

    const fn by(self, mechanism: Mechanism, trace: TraceLevel) -> Self {
        Self { engine: Some((mechanism, trace)), ..self }
    }

    const fn on(self, what: What) -> Self {
        Self { what, ..self }
    }

    const fn failing(self) -> Self {
        Self { fails: true, ..self }
    }

    const fn times(self, calls: u32) -> Self {
        Self { calls, ..self }
    }

    /// What its cost is counted from.
    fn against(&self) -> Option<&'static str> {
        let baseline = match self.what {
            What::Null => "nothing",
            What::File => "nothing-file",
            What::ParentId => "nothing-getppid",
        };
        (self.id != baseline).then_some(baseline)
    }

    /// Whether the call waits for another process.
    fn waits(&self) -> bool {
        self.who == Traced || self.what != ParentId && matches!(self.engine, Some((Seccomp, _)))
    }
}

use Fault::{Deny, Improbable, ImprobableDelay, Later, Lifted, PathHit, PathMiss};
use Mechanism::{Kprobe, Seccomp};
use What::{File, Null, ParentId};
use Who::{Hooked, Neighbour, Other, Service, Traced};

const OFF: TraceLevel = TraceLevel::Off;

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case::new("nothing", "nothing attached: write to /dev/null", Other, Null),
    Case::new("nothing-file", "nothing attached: write to a file in memory", Other, File),
    Case::new("nothing-getppid", "nothing attached: getppid", Other, ParentId),

    Case::new("floor", "an empty program on the function: the kernel's own price for any", Hooked, Null),

    Case::quiet("other", "another process, while a fault is on", Other, Deny),
    Case::quiet("other-getppid", "another process, a call without a fault", Other, Deny).on(ParentId),
    Case::quiet("other-lifted", "another process, after the fault", Other, Lifted),
    Case::quiet("unfaulted", "a service's call that only another service's fault is about", Neighbour, Deny),
    Case::quiet("unfaulted-getppid", "a faulted service's call without a fault", Service, Deny).on(ParentId),
    Case::quiet("deny", "deny", Service, Deny).failing(),
    Case::quiet("probability", "deny with a probability, spared", Service, Improbable),
    Case::quiet("nth", "deny at a later match, spared", Service, Later),
    Case::quiet("delay", "delay with a probability, spared: the decision alone", Service, ImprobableDelay),
    Case::quiet("path-miss", "deny on another file of the folder", Service, PathMiss).on(File),
    Case::quiet("path-hit", "deny on this file", Service, PathHit).on(File).failing(),

    Case::quiet("traced-other", "default trace: another process, while a fault is on", Other, Deny).traced(),
    Case::quiet("traced-other-getppid", "default trace: another process, a call without a fault", Other, Deny).traced().on(ParentId),
    Case::quiet("traced-unfaulted", "default trace: a call that only another service's fault is about", Neighbour, Deny).traced(),
    Case::quiet("traced-unfaulted-getppid", "default trace: a call without a fault, not recorded", Service, Deny).traced().on(ParentId),
    Case::quiet("traced-deny", "default trace: deny, with its event", Service, Deny).traced().failing(),

    Case::quiet("kprobe-other", "kprobe: another process, while a fault is on", Other, Deny).by(Kprobe, OFF),
    Case::quiet("kprobe-unfaulted", "kprobe: a call that only another service's fault is about", Neighbour, Deny).by(Kprobe, OFF),
    Case::quiet("kprobe-deny", "kprobe: deny", Service, Deny).by(Kprobe, OFF).failing(),

    Case::quiet("notify-untrapped", "seccomp: a call that the filter lets pass", Service, Deny).by(Seccomp, OFF).on(ParentId),
    Case::quiet("notify-spared", "seccomp: user notify, spared", Neighbour, Deny).by(Seccomp, OFF).times(ANSWERED_CALLS),
    Case::quiet("notify-deny", "seccomp: user notify, deny", Service, Deny).by(Seccomp, OFF).failing().times(ANSWERED_CALLS),

    Case::new("strace", "strace -f -e inject=write:error=EIO", Traced, Null).failing().times(TRACED_CALLS),
    Case::new("nothing-again", "nothing attached any more: write to /dev/null", Other, Null),
];

/// Measures every case that can be measured here.
pub(crate) fn run() -> Result<()> {
    let release = uname()?.release().to_string_lossy().into_owned();
    Line::Kernel { release: &release }.print()?;
    let folder = Folder::new()?;
    let (mut misses, mut dropped) = (0, 0);
    let mut cases = CASES;
    while let [first, ..] = cases {
        let length = cases.iter().take_while(|case| case.engine == first.engine).count();
        let (group, rest) = cases.split_at(length);
        cases = rest;
        let setting = match first.engine.map(|(by, trace)| Setting::start(by, trace)).transpose() {
            Ok(setting) => setting,
            Err(error) => {
                group.iter().try_for_each(|case| skip(case, &error))?;
                continue;
            }
        };
        if let (Some(setting), Some((by, OFF))) = (&setting, first.engine) {
            // First of all, so that the first one includes what is done only once.
            actions(by, setting)?;
        }
        for case in group {
            match Prepared::new(case, setting.as_ref(), &folder) {
                Ok(prepared) => {
                    print(case, measure(case, setting.as_ref(), &folder)?)?;
                    drop(prepared);
                    setting.iter().for_each(Setting::settle);
                }
                // What this kernel or this engine cannot do is no failure of the measurement.
                Err(error) => skip(case, &error)?,
            }
        }
        if let Some(setting) = &setting {
            let lost = setting.lost();
            (misses, dropped) = (misses + lost.0, dropped + lost.1);
        }
    }
    Line::Count { id: "misses", title: "calls that passed unexamined", count: misses }.print()?;
    Line::Count { id: "dropped", title: "records lost", count: dropped }.print()
}

/// What is on while a case is measured.
struct Prepared {
    _injection: Option<Injection>,
    _hook: Option<OwnedFd>,
}

impl Prepared {
    fn new(case: &Case, setting: Option<&Setting>, folder: &Folder) -> Result<Self> {
        let fault = setting.zip(case.fault);
        let injected = fault.map(|(setting, fault)| setting.inject(fault, folder.path()));
        let hook = (case.who == Hooked).then(floor::attach).transpose()?;
        Ok(Self { _injection: injected.transpose()?.flatten(), _hook: hook })
    }
}

/// Only how long it takes to switch a fault on and off, by the supervisor, which works everywhere.
pub(crate) fn switch() -> Result<()> {
    actions(Seccomp, &Setting::start(Seccomp, OFF)?)
}

fn measure(case: &Case, setting: Option<&Setting>, folder: &Folder) -> Result<Measured> {
    let file = folder.path().join("measured.table");
    let call = match case.what {
        Null => Call::WriteNull,
        File => Call::WriteFile(file.clone()),
        ParentId => Call::ParentId,
    };
    let expected = if case.fails { -i64::from(libc::EIO) } else { 1 };
    let plan = Plan { call, expected, calls: case.calls, rounds: ROUNDS };
    // Empty for each case, so that all write to the same offsets.
    std::fs::File::create(&file)?;
    let place = match (case.who, setting) {
        (Service, Some(setting)) => Place::In(&setting.service),
        (Neighbour, Some(setting)) => Place::In(&setting.neighbour),
        (Traced, _) => Place::Strace(STRACE),
        _ => Place::Outside,
    };
    folder.measure(place, &plan).with_context(|| format!("case `{}`", case.id))
}

fn print(case: &Case, measured: Measured) -> Result<()> {
    let Measured { own, elapsed, spread } = measured;
    let (id, title, against, waits) = (case.id, case.title, case.against(), case.waits());
    Line::Call { id, title, against, waits, own, elapsed, spread }.print()
}

fn skip(case: &Case, why: &anyhow::Error) -> Result<()> {
    Line::Skipped { id: case.id, title: case.title, why: format!("{why:#}") }.print()
}

fn actions(by: Mechanism, setting: &Setting) -> Result<()> {
    let rows = match by {
        Mechanism::Ebpf => [
            ("switch-first", "fault() on in the kernel, the first of its calls"),
            ("switch-on", "fault() on in the kernel, later"),
            ("switch-off", "fault() off in the kernel"),
        ],
        Mechanism::Kprobe => [
            ("kprobe-switch-first", "fault() on by kprobe, the first of its calls"),
            ("kprobe-switch-on", "fault() on by kprobe, later"),
            ("kprobe-switch-off", "fault() off by kprobe"),
        ],
        Mechanism::Seccomp => [
            ("notify-switch-first", "fault() on by the supervisor, the first"),
            ("notify-switch-on", "fault() on by the supervisor, later"),
            ("notify-switch-off", "fault() off by the supervisor"),
        ],
    };
    let times = match setting.switch() {
        Ok(times) => times,
        Err(error) => {
            let why = format!("{error:#}");
            return rows
                .into_iter()
                .try_for_each(|(id, title)| Line::Skipped { id, title, why: why.clone() }.print());
        }
    };
    let [first, on, off] = rows;
    Line::Once { id: first.0, title: first.1, elapsed: times[0] }.print()?;
    Line::Action { id: on.0, title: on.1, elapsed: times[1] }.print()?;
    Line::Action { id: off.0, title: off.1, elapsed: times[2] }.print()
}
