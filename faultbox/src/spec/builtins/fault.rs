//! `fault()`, `fault_start()`, `fault_stop()` (language.md 1.9.2).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, function::FUNCTION_TYPE, none::NoneType},
};

use crate::spec::{
    FaultAction, FaultRequest, FaultRule, FaultWindow, Host, RuleOptions, ScopeId, Service,
    arguments::Call,
    context::Context,
    failure::Raised,
    values::{RuleValue, ServiceValue},
};

use super::keyword::{self, Covered};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Breaks calls of a service while a function runs, and returns what it returned.
    fn fault<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let host = Context::of(eval)?.test("fault()")?;
        let mut call = Call::new("fault()", arguments, eval.heap())?;
        let service = target(&mut call)?;
        let run = callback(&mut call)?;
        let request = request(call, &service, FaultWindow::Scoped)?;
        let scope = host.fault(&request).map_err(Raised::from)?;
        // Lifts when dropped, and so whatever way the callback ends.
        let _scope = Scope { host, scope };
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
        let request = request(call, &service, FaultWindow::Imperative)?;
        host.fault(&request).map_err(Raised::from)?;
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

/// Rules that are on for as long as this exists.
struct Scope<'h> {
    host: &'h dyn Host,
    scope: ScopeId,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.host.lift(self.scope);
    }
}

/// The service that is meant.
fn target(call: &mut Call<'_>) -> Result<Arc<Service>, Raised> {
    let Some(value) = call.next("target")? else {
        return Err(call.wrong("a service is required as first argument"));
    };
    match value.downcast_ref::<ServiceValue>() {
        Some(it) => Ok(it.service.clone()),
        None => Err(call.wrong_type("the target", "a service", value)),
    }
}

/// The function of `run=`, known to need no arguments.
fn callback<'v>(call: &mut Call<'v>) -> Result<Value<'v>, Raised> {
    let Some(run) = call.optional("run") else {
        return Err(call.wrong("run= (a function without parameters) is required"));
    };
    if run.get_type() != FUNCTION_TYPE {
        return Err(call.wrong_type("run=", "a function without parameters", run));
    }
    if run.parameters_spec().is_some_and(|it| !it.can_fill_with_args(0, &[])) {
        let name = run.function_name().unwrap_or("the given one");
        let text = format!("run= must be a function without parameters, but {name} has some");
        return Err(call.wrong(text));
    }
    Ok(run)
}

/// The rules of the remaining keywords.
fn request(
    mut call: Call<'_>,
    service: &Service,
    window: FaultWindow,
) -> Result<FaultRequest, Raised> {
    let include_driver = call.boolean("include_driver")?.unwrap_or(false);
    let mut rules = Vec::new();
    for (keyword, value) in call.rest_named() {
        let covered = keyword::resolve(call.who(), service, keyword)?;
        let Some(half) = value.downcast_ref::<RuleValue>() else {
            let kind = value.get_type();
            return Err(call.wrong(format_args!(
                "{keyword}= must be deny()/delay()/allow(), got {kind}; \
                 example: {keyword}=deny(\"EIO\")"
            )));
        };
        rules.push(rule(&call, service, keyword, covered, half)?);
    }
    if rules.is_empty() {
        return Err(call.wrong("at least one rule is required, as in write=deny(\"EIO\")"));
    }
    call.finish(&[])?;
    rules.sort_by(|a, b| a.keyword.cmp(&b.keyword));
    Ok(FaultRequest { service: service.name.clone(), rules, include_driver, window })
}

fn rule(
    call: &Call<'_>,
    service: &Service,
    keyword: &str,
    covered: Covered,
    half: &RuleValue,
) -> Result<FaultRule, Raised> {
    let wrong = |text: &str| Err(call.wrong(format_args!("{keyword}=: {text}")));
    let RuleOptions { direction, to, .. } = &half.options;
    if direction.is_some() && !covered.covers("connect") {
        return wrong("direction= is for connect only, the one call that has a direction");
    }
    if let Some(to) = to {
        if *to == service.name {
            return wrong(&format!(
                "to={to} is the target itself; name the service that {to} dials, or fault the \
                 services that dial {to}"
            ));
        }
        if covered.path.is_some() {
            return wrong("to= is about connections, and an op with path= is about files");
        }
        if !covered.has_connections() {
            return wrong(
                "to= is for calls on connections, such as connect, read, write, sendto and \
                 recvfrom",
            );
        }
    }
    if let FaultAction::Deny(errno) = half.action
        && errno.is_network_only()
        && covered.path.is_some()
        && covered.has_transfers()
    {
        return wrong(&format!(
            "reading and writing files, which path= is about, never fails with {errno}; use e.g. \
             EIO or ENOSPC"
        ));
    }
    if half.is_eof
        && let Some(other) = covered.not_a_read()
    {
        return wrong(&format!(
            "eof() is for calls that read (read, readv, pread64, preadv, preadv2, recvfrom, \
             recvmsg), and {other} does not; to skip a call and report a value use returns()"
        ));
    }
    if matches!(half.action, FaultAction::Deny(_) | FaultAction::Return(_))
        && covered.covers("close")
    {
        return wrong(
            "close cannot be denied or skipped: Linux releases the descriptor before anything \
             can fail the call, so that the service would lose it and be told it did not; \
             deny fsync or write to fail what comes before it",
        );
    }
    Ok(FaultRule {
        keyword: keyword.to_owned(),
        is_op: covered.is_op,
        syscalls: covered.syscalls,
        path: covered.path,
        action: half.action,
        options: half.options.clone(),
    })
}
