//! `monitor()` (language.md 1.13).

use std::cell::Cell;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::spec::{
    arguments::Call,
    context::caller,
    failure::Raised,
    filters::Filters,
    monitors,
    values::{Claim, MonitorValue},
};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Claims something about events.
    fn monitor<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("monitor()", arguments, eval.heap())?;
        let Some(first) = call.next("callback")? else {
            return Err(call
                .wrong("needs a callback, as in monitor(check, service=\"db\")")
                .into());
        };
        let mut monitor = if let Some(name) = first.unpack_str() {
            named(&mut call, name)?
        } else {
            call.check_callable("the callback", first, 1)?;
            of_filters(&mut call, None, Claim::Callback(first))?
        };
        monitor.location = caller(eval);
        let monitor = eval.heap().alloc(monitor);
        monitors::register(eval, monitor)?;
        Ok(monitor)
    }
}

/// The form `monitor("name", on=, state_init=, update=, check=)`.
fn named<'v>(call: &mut Call<'v>, name: &str) -> Result<MonitorValue<'v>, Raised> {
    call.rename(format!("monitor({name:?})"));
    let state = Cell::new(call.named("state_init").unwrap_or_else(Value::new_none));
    let [update, check] = ["update", "check"].map(|it| (it, call.optional(it)));
    for (what, function) in [update, check] {
        if let Some(function) = function {
            call.check_callable(&format!("{what}="), function, 2)?;
        }
    }
    if update.1.is_none() && check.1.is_none() {
        return Err(call.wrong("needs check=, a function of an event and the state"));
    }
    of_filters(call, Some(name), Claim::State { state, update: update.1, check: check.1 })
}

/// Takes what says which events are meant.
fn of_filters<'v>(
    call: &mut Call<'v>,
    name: Option<&str>,
    claim: Claim<'v>,
) -> Result<MonitorValue<'v>, Raised> {
    if !call.rest().is_empty() {
        return Err(call.wrong("filters need their names, as in service=\"db\""));
    }
    let (mut entries, mut condition) = (call.rest_named(), None);
    if let Some(at) = entries.iter().position(|(key, _)| *key == "on") {
        let (_, on) = entries.remove(at);
        if on.get_type() == "dict" {
            entries.extend(call.as_dict("on=", on)?);
        } else if !on.is_none() {
            call.check_callable("on=", on, 1)?;
            condition = Some(on);
        }
    }
    Ok(MonitorValue {
        name: name.map(str::to_owned),
        filters: Filters::new(call, entries)?,
        on: condition,
        claim,
        location: None,
        is_attached: Cell::new(false),
    })
}
