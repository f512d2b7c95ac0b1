//! What is kept of a run once it is over: enough for every report, and little, because a night
//! has many of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    FailureType, Outcome, Style, TestReport, Timings,
    block::details,
    firing::{fired, never_fired},
    json::test_text,
    replay::replay_command,
};

/// A run that came to a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// The full name, such as `test_ping`.
    pub name: String,
    /// The spec file as the user named it.
    pub file: String,
    /// Of its stream of chance.
    pub seed: u64,
    /// From the first service's start to the verdict.
    pub duration: Duration,
    /// `None`: it passed.
    pub failure: Option<Failure>,
    /// Of its block, the lines under the header, if they may be wanted.
    pub details: Vec<String>,
    /// Whether the details are worth reading although it passed.
    pub is_telling: bool,
    /// Whether another run may differ.
    pub by_chance: bool,
    /// Whether it had rules of which none did anything.
    pub is_idle: bool,
    /// The rules that did something, such as `db write=deny(EIO)`.
    pub fired: Vec<String>,
    /// What its time went into.
    pub timings: Timings,
    /// As in the JSON document, if there is to be one.
    #[serde(skip)]
    pub document: Option<String>,
}

/// Why a run did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In one line.
    pub reason: String,
    /// What kind of failure it is.
    pub kind: FailureType,
    /// The command that runs it once more.
    pub replay: String,
}

/// What is wanted of the runs of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// How blocks are to look.
    pub style: Style,
    /// Whether each test has several runs, so that not all of them are shown.
    pub repeated: bool,
    /// Whether there is to be a JSON document.
    pub document: bool,
}

impl FinishedRun {
    /// Of a finished test; `None` if it was interrupted, and so has no verdict.
    pub fn of(report: &TestReport, keep: Keep) -> Option<Self> {
        let failure = match &report.outcome {
            Outcome::Interrupted => return None,
            Outcome::Passed => None,
            Outcome::Failed { reason, kind, .. } => Some(Failure {
                reason: reason.clone(),
                kind: *kind,
                replay: replay_command(report),
            }),
        };
        let is_idle = never_fired(report);
        let is_telling =
            keep.style.debug || report.dropped > 0 || !report.warnings.is_empty() || is_idle;
        let is_shown = !keep.repeated || failure.is_some() || is_telling;
        let mut rules = report.windows.iter().flat_map(|window| &window.rules);
        let by_chance = rules.any(|rule| !rule.rule.options.probability.is_certain());
        // Of a night's runs, the events of those that passed would be gigabytes.
        let with_events = !keep.repeated || failure.is_some();
        Some(Self {
            name: report.name.clone(),
            file: report.file.clone(),
            seed: report.seed,
            duration: report.duration,
            details: if is_shown { details(report, keep.style) } else { Vec::new() },
            is_telling,
            by_chance: by_chance || report.has_overlapped,
            is_idle,
            fired: fired(&report.windows, &report.partitions),
            timings: report.timings,
            document: keep.document.then(|| test_text(report, with_events)),
            failure,
        })
    }

    /// Whether it passed.
    pub fn has_passed(&self) -> bool {
        self.failure.is_none()
    }
}
