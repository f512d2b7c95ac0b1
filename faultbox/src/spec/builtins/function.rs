//! Functions that are handed to builtins.

use starlark::values::{Value, function::FUNCTION_TYPE};

use crate::spec::{arguments::Call, failure::Raised};

/// A function that can be called without arguments.
pub(super) fn without_parameters<'v>(
    call: &Call<'v>,
    what: &str,
    value: Value<'v>,
) -> Result<Value<'v>, Raised> {
    takes(call, what, value, 0, "a function without parameters", "has some")
}

/// A function that can be called with one argument.
pub(super) fn with_one_parameter<'v>(
    call: &Call<'v>,
    what: &str,
    value: Value<'v>,
) -> Result<Value<'v>, Raised> {
    takes(call, what, value, 1, "a function with one parameter", "cannot be called with one")
}

fn takes<'v>(
    call: &Call<'v>,
    what: &str,
    value: Value<'v>,
    arguments: usize,
    wanted: &str,
    but: &str,
) -> Result<Value<'v>, Raised> {
    if value.get_type() != FUNCTION_TYPE {
        return Err(call.wrong_type(what, wanted, value));
    }
    if value.parameters_spec().is_some_and(|it| !it.can_fill_with_args(arguments, &[])) {
        let name = value.function_name().unwrap_or("the given one");
        return Err(call.wrong(format_args!("{what} must be {wanted}, but {name} {but}")));
    }
    Ok(value)
}

/// A scenario: a function without parameters that has a name, with that name.
pub(super) fn scenario<'v>(
    call: &Call<'v>,
    what: &str,
    value: Value<'v>,
) -> Result<(Value<'v>, &'v str), Raised> {
    let function = without_parameters(call, what, value)?;
    match function.function_name() {
        Some(name) if name != "lambda" => Ok((function, name)),
        _ => Err(call.wrong(format_args!(
            "{what} must be a function with a name, which the test is called by; use def"
        ))),
    }
}
