//! `parallel()`, `nondet()` (language.md 2.2).

use std::cell::RefCell;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, none::NoneType},
};

use crate::spec::{
    FailureKind, TestFailure,
    arguments::Call,
    context::Context,
    failure::Raised,
    loaded::{Printer, evaluator},
    values::ServiceValue,
};

/// Each takes a stack.
const MOST: usize = 64;

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Calls functions at the same time and returns what they returned, in their order.
    fn parallel<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let context = Context::of(eval)?;
        let host = context.test("parallel()")?;
        let mut call = Call::new("parallel()", arguments, eval.heap())?;
        let functions = call.rest();
        call.finish(&["functions without parameters, by position"])?;
        if !(2..=MOST).contains(&functions.len()) {
            let text = format!("takes 2 to {MOST} functions without parameters");
            return Err(call.wrong(text).into());
        }
        for (function, number) in functions.iter().zip(1..) {
            call.check_callable(&format!("argument {number}"), *function, 0)?;
        }
        let module = eval.module();
        let results: Vec<_> = functions.iter().map(|_| RefCell::new(None)).collect();
        let jobs = functions.iter().zip(&results).map(|(function, result)| {
            let job = move || {
                let printer = Printer(host);
                let mut eval = evaluator(module, context, &printer);
                let value = eval.as_mut().map_err(|why| Raised::error(why.to_string()).into());
                let value = value.and_then(|it| it.eval_function(*function, &[], &[]));
                // What ends the others later is not why this one failed.
                let value = value.map_err(|error| TestFailure::of(&error, context));
                result.replace(Some(value));
            };
            Box::new(job) as Box<dyn FnOnce() + '_>
        });
        host.overlap(jobs.collect()).map_err(|why| call.wrong(why))?;
        let (mut values, mut failed, mut stopped) = (Vec::new(), Vec::new(), None);
        let violation = context.violation();
        for (result, number) in results.into_iter().zip(1..) {
            match result.into_inner() {
                Some(Ok(value)) => values.push(value),
                Some(Err(failure))
                    if failure.kind == FailureKind::Timeout
                        || violation.as_ref() == Some(&failure) =>
                {
                    stopped.get_or_insert(failure);
                }
                Some(Err(failure)) => failed.push((number, failure)),
                None => return Err(call.wrong("a function never ended").into()),
            }
        }
        // A violation goes before what else has failed, and that before the end of the time.
        let mut failed = failed.into_iter();
        let reason = violation.or_else(|| failed.next().map(|(_, it)| it)).or(stopped);
        for (number, TestFailure { reason, .. }) in failed {
            host.warn(&format!("parallel(): function {number} failed as well: {reason}"));
        }
        match reason {
            Some(failure) => {
                if failure.kind != FailureKind::Timeout {
                    context.note_failure(failure.clone());
                }
                Err(starlark::Error::new_native(failure))
            }
            None => Ok(eval.heap().alloc(values)),
        }
    }

    /// Names services whose calls may come in any order, whatever order is asked for.
    fn nondet<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let mut call = Call::new("nondet()", arguments, eval.heap())?;
        let services = call.rest();
        call.finish(&["services, by position"])?;
        if services.is_empty() {
            return Err(call.wrong("needs at least one service").into());
        }
        for service in services {
            if service.downcast_ref::<ServiceValue>().is_none() {
                return Err(call.wrong_type("an argument", "a service", service).into());
            }
        }
        Ok(NoneType)
    }
}
