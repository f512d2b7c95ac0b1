//! Looking for events in the log.

use std::sync::Arc;

use starlark::{eval::Evaluator, values::Value};

use super::{
    Host, arguments::Call, context::Context, failure::Raised, filters::Filters, values::EventValue,
};
use crate::trace::{Event, EventKind, Log};

/// Events that match filters and a condition.
pub(super) struct Query<'v> {
    pub(super) filters: Filters,
    /// Called with an event; what it returns says whether it is meant.
    condition: Option<Value<'v>>,
}

/// What came of a search.
pub(super) struct Found {
    /// The first event that is meant.
    pub(super) index: Option<usize>,
    /// Where to go on.
    pub(super) next: usize,
}

impl<'v> Query<'v> {
    /// Takes all arguments that are left.
    pub(super) fn take(call: &mut Call<'v>) -> Result<Self, Raised> {
        let condition = call.optional("where");
        if let Some(condition) = condition {
            call.check_callable("where=", condition, 1)?;
        }
        let entries = call_entries(call)?;
        let filters = Filters::new(call, entries)?;
        Ok(Self { filters, condition })
    }

    /// From a dict of filters, or from a function.
    pub(super) fn of(call: &Call<'v>, what: &str, value: Value<'v>) -> Result<Self, Raised> {
        if value.get_type() == "dict" {
            let filters = Filters::new(call, call.as_dict(what, value)?)?;
            return Ok(Self { filters, condition: None });
        }
        call.check_callable(what, value, 1)?;
        Ok(Self { filters: Filters::default(), condition: Some(value) })
    }

    /// The first event from this index on that is meant. `first` is what its condition sees as
    /// `event.first`.
    pub(super) fn find(
        &self,
        eval: &mut Evaluator<'v, '_, '_>,
        log: &Arc<Log>,
        from: usize,
        first: Option<Value<'v>>,
    ) -> starlark::Result<Found> {
        let mut next = from;
        loop {
            let (index, end) = log.read(|events| {
                let rest = events.get(next..).unwrap_or_default();
                let found = rest.iter().position(|event| self.filters.matches(event));
                (found.map(|it| next + it), events.len())
            });
            let Some(index) = index else {
                return Ok(Found { index: None, next: end });
            };
            next = index + 1;
            let Some(condition) = self.condition else {
                return Ok(Found { index: Some(index), next });
            };
            let event = eval.heap().alloc(EventValue::new(log, index, first));
            let context = Context::of(eval)?;
            if context.look(|| eval.eval_function(condition, &[event], &[]))?.to_bool() {
                return Ok(Found { index: Some(index), next });
            }
        }
    }
}

impl std::fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let filters = self.filters.to_string();
        let comma = if filters.is_empty() { "" } else { ", " };
        match self.condition {
            Some(it) => {
                let name = it.function_name().unwrap_or("function");
                write!(f, "filters: {filters}{comma}where={name}")
            }
            None if filters.is_empty() => f.write_str("no filters"),
            None => write!(f, "filters: {filters}"),
        }
    }
}

/// Warns of a claim about a call of which there is no record, because nobody asked for any.
pub(super) fn warn_if_unrecorded(who: &str, filters: &Filters, host: &dyn Host, log: &Log) {
    let Some(syscall) = filters.syscall().filter(|it| !host.records(*it)) else { return };
    let is_it = |event: &Event| matches!(event.kind, EventKind::Syscall { syscall: it, .. } if it == syscall);
    if !log.read(|events| events.iter().any(is_it)) {
        host.warn(&format!(
            "{who}: {syscall} is recorded only while a rule or trace() names it, and none did, so \
             that this could not fail"
        ));
    }
}

fn call_entries<'v>(call: &mut Call<'v>) -> Result<Vec<(&'v str, Value<'v>)>, Raised> {
    if !call.rest().is_empty() {
        return Err(call.wrong("filters need their names, as in service=\"db\""));
    }
    Ok(call.rest_named())
}
