//! What the keywords of `fault()` mean (language.md 1.9.3).

use faultbox_common::Operand;

use crate::{
    engine::{FAMILIES, PathGlob, Syscall, expand_keyword},
    spec::{
        Service,
        failure::Raised,
        suggest::{did_you_mean, quoted},
    },
};

/// Calls on sockets and on nothing else.
const SOCKETS_ONLY: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
];

/// Calls on sockets that have a peer.
const CONNECTIONS: &[&str] = &[
    "connect",
    "getpeername",
    "getsockopt",
    "preadv2",
    "pwritev2",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "splice",
    "write",
    "writev",
];

/// Calls whose result 0 means the end of what is read. Not `recvmmsg`, which counts messages.
const READS: &[&str] = &["read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"];

/// Calls that move data, and so never fail on a file with an error of the network.
const TRANSFERS: &[&str] = &[
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
    "pwritev2",
];

/// Calls that Linux has and no rule can name, because no program survives that they fail, or
/// because they are part of how signals return.
const UNFAULTABLE: &[&str] =
    &["exit", "exit_group", "restart_syscall", "rt_sigreturn", "sigreturn"];

/// What a keyword covers on a service.
pub(super) struct Covered {
    pub(super) syscalls: Vec<Syscall>,
    pub(super) path: Option<PathGlob>,
    pub(super) is_op: bool,
}

impl Covered {
    pub(super) fn covers(&self, name: &str) -> bool {
        self.syscalls.iter().any(|it| it.name() == name)
    }

    /// Whether any of the calls can work on a connection.
    pub(super) fn has_connections(&self) -> bool {
        self.syscalls.iter().any(|it| CONNECTIONS.contains(&it.name()))
    }

    /// Whether any of the calls moves data.
    pub(super) fn has_transfers(&self) -> bool {
        self.syscalls.iter().any(|it| TRANSFERS.contains(&it.name()))
    }

    /// The first of the calls that does not read.
    pub(super) fn not_a_read(&self) -> Option<Syscall> {
        self.syscalls.iter().copied().find(|it| !READS.contains(&it.name()))
    }
}

/// Whether a call can work on a file, and so have a path.
pub(super) fn can_have_path(syscall: Syscall) -> bool {
    match syscall.operand().0 {
        Operand::Path | Operand::PathAt => true,
        Operand::Fd => !SOCKETS_ONLY.contains(&syscall.name()),
        Operand::None | Operand::Address => false,
    }
}

/// Every keyword there is beside the ops of services.
pub(super) fn known_keywords() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name).chain(Syscall::all().map(Syscall::name))
}

/// The meaning of a keyword: an op of the service, else a family, else a call.
/// `own` are the other keywords of the call, which may be meant by an unknown one.
pub(super) fn resolve(
    who: &str,
    service: &Service,
    keyword: &str,
    own: &[&str],
) -> Result<Covered, Raised> {
    if let Some((_, op)) = service.ops.iter().find(|(name, _)| name == keyword) {
        let (syscalls, path) = (op.syscalls.clone(), op.path.clone());
        return Ok(Covered { syscalls, path, is_op: true });
    }
    if let Some(syscalls) = expand_keyword(keyword).filter(|it| !it.is_empty()) {
        return Ok(Covered { syscalls, path: None, is_op: false });
    }
    if UNFAULTABLE.contains(&keyword) {
        return Err(Raised::error(format!(
            "{who}: {keyword} cannot be faulted, since no program survives that; to end a service \
             at a call use crash(), as in write=crash()"
        )));
    }
    Err(unknown(who, service, keyword, own))
}

fn unknown(who: &str, service: &Service, keyword: &str, own: &[&str]) -> Raised {
    let ops: Vec<&str> = service.ops.iter().map(|(name, _)| &**name).collect();
    let mut candidates = ops.clone();
    candidates.extend(own);
    known_keywords().for_each(|name| candidates.push(name));
    let mut hint = did_you_mean(keyword, candidates.into_iter());
    if hint.is_empty() {
        let families: Vec<_> = FAMILIES.iter().map(|(name, _)| *name).collect();
        hint = format!("; use {}, a single system call, or an op", families.join(", "));
    }
    let name = &service.name;
    let ops = match &*ops {
        [] => String::new(),
        _ => format!(" (ops on {name}: {})", ops.join(", ")),
    };
    let keyword = quoted(keyword);
    Raised::error(format!("{who}: unknown keyword {keyword} for service {name:?}{hint}{ops}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_lists_are_calls_of_the_table_or_known_to_be_none() {
        for name in [SOCKETS_ONLY, CONNECTIONS, READS, TRANSFERS].concat() {
            assert!(Syscall::from_name(name).is_some(), "{name}");
        }
        for name in UNFAULTABLE {
            assert_eq!(Syscall::from_name(name), None);
        }
    }
}
