//! What a finished test hands to the reports.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Timings;
use crate::{
    engine::{PartitionCounts, PartitionDirection, PartitionMode, RuleCounts, Syscall},
    spec::{FailureKind, FaultRule, Location, TestKind},
    trace::Event,
};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything it claims held.
    Passed,
    /// Something did not.
    Failed {
        /// One line that says what.
        reason: String,
        /// Where in the spec, when known.
        location: Option<Location>,
        /// What kind of failure it is.
        kind: FailureType,
    },
    /// The user stopped it.
    Interrupted,
}

/// What kind of failure it is that a test has ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    /// Something that the test claims did not hold, or it said `fail()`.
    Assertion,
    /// Its time was over.
    Timeout,
    /// A service was not ready.
    ServiceStart,
    /// A monitor objected.
    Monitor,
    /// Something could not be done.
    Error,
}

impl FailureType {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::Timeout => "timeout",
            Self::ServiceStart => "service_start",
            Self::Monitor => "monitor",
            Self::Error => "error",
        }
    }
}

impl From<FailureKind> for FailureType {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Assertion | FailureKind::Fail => Self::Assertion,
            FailureKind::Error => Self::Error,
            FailureKind::Monitor => Self::Monitor,
            FailureKind::Timeout => Self::Timeout,
        }
    }
}

/// A finished test.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// The full name, such as `test_ping`.
    pub name: String,
    /// What made it a test.
    pub kind: TestKind,
    /// The spec file as the user named it.
    pub file: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What the test, or its scenario, returned, as a spec would write it; `None` for `None`.
    pub returned: Option<String>,
    /// From the first service's start to the verdict.
    pub duration: Duration,
    /// Of its stream of chance.
    pub seed: u64,
    /// Whether it was run with `--strict-faults`.
    pub strict_faults: bool,
    /// Whether the services used this machine's temporary directories, as the user wanted.
    pub shared_tmp: bool,
    /// The whole log, in order.
    pub events: Vec<Event>,
    /// A time on the calendar, and what the log's clock showed then.
    pub epoch: (SystemTime, u64),
    /// Every `fault()` and `fault_start()` of the test, in the order of time.
    pub windows: Vec<WindowReport>,
    /// Every `partition()` and `partition_start()` of the test, in the order of time.
    pub partitions: Vec<PartitionReport>,
    /// Every service, in alphabetical order.
    pub services: Vec<ServiceReport>,
    /// Records lost to a full ring buffer; the counts are exact all the same.
    pub dropped: u64,
    /// Things to say that are no failure: a service that died, calls that passed unexamined.
    pub warnings: Vec<String>,
    /// Whether functions of it ran at the same time, so that another run may differ.
    pub has_overlapped: bool,
    /// What the run's time went into.
    pub timings: Timings,
}

/// Rules that were switched on together.
#[derive(Clone, Debug)]
pub struct WindowReport {
    /// The service they were declared on.
    pub service: String,
    /// By keyword.
    pub rules: Vec<RuleReport>,
    /// Whether it is a `fault_start` window.
    pub imperative: bool,
}

/// One rule and what became of it.
#[derive(Clone, Debug)]
pub struct RuleReport {
    /// As declared.
    pub rule: FaultRule,
    /// Interfaces, such as `db.main`, whose inbound connects it hits; empty: none.
    pub inbound: Vec<String>,
    /// Exact counts.
    pub counts: RuleCounts,
}

/// A partition and what became of it.
#[derive(Clone, Debug)]
pub struct PartitionReport {
    /// The service named first.
    pub a: String,
    /// The other.
    pub b: String,
    /// How traffic was cut.
    pub mode: PartitionMode,
    /// Which way.
    pub direction: PartitionDirection,
    /// Exact counts.
    pub counts: PartitionCounts,
}

/// What a service did in the whole test.
#[derive(Clone, Debug)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Calls per system call, exact.
    pub calls: Vec<(Syscall, u64)>,
    /// Of these, how many a rule broke, delayed or ended, as far as they were recorded.
    pub faulted: u64,
    /// The last lines of its output.
    pub output: Vec<String>,
}
