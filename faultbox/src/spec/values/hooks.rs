//! Functions of a spec that put a service's data into its first state, and back.

use starlark::values::{Trace, Value};

/// What a service has of them.
#[derive(Clone, Copy, Debug, Default, Trace)]
pub(in crate::spec) struct Hooks<'v> {
    /// `seed=`: called once the service is ready for the first time.
    pub(in crate::spec) seed: Option<Value<'v>>,
    /// `reset=`: called before each later test.
    pub(in crate::spec) reset: Option<Value<'v>>,
}
