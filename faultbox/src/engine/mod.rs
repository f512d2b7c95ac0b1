//! Breaking system calls of chosen processes. Knows nothing of specs, tests or Docker.

mod arming;
mod coverage;
#[allow(clippy::module_inception, reason = "the file has the name of the type it holds")]
mod engine;
mod errno;
mod kernel;
mod launch;
mod mapping;
mod record;
mod rule;
mod supervisor;
mod survey;
mod syscall;
mod tables;
mod target;
#[cfg(test)]
mod tests;

pub use coverage::Coverage;
pub use engine::{Choice, Engine, EngineError, Injection, Options, TraceLevel};
pub use errno::Errno;
pub use faultbox_common::Driver;
pub use kernel::Rung;
pub use launch::{Exit, Launch, Process, SpawnError};
pub use record::{Decision, Object, Record, RecordSink};
pub use rule::{Action, Probability, Rule, RuleCounts, RuleId, Site};
pub use survey::{FamilySurvey, Survey, survey};
pub use syscall::{FAMILIES, Syscall, expand_keyword};
pub use target::{Target, TargetId};
