//! From a Starlark file to services, tests and calls on the running test. Starts nothing.
//!
//! [`SpecFile::read`] reads and parses; [`evaluate`] declares and hands out a [`Loaded`] whose
//! tests can be called; what they do to the running test goes through [`Host`].

mod arguments;
mod builtins;
mod composition;
mod context;
mod data;
mod declarations;
mod discovery;
mod duration;
mod error;
mod failure;
mod file;
mod filters;
mod host;
mod layout;
mod library;
mod loaded;
mod mentions;
mod model;
mod monitors;
mod nesting;
mod query;
mod scan;
mod signal;
mod steps;
mod suggest;
#[cfg(test)]
mod tests;
mod values;

pub use data::Data;
pub(crate) use declarations::no_tests;
pub use declarations::{Declarations, Matrix, Scenario, TestDeclaration, TestKind};
pub(crate) use duration::parse_duration;
pub use error::SpecError;
pub use failure::{FailureKind, TestFailure};
pub use file::SpecFile;
pub use host::{
    Answer, FaultRequest, FaultWindow, Host, HostError, HttpMethod, Login, PartitionId,
    PartitionRequest, Response, ScopeId, Step, StepReply, Wanted,
};
pub use loaded::{Loaded, evaluate};
pub use model::{
    ContainerOptions, Direction, FaultAction, FaultRule, Healthcheck, Hook, Interface, Location,
    Op, Protocol, RuleOptions, Service, Source, Volume,
};
pub(crate) use signal::{deadly_signal, signal_name};
pub(crate) use suggest::{did_you_mean, nearest, quoted};
