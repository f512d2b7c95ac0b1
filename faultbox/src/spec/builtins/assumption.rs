//! `fault_assumption(name, …)` (language.md 1.11).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike},
};

use crate::spec::{
    FaultRequest, FaultWindow,
    arguments::Call,
    failure::Raised,
    monitors::check_monitors,
    suggest::quoted,
    values::{AssumedRules, AssumptionValue, ServiceValue, add_each_once},
};

use super::{fault_rules, test_name::check_test_name};

/// The keywords beside those of rules.
const OWN: &[&str] = &["name", "target", "faults", "monitors", "description", "include_driver"];

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Names a way for things to go wrong.
    fn fault_assumption<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("fault_assumption()", arguments, eval.heap())?;
        Ok(eval.heap().alloc(declare(call)?))
    }
}

fn declare(mut call: Call<'_>) -> Result<AssumptionValue<'_>, Raised> {
    let Some(name) = call.next("name")? else {
        return Err(call.wrong("name is required, as in fault_assumption(\"db_down\", …)"));
    };
    let name = call.as_string("name", name)?;
    check_test_name(&call, name)?;
    call.rename(format!("fault_assumption({})", quoted(name)));

    let target = call.optional("target");
    let faults = call.optional("faults");
    let children = faults.map(|it| call.as_list("faults=", it)).transpose()?.unwrap_or_default();
    let children = assumptions(&call, &children)?;
    let own_monitors = monitors(&mut call)?;
    if call.optional("rules").is_some() {
        let text = "rules= is about faults of protocols, which this version does not have; \
                    use system calls, as in write=deny(\"EIO\")";
        return Err(call.wrong(text));
    }
    if call.optional("run").is_some() {
        return Err(call.wrong("run= belongs to fault(); an assumption is not run by itself"));
    }
    let description = call.string("description")?.unwrap_or_default().to_owned();
    let include_driver = call.boolean("include_driver")?.unwrap_or(false);
    let own_rules = own_rules(&mut call, target, include_driver)?;
    call.finish(OWN)?;

    let (mut rules, mut monitors) = AssumptionValue::union(children);
    rules.extend(own_rules.map(Arc::new));
    add_each_once(&mut monitors, &own_monitors);
    Ok(AssumptionValue { name: name.to_owned(), description, rules, monitors })
}

/// What the remaining keywords declare on the target.
fn own_rules<'v>(
    call: &mut Call<'v>,
    target: Option<Value<'v>>,
    include_driver: bool,
) -> Result<Option<AssumedRules>, Raised> {
    let keywords = call.rest_named();
    let Some(target) = target else {
        return match keywords.first() {
            None => Ok(None),
            // What is no rule can only be a misspelt keyword of the call itself.
            Some((keyword, value)) if value.get_type() != "rule" => {
                let (keyword, valid) = (quoted(keyword), OWN.join(", "));
                Err(call.wrong(format_args!("unknown keyword {keyword}; valid: {valid}, rules")))
            }
            Some(_) => Err(call.wrong("target= is required when faults are given")),
        };
    };
    let Some(ServiceValue { service, .. }) = target.downcast_ref() else {
        return Err(call.wrong_type("target=", "a service", target));
    };
    if keywords.is_empty() {
        return Err(
            call.wrong("target= is given and no rule for it; add one, as in write=deny(\"EIO\")")
        );
    }
    let rules = fault_rules::resolve(call, service, &keywords, OWN)?;
    let window = FaultWindow::Scoped;
    let request = FaultRequest { service: service.name.clone(), rules, include_driver, window };
    Ok(Some(AssumedRules { who: call.who().to_owned(), request }))
}

/// The assumptions of `faults=`.
pub(super) fn assumptions<'v>(
    call: &Call<'v>,
    values: &[Value<'v>],
) -> Result<Vec<&'v AssumptionValue<'v>>, Raised> {
    let as_assumption = |(i, value): (usize, &Value<'v>)| {
        value
            .downcast_ref::<AssumptionValue>()
            .ok_or_else(|| call.wrong_type(&format!("faults[{i}]"), "a fault_assumption()", *value))
    };
    values.iter().enumerate().map(as_assumption).collect()
}

/// The monitors of `monitors=`.
pub(super) fn monitors<'v>(call: &mut Call<'v>) -> Result<Vec<Value<'v>>, Raised> {
    let Some(value) = call.optional("monitors") else {
        return Ok(Vec::new());
    };
    let monitors = call.as_list("monitors=", value)?;
    check_monitors(call.who(), &monitors)?;
    Ok(monitors)
}
