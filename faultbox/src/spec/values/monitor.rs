//! What `monitor()` returns.

use std::{cell::Cell, fmt};

use allocative::Allocative;
use starlark::values::{
    NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, starlark_value,
};

use crate::spec::{Location, filters::Filters};

use super::never_frozen;

/// A claim about events.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct MonitorValue<'v> {
    /// Of the form that has one.
    pub(in crate::spec) name: Option<String>,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) filters: Filters,
    /// Called with an event; what it returns says whether it is meant.
    pub(in crate::spec) on: Option<Value<'v>>,
    pub(in crate::spec) claim: Claim<'v>,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) location: Option<Location>,
    /// Whether something names it in its `monitors=`.
    #[allocative(skip)]
    pub(in crate::spec) is_attached: Cell<bool>,
}

/// What is done with each event.
#[derive(Debug, Allocative, Trace)]
pub(in crate::spec) enum Claim<'v> {
    /// `callback(event)` must not fail.
    Callback(Value<'v>),
    /// `update(event, state)` gives the new state unless it returns `None`; then
    /// `check(event, state)` must hold.
    State {
        #[allocative(skip)]
        state: Cell<Value<'v>>,
        update: Option<Value<'v>>,
        check: Option<Value<'v>>,
    },
}

impl MonitorValue<'_> {
    /// What errors call it.
    pub(in crate::spec) fn who(&self) -> String {
        self.name.as_ref().map_or_else(|| "monitor()".to_owned(), |it| format!("monitor({it:?})"))
    }
}

impl fmt::Display for MonitorValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|it| format!("{it:?}")).into_iter();
        let filters = Some(self.filters.to_string()).filter(|it| !it.is_empty());
        write!(f, "monitor({})", name.chain(filters).collect::<Vec<_>>().join(", "))
    }
}

#[starlark_value(type = "monitor", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for MonitorValue<'v> {}
never_frozen!(MonitorValue<'v>);
