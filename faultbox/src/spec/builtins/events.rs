//! `events`, `assert_eventually`, `assert_never`, `assert_before` (language.md 2.1).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, none::NoneType},
};

use crate::{
    spec::{
        Host,
        arguments::Call,
        context::Context,
        failure::{FailureKind, Raised},
        monitors, parse_duration,
        query::{Query, warn_if_unrecorded},
        suggest::quoted,
        values::EventValue,
    },
    trace::Log,
};

/// Between two looks at the log.
const PAUSE: Duration = Duration::from_millis(5);

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// All events so far that match.
    fn events<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let mut call = Call::new("events()", arguments, eval.heap())?;
        let query = query(&mut call, eval)?;
        let (_, log) = look(&call, eval)?;
        let (mut found, mut next) = (Vec::new(), 0);
        loop {
            let result = query.find(eval, &log, next, None)?;
            let Some(index) = result.index else { break };
            found.push(eval.heap().alloc(EventValue::new(&log, index, None)));
            next = result.next;
        }
        Ok(eval.heap().alloc(found))
    }

    /// Fails the test unless an event so far matches, or does within some time.
    fn assert_eventually<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("assert_eventually()", arguments, eval.heap())?;
        let within = within(&mut call)?;
        let query = query(&mut call, eval)?;
        let deadline = within.and_then(|it| Instant::now().checked_add(it));
        let mut next = 0;
        loop {
            let (host, log) = look(&call, eval)?;
            let found = query.find(eval, &log, next, None)?;
            if found.index.is_some() {
                return Ok(NoneType);
            }
            next = found.next;
            let left = deadline.map_or(Duration::ZERO, |it| it - Instant::now().min(it));
            if left.is_zero() {
                let in_time = match within {
                    Some(time) => format!(" within {}", crate::protocol::go_duration(time)),
                    None => String::new(),
                };
                let text = format!("assert_eventually: no matching event{in_time} ({query})");
                return Err(Raised::new(FailureKind::Assertion, text).into());
            }
            if Context::of(eval)?.is_looking() {
                return Err(call.wrong("within= cannot wait while events are looked at").into());
            }
            host.pause(PAUSE.min(left));
        }
    }

    /// Fails the test if an event so far matches.
    fn assert_never<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("assert_never()", arguments, eval.heap())?;
        let query = query(&mut call, eval)?;
        let (host, log) = look(&call, eval)?;
        if let Some(index) = query.find(eval, &log, 0, None)?.index {
            let event = EventValue::new(&log, index, None);
            let text = format!("assert_never: {event} matches ({query})");
            return Err(Raised::new(FailureKind::Assertion, text).into());
        }
        warn_if_unrecorded("assert_never", &query.filters, host, &log);
        Ok(NoneType)
    }

    /// Fails the test unless the first event of one kind comes before the first of another.
    fn assert_before<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("assert_before()", arguments, eval.heap())?;
        let mut side = |name: &str| {
            let value = call.next(name)?;
            let text = "needs first= and then=, each a dict of filters or a function of an event";
            let value = value.ok_or_else(|| call.wrong(text))?;
            Query::of(&call, &format!("{name}="), value)
        };
        let (first, then) = (side("first")?, side("then")?);
        call.finish(&["first", "then"])?;
        check_services(&call, eval, &[&first, &then])?;
        let (_, log) = look(&call, eval)?;
        let fail = |text: String| {
            Err(Raised::new(FailureKind::Assertion, format!("assert_before: {text}")).into())
        };
        let Some(index) = first.find(eval, &log, 0, None)?.index else {
            return fail(format!("no event matches first ({first})"));
        };
        let event = eval.heap().alloc(EventValue::new(&log, index, None));
        let Some(later) = then.find(eval, &log, 0, Some(event))?.index else {
            return fail(format!("no event matches then ({then})"));
        };
        if later <= index {
            let later = EventValue::new(&log, later, None);
            return fail(format!("{later} (then) does not come after {event} (first)"));
        }
        Ok(NoneType)
    }
}

/// The filters and the condition of a call.
fn query<'v>(call: &mut Call<'v>, eval: &Evaluator<'v, '_, '_>) -> Result<Query<'v>, Raised> {
    // Where it is called comes before what is wrong with its arguments.
    Context::of(eval)?.onlooker(call.who())?;
    let query = Query::take(call)?;
    check_services(call, eval, &[&query])?;
    Ok(query)
}

fn check_services<'v>(
    call: &Call<'v>,
    eval: &Evaluator<'v, '_, '_>,
    queries: &[&Query<'v>],
) -> Result<(), Raised> {
    let services = Context::of(eval)?.services();
    queries.iter().try_for_each(|it| it.filters.check_services(call.who(), &services))
}

/// The log, with everything so far in it, after the monitors have seen it.
fn look<'e>(
    call: &Call<'_>,
    eval: &mut Evaluator<'_, '_, 'e>,
) -> starlark::Result<(&'e dyn Host, Arc<Log>)> {
    monitors::deliver(eval)?;
    let host = Context::of(eval)?.onlooker(call.who())?;
    let log = host.settled().map_err(|why| call.wrong(why))?;
    Ok((host, log))
}

fn within(call: &mut Call<'_>) -> Result<Option<Duration>, Raised> {
    let Some(text) = call.string("within")? else { return Ok(None) };
    let bad = || call.wrong(format_args!("bad duration {}; use e.g. \"2s\"", quoted(text)));
    parse_duration(text).map(Some).ok_or_else(bad)
}
