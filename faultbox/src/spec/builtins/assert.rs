//! `assert_eq`, `assert_true`, `fail` (language.md 1.6).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, none::NoneType},
};

use crate::spec::{
    arguments::Call,
    failure::{FailureKind, Raised},
    monitors,
};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Fails the test unless both values are equal.
    fn assert_eq<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("assert_eq()", arguments, eval.heap())?;
        let (actual, expected) = (call.next("actual")?, call.next("expected")?);
        let message = message(&mut call)?;
        let (Some(actual), Some(expected)) = (actual, expected) else {
            return Err(call.wrong("needs the actual and the expected value").into());
        };
        call.finish(&["actual", "expected", "msg", "message"])?;
        monitors::deliver(eval)?;
        if actual.equals(expected)? {
            return Ok(NoneType);
        }
        let mut text = format!("assert_eq: {} != {}", actual.to_repr(), expected.to_repr());
        if !message.is_empty() {
            text = format!("{text} ({message})");
        }
        Err(Raised::new(FailureKind::Assertion, text).into())
    }

    /// Fails the test unless the condition is true.
    fn assert_true<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("assert_true()", arguments, eval.heap())?;
        let condition = call.next("cond")?;
        let message = message(&mut call)?;
        let Some(condition) = condition else {
            return Err(call.wrong("needs a condition").into());
        };
        call.finish(&["cond", "msg", "message"])?;
        monitors::deliver(eval)?;
        if condition.to_bool() {
            return Ok(NoneType);
        }
        let message = if message.is_empty() { "condition is false" } else { &message };
        Err(Raised::new(FailureKind::Assertion, format!("assert_true: {message}")).into())
    }

    /// Ends the test, or the evaluation of the file, with a reason.
    fn fail<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("fail()", arguments, eval.heap())?;
        let mut words: Vec<String> = call.rest().into_iter().map(Value::to_str).collect();
        words.extend(call.named("msg").or(call.named("message")).map(Value::to_str));
        call.finish(&["msg", "message"])?;
        let text = if words.is_empty() { "fail() was called".to_owned() } else { words.join(" ") };
        Err(Raised::new(FailureKind::Fail, text).into())
    }
}

/// The message of an assertion; empty when there is none.
fn message(call: &mut Call<'_>) -> Result<String, Raised> {
    // Both spellings are in use.
    let other = call.named("message");
    let message = call.next("msg")?.or(other).filter(|value| !value.is_none());
    Ok(message.map(Value::to_str).unwrap_or_default())
}
