//! What happens to a call: `deny()`, `delay()`, `returns()`, `eof()`, `crash()`, `allow()`
//! (language.md 1.9.1, which `returns()`, `eof()` and `crash()` extend).

use std::time::Duration;

use nix::sys::signal::Signal;
use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::{
    engine::Errno,
    spec::{
        FaultAction, RuleOptions,
        arguments::{Call, short_repr},
        duration::parse_duration,
        failure::Raised,
        signal::parse_signal,
        suggest::{did_you_mean, quoted},
        values::RuleValue,
    },
};

use super::rule_options;

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// The call fails with an error and does nothing.
    fn deny<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("deny()", arguments, eval.heap())?;
        let errno = errno(&mut call)?;
        let options = rule_options::take(call, "errno")?;
        Ok(eval.heap().alloc(rule(FaultAction::Deny(errno), options)))
    }

    /// The calling thread waits, then the call runs.
    fn delay<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("delay()", arguments, eval.heap())?;
        let time = duration(&mut call)?;
        let options = rule_options::take(call, "duration")?;
        Ok(eval.heap().alloc(rule(FaultAction::Delay(time), options)))
    }

    /// The call does nothing and reports success with a value.
    fn returns<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("returns()", arguments, eval.heap())?;
        let value = result(&mut call)?;
        let options = rule_options::take(call, "value")?;
        Ok(eval.heap().alloc(rule(FaultAction::Return(value), options)))
    }

    /// The call reads nothing and reports the end of the file or connection.
    fn eof<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("eof()", arguments, eval.heap())?;
        let options = rule_options::take(call, "")?;
        Ok(eval.heap().alloc(RuleValue { is_eof: true, ..rule(FaultAction::Return(0), options) }))
    }

    /// The process dies at this call, which does nothing.
    fn crash<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("crash()", arguments, eval.heap())?;
        let signal = signal(&mut call)?;
        let options = rule_options::take(call, "signal")?;
        Ok(eval.heap().alloc(rule(FaultAction::Crash(signal), options)))
    }

    /// The call runs, and the trace says so.
    fn allow<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Call::new("allow()", arguments, eval.heap())?.finish(&[])?;
        Ok(eval.heap().alloc(rule(FaultAction::Allow, RuleOptions::default())))
    }
}

fn rule(action: FaultAction, options: RuleOptions) -> RuleValue {
    RuleValue { action, options, is_eof: false }
}

fn errno(call: &mut Call<'_>) -> Result<Errno, Raised> {
    let Some(value) = call.next("errno")? else {
        return Err(call.wrong("an errno is required, as in deny(\"EIO\")"));
    };
    let name = call.as_string("errno", value)?;
    Errno::from_name(name).ok_or_else(|| {
        let hint = did_you_mean(name, Errno::names());
        call.wrong(format_args!("unknown errno {}{hint}", quoted(name)))
    })
}

fn duration(call: &mut Call<'_>) -> Result<Duration, Raised> {
    let Some(value) = call.next("duration")? else {
        return Err(call.wrong("a duration is required, as in delay(\"500ms\")"));
    };
    let text = call.as_string("duration", value)?;
    parse_duration(text).ok_or_else(|| {
        call.wrong(format_args!("bad duration {}; use e.g. \"500ms\" or \"2s\"", quoted(text)))
    })
}

fn result(call: &mut Call<'_>) -> Result<i64, Raised> {
    let Some(value) = call.next("value")? else {
        return Err(call.wrong("a value is required, as in returns(0)"));
    };
    let number = call.as_int("value", value)?.filter(|it| *it >= 0);
    number.ok_or_else(|| {
        let got = short_repr(value);
        let text = "to make a call fail use deny(), as in deny(\"EIO\")";
        call.wrong(format_args!("value must be from 0 to {}, got {got}; {text}", i64::MAX))
    })
}

fn signal(call: &mut Call<'_>) -> Result<Signal, Raised> {
    match call.next("signal")? {
        Some(value) if !value.is_none() => parse_signal(call.as_string("signal", value)?),
        _ => Ok(Signal::SIGKILL),
    }
}
