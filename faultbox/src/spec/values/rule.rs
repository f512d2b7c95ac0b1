//! What `deny()` and `allow()` return: half a rule, without the calls it is for.

use std::fmt;

use allocative::Allocative;
use starlark::values::{NoSerialize, ProvidesStaticType, StarlarkValue, Trace, starlark_value};

use crate::{
    engine::Probability,
    spec::{Direction, FaultAction},
};

use super::never_frozen;

/// What happens to a call, how likely, and how it is shown.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct RuleValue {
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) action: FaultAction,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) probability: Probability,
    pub(in crate::spec) label: Option<String>,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) direction: Option<Direction>,
}

impl fmt::Display for RuleValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            FaultAction::Deny(errno) => write!(f, "deny({:?})", errno.name()),
            FaultAction::Allow => f.write_str("allow()"),
        }
    }
}

#[starlark_value(type = "rule", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for RuleValue {}
never_frozen!(RuleValue);
