//! `deny()` and `allow()` (language.md 1.9.1).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, float::StarlarkFloat},
};

use crate::{
    engine::{Errno, Probability},
    spec::{
        Direction, FaultAction,
        arguments::Call,
        failure::Raised,
        suggest::{did_you_mean, quoted},
        values::RuleValue,
    },
};

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// The call fails with an error and does nothing.
    fn deny<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("deny()", arguments, eval.heap())?;
        Ok(eval.heap().alloc(declare_deny(call)?))
    }

    /// The call runs, and the trace says so.
    fn allow<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Call::new("allow()", arguments, eval.heap())?.finish(&[])?;
        Ok(eval.heap().alloc(RuleValue {
            action: FaultAction::Allow,
            probability: Probability::ALWAYS,
            label: None,
            direction: None,
        }))
    }
}

fn declare_deny(mut call: Call<'_>) -> Result<RuleValue, Raised> {
    let Some(value) = call.next("errno")? else {
        return Err(call.wrong("an errno is required, as in deny(\"EIO\")"));
    };
    let name = call.as_string("errno", value)?;
    let Some(errno) = Errno::from_name(name) else {
        let hint = did_you_mean(name, Errno::names());
        return Err(call.wrong(format_args!("unknown errno {}{hint}", quoted(name))));
    };
    let probability = call.optional("probability");
    let probability =
        probability.map_or(Ok(Probability::ALWAYS), |it| as_probability(&call, it))?;
    let label = call.string("label")?.map(str::to_owned);
    let direction = match call.string("direction")? {
        None => None,
        Some("out") => Some(Direction::Out),
        Some("in") => Some(Direction::In),
        Some("both") => Some(Direction::Both),
        Some(other) => {
            let other = quoted(other);
            let text = format!("direction= must be \"out\", \"in\" or \"both\", got {other}");
            return Err(call.wrong(text));
        }
    };
    call.finish(&["errno", "probability", "label", "direction"])?;
    Ok(RuleValue { action: FaultAction::Deny(errno), probability, label, direction })
}

/// `"30%"`, a fraction as float, or a percentage as int.
fn as_probability<'v>(call: &Call<'v>, value: Value<'v>) -> Result<Probability, Raised> {
    let probability = if let Some(text) = value.unpack_str() {
        text.parse().ok()
    } else if let Some(StarlarkFloat(fraction)) = value.downcast_ref::<StarlarkFloat>() {
        Probability::from_fraction(*fraction)
    } else if value.get_type() == "int" {
        value.unpack_i32().and_then(|it| Probability::from_fraction(f64::from(it) / 100.0))
    } else {
        return Err(call.wrong_type("probability=", "a string, a float or an int", value));
    };
    probability.ok_or_else(|| {
        let mut got = value.to_repr();
        if got.len() > 60 {
            "that".clone_into(&mut got);
        }
        call.wrong(format_args!(
            "bad probability {got}; use \"30%\", a float from 0.0 to 1.0, or an int from 0 to 100"
        ))
    })
}
