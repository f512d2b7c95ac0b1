//! Which events are meant: texts with `*`, each for one field (language.md 1.13, 2.1).

use std::fmt;

use starlark::values::{Value, ValueLike};

use super::{
    Service,
    arguments::Call,
    failure::Raised,
    suggest::{did_you_mean, quoted},
    values::ServiceValue,
};
use crate::{
    engine::Syscall,
    trace::{EVENT_TYPES, Event, EventKind, decision_by_name},
};

/// All of these must match. None match everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters(Vec<(String, Pattern)>);

/// A text in which `*` stands for any run of characters.
#[derive(Clone, Debug)]
struct Pattern(String);

impl Filters {
    /// From keyword arguments, or from a dict.
    pub(super) fn new<'v>(
        call: &Call<'v>,
        entries: Vec<(&'v str, Value<'v>)>,
    ) -> Result<Self, Raised> {
        let mut filters = Vec::new();
        for (key, value) in entries {
            let text = match value.downcast_ref::<ServiceValue>() {
                Some(it) if key == "service" => it.service.name.clone(),
                _ => call.as_string(&format!("{key}="), value)?.to_owned(),
            };
            let known = match key {
                "type" => near(&text, "event type", EVENT_TYPES),
                "syscall" => {
                    let names: Vec<_> = Syscall::all().map(Syscall::name).collect();
                    near(&text, "system call", &names)
                }
                _ => None,
            };
            if let Some(why) = known.filter(|_| !text.contains('*')) {
                return Err(call.wrong(why));
            }
            filters.push((key.to_owned(), Pattern(text)));
        }
        Ok(Self(filters))
    }

    /// Refuses the name of a service that there is not: nothing could ever match.
    pub(super) fn check_services(&self, who: &str, services: &[Service]) -> Result<(), Raised> {
        let Some(Pattern(name)) = self.get("service") else { return Ok(()) };
        let mut names = services.iter().map(|it| &*it.name);
        if name.contains('*') || name.is_empty() || names.any(|it| it == name) {
            return Ok(());
        }
        let hint = did_you_mean(name, services.iter().map(|it| &*it.name));
        Err(Raised::error(format!("{who}: service {} is not declared{hint}", quoted(name))))
    }

    /// Whether an event is meant.
    pub(super) fn matches(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, pattern)| match &**key {
            "service" => pattern.matches(&event.service),
            "type" => pattern.matches(event.type_name()),
            "event_type" => pattern.matches(&event.event_type()),
            "syscall" => match &event.kind {
                EventKind::Syscall { syscall, .. } => pattern.matches(syscall.name()),
                _ => false,
            },
            "decision" => match &event.kind {
                EventKind::Syscall { decision, .. } => {
                    event.field("decision").is_some_and(|it| pattern.matches(&it))
                        || decision_by_name(*decision).is_some_and(|it| pattern.matches(&it))
                }
                _ => false,
            },
            key => event.field(key).is_some_and(|it| pattern.matches(&it)),
        })
    }

    /// Whether events of a service could be meant.
    pub(super) fn admits_service(&self, name: &str) -> bool {
        self.get("service").is_none_or(|it| it.matches(name))
    }

    /// Whether system calls of that name could be meant.
    pub(super) fn admits_syscall(&self, name: &str) -> bool {
        self.get("type").is_none_or(|it| it.matches("syscall"))
            && self.get("syscall").is_none_or(|it| it.matches(name))
    }

    /// The one call that is meant, if it is named without a `*`.
    pub(super) fn syscall(&self) -> Option<Syscall> {
        Syscall::from_name(&self.get("syscall")?.0)
    }

    fn get(&self, key: &str) -> Option<&Pattern> {
        self.0.iter().find(|(it, _)| it == key).map(|(_, pattern)| pattern)
    }
}

/// As keyword arguments: `service="db", syscall="read"`.
impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, Pattern(text))) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{key}={text:?}")?;
        }
        Ok(())
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut last = None;
        for part in parts {
            if let Some(before) = last.replace(part) {
                // The leftmost place leaves most for what follows.
                let Some(at) = rest.find(before) else { return false };
                rest = &rest[at + before.len()..];
            }
        }
        last.map_or(rest.is_empty(), |last| rest.ends_with(last))
    }
}

/// Why a name is none of those that there are.
fn near(name: &str, what: &str, names: &[&str]) -> Option<String> {
    let hint = || did_you_mean(name, names.iter().copied());
    (!names.contains(&name)).then(|| format!("unknown {what} {}{}", quoted(name), hint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        let matches = |pattern: &str, text| Pattern(pattern.to_owned()).matches(text);
        for (pattern, text) in [
            ("", ""),
            ("a", "a"),
            ("*", ""),
            ("*", "a/b"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*a", "aa"),
            ("a*b*c", "aXbYbZc"),
            ("**b", "ab"),
            ("deny*", "deny(EIO)"),
            ("*é*", "café!"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("*a", "ab"),
            ("ab*bc", "abc"),
            ("*b*b", "b"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
