//! What the keywords of `fault()` mean (language.md 1.9.3).

use crate::{
    engine::{FAMILIES, Syscall, expand_keyword},
    spec::{
        Service,
        failure::Raised,
        suggest::{did_you_mean, quoted},
    },
};

/// What a keyword covers on a service.
pub(super) struct Covered {
    pub(super) syscalls: Vec<Syscall>,
    pub(super) is_op: bool,
}

/// Every keyword there is beside the ops of services.
pub(super) fn known_keywords() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name).chain(Syscall::all().map(Syscall::name))
}

/// The meaning of a keyword: an op of the service, else a family, else a call.
pub(super) fn resolve(who: &str, service: &Service, keyword: &str) -> Result<Covered, Raised> {
    if let Some((_, op)) = service.ops.iter().find(|(name, _)| name == keyword) {
        return Ok(Covered { syscalls: op.syscalls.clone(), is_op: true });
    }
    if let Some(syscalls) = expand_keyword(keyword).filter(|it| !it.is_empty()) {
        return Ok(Covered { syscalls, is_op: false });
    }
    let ops: Vec<&str> = service.ops.iter().map(|(name, _)| &**name).collect();
    let mut candidates = ops.clone();
    candidates.extend(["run", "include_driver"]);
    known_keywords().for_each(|name| candidates.push(name));
    let near = did_you_mean(keyword, candidates.into_iter());
    let name = &service.name;
    let ops = match &*ops {
        [] => String::new(),
        _ => format!(" (ops on {name}: {})", ops.join(", ")),
    };
    let keyword = quoted(keyword);
    Err(Raised::error(format!("{who}: unknown keyword {keyword} for service {name:?}{near}{ops}")))
}
