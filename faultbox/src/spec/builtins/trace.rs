//! `trace()`, `trace_start()`, `trace_stop()` (language.md 2.1).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, none::NoneType},
};

use crate::spec::{
    Direction, FaultAction, FaultRequest, FaultRule, FaultWindow, RuleOptions, Service,
    arguments::Call, composition::Scopes, context::Context, failure::Raised, monitors,
    values::ServiceValue,
};

use super::keyword;

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Has calls of a service recorded while a function runs, and returns what it returned.
    fn trace<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let host = Context::of(eval)?.test("trace()")?;
        let mut call = Call::new("trace()", arguments, eval.heap())?;
        let service = service(&mut call)?;
        let Some(run) = call.optional("run") else {
            return Err(call.wrong("run= (a function without parameters) is required").into());
        };
        call.check_callable("run=", run, 0)?;
        let request = request(&mut call, &service, FaultWindow::Scoped)?;
        call.finish(&["service", "syscalls", "run"])?;
        host.settled().map_err(|why| call.wrong(why))?;
        let _scopes = Scopes::install(host, [("trace()", &request)])?;
        let result = eval.eval_function(run, &[], &[])?;
        monitors::deliver(eval)?;
        Ok(result)
    }

    /// Has calls of a service recorded until `trace_stop` or the test's end.
    fn trace_start<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("trace_start()")?;
        let mut call = Call::new("trace_start()", arguments, eval.heap())?;
        let service = service(&mut call)?;
        if call.named("run").is_some() {
            return Err(call.wrong("run= belongs to trace(); trace_stop() ends this one").into());
        }
        let request = request(&mut call, &service, FaultWindow::Imperative)?;
        call.finish(&["service", "syscalls"])?;
        host.settled().map_err(|why| call.wrong(why))?;
        host.fault(&request).map_err(|error| call.wrong(error))?;
        Ok(NoneType)
    }

    /// Ends everything that `trace_start` began on a service.
    fn trace_stop<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("trace_stop()")?;
        let mut call = Call::new("trace_stop()", arguments, eval.heap())?;
        let service = service(&mut call)?;
        call.finish(&["service"])?;
        host.lift_traces(&service.name);
        Ok(NoneType)
    }
}

/// The service that is meant.
fn service(call: &mut Call<'_>) -> Result<Arc<Service>, Raised> {
    let Some(value) = call.next("service")? else {
        return Err(call.wrong("a service is required as first argument"));
    };
    match value.downcast_ref::<ServiceValue>() {
        Some(it) => Ok(it.service.clone()),
        None => Err(call.wrong_type("the first argument", "a service", value)),
    }
}

/// A rule for each keyword of `syscalls=`.
fn request(
    call: &mut Call<'_>,
    service: &Arc<Service>,
    window: FaultWindow,
) -> Result<FaultRequest, Raised> {
    let Some(list) = call.optional("syscalls") else {
        return Err(call.wrong("syscalls= is required, as in syscalls=[\"write\", \"fsync\"]"));
    };
    let mut rules: Vec<FaultRule> = Vec::new();
    for value in call.as_list("syscalls=", list)? {
        let keyword = call.as_string("an element of syscalls=", value)?;
        let covered = keyword::resolve(call.who(), service, keyword, &[])?;
        if rules.iter().any(|it| it.keyword == keyword) {
            continue;
        }
        rules.push(FaultRule {
            keyword: keyword.to_owned(),
            is_op: covered.is_op,
            syscalls: covered.syscalls,
            path: covered.path,
            action: FaultAction::Trace,
            // Of the service's own calls, also where others dial it.
            options: RuleOptions { direction: Some(Direction::Out), ..RuleOptions::default() },
        });
    }
    if rules.is_empty() {
        return Err(call.wrong("syscalls= must name at least one call"));
    }
    rules.sort_by(|a, b| a.keyword.cmp(&b.keyword));
    Ok(FaultRequest { service: service.name.clone(), rules, include_driver: false, window })
}
