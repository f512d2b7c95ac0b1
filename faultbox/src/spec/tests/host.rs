//! A host that records.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::Syscall,
    spec::{
        Answer, Data, FaultAction, FaultRequest, FaultWindow, Host, HostError, Login, PartitionId,
        PartitionRequest, Response, ScopeId, Step, StepReply,
    },
    trace::{EventKind, Log},
};

/// Answers every step with what it is told to, and keeps what it was asked for.
#[derive(Default)]
pub(in crate::spec) struct Recorder {
    pub(in crate::spec) calls: RefCell<Vec<String>>,
    pub(in crate::spec) requests: RefCell<Vec<FaultRequest>>,
    pub(in crate::spec) scopes: Cell<u32>,
    /// The body of every HTTP answer; none means a refused connection.
    pub(in crate::spec) body: Option<String>,
    /// What every database answers; none means a refused connection.
    pub(in crate::spec) data: Option<Data>,
    /// Its status, if not 200.
    pub(in crate::spec) status: Option<u16>,
    /// Steps and faults fail with this.
    pub(in crate::spec) error: Option<String>,
    /// The test is to end during its first step.
    pub(in crate::spec) ends_at_step: bool,
    /// It is to end when it prints something or is warned.
    pub(in crate::spec) ends_at_print: bool,
    pub(in crate::spec) ended: Cell<bool>,
    /// That is because the user wants it.
    pub(in crate::spec) is_interrupted: bool,
    /// What the test can look at. Each step adds its request and its answer.
    pub(in crate::spec) log: Arc<Log>,
    /// Records are lost during the first step, so many.
    pub(in crate::spec) loses: u64,
    pub(in crate::spec) lost: Cell<u64>,
    /// When the test is to end.
    pub(in crate::spec) deadline: Option<Instant>,
}

impl Recorder {
    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    pub(super) fn requests(&self) -> Vec<FaultRequest> {
        self.requests.borrow().clone()
    }

    pub(super) fn with_deadline(after: Duration) -> Self {
        Self { deadline: Some(Instant::now() + after), ..Self::default() }
    }

    fn answer(&self) -> StepReply {
        let result = self.data.clone().ok_or_else(|| "connection refused".to_owned());
        StepReply::Answer(Answer { result, duration: Duration::from_micros(8_900) })
    }

    fn record(&self, call: String) -> Result<(), HostError> {
        self.calls.borrow_mut().push(call);
        self.error.clone().map_or(Ok(()), |error| Err(HostError(error)))
    }
}

impl Host for Recorder {
    fn step(&self, service: &str, interface: &str, step: &Step) -> Result<StepReply, HostError> {
        self.ended.set(self.ends_at_step);
        self.lost.set(self.loses);
        let text = match step {
            Step::Http { .. } => format!("{interface}.http"),
            _ => format!("{interface}.{}", step.name()),
        };
        self.log.push(service, EventKind::StepSend { step: text.clone() });
        self.log.push(service, EventKind::StepReceive { step: text });
        match step {
            Step::TcpSend { data } => {
                self.record(format!("{service}.{interface} send {data:?}"))?;
                Ok(StepReply::Line("PONG".to_owned()))
            }
            Step::Http { method, path, body, headers } => {
                let method = method.as_str();
                self.record(format!("{service}.{interface} {method} {path} {body:?} {headers:?}"))?;
                let ok = self.body.is_some();
                Ok(StepReply::Response(Response {
                    status: if ok { self.status.unwrap_or(200) } else { 0 },
                    body: self.body.clone().unwrap_or_default(),
                    ok,
                    error: if ok { String::new() } else { "connection refused".to_owned() },
                    duration: Duration::from_micros(8_900),
                    headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
                }))
            }
            Step::Redis { words, .. } => {
                self.record(format!("{service}.{interface} {words:?}"))?;
                Ok(self.answer())
            }
            Step::Postgres { wanted, sql, login } => {
                let Login { user, password, database, connstr } = login;
                let login: Vec<_> =
                    [user, password, database, connstr].into_iter().flatten().collect();
                self.record(format!("{service}.{interface} {wanted:?} {sql:?} {login:?}"))?;
                Ok(self.answer())
            }
        }
    }

    fn fault(&self, request: &FaultRequest) -> Result<ScopeId, HostError> {
        self.requests.borrow_mut().push(request.clone());
        let rules: Vec<String> = request
            .rules
            .iter()
            .map(|rule| match rule.action {
                FaultAction::Deny(errno) => format!("{}=deny({errno})", rule.keyword),
                FaultAction::Delay(time) => format!("{}=delay({time:?})", rule.keyword),
                FaultAction::Return(value) => format!("{}=returns({value})", rule.keyword),
                FaultAction::Crash(signal) => format!("{}=crash({signal})", rule.keyword),
                FaultAction::Allow => format!("{}=allow", rule.keyword),
                FaultAction::Trace => format!("{}=trace", rule.keyword),
            })
            .collect();
        let start = if request.window == FaultWindow::Imperative { "start" } else { "on" };
        let scope = self.scopes.get();
        self.scopes.set(scope + 1);
        self.record(format!("{start} {scope} {} {}", request.service, rules.join(" ")))?;
        Ok(ScopeId(scope))
    }

    fn lift(&self, scope: ScopeId) {
        self.calls.borrow_mut().push(format!("off {}", scope.0));
    }

    fn lift_imperative(&self, service: &str) {
        self.calls.borrow_mut().push(format!("stop {service}"));
    }

    fn sleep(&self, time: Duration) {
        self.calls.borrow_mut().push(format!("sleep {time:?}"));
    }

    fn time_left(&self) -> Duration {
        match self.deadline {
            _ if self.ended.get() => Duration::ZERO,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => self.timeout(),
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn has_timed_out(&self) -> bool {
        self.is_cancelled() && !self.is_interrupted
    }

    fn settled(&self) -> Result<Arc<Log>, HostError> {
        self.log.barrier(|| ());
        Ok(Arc::clone(&self.log))
    }

    fn lost(&self) -> u64 {
        self.lost.get()
    }

    fn records(&self, syscall: Syscall) -> bool {
        syscall.is_observed()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn lift_traces(&self, service: &str) {
        self.calls.borrow_mut().push(format!("stop traces {service}"));
    }

    fn warn(&self, text: &str) {
        self.ended.set(self.ended.get() || self.ends_at_print);
        self.calls.borrow_mut().push(format!("warn {text}"));
    }

    fn overlap(&self, jobs: Vec<Box<dyn FnOnce() + '_>>) -> Result<(), HostError> {
        for job in jobs {
            job();
        }
        Ok(())
    }

    fn partition(&self, request: &PartitionRequest) -> Result<PartitionId, HostError> {
        let PartitionRequest { a, b, mode, direction, window } = request;
        let cut = if *window == FaultWindow::Imperative { "cut-start" } else { "cut" };
        let id = self.scopes.get();
        self.scopes.set(id + 1);
        self.record(format!("{cut} {id} {a} {b} {} {}", direction.name(), mode.name()))?;
        Ok(PartitionId(id))
    }

    fn heal(&self, partition: PartitionId) {
        self.calls.borrow_mut().push(format!("heal {}", partition.0));
    }

    fn heal_imperative(&self, a: &str, b: &str) {
        self.calls.borrow_mut().push(format!("heal all {a} {b}"));
    }

    fn print(&self, line: &str) {
        self.ended.set(self.ended.get() || self.ends_at_print);
        self.calls.borrow_mut().push(format!("print {line}"));
    }

    fn is_cancelled(&self) -> bool {
        self.ended.get() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
