//! Why a test failed, and how such reasons travel through the evaluator.

use starlark::{ErrorKind, values::ValueError};

use super::{HostError, Location, context::Context, file};

/// What kind of failure it was; known from where it was raised, never from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// `assert_eq` or `assert_true`.
    Assertion,
    /// `fail()`.
    Fail,
    /// A mistake in the spec, or a step or fault that could not be done.
    Error,
    /// A monitor objected to an event.
    Monitor,
    /// `Host::is_cancelled` said to end the test.
    Timeout,
}

/// Why a test did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TestFailure {
    /// As a user reads it.
    pub reason: String,
    /// What kind it is.
    pub kind: FailureKind,
    /// The innermost call of the spec that was running, when known.
    pub location: Option<Location>,
}

/// A failure on its way up: what builtins return and the evaluator carries.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Raised {
    kind: FailureKind,
    text: String,
}

impl Raised {
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// A mistake in the spec.
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Error, text)
    }

    /// The test is to end now.
    pub(super) fn cancelled() -> Self {
        Self::new(FailureKind::Timeout, "timed out")
    }
}

impl From<HostError> for Raised {
    fn from(error: HostError) -> Self {
        Self::error(error.0)
    }
}

impl From<Raised> for starlark::Error {
    fn from(raised: Raised) -> Self {
        Self::new_native(raised)
    }
}

impl TestFailure {
    /// What an error of the evaluator means to the user.
    pub(super) fn of(error: &starlark::Error, context: &Context<'_>) -> Self {
        if let Some(violation) = context.violation() {
            // Whatever else failed did so because of it, or later.
            return violation;
        }
        if let Some(failure) = context.failure() {
            return failure;
        }
        if let ErrorKind::Native(inner) = error.kind()
            && let Some(settled) = inner.downcast_ref::<Self>()
        {
            return settled.clone();
        }
        let span = error.span().cloned().or_else(|| {
            let frames = &error.call_stack().frames;
            frames.iter().rev().find_map(|frame| frame.location.clone())
        });
        let location = span.as_ref().map(file::location);
        let (kind, reason) = meaning(error, context);
        // Once the test is to end, whatever fails does so because of that.
        if context.is_cancelled() {
            return Self { reason: "timed out".to_owned(), kind: FailureKind::Timeout, location };
        }
        Self { reason, kind, location }
    }

    /// Why something has failed that just did, as an error whose meaning does not change any more:
    /// not when the test's time is over later.
    pub(super) fn settle(error: &starlark::Error, context: &Context<'_>) -> starlark::Error {
        starlark::Error::new_native(Self::of(error, context))
    }
}

fn meaning(error: &starlark::Error, context: &Context<'_>) -> (FailureKind, String) {
    let missed = context.misses().take();
    match error.kind() {
        ErrorKind::Native(inner) | ErrorKind::Other(inner) => {
            if let Some(raised) = inner.downcast_ref::<Raised>() {
                return (raised.kind, raised.text.clone());
            }
        }
        ErrorKind::StackOverflow(_) => {
            let limit = super::loaded::DEEPEST_CALLS;
            let text =
                format!("more than {limit} calls inside each other; is the recursion endless?");
            return (FailureKind::Error, text);
        }
        ErrorKind::Value(inner) => {
            if let Some(
                ValueError::NoAttr(_, attribute) | ValueError::NoAttrDidYouMean(_, attribute, _),
            ) = inner.downcast_ref()
                && let Some(missed) = missed
                && missed.attribute == *attribute
            {
                return (FailureKind::Error, missed.text);
            }
        }
        _ => {}
    }
    let text = error.kind().to_string();
    // The evaluator's own limits, in the words of the others.
    if text.starts_with("Heap memory limit") {
        let limit = super::loaded::LARGEST_HEAP >> 20;
        return (FailureKind::Error, format!("the spec's values take more than {limit} MiB"));
    }
    (FailureKind::Error, text)
}
