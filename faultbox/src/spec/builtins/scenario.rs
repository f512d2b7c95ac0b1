//! `scenario(fn)` and `fault_scenario(name, …)` (language.md 1.11).

use std::time::Duration;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, none::NoneType},
};

use crate::spec::{
    TestDeclaration, TestKind,
    arguments::Call,
    composition::Composition,
    context::{Context, caller},
    duration::parse_duration,
    failure::Raised,
    suggest::quoted,
    values::{AssumptionValue, Registered, Registry, add_each_once},
};

use super::{
    assumption::{assumptions, monitors},
    function,
    test_name::{check_test_name, test_name},
};

/// How long a scenario under faults may take with what judges it, unless it says otherwise
/// (language.md, D17).
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Registers a function as a test and as something to compose with faults.
    fn scenario<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("scenario()", arguments, eval.heap())?;
        only_while_loading(&call, eval)?;
        let Some(value) = call.next("fn")? else {
            return Err(call.wrong("a function is required, as in scenario(order_flow)").into());
        };
        let (scenario, name) = function::scenario(&call, "fn", value)?;
        call.finish(&["fn"])?;
        let registry = Registry::of(eval)?;
        if !Context::of(eval)?.declares_test(&test_name(name)) {
            return Ok(NoneType);
        }
        if registry.add_scenario(scenario) {
            registry.add(Registered {
                declaration: TestDeclaration {
                    name: test_name(name),
                    kind: TestKind::Scenario,
                    timeout: None,
                    must_fire: false,
                },
                location: caller(eval),
                composition: Composition::plain(format!("scenario({name})"), scenario),
            });
        }
        Ok(NoneType)
    }

    /// Registers a test: a scenario, what goes wrong meanwhile, and what is expected of it.
    fn fault_scenario<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let call = Call::new("fault_scenario()", arguments, eval.heap())?;
        only_while_loading(&call, eval)?;
        let test = declare(call, eval)?;
        if Context::of(eval)?.declares_test(&test.declaration.name) {
            Registry::of(eval)?.add(test);
        }
        Ok(NoneType)
    }
}

/// Refuses to register a test while one is running.
pub(super) fn only_while_loading(
    call: &Call<'_>,
    eval: &Evaluator<'_, '_, '_>,
) -> Result<(), Raised> {
    if Context::of(eval)?.is_running() {
        return Err(call.wrong("only valid while the file is loaded"));
    }
    Ok(())
}

/// The duration of `timeout=`.
pub(super) fn timeout(call: &mut Call<'_>) -> Result<Duration, Raised> {
    let Some(text) = call.string("timeout")? else {
        return Ok(TIMEOUT);
    };
    parse_duration(text).ok_or_else(|| {
        let text = quoted(text);
        call.wrong(format_args!("timeout=: bad duration {text}; use e.g. \"500ms\" or \"30s\""))
    })
}

/// The function of `expect=` or its like, if there is one.
pub(super) fn judge<'v>(call: &mut Call<'v>, name: &str) -> Result<Option<Value<'v>>, Raised> {
    let value = call.optional(name);
    value.map(|it| function::with_one_parameter(call, &format!("{name}="), it)).transpose()
}

fn declare<'v>(mut call: Call<'v>, eval: &Evaluator<'v, '_, '_>) -> Result<Registered<'v>, Raised> {
    let Some(name) = call.next("name")? else {
        return Err(call.wrong("name is required, as in fault_scenario(\"order_db_down\", …)"));
    };
    let name = call.as_string("name", name)?;
    check_test_name(&call, name)?;
    call.rename(format!("fault_scenario({})", quoted(name)));
    let Some(scenario) = call.optional("scenario") else {
        return Err(call.wrong("scenario= (a function without parameters) is required"));
    };
    let scenario = function::without_parameters(&call, "scenario=", scenario)?;
    let faults = match call.optional("faults") {
        None => Vec::new(),
        Some(one) if one.downcast_ref::<AssumptionValue>().is_some() => vec![one],
        Some(several) if matches!(several.get_type(), "list" | "tuple") => {
            call.as_list("faults=", several)?
        }
        Some(other) => {
            let wanted = "a fault_assumption() or a list of them";
            return Err(call.wrong_type("faults=", wanted, other));
        }
    };
    let faults = assumptions(&call, &faults)?;
    let expect = judge(&mut call, "expect")?;
    let own_monitors = monitors(&mut call)?;
    let timeout = timeout(&mut call)?;
    call.finish(&["name", "scenario", "faults", "expect", "monitors", "timeout"])?;

    let (rules, mut monitors) = AssumptionValue::union(faults);
    add_each_once(&mut monitors, &own_monitors);
    let who = call.who().to_owned();
    Ok(Registered {
        declaration: TestDeclaration {
            name: test_name(name),
            kind: TestKind::FaultScenario,
            timeout: Some(timeout),
            must_fire: false,
        },
        location: caller(eval),
        composition: Composition { who, scenario, rules, monitors, expect },
    })
}
