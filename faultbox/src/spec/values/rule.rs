//! What `deny()`, `delay()` and their like return: half a rule, without the calls it is for.

use std::fmt;

use allocative::Allocative;
use starlark::values::{NoSerialize, ProvidesStaticType, StarlarkValue, Trace, starlark_value};

use crate::{
    protocol::go_duration,
    spec::{FaultAction, RuleOptions, signal::signal_name},
};

use super::never_frozen;

/// What happens, and to which of the calls.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct RuleValue {
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) action: FaultAction,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) options: RuleOptions,
    /// Whether it makes sense for calls that read only: `eof()`.
    pub(in crate::spec) is_eof: bool,
}

impl fmt::Display for RuleValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            FaultAction::Deny(errno) => write!(f, "deny({:?})", errno.name()),
            FaultAction::Delay(time) => write!(f, "delay({:?})", go_duration(time)),
            FaultAction::Return(_) if self.is_eof => f.write_str("eof()"),
            FaultAction::Return(value) => write!(f, "returns({value})"),
            FaultAction::Crash(signal) => write!(f, "crash({:?})", signal_name(signal)),
            FaultAction::Allow | FaultAction::Trace => write!(f, "{}()", self.action.name()),
        }
    }
}

#[starlark_value(type = "rule", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for RuleValue {}
never_frozen!(RuleValue);
