//! From a Starlark file to services, tests and calls on the running test. Starts nothing.
//!
//! [`SpecFile::read`] reads and parses; [`evaluate`] declares and hands out a [`Loaded`] whose
//! tests can be called; what they do to the running test goes through [`Host`].

mod arguments;
mod builtins;
mod composition;
mod context;
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
mod suggest;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use declarations::no_tests;
pub use declarations::{Declarations, Matrix, Scenario, TestDeclaration, TestKind};
pub(crate) use duration::parse_duration;
pub use error::SpecError;
pub use failure::{FailureKind, TestFailure};
pub use file::SpecFile;
pub use host::{
    FaultRequest, FaultWindow, Host, HostError, HttpMethod, PartitionId, PartitionRequest,
    Response, ScopeId, Step, StepReply,
};
pub use loaded::{Loaded, evaluate};
pub use model::{
    Direction, FaultAction, FaultRule, Healthcheck, Interface, Location, Op, Protocol, RuleOptions,
    Service, Source,
};
pub(crate) use signal::{deadly_signal, signal_name};
pub(crate) use suggest::{did_you_mean, nearest, quoted};
