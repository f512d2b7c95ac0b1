//! What every rule but `allow()` may be told besides its effect: `probability=`, `label=` and the
//! extensions of language.md 1.9.1.

use std::num::NonZeroU64;

use starlark::values::{Value, ValueLike, float::StarlarkFloat};

use crate::{
    engine::Probability,
    spec::{
        Direction, RuleOptions,
        arguments::{Call, short_repr},
        failure::Raised,
        suggest::quoted,
        values::ServiceValue,
    },
};

/// The keywords.
const VALID: &[&str] = &["probability", "label", "direction", "to", "nth", "after", "max_hits"];

/// Takes the options of a call and refuses what is left. `own` is the name of the argument that
/// has been taken before, if there is one.
pub(super) fn take(mut call: Call<'_>, own: &str) -> Result<RuleOptions, Raised> {
    let probability = match call.optional("probability") {
        Some(value) => as_probability(&call, value)?,
        None => Probability::ALWAYS,
    };
    let options = RuleOptions {
        probability,
        label: call.string("label")?.map(str::to_owned),
        direction: direction(&mut call)?,
        to: to(&mut call)?,
        nth: call.count("nth", 1)?.and_then(NonZeroU64::new),
        after: call.count("after", 0)?.unwrap_or(0),
        max_hits: call.count("max_hits", 1)?.and_then(NonZeroU64::new),
    };
    let mut valid = VALID.to_vec();
    if !own.is_empty() {
        valid.insert(0, own);
    }
    call.finish(&valid)?;
    if options.nth.is_some() && options.after > 0 {
        return Err(call.wrong("nth= already says which match is hit; leave out after="));
    }
    if options.to.is_some() && matches!(options.direction, Some(Direction::In | Direction::Both)) {
        return Err(call.wrong(
            "to= is about connections that the target opens; leave out direction=, or let it be \
             \"out\"",
        ));
    }
    Ok(options)
}

fn direction(call: &mut Call<'_>) -> Result<Option<Direction>, Raised> {
    match call.string("direction")? {
        None => Ok(None),
        Some("out") => Ok(Some(Direction::Out)),
        Some("in") => Ok(Some(Direction::In)),
        Some("both") => Ok(Some(Direction::Both)),
        Some(other) => {
            let other = quoted(other);
            let text = format!("direction= must be \"out\", \"in\" or \"both\", got {other}");
            Err(call.wrong(text))
        }
    }
}

fn to(call: &mut Call<'_>) -> Result<Option<String>, Raised> {
    let Some(value) = call.optional("to") else {
        return Ok(None);
    };
    match value.downcast_ref::<ServiceValue>() {
        Some(it) => Ok(Some(it.service.name.clone())),
        None => Err(call.wrong_type("to=", "a service", value)),
    }
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
        let got = short_repr(value);
        call.wrong(format_args!(
            "bad probability {got}; use \"30%\", a float from 0.0 to 1.0, or an int from 0 to 100"
        ))
    })
}
