//! What a spec declares, as plain data.

use std::{fmt, num::NonZeroU64, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use crate::engine::{Errno, PathGlob, Probability, Syscall};

/// A place in a spec: printed as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as the user named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What an interface speaks, and so which steps it offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `send(data=)`: one line out, one line in.
    Tcp,
    /// `get`, `post`, `put`, `delete`, `patch`.
    Http,
    /// `get`, `set` and other commands of Redis.
    Redis,
    /// `query` and `exec`: SQL.
    Postgres,
}

impl Protocol {
    /// All protocols, by the name they have in specs.
    pub const ALL: &[(&str, Self)] = &[
        ("tcp", Self::Tcp),
        ("http", Self::Http),
        ("redis", Self::Redis),
        ("postgres", Self::Postgres),
    ];

    /// The name in specs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    /// The steps that an interface of this protocol offers.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["send"],
            Self::Http => &["get", "post", "put", "delete", "patch"],
            Self::Redis => &[
                "get", "set", "delete", "keys", "ping", "incr", "lpush", "rpush", "lrange",
                "command",
            ],
            Self::Postgres => &["query", "exec"],
        }
    }
}

/// A way into a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Unique within the service.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it listens.
    pub port: u16,
}

/// When a service counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// When a connection to `host:port` is accepted.
    Tcp {
        /// `host:port`, as written.
        address: String,
        /// How long to try.
        timeout: Duration,
    },
    /// When a GET is answered with a status from 200 to 399.
    Http {
        /// As written; `http://` is added when the scheme is missing.
        url: String,
        /// How long to try.
        timeout: Duration,
    },
    /// `ready()`: when the service says so itself, in the protocol of one of its interfaces and
    /// with the credentials of its environment.
    Ready {
        /// How it is asked.
        protocol: Protocol,
        /// Where.
        port: u16,
        /// How long to try.
        timeout: Duration,
    },
}

/// What a service is started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A program, relative to the directory faultbox runs in.
    Binary(String),
    /// A container of this image, such as `redis:7`.
    Image(String),
    /// A container of an image that is built from this directory.
    Build(PathBuf),
    /// A container that runs already, by name or id, or as `project/service` of Compose. It is
    /// never started, stopped or changed.
    Container(String),
}

impl Source {
    /// Whether the service is a container, whoever starts it.
    pub fn is_container(&self) -> bool {
        !matches!(self, Self::Binary(_))
    }

    /// Whether the service runs before the test begins, and goes on after it.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Container(_))
    }
}

/// A directory or file of this machine that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Relative to the directory faultbox runs in, or absolute.
    pub host: PathBuf,
    /// Where the container sees it: absolute.
    pub container: String,
    /// Whether the container can only read it.
    pub is_read_only: bool,
}

/// What only containers have that faultbox starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerOptions {
    /// In the order written.
    pub volumes: Vec<Volume>,
    /// Ports of the container, each with the port of this machine that leads to it; 0: any.
    pub ports: Vec<(u16, u16)>,
    /// Whether it is kept for the tests that follow.
    pub reuse: bool,
}

/// A function of the spec that is about a service's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `seed=`: when it is ready for the first time.
    Seed,
    /// `reset=`, or `seed=` where there is none: before each later test.
    Reset,
}

/// A named group of calls: `op(syscalls=[…], path=…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Families expanded, in the order written, each call once.
    pub syscalls: Vec<Syscall>,
    /// Only calls on files whose path matches; `None`: on anything eligible.
    pub path: Option<PathGlob>,
}

/// A declared service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique in the spec.
    pub name: String,
    /// What is started.
    pub source: Source,
    /// At least one, names unique.
    pub interfaces: Vec<Interface>,
    /// Arguments after the program.
    pub args: Vec<String>,
    /// Variables added to the environment, in the order written.
    pub env: Vec<(String, String)>,
    /// Names of declared services, known to be acyclic.
    pub depends_on: Vec<String>,
    /// What only containers have.
    pub container: ContainerOptions,
    /// Whether it has `seed=`.
    pub has_seed: bool,
    /// Whether it has `reset=`.
    pub has_reset: bool,
    /// `None`: ready as soon as it is started.
    pub healthcheck: Option<Healthcheck>,
    /// Named operations, in the order written.
    pub ops: Vec<(String, Op)>,
    /// Where it is declared.
    pub location: Location,
}

/// Whose connects a `connect` rule means (language.md, D1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that the target makes.
    Out,
    /// Those that other services make to the target's interfaces.
    In,
    /// Both.
    Both,
}

/// What a rule does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// `deny(…)`: fail with this error.
    Deny(Errno),
    /// `delay(…)`: wait, then run.
    Delay(Duration),
    /// `returns(…)`: skip the call and report this value, which is not negative.
    Return(i64),
    /// `crash(…)`: the process gets this signal, and the call does not run.
    Crash(Signal),
    /// `allow()`: let run, and say so.
    Allow,
    /// Of `trace()`: let run and record, where that would not be done anyway.
    Trace,
}

impl FaultAction {
    /// Whether it does anything to a call. That `allow()` fired cannot be expected.
    pub fn breaks(self) -> bool {
        !matches!(self, Self::Allow | Self::Trace)
    }

    /// What it is called in specs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny(_) => "deny",
            Self::Delay(_) => "delay",
            Self::Return(_) => "returns",
            Self::Crash(_) => "crash",
            Self::Allow => "allow",
            Self::Trace => "trace",
        }
    }
}

/// What a rule may be told besides its effect: which of the matching calls it is for, and how its
/// hits are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOptions {
    /// How likely.
    pub probability: Probability,
    /// Shown beside every hit.
    pub label: Option<String>,
    /// `None`: by the rule of D1.
    pub direction: Option<Direction>,
    /// Only on connections that the target opens, or has opened, to the interfaces of the service
    /// of this name.
    pub to: Option<String>,
    /// Only at this match, counted from 1.
    pub nth: Option<NonZeroU64>,
    /// Only after this many matches.
    pub after: u64,
    /// At most this often.
    pub max_hits: Option<NonZeroU64>,
}

impl RuleOptions {
    /// Whether hits depend on how many matches or hits there were before.
    pub fn counts(&self) -> bool {
        self.nth.is_some() || self.after > 0 || self.max_hits.is_some()
    }
}

/// Every match, whatever its peer.
impl Default for RuleOptions {
    fn default() -> Self {
        Self {
            probability: Probability::ALWAYS,
            label: None,
            direction: None,
            to: None,
            nth: None,
            after: 0,
            max_hits: None,
        }
    }
}

/// One `keyword=action` of a `fault()` call, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// As written: the name of an op, a family or a call.
    pub keyword: String,
    /// Whether the keyword is an op of the target.
    pub is_op: bool,
    /// What the keyword covers, in the order that `filter:[…]` prints.
    pub syscalls: Vec<Syscall>,
    /// Only calls on files whose path matches: the op's `path=`.
    pub path: Option<PathGlob>,
    /// What happens.
    pub action: FaultAction,
    /// To which of the calls.
    pub options: RuleOptions,
}
