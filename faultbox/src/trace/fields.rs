//! Events as specs and reports name them: a type, and fields that are texts (language.md 1.12).

use std::borrow::Cow;

use super::{Channel, Event, EventKind};
use crate::{engine::Decision, protocol::go_duration, spec::signal_name};

/// Every type that an event can have.
pub const EVENT_TYPES: &[&str] = &[
    "syscall",
    "service_started",
    "service_ready",
    "service_exited",
    "fault_applied",
    "fault_removed",
    "partition_applied",
    "partition_removed",
    "step_send",
    "step_recv",
    "violation",
];

const SYSCALL_FIELDS: &[&str] = &[
    "syscall",
    "pid",
    "tid",
    "decision",
    "path",
    "dest",
    "dest_service",
    "latency_ms",
    "label",
    "op",
    "target",
];

const PARTITION_FIELDS: &[&str] = &["peer", "mode", "direction", "hits"];

const STEP_FIELDS: &[&str] = &["interface", "method", "path", "status"];

/// The field `decision`: `allow`, `deny(input/output error)`, `delay(500ms)`.
pub(crate) fn decision_text(decision: Decision) -> String {
    match decision {
        Decision::Allow => "allow".to_owned(),
        Decision::AllowSystemPath => "allow (system path)".to_owned(),
        Decision::AllowDriver => "allow (driver)".to_owned(),
        Decision::Traced => "trace".to_owned(),
        Decision::Deny(errno) => format!("deny({})", errno.description()),
        Decision::Delay(time) => format!("delay({})", go_duration(time)),
        Decision::Return(value) => format!("returns({value})"),
        Decision::Crash(signal) => format!("crash({})", signal_name(signal)),
    }
}

/// The other spelling of a decision that has two: `deny(EIO)`.
pub fn decision_by_name(decision: Decision) -> Option<String> {
    match decision {
        Decision::Deny(errno) => Some(format!("deny({})", errno.name())),
        _ => None,
    }
}

impl Event {
    /// The type, one of [`EVENT_TYPES`].
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            EventKind::Syscall { .. } => "syscall",
            EventKind::ServiceStarted { .. } => "service_started",
            EventKind::ServiceReady => "service_ready",
            EventKind::ServiceExited { .. } => "service_exited",
            EventKind::FaultApplied { .. } => "fault_applied",
            EventKind::FaultRemoved { .. } => "fault_removed",
            EventKind::PartitionApplied { .. } => "partition_applied",
            EventKind::PartitionRemoved { .. } => "partition_removed",
            EventKind::StepSend { .. } => "step_send",
            EventKind::StepReceive { .. } => "step_recv",
            EventKind::Violation { .. } => "violation",
        }
    }

    /// The type and what it is about: `syscall.write`, `lifecycle.ready`, `step_send.api`.
    pub fn event_type(&self) -> Cow<'static, str> {
        match &self.kind {
            EventKind::Syscall { syscall, .. } => format!("syscall.{syscall}").into(),
            EventKind::ServiceStarted { .. } => "lifecycle.started".into(),
            EventKind::ServiceReady => "lifecycle.ready".into(),
            EventKind::ServiceExited { .. } => "lifecycle.exited".into(),
            EventKind::StepSend { .. } | EventKind::StepReceive { .. } => {
                format!("{}.{}", self.type_name(), self.service).into()
            }
            _ => self.type_name().into(),
        }
    }

    /// All fields that it has, in the order of language.md 1.12.
    pub fn fields(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut fields: Vec<(&'static str, Cow<'_, str>)> = Vec::new();
        let mut add = |name, value: Option<Cow<'_, str>>| {
            if let Some(value) = value {
                fields.push((name, Cow::Owned(value.into_owned())));
            }
        };
        match &self.kind {
            EventKind::Syscall { .. } => {
                for name in SYSCALL_FIELDS {
                    add(name, self.field(name));
                }
            }
            EventKind::ServiceStarted { .. } => add("pid", self.field("pid")),
            EventKind::ServiceReady => {}
            EventKind::ServiceExited { .. } => {
                add("exit_code", self.field("exit_code"));
                add("signal", self.field("signal"));
            }
            EventKind::FaultApplied { .. } | EventKind::FaultRemoved { .. } => {
                add("rules", self.field("rules"));
            }
            EventKind::PartitionApplied { .. } | EventKind::PartitionRemoved { .. } => {
                for name in PARTITION_FIELDS {
                    add(name, self.field(name));
                }
            }
            EventKind::StepSend { .. } | EventKind::StepReceive { .. } => {
                for name in STEP_FIELDS {
                    add(name, self.field(name));
                }
            }
            EventKind::Violation { .. } => {
                add("message", self.field("message"));
                add("event", self.field("event"));
            }
        }
        fields
    }

    /// One field; `None` when this event does not have it.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match &self.kind {
            EventKind::Syscall { .. } => self.syscall_field(name),
            EventKind::ServiceStarted { pid } => match name {
                "pid" => Some(pid.to_string().into()),
                _ => None,
            },
            EventKind::ServiceReady => None,
            EventKind::ServiceExited { how } => match name {
                "exit_code" => how.strip_prefix("exit code ").map(Cow::Borrowed),
                "signal" => how.strip_prefix("signal ").map(Cow::Borrowed),
                _ => None,
            },
            EventKind::FaultApplied { keywords, .. } | EventKind::FaultRemoved { keywords, .. } => {
                (name == "rules").then(|| keywords.join(",").into())
            }
            EventKind::PartitionApplied { peer, mode, direction, .. } => match name {
                "peer" => Some(Cow::Borrowed(peer)),
                "mode" => Some(mode.name().into()),
                "direction" => Some(direction.name().into()),
                _ => None,
            },
            EventKind::PartitionRemoved { peer, hits, .. } => match name {
                "peer" => Some(Cow::Borrowed(peer)),
                "hits" => Some(hits.to_string().into()),
                _ => None,
            },
            EventKind::StepSend { step } => step_field(step, "path", name),
            EventKind::StepReceive { step } => step_field(step, "status", name),
            EventKind::Violation { message, event } => match name {
                "message" => Some(Cow::Borrowed(message)),
                "event" => Some(event.to_string().into()),
                _ => None,
            },
        }
    }

    fn syscall_field(&self, name: &str) -> Option<Cow<'_, str>> {
        let EventKind::Syscall {
            syscall,
            pid,
            tid,
            decision,
            op,
            label,
            path,
            channel,
            peer,
            peer_interface,
            rule_target,
            latency,
            ..
        } = &self.kind
        else {
            return None;
        };
        match name {
            "syscall" => Some(syscall.name().into()),
            "pid" => Some(pid.to_string().into()),
            "tid" => Some(tid.to_string().into()),
            "decision" => Some(decision_text(*decision).into()),
            "path" => path.as_deref().or(channel.map(Channel::name)).map(Cow::Borrowed),
            "dest" if syscall.name() == "connect" => peer.map(|it| it.to_string().into()),
            "dest_service" if syscall.name() == "connect" => {
                peer_interface.as_deref().map(Cow::Borrowed)
            }
            "latency_ms" => (!latency.is_zero()).then(|| latency.as_millis().to_string().into()),
            "label" => label.as_deref().map(Cow::Borrowed),
            "op" => op.as_deref().map(Cow::Borrowed),
            "target" => rule_target.as_deref().map(Cow::Borrowed),
            _ => None,
        }
    }
}

