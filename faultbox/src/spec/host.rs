//! What a test function may do to the running test. The runner implements it; the Starlark
//! layer calls it from the run's own thread.

use std::{sync::Arc, time::Duration};

use super::{Data, FaultRule};
use crate::{
    engine::{PartitionDirection, PartitionMode, Syscall},
    trace::Log,
};

/// A group of rules that was switched on together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(pub u32);

/// How a fault was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultWindow {
    /// `fault(…, run=)`: ends with the callback.
    Scoped,
    /// `fault_start`: ends with `fault_stop` or the test.
    Imperative,
}

/// One `fault()` or `fault_start()` call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRequest {
    /// Name of the service.
    pub service: String,
    /// At least one, sorted by keyword.
    pub rules: Vec<FaultRule>,
    /// Whether the driver's own connections are hit, too (language.md, D2).
    pub include_driver: bool,
    /// How it ends.
    pub window: FaultWindow,
}

/// A partition that was switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// One `partition()` or `partition_start()` call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRequest {
    /// Name of the service given first.
    pub a: String,
    /// Of the other.
    pub b: String,
    /// How traffic is cut.
    pub mode: PartitionMode,
    /// Which way.
    pub direction: PartitionDirection,
    /// How it ends.
    pub window: FaultWindow,
}

/// Methods of an `http` interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods of RFC 9110 by their names")]
pub enum HttpMethod {
    Get,
    Post,
    Put,
    Delete,
    Patch,
}

impl HttpMethod {
    /// The method of a step's name.
    pub fn from_step(step: &str) -> Option<Self> {
        Some(match step {
            "get" => Self::Get,
            "post" => Self::Post,
            "put" => Self::Put,
            "delete" => Self::Delete,
            "patch" => Self::Patch,
            _ => return None,
        })
    }

    /// The name of its step.
    pub fn step(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Patch => "patch",
        }
    }

    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
        }
    }
}

/// What a step sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `send(data=)` on a `tcp` interface.
    TcpSend {
        /// One line; the newline is added when it is missing.
        data: String,
    },
    /// `get(path=, body=, headers=)` and so on, on an `http` interface.
    Http {
        /// The method.
        method: HttpMethod,
        /// Path and query.
        path: String,
        /// Empty: none.
        body: String,
        /// In the order written.
        headers: Vec<(String, String)>,
    },
    /// Any step of a `redis` interface.
    Redis {
        /// What it is called in specs: `get`.
        name: &'static str,
        /// The command, of at least one word: `GET`, `cart`.
        words: Vec<String>,
    },
    /// `query(sql=)` or `exec(sql=)` on a `postgres` interface.
    Postgres {
        /// What of the answer is wanted.
        wanted: Wanted,
        /// One statement or several.
        sql: String,
        /// As whom, where the step says so.
        login: Login,
    },
}

impl Step {
    /// What it is called in specs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TcpSend { .. } => "send",
            Self::Http { method, .. } => method.step(),
            Self::Redis { name, .. } => name,
            Self::Postgres { wanted: Wanted::Rows, .. } => "query",
            Self::Postgres { wanted: Wanted::Count, .. } => "exec",
        }
    }
}

/// What of the answer to an SQL statement is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `query`: its rows.
    Rows,
    /// `exec`: how many they are, or how many it has changed.
    Count,
}

/// Credentials that a step gives itself; what it leaves out is the service's environment's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// `user=`.
    pub user: Option<String>,
    /// `password=`.
    pub password: Option<String>,
    /// `database=`.
    pub database: Option<String>,
    /// `connstr=`: `postgres://user:password@/database`, or `user=… password=…`. The three above
    /// go before what it says.
    pub connstr: Option<String>,
}

/// What came back from an HTTP step. Never an error: a refused connection is `ok: false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 0 when there was no answer.
    pub status: u16,
    /// Trimmed at both ends.
    pub body: String,
    /// Whether there was an answer at all.
    pub ok: bool,
    /// Why not; empty when there was one.
    pub error: String,
    /// From the dial to the last byte.
    pub duration: Duration,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
}

/// What came back from a step of a `redis` or `postgres` interface. Never an error, either.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the server has answered, or why there is no such answer: its error, or what became of
    /// the connection.
    pub result: Result<Data, String>,
    /// From the dial to the answer.
    pub duration: Duration,
}

/// What came back from a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepReply {
    /// The first line, trimmed; empty when the peer closed without one.
    Line(String),
    /// An HTTP response.
    Response(Response),
    /// Of a database.
    Answer(Answer),
}

/// A step or a fault that could not be done: the test fails for this reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// The running test.
pub trait Host {
    /// Runs a step against an interface of a service. All records of the kernel up to the end
    /// of the step are in the log when it returns.
    fn step(&self, service: &str, interface: &str, step: &Step) -> Result<StepReply, HostError>;

    /// Switches rules on; every later call sees all of them.
    fn fault(&self, request: &FaultRequest) -> Result<ScopeId, HostError>;

    /// Switches the rules of a scope off.
    fn lift(&self, scope: ScopeId);

    /// Switches off everything that `fault_start` has on for this service.
    fn lift_imperative(&self, service: &str);

    /// Waits that long, or until the test is to end.
    fn sleep(&self, time: Duration);

    /// How much is left of the test's time.
    fn time_left(&self) -> Duration;

    /// How long the test may take as a whole.
    fn timeout(&self) -> Duration;

    /// Whether the test's time is over; false when it is to end for another reason.
    fn has_timed_out(&self) -> bool;

    /// The test's log, with everything in it that happened before the call. An error when nothing
    /// is recorded at all.
    fn settled(&self) -> Result<Arc<Log>, HostError>;

    /// Records that were lost so far although somebody may have waited for them.
    fn lost(&self) -> u64;

    /// Whether such calls are recorded without any rule that names them.
    fn records(&self, syscall: Syscall) -> bool;

    /// Waits for this long, or less when the test is to end. Within `overlap`, others go on.
    fn pause(&self, time: Duration);

    /// Switches off everything that `trace_start` has on for this service.
    fn lift_traces(&self, service: &str);

    /// Adds a warning to the test's report.
    fn warn(&self, text: &str);

    /// Runs all jobs to their end on this thread. Whenever one of them waits, in a step or a
    /// pause, others go on; so they must not hold anything across such a call that others need.
    /// An error, and none has begun, when they cannot be started.
    fn overlap(&self, jobs: Vec<Box<dyn FnOnce() + '_>>) -> Result<(), HostError>;

    /// Cuts two services off from each other; every later packet and connect is cut.
    fn partition(&self, request: &PartitionRequest) -> Result<PartitionId, HostError>;

    /// Heals a partition.
    fn heal(&self, partition: PartitionId);

    /// Heals everything that `partition_start` has on between two services.
    fn heal_imperative(&self, a: &str, b: &str);

    /// Takes a line of `print()`.
    fn print(&self, line: &str);

    /// Whether the test is to end now: its deadline has passed or the user wants to stop.
    fn is_cancelled(&self) -> bool;
}
