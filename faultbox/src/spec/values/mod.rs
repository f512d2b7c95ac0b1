//! What specs handle: services, their interfaces and steps, responses, rules.
//!
//! None of these values is ever frozen, since no module is: they need no frozen form.

#![allow(
    clippy::elidable_lifetime_names,
    reason = "the macro `starlark_value` wants the lifetime of `StarlarkValue` by name"
)]

mod assumption;
mod declared;
mod event;
mod expectation;
mod hooks;
mod load;
mod missing;
mod monitor;
mod registry;
mod response;
mod rule;
mod service;
mod step;

pub(super) use assumption::{AssumedRules, AssumptionValue, add_each_once};
pub(super) use declared::{DeclaredHealthcheck, DeclaredInterface, DeclaredOp, ReadyWhen};
pub(super) use event::EventValue;
pub(super) use expectation::ExpectationValue;
pub(super) use hooks::Hooks;
pub(super) use load::LoadValue;
pub(super) use missing::Missing;
pub(super) use monitor::{Claim, MonitorValue};
pub(super) use registry::{Registered, Registry};
use response::ResponseValue;
pub(super) use rule::RuleValue;
pub(super) use service::ServiceValue;
use step::StepValue;

/// Lets a heap take a value that is never frozen.
macro_rules! never_frozen {
    ($name:ident $(<$lifetime:lifetime>)?) => {
        impl<'v> starlark::values::AllocValue<'v> for $name $(<$lifetime>)? {
            fn alloc_value(self, heap: starlark::values::Heap<'v>) -> starlark::values::Value<'v> {
                heap.alloc_complex_no_freeze(self)
            }
        }
    };
}
pub(super) use never_frozen;