/// A field of a step that is logged as `INTERFACE.METHOD REST`; what the rest is called depends on
/// its direction.
fn step_field<'e>(step: &'e str, rest: &str, name: &str) -> Option<Cow<'e, str>> {
    let (target, tail) = step.split_once(' ').map_or((step, None), |(it, tail)| (it, Some(tail)));
    let (interface, method) = target.split_once('.')?;
    let value = match name {
        "interface" => Some(interface),
        "method" => Some(method),
        _ if name == rest => tail,
        _ => None,
    };
    value.map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { seq: 1, time: 1, service: "api".to_owned(), kind }
    }

    fn fields(kind: EventKind) -> String {
        let event = event(kind);
        let fields: Vec<_> = event.fields().iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{} {} {}", event.type_name(), event.event_type(), fields.join(" "))
    }

    #[test]
    fn everything_but_calls_has_a_type_and_fields_as_well() {
        let step = |text: &str| text.to_owned();
        let keywords = vec!["read".to_owned(), "write".to_owned()];
        for (kind, text) in [
            (EventKind::ServiceStarted { pid: 7 }, "service_started lifecycle.started pid=7"),
            (EventKind::ServiceReady, "service_ready lifecycle.ready "),
            (
                EventKind::ServiceExited { how: "exit code 3".to_owned() },
                "service_exited lifecycle.exited exit_code=3",
            ),
            (
                EventKind::ServiceExited { how: "signal SIGSEGV".to_owned() },
                "service_exited lifecycle.exited signal=SIGSEGV",
            ),
            (
                EventKind::FaultApplied { window: 0, keywords },
                "fault_applied fault_applied rules=read,write",
            ),
            (
                EventKind::StepSend { step: step("public.get /a b") },
                "step_send step_send.api interface=public method=get path=/a b",
            ),
            (
                EventKind::StepReceive { step: step("public.get 200") },
                "step_recv step_recv.api interface=public method=get status=200",
            ),
            (
                EventKind::StepReceive { step: step("main.send") },
                "step_recv step_recv.api interface=main method=send",
            ),
            (
                EventKind::Violation { message: "no".to_owned(), event: 9 },
                "violation violation message=no event=9",
            ),
        ] {
            assert_eq!(fields(kind.clone()), text);
            assert!(EVENT_TYPES.contains(&event(kind).type_name()));
        }
    }
}
