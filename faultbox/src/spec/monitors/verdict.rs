//! What a monitor says to an event, and what follows from it.

use starlark::{eval::Evaluator, values::Value};

use crate::{
    spec::{
        FailureKind, TestFailure,
        context::Context,
        failure::Raised,
        values::{Claim, MonitorValue},
    },
    trace::{EventKind, Log},
};

/// Shows a monitor an event.
pub(super) fn show<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    context: &Context<'_>,
    log: &Log,
    monitor: &MonitorValue<'v>,
    event: Value<'v>,
    index: usize,
) -> starlark::Result<()> {
    let failure = match context.look(|| judge(eval, monitor, event)) {
        Ok(None) => return Ok(()),
        Ok(Some(reason)) => {
            let location = monitor.location.clone();
            TestFailure { reason, kind: FailureKind::Assertion, location }
        }
        Err(error) => TestFailure::of(&error, context),
    };
    let (seq, service) = log
        .read(|events| events.get(index).map(|it| (it.seq, it.service.clone())))
        .unwrap_or_default();
    let TestFailure { reason: text, kind, location } = failure;
    let name = monitor.name.as_ref().map(|it| format!("{it}: ")).unwrap_or_default();
    let (reason, kind) = match kind {
        // What it was about to say is not known; nothing may pass over that.
        FailureKind::Timeout => (text, kind),
        FailureKind::Assertion | FailureKind::Fail | FailureKind::Monitor => {
            let message = format!("{name}{text}");
            let reason = format!("monitor violation: {message} (event #{seq})");
            log.push(&service, EventKind::Violation { message, event: seq });
            (reason, FailureKind::Monitor)
        }
        // A mistake in the monitor says nothing about the event.
        FailureKind::Error => {
            (format!("{} failed at event #{seq}: {text}", monitor.who()), FailureKind::Error)
        }
    };
    Err(note(context, TestFailure { reason, kind, location }))
}

/// Why the monitor objects to an event, if so; what its functions raise is an error.
fn judge<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    monitor: &MonitorValue<'v>,
    event: Value<'v>,
) -> starlark::Result<Option<String>> {
    if let Some(on) = monitor.on
        && !eval.eval_function(on, &[event], &[])?.to_bool()
    {
        return Ok(None);
    }
    let (state, update, check) = match &monitor.claim {
        Claim::Callback(callback) => {
            eval.eval_function(*callback, &[event], &[])?;
            return Ok(None);
        }
        Claim::State { state, update, check } => (state, update, check),
    };
    if let Some(update) = update {
        let new = eval.eval_function(*update, &[event, state.get()], &[])?;
        if !new.is_none() {
            state.set(new);
        }
    }
    let Some(check) = check else { return Ok(None) };
    let verdict = eval.eval_function(*check, &[event, state.get()], &[])?;
    Ok((!verdict.to_bool()).then(|| format!("check returned {}", verdict.to_repr())))
}

/// Ends the test with this failure.
pub(super) fn note(context: &Context<'_>, failure: TestFailure) -> starlark::Error {
    let raised = Raised::new(failure.kind, &*failure.reason);
    context.note_violation(failure);
    raised.into()
}
