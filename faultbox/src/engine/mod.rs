//! Breaking system calls of chosen processes. Knows nothing of specs, tests or Docker.
//!
//! An [`Engine`] finds out what this kernel offers. A [`Target`] is a cgroup, with every process
//! in it now and later. [`Engine::inject`] switches rules on, and the [`Injection`] it returns
//! switches them off when it is dropped. Records of calls go to a [`RecordSink`].
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! use faultbox::engine::{
//!     Action, Driver, Engine, Errno, Options, Record, RecordSink, Rule, RuleId, Site,
//!     expand_keyword,
//! };
//!
//! struct Silent;
//! impl RecordSink for Silent {
//!     fn record(&self, _: Record) {}
//! }
//!
//! let engine = Engine::start(&Options::default())?;
//! let cgroup = Path::new("/sys/fs/cgroup/my-service");
//! let target = engine.target("my-service", Some(cgroup), Driver::default(), Arc::new(Silent))?;
//! let fault = engine.inject(&[Rule {
//!     probability: "10%".parse().expect("a percentage"),
//!     ..Rule::new(
//!         RuleId(1),
//!         Site::of(target.id()),
//!         expand_keyword("fsync").expect("a family of calls"),
//!         Action::Deny(Errno::from_name("EIO").expect("an errno")),
//!     )
//! }])?;
//! // … every tenth fsync of every process in the cgroup fails here …
//! for (_, counts) in fault.lift() {
//!     println!("{} of {} calls failed", counts.fired, counts.matched);
//! }
//! # Ok::<(), faultbox::engine::EngineError>(())
//! ```
//!
//! `examples/inject.rs` spawns the process that it breaks.

mod arming;
mod coverage;
#[allow(clippy::module_inception, reason = "the file has the name of the type it holds")]
mod engine;
mod errno;
mod glob_sets;
mod kernel;
mod launch;
mod mapping;
mod parking;
mod partition;
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
pub use faultbox_common::{Driver, GlobError};
pub use kernel::Rung;
pub use launch::{Exit, Launch, Process, SpawnError};
pub use partition::{
    ActivePartition, Partition, PartitionCounts, PartitionDirection, PartitionMode, PartitionSide,
};
pub use record::{Decision, Object, Record, RecordSink};
pub use rule::{Action, PathGlob, Probability, Rule, RuleCounts, RuleId, Site};
pub use survey::{FamilySurvey, Survey, survey};
pub use syscall::{FAMILIES, Syscall, expand_keyword};
pub use target::{Target, TargetId};
