//! What is to become of a trapped call: asks the rule table, counts and records.

use std::{cell::Cell, io, sync::Arc, time::Duration};

use faultbox_common::{
    ACTION_CRASH, ACTION_DENY, ACTION_RETURN, Driver, NO_RULE, Object, Outcome, RuleKey,
};
use nix::sys::signal::Signal;

use super::{
    caller::Callers,
    notification::{Answer, Listener, Notification},
    operand::{self, Seen, View},
};
use crate::engine::{
    Decision, Errno, Record, RecordSink, RuleId, Syscall, TargetId, TraceLevel, tables::Tables,
};

/// One process tree, whose calls arrive at one listener.
pub(super) struct Watch {
    pub(super) listener: Listener,
    /// Whether one of its processes may have changed its root directory.
    pub(super) has_own_root: Cell<bool>,
    /// Whose calls; `None`: nobody's any more, and all of them run.
    pub(super) subject: Option<Subject>,
}

pub(super) struct Subject {
    pub(super) target: u32,
    pub(super) driver: Driver,
    pub(super) sink: Arc<dyn RecordSink>,
}

pub(super) struct Judge {
    pub(super) tables: Arc<Tables>,
    /// Which calls are counted and recorded.
    pub(super) level: TraceLevel,
}

/// What to tell a call, and how long after it was received, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judgement {
    pub(super) delay: u64,
    pub(super) answer: Answer,
}

impl Judgement {
    /// It runs, at once.
    pub(super) const RUN: Self = Self { delay: 0, answer: Answer::Continue };
}

impl Judge {
    /// Decides about a call, counts and records it. `None`: nobody waits any more.
    pub(super) fn judge(
        &self,
        watch: &Watch,
        call: &Notification,
        callers: &mut Callers,
    ) -> io::Result<Option<Judgement>> {
        let (Some(subject), Some(syscall)) = (&watch.subject, Syscall::from_number(call.syscall))
        else {
            return Ok(Some(Judgement::RUN));
        };
        let key = RuleKey { target: subject.target, syscall: call.syscall };
        let count = || self.tables.count(subject.target, call.syscall);
        let wanted = match self.level {
            TraceLevel::Off => false,
            TraceLevel::Default => syscall.is_observed(),
            TraceLevel::All => true,
        };
        if !wanted && !self.tables.has_rules(key) {
            if self.level != TraceLevel::Off {
                count();
            }
            return Ok(Some(Judgement::RUN));
        }

        let Some((seen, process)) = look(watch, subject, syscall, call, callers)? else {
            return Ok(None);
        };
        let outcome = self.tables.decide(key, &seen.call, seen.path());
        if self.level == TraceLevel::Off && outcome.runs() && outcome.delay == 0 {
            return Ok(Some(Judgement::RUN));
        }
        count();
        let decision = decision(&seen, outcome);
        if seen.call.object != Object::Ineligible {
            subject.sink.record(Record {
                time: call.time,
                target: TargetId(subject.target),
                pid: process,
                tid: call.tid,
                syscall,
                decision,
                delay: Duration::from_nanos(outcome.delay),
                rule: (outcome.rule != NO_RULE).then_some(RuleId(outcome.rule)),
                object: seen.shown,
                size: call.arguments[2],
            });
        }
        let answer = match decision {
            Decision::Deny(errno) => Answer::Fail(errno.raw()),
            Decision::Return(value) => Answer::Return(value),
            Decision::Crash(signal) => Answer::Crash(process, signal as i32),
            _ => Answer::Continue,
        };
        Ok(Some(Judgement { delay: outcome.delay, answer }))
    }
}

/// What became of the call, in one word: as in `faultbox-ebpf/src/report.rs`.
fn decision(seen: &Seen, outcome: Outcome) -> Decision {
    if !outcome.runs() {
        ending(outcome)
    } else if outcome.delay != 0 {
        Decision::Delay(Duration::from_nanos(outcome.delay))
    } else if outcome.rule == NO_RULE && seen.is_system() {
        Decision::AllowSystemPath
    } else if seen.call.peer.driver != 0 && outcome.rule == NO_RULE {
        Decision::AllowDriver
    } else {
        Decision::Allow
    }
}

/// What a rule does to a call instead of running it.
fn ending(outcome: Outcome) -> Decision {
    const DENY: u32 = ACTION_DENY as u32;
    const RETURN: u32 = ACTION_RETURN as u32;
    const CRASH: u32 = ACTION_CRASH as u32;
    let known = match outcome.action {
        DENY => Errno::from_raw(outcome.value.unsigned_abs() as u16).map(Decision::Deny),
        RETURN => Some(Decision::Return(outcome.value)),
        CRASH => Signal::try_from(outcome.value as i32).ok().map(Decision::Crash),
        _ => None,
    };
    known.expect("rules are made from actions, errors and signals that have names")
}

/// Looks at a call's operand, and returns it with the process's id. `None`: nobody waits any
/// more. Not being able to look at one who waits is an error: the call can neither be denied nor
/// spared in good faith.
fn look(
    watch: &Watch,
    subject: &Subject,
    syscall: Syscall,
    notification: &Notification,
    callers: &mut Callers,
) -> io::Result<Option<(Seen, u32)>> {
    let tid = notification.tid;
    let attempt = |callers: &mut Callers| {
        let caller = callers.get(tid)?;
        let has_own_root = watch.has_own_root.get();
        let view = View { caller, has_own_root, driver: &subject.driver };
        let seen = operand::look(view, syscall, notification)?;
        io::Result::Ok((seen, caller.process()))
    };
    // A remembered thread may have ended and another one got its id.
    let seen = attempt(callers).or_else(|_| {
        callers.forget(tid);
        attempt(callers)
    });
    // Only now is it certain that it was the caller we looked at.
    if !watch.listener.is_waiting(notification.id)? {
        callers.forget(tid);
        return Ok(None);
    }
    seen.map(Some).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot look at {syscall} of thread {tid}, which waits: {error}"),
        )
    })
}
