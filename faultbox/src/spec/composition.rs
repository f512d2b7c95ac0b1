//! A scenario under assumptions, and what is expected of it (language.md 1.11).

use std::sync::Arc;

use starlark::{
    eval::Evaluator,
    values::{Trace, Value, ValueLike},
};

use super::{
    FailureKind, FaultRequest, Host, ScopeId, TestFailure,
    context::Context,
    failure::Raised,
    monitors,
    values::{AssumedRules, ExpectationValue},
};

/// What a test does that was registered by a call: the parts are values of the evaluation's heap.
#[derive(Debug, Clone, Trace)]
pub(super) struct Composition<'v> {
    /// How errors name the call, such as `fault_scenario("order")`.
    #[trace(static)]
    pub(super) who: String,
    /// A function without parameters.
    pub(super) scenario: Value<'v>,
    /// What goes wrong meanwhile.
    #[trace(static)]
    pub(super) rules: Vec<Arc<AssumedRules>>,
    /// What must hold meanwhile.
    pub(super) monitors: Vec<Value<'v>>,
    /// A function that judges what the scenario returned.
    pub(super) expect: Option<Value<'v>>,
}

impl<'v> Composition<'v> {
    /// Of the scenario alone.
    pub(super) fn plain(who: String, scenario: Value<'v>) -> Self {
        Self { who, scenario, rules: Vec::new(), monitors: Vec::new(), expect: None }
    }

    /// Runs the scenario and has its result judged while the rules are still on. Returns that
    /// result.
    pub(super) fn run(&self, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        let context = Context::of(eval)?;
        let host = context.test(&self.who)?;
        let (result, _scopes) = run_under(eval, host, &self.rules, &self.monitors, self.scenario)?;
        let Some(expect) = self.expect else {
            return result;
        };
        let is_to_hang = expect.downcast_ref() == Some(&ExpectationValue::Hang);
        if let Err(error) = &result
            && is_to_hang
            && host.has_timed_out()
            && context.violation().is_none()
            && TestFailure::of(error, context).kind == FailureKind::Timeout
        {
            context.note_hang();
            return Ok(Value::new_none());
        }
        let result = result?;
        let verdict = eval.eval_function(expect, &[result], &[])?;
        if verdict.unpack_bool() == Some(false) {
            host.warn(&format!("{}: expect returned False; use assert_true", self.who));
        }
        Ok(result)
    }
}

/// Calls a function with rules on and monitors active. Returns what came of the function, and the
/// rules, which are on for as long as the caller keeps them. An error is one of the rules or the
/// monitors; a violation goes before the function's own failure, which is likely to come from it.
pub(super) fn run_under<'v, 'h>(
    eval: &mut Evaluator<'v, '_, '_>,
    host: &'h dyn Host,
    rules: &[Arc<AssumedRules>],
    monitors: &[Value<'v>],
    work: Value<'v>,
) -> starlark::Result<(starlark::Result<Value<'v>>, Scopes<'h>)> {
    let context = Context::of(eval)?;
    let activation = monitors::activate(eval, monitors)?;
    let scopes = Scopes::install(host, rules.iter().map(|it| (&*it.who, &it.request)));
    let result = match &scopes {
        Ok(_) => {
            eval.eval_function(work, &[], &[]).map_err(|error| TestFailure::settle(&error, context))
        }
        // The error is returned below, once the monitors are off.
        Err(_) => Ok(Value::new_none()),
    };
    monitors::deactivate(eval, activation)?;
    Ok((result, scopes?))
}

/// Rules that are on for as long as this exists.
pub(super) struct Scopes<'h> {
    host: &'h dyn Host,
    scopes: Vec<ScopeId>,
}

impl<'h> Scopes<'h> {
    /// Switches everything on, or nothing. An error begins with the name that the request comes
    /// with.
    pub(super) fn install<'r>(
        host: &'h dyn Host,
        requests: impl IntoIterator<Item = (&'r str, &'r FaultRequest)>,
    ) -> Result<Self, Raised> {
        let mut all = Self { host, scopes: Vec::new() };
        for (who, request) in requests {
            let scope = host.fault(request);
            all.scopes.push(scope.map_err(|error| Raised::error(format!("{who}: {error}")))?);
        }
        Ok(all)
    }
}

impl Drop for Scopes<'_> {
    fn drop(&mut self) {
        for scope in self.scopes.iter().rev() {
            self.host.lift(*scope);
        }
    }
}
