//! Parts of a service declaration: what `interface()`, `tcp()`, `http()`, `ready()` and `op()`
//! return.

use std::{fmt, time::Duration};

use allocative::Allocative;
use starlark::values::{NoSerialize, ProvidesStaticType, StarlarkValue, Trace, starlark_value};

use crate::spec::{Healthcheck, Interface, Op};

use super::never_frozen;

/// An interface that is not yet part of a service.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct DeclaredInterface(
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) Interface,
);

impl fmt::Display for DeclaredInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interface { name, protocol, port } = &self.0;
        write!(f, "interface({name:?}, {:?}, {port})", protocol.name())
    }
}

#[starlark_value(type = "interface", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for DeclaredInterface {}
never_frozen!(DeclaredInterface);

/// A way to know that a service is ready.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct DeclaredHealthcheck(
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) ReadyWhen,
);

/// What a healthcheck asks.
#[derive(Clone, Debug)]
pub(in crate::spec) enum ReadyWhen {
    /// What it says itself.
    Passed(Healthcheck),
    /// `ready()`: an interface of the service whose healthcheck it will be.
    Answers {
        /// Its name; `None`: the first.
        interface: Option<String>,
        /// How long to try.
        timeout: Duration,
    },
}

impl fmt::Display for DeclaredHealthcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ReadyWhen::Passed(Healthcheck::Tcp { address, .. }) => write!(f, "tcp({address:?})"),
            ReadyWhen::Passed(Healthcheck::Http { url, .. }) => write!(f, "http({url:?})"),
            ReadyWhen::Answers { interface: Some(name), .. } => {
                write!(f, "ready(interface={name:?})")
            }
            ReadyWhen::Passed(Healthcheck::Ready { .. })
            | ReadyWhen::Answers { interface: None, .. } => f.write_str("ready()"),
        }
    }
}

#[starlark_value(type = "healthcheck", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for DeclaredHealthcheck {}
never_frozen!(DeclaredHealthcheck);

/// A group of calls that is not yet part of a service.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct DeclaredOp(
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) Op,
);

impl fmt::Display for DeclaredOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.syscalls.iter().map(|it| format!("{:?}", it.name())).collect();
        write!(f, "op([{}]", names.join(", "))?;
        if let Some(path) = &self.0.path {
            write!(f, ", path={:?}", path.as_str())?;
        }
        f.write_str(")")
    }
}

#[starlark_value(type = "op", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for DeclaredOp {}
never_frozen!(DeclaredOp);
