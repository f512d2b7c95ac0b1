//! Why threads cannot be made to wait.

use std::{io, path::PathBuf};

/// Why no delay can be armed. Nothing is changed then, but for threads that may stay traced
/// until the other delays end.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ParkingError {
    /// `fork(2)` and what follows it.
    #[error("cannot start the process that holds delayed threads: {0}")]
    Start(io::Error),
    /// It neither answers nor ends.
    #[error("the process that holds delayed threads does not answer: {0}")]
    Silent(io::Error),
    /// A directory without `cgroup.procs`, most likely.
    #[error("cannot list the processes of cgroup {}: {error}", path.display())]
    Cgroup { path: PathBuf, error: io::Error },
    /// The eBPF programs tell threads by ids of the initial namespace.
    #[error(
        "delay() needs the initial pid namespace, and this is another: \
         run faultbox on the host (docker run --pid=host), or use --engine seccomp"
    )]
    Namespace,
    /// Processes that cannot be traced; never empty. See [`Refusal::describe`].
    #[error("{}", .0.iter().map(|it| it.describe(None)).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
}

/// A process that cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Refusal {
    /// Its process id.
    pub(in crate::engine) pid: u32,
    /// Its name, from `/proc/PID/comm`.
    pub(in crate::engine) comm: String,
    /// The process that traces it, and that one's name; `None`: the kernel forbids it.
    pub(in crate::engine) tracer: Option<(u32, String)>,
}

impl Refusal {
    /// What is wrong and what to do, as one sentence; `service` is the name in the spec.
    pub(in crate::engine) fn describe(&self, service: Option<&str>) -> String {
        let Self { pid, comm, tracer } = self;
        let of = service.map(|name| format!(" of {name}")).unwrap_or_default();
        match tracer {
            Some((tracer, name)) => format!(
                "process {pid} ({comm}){of} is already traced by process {tracer} ({name}); \
                 delay() has to stop its threads by ptrace: end that tracer first, \
                 or use --engine seccomp"
            ),
            None => format!(
                "the kernel does not let process {pid} ({comm}){of} be traced; \
                 delay() has to stop its threads by ptrace: run as root with CAP_SYS_PTRACE, \
                 or use --engine seccomp"
            ),
        }
    }
}
