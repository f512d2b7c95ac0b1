//! `sleep(…)` and `duration(…)` (language.md 2.5).

use std::time::Duration;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, none::NoneType},
};

use crate::{
    protocol::go_duration,
    spec::{
        arguments::Call, context::Context, duration::parse_wait, failure::Raised, monitors,
        suggest::quoted,
    },
};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// The test waits; services go on.
    fn sleep<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("sleep()")?;
        let call = Call::new("sleep()", arguments, eval.heap())?;
        let time = wait(call)?;
        let timeout = host.timeout();
        if time > timeout {
            let (time, timeout) = (go_duration(time), go_duration(timeout));
            let text = format!("sleep(): {time} is longer than the test may take ({timeout})");
            return Err(Raised::error(text).into());
        }
        host.sleep(time);
        if host.is_cancelled() {
            return Err(Raised::cancelled().into());
        }
        monitors::deliver(eval)?;
        Ok(NoneType)
    }

    /// A duration in nanoseconds.
    fn duration<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("duration()", arguments, eval.heap())?;
        let nanoseconds = wait(call)?.as_nanos() as u64;
        Ok(eval.heap().alloc(nanoseconds))
    }
}

/// The only argument.
fn wait(mut call: Call<'_>) -> Result<Duration, Raised> {
    let Some(value) = call.next("duration")? else {
        return Err(call.wrong("a duration is required, such as \"500ms\" or \"2s\""));
    };
    let text = call.as_string("duration", value)?;
    let Some(time) = parse_wait(text) else {
        let text = quoted(text);
        return Err(call.wrong(format_args!("bad duration {text}; use e.g. \"500ms\" or \"2s\"")));
    };
    call.finish(&["duration"])?;
    Ok(time)
}
