//! What must hold while rules are on (language.md 1.13).

use starlark::{eval::Evaluator, values::Value};

use super::failure::Raised;

/// Monitors that are active.
pub(super) struct Activation;

/// Checks that each value is a monitor.
pub(super) fn check_monitors(who: &str, values: &[Value<'_>]) -> Result<(), Raised> {
    match values.first() {
        None => Ok(()),
        Some(value) => {
            let kind = value.get_type();
            Err(Raised::error(format!("{who}: monitors[0] must be a monitor(), got {kind}")))
        }
    }
}

/// Has the monitors see every event from now on.
#[allow(clippy::unnecessary_wraps, reason = "the signature of what is still to come")]
pub(super) fn activate<'v>(
    _eval: &mut Evaluator<'v, '_, '_>,
    _monitors: &[Value<'v>],
) -> starlark::Result<Activation> {
    Ok(Activation)
}

/// Has them see no more.
#[allow(clippy::unnecessary_wraps, reason = "the signature of what is still to come")]
pub(super) fn deactivate(
    _eval: &mut Evaluator<'_, '_, '_>,
    _activation: Activation,
) -> starlark::Result<()> {
    Ok(())
}
