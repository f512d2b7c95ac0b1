//! Ready-made judges of what a scenario returned: `expect_success()` and its like (language.md
//! 2.5).

use std::fmt;

use allocative::Allocative;
use starlark::{
    eval::{Arguments, Evaluator},
    values::{
        Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value,
        function::FUNCTION_TYPE, starlark_value,
    },
};

use crate::spec::{
    arguments::Call,
    failure::{FailureKind, Raised},
};

use super::never_frozen;

/// How much of a result a failure shows, in characters.
const SHOWN: usize = 200;

/// What a scenario is expected to come to. Called with its result, as a function in its place
/// would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) enum ExpectationValue {
    /// An answer that is no server error.
    Success,
    /// A server error, or none at all, within this many milliseconds.
    ErrorWithin(u64),
    /// None: the time is over first.
    Hang,
}

impl fmt::Display for ExpectationValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("expect_success()"),
            Self::ErrorWithin(ms) => write!(f, "expect_error_within(ms={ms})"),
            Self::Hang => f.write_str("expect_hang()"),
        }
    }
}

impl ExpectationValue {
    /// Why a result is not what was expected, if so.
    fn objection<'v>(self, result: Value<'v>, heap: Heap<'v>) -> starlark::Result<Option<String>> {
        let answer = Answer::of(result, heap)?;
        Ok(match self {
            Self::Success if result.is_none() => Some("the scenario returned None".to_owned()),
            Self::Success if answer.is_error() => {
                Some(format!("got {}{}", shown(result), answer.why()))
            }
            Self::Success => None,
            Self::ErrorWithin(_) if !answer.is_error() => {
                Some(format!("expected an error, got {}", shown(result)))
            }
            Self::ErrorWithin(limit) => match answer.millis {
                Some(millis) if millis <= limit => None,
                Some(millis) => Some(format!("the error took {millis} ms, more than {limit} ms")),
                None => Some(format!("{} has no duration_ms", shown(result))),
            },
            Self::Hang => Some("the scenario came to an end; it was expected to hang".to_owned()),
        })
    }
}

/// What matters of a result that looks like a response.
struct Answer {
    /// `.status`.
    status: Option<u64>,
    /// `.error`, unless it is empty.
    error: Option<String>,
    /// `.duration_ms`.
    millis: Option<u64>,
}

impl Answer {
    fn of<'v>(result: Value<'v>, heap: Heap<'v>) -> starlark::Result<Self> {
        let number = |name: &str| {
            let value = result.get_attr(name, heap)?;
            Ok::<_, starlark::Error>(value.and_then(|it| it.to_repr().parse().ok()))
        };
        let error = result.get_attr("error", heap)?.filter(|it| it.to_bool());
        Ok(Self {
            status: number("status")?,
            error: error.map(Value::to_str),
            millis: number("duration_ms")?,
        })
    }

    fn is_error(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|it| it >= 500)
    }

    /// ` (connection refused)`, or nothing.
    fn why(&self) -> String {
        self.error.as_ref().map(|it| format!(" ({it})")).unwrap_or_default()
    }
}

fn shown(result: Value<'_>) -> String {
    let repr = result.to_repr();
    if repr.chars().count() <= SHOWN {
        return repr;
    }
    repr.chars().take(SHOWN).chain(['…']).collect()
}

#[starlark_value(type = FUNCTION_TYPE, ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for ExpectationValue {
    fn invoke(
        &self,
        _me: Value<'v>,
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let heap = eval.heap();
        let mut call = Call::new(&self.to_string(), arguments, heap)?;
        let Some(result) = call.next("result")? else {
            return Err(call.wrong("needs the result of a scenario").into());
        };
        call.finish(&["result"])?;
        let Some(objection) = self.objection(result, heap)? else {
            return Ok(Value::new_none());
        };
        Err(Raised::new(FailureKind::Assertion, format!("{self}: {objection}")).into())
    }
}
never_frozen!(ExpectationValue);
