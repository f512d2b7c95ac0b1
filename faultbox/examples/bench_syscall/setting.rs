//! An engine with two targets: the service that rules are about, and a neighbour that they are not about.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use faultbox::engine::{
    Action, Choice, Driver, Engine, Errno, Injection, Options, Probability, Record, RecordSink,
    Rule, RuleId, Site, Target, TraceLevel, expand_keyword,
};

use crate::{cgroup::Cgroup, report::median};

/// How often a fault is switched on and off for one figure.
const SWITCHES: usize = 101;

/// What carries the faults out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// Programs that modify the return value of the function that serves the call.
    Ebpf,
    /// Programs on kprobes.
    Kprobe,
    /// The supervisor, told of calls by seccomp.
    Seccomp,
}

impl Mechanism {
    fn choice(self) -> Choice {
        match self {
            Self::Ebpf => Choice::Ebpf,
            Self::Seccomp => Choice::Seccomp,
            Self::Kprobe => Choice::Kprobe,
        }
    }
}

/// The fault that is on while a case is measured. All are about `write` of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails every time.
    Deny,
    /// Fails with a probability of one in a thousand million.
    Improbable,
    /// Fails at a match that is never reached.
    Later,
    /// Waits a second, with the same probability.
    ImprobableDelay,
    /// Fails on files of a name that the measured one does not have, in the same folder.
    PathMiss,
    /// Fails on files of the measured one's name.
    PathHit,
    /// Was on, and is off again.
    Lifted,
}

/// Takes records and does nothing.
struct Silent;

impl RecordSink for Silent {
    fn record(&self, _: Record) {}
}

/// See the module's description.
pub(crate) struct Setting {
    engine: Engine,
    pub(crate) service: Target,
    pub(crate) neighbour: Target,
    // Removed last: what is in use cannot be.
    _cgroups: [Cgroup; 2],
}

impl Setting {
    /// Starts the engine. Fails where the kernel does not offer the mechanism.
    pub(crate) fn start(mechanism: Mechanism, trace: TraceLevel) -> Result<Self> {
        let options = Options { choice: mechanism.choice(), trace, ..Options::default() };
        let engine = Engine::start(&options)?;
        let cgroups = [Cgroup::new("service")?, Cgroup::new("neighbour")?];
        let target = |name, cgroup: &Cgroup| {
            engine.target(name, Some(cgroup.path()), Driver::default(), Arc::new(Silent))
        };
        let (service, neighbour) =
            (target("service", &cgroups[0])?, target("neighbour", &cgroups[1])?);
        Ok(Self { engine, service, neighbour, _cgroups: cgroups })
    }

    /// Switches a fault on, and off again if that is the case to measure.
    pub(crate) fn inject(&self, fault: Fault, folder: &Path) -> Result<Option<Injection>> {
        let injection = self.engine.inject(&[self.rule(fault, folder)?])?;
        Ok(Some(injection).filter(|_| fault != Fault::Lifted))
    }

    /// Waits until the records of one case can no longer cost the next one anything.
    pub(crate) fn settle(&self) {
        self.engine.drain();
    }

    /// Nanoseconds for switching a fault on for the first time, then on and off again: medians.
    pub(crate) fn switch(&self) -> Result<[f64; 3]> {
        let rules = [self.rule(Fault::Deny, Path::new("/"))?];
        let started = Instant::now();
        let injection = self.engine.inject(&rules)?;
        let first = started.elapsed().as_nanos() as f64;
        injection.lift();
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for _ in 0..SWITCHES {
            let started = Instant::now();
            let injection = self.engine.inject(&rules)?;
            on.push(started.elapsed().as_nanos() as f64);
            let started = Instant::now();
            injection.lift();
            off.push(started.elapsed().as_nanos() as f64);
        }
        Ok([first, median(&on), median(&off)])
    }

    /// Calls that passed unexamined, and records that were lost.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.engine.misses(), self.engine.dropped())
    }

    fn rule(&self, fault: Fault, folder: &Path) -> Result<Rule> {
        let error = Errno::from_name("EIO").context("there is no EIO")?;
        let write = expand_keyword("write").context("there is no write")?;
        let site = Site::of(self.service.id());
        let mut rule = Rule::new(RuleId(1), site, write, Action::Deny(error));
        // Never zero: that a rule cannot fire at all may be seen before any call.
        let improbable = Probability::from_fraction(1e-9).context("not a probability")?;
        match fault {
            Fault::Deny | Fault::Lifted => {}
            Fault::Improbable => rule.probability = improbable,
            Fault::Later => rule.nth = NonZeroU64::new(1 << 40),
            Fault::ImprobableDelay => {
                rule.action = Action::Delay(Duration::from_secs(1));
                rule.probability = improbable;
            }
            Fault::PathMiss => rule.path = Some(format!("{}/*.wal", folder.display()).parse()?),
            Fault::PathHit => rule.path = Some(format!("{}/*.table", folder.display()).parse()?),
        }
        Ok(rule)
    }
}
