//! `expect_success()`, `expect_error_within(ms=)`, `expect_hang()` (language.md 2.5).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::spec::{arguments::Call, values::ExpectationValue};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// The scenario gets an answer that is no server error.
    fn expect_success<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Call::new("expect_success()", arguments, eval.heap())?.finish(&[])?;
        Ok(eval.heap().alloc(ExpectationValue::Success))
    }

    /// The scenario gets an error, and soon.
    fn expect_error_within<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("expect_error_within()", arguments, eval.heap())?;
        let Some(limit) = call.count("ms", 1)? else {
            let text = "ms= is required, as in expect_error_within(ms=500)";
            return Err(call.wrong(text).into());
        };
        call.finish(&["ms"])?;
        Ok(eval.heap().alloc(ExpectationValue::ErrorWithin(limit)))
    }

    /// The scenario is still busy when its time is over.
    fn expect_hang<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Call::new("expect_hang()", arguments, eval.heap())?.finish(&[])?;
        Ok(eval.heap().alloc(ExpectationValue::Hang))
    }
}
