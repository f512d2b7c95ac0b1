//! `fault()`, `fault_start()`, `fault_stop()` (language.md 1.9.2), `fault_all()` (2.5).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, none::NoneType},
};

use crate::spec::{
    FaultRequest, FaultWindow, Service,
    arguments::Call,
    composition::{Scopes, run_under},
    context::Context,
    failure::Raised,
    values::{AssumptionValue, ServiceValue},
};

use super::{fault_rules, function};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Breaks calls of a service while a function runs, and returns what it returned.
    fn fault<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let host = Context::of(eval)?.test("fault()")?;
        let mut call = Call::new("fault()", arguments, eval.heap())?;
        let target = call.next("target")?;
        if let Some(assumption) = target.and_then(ValueLike::downcast_ref::<AssumptionValue>) {
            let run = callback(&mut call)?;
            refuse_rules(&mut call)?;
            let (rules, monitors) = (&assumption.rules, &assumption.monitors);
            let (result, _scopes) = run_under(eval, host, rules, monitors, run)?;
            return result;
        }
        let service = service(&call, target)?;
        let run = callback(&mut call)?;
        let request = request(&mut call, &service, FaultWindow::Scoped)?;
        // Lifts when dropped, and so whatever way the callback ends.
        let _scopes = Scopes::install(host, [(call.who(), &request)])?;
        eval.eval_function(run, &[], &[])
    }

    /// Breaks calls of several services while a function runs, and returns what it returned.
    fn fault_all<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let host = Context::of(eval)?.test("fault_all()")?;
        let mut call = Call::new("fault_all()", arguments, eval.heap())?;
        let services = services(&mut call)?;
        let run = callback(&mut call)?;
        let requests = requests(&mut call, &services, FaultWindow::Scoped)?;
        let _scopes = Scopes::install(host, requests.iter().map(|it| (call.who(), it)))?;
        eval.eval_function(run, &[], &[])
    }

    /// Breaks calls of a service until `fault_stop` or the test's end.
    fn fault_start<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("fault_start()")?;
        let mut call = Call::new("fault_start()", arguments, eval.heap())?;
        let service = target(&mut call)?;
        if call.named("run").is_some() {
            return Err(call.wrong("run= belongs to fault(); fault_stop() ends this one").into());
        }
        let request = request(&mut call, &service, FaultWindow::Imperative)?;
        host.fault(&request).map_err(|error| call.wrong(error))?;
        Ok(NoneType)
    }

    /// Ends everything that `fault_start` began on a service.
    fn fault_stop<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("fault_stop()")?;
        let mut call = Call::new("fault_stop()", arguments, eval.heap())?;
        let service = target(&mut call)?;
        call.finish(&["target"])?;
        host.lift_imperative(&service.name);
        Ok(NoneType)
    }
}

/// Other keywords of these calls.
const OWN: &[&str] = &["run", "include_driver"];

/// The service that is meant.
fn target(call: &mut Call<'_>) -> Result<Arc<Service>, Raised> {
    let value = call.next("target")?;
    service(call, value)
}

fn service<'v>(call: &Call<'v>, value: Option<Value<'v>>) -> Result<Arc<Service>, Raised> {
    let Some(value) = value else {
        return Err(call.wrong("a service is required as first argument"));
    };
    match value.downcast_ref::<ServiceValue>() {
        Some(it) => Ok(it.service.clone()),
        None => Err(call.wrong_type("the target", "a service", value)),
    }
}

/// The services of a list, each once.
fn services(call: &mut Call<'_>) -> Result<Vec<Arc<Service>>, Raised> {
    let Some(value) = call.next("services")? else {
        return Err(call.wrong("a list of services is required as first argument"));
    };
    let mut services: Vec<Arc<Service>> = Vec::new();
    for (i, value) in call.as_list("services", value)?.into_iter().enumerate() {
        let Some(ServiceValue { service, .. }) = value.downcast_ref() else {
            return Err(call.wrong_type(&format!("services[{i}]"), "a service", value));
        };
        if services.iter().any(|it| it.name == service.name) {
            return Err(call.wrong(format_args!("service {:?} is listed twice", service.name)));
        }
        services.push(service.clone());
    }
    if services.is_empty() {
        return Err(call.wrong("the list of services must not be empty"));
    }
    Ok(services)
}

/// The function of `run=`, known to need no arguments.
pub(super) fn callback<'v>(call: &mut Call<'v>) -> Result<Value<'v>, Raised> {
    let Some(run) = call.optional("run") else {
        return Err(call.wrong("run= (a function without parameters) is required"));
    };
    function::without_parameters(call, "run=", run)
}

/// The rules of the remaining keywords on a service.
fn request(
    call: &mut Call<'_>,
    service: &Arc<Service>,
    window: FaultWindow,
) -> Result<FaultRequest, Raised> {
    let mut requests = requests(call, std::slice::from_ref(service), window)?;
    requests.pop().ok_or_else(|| call.wrong("no service to fault (a bug in faultbox)"))
}

/// The rules of the remaining keywords, on each of the services.
fn requests(
    call: &mut Call<'_>,
    services: &[Arc<Service>],
    window: FaultWindow,
) -> Result<Vec<FaultRequest>, Raised> {
    let include_driver = call.boolean("include_driver")?.unwrap_or(false);
    let keywords = call.rest_named();
    let request = |service: &Arc<Service>| {
        let rules = fault_rules::resolve(call, service, &keywords, OWN)?;
        Ok(FaultRequest { service: service.name.clone(), rules, include_driver, window })
    };
    let requests = services.iter().map(request).collect::<Result<Vec<_>, Raised>>()?;
    if keywords.is_empty() {
        return Err(call.wrong("at least one rule is required, as in write=deny(\"EIO\")"));
    }
    call.finish(&[])?;
    Ok(requests)
}

/// Refuses whatever is left beside an assumption, which says everything.
fn refuse_rules(call: &mut Call<'_>) -> Result<(), Raised> {
    if let Some((keyword, _)) = call.rest_named().first() {
        return Err(call.wrong(format_args!(
            "{keyword}= cannot be added to an assumption; declare \
             fault_assumption(…, faults=[…], {keyword}=…)"
        )));
    }
    call.finish(&[])
}
