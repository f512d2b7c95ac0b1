//! Reports for the tests of this folder, built a piece at a time.

use std::time::{Duration, UNIX_EPOCH};

use super::{
    FailureType, FinishedRun, Keep, Outcome, Repetitions, RuleReport, ServiceReport, Style,
    TestReport, Timings, WindowReport,
};
use crate::{
    engine::{Decision, Errno, RuleCounts, Syscall, expand_keyword},
    spec::{FaultAction, FaultRule, Location, RuleOptions, TestKind},
    trace::{Event, EventKind},
};

pub(super) fn errno(name: &str) -> Errno {
    Errno::from_name(name).unwrap()
}

pub(super) fn syscall(name: &str) -> Syscall {
    Syscall::from_name(name).unwrap()
}

/// A passed test of 200 ms in which nothing happened.
pub(super) fn passed(name: &str) -> TestReport {
    TestReport {
        name: name.to_owned(),
        kind: TestKind::Function,
        file: "fault-test.star".to_owned(),
        outcome: Outcome::Passed,
        returned: None,
        duration: Duration::from_micros(200_900),
        seed: 0,
        strict_faults: false,
        shared_tmp: false,
        events: Vec::new(),
        epoch: (UNIX_EPOCH, 0),
        windows: Vec::new(),
        partitions: Vec::new(),
        services: Vec::new(),
        dropped: 0,
        warnings: Vec::new(),
        has_overlapped: false,
        timings: Timings::default(),
    }
}

pub(super) fn failed(name: &str, reason: &str) -> TestReport {
    let location = Some(Location { file: "fault-test.star".to_owned(), line: 121, column: 5 });
    TestReport {
        outcome: Outcome::Failed {
            reason: reason.to_owned(),
            location,
            kind: FailureType::Assertion,
        },
        ..passed(name)
    }
}

/// All runs of a test.
pub(super) fn repetitions(reports: &[TestReport], style: Style) -> Repetitions {
    let keep = Keep { style, repeated: true, document: false };
    let mut all = Repetitions::default();
    reports.iter().filter_map(|it| FinishedRun::of(it, keep)).for_each(|it| all.add(it));
    all
}

/// A call that a test's log has, filled in by its methods.
pub(super) struct Call(EventKind, String);

pub(super) fn call(service: &str, name: &str, decision: Decision) -> Call {
    let kind = EventKind::Syscall {
        syscall: syscall(name),
        pid: 1,
        tid: 1,
        decision,
        op: None,
        label: None,
        path: None,
        channel: None,
        peer: None,
        peer_interface: None,
        rule_target: None,
        window: None,
        size: 0,
        latency: Duration::ZERO,
    };
    Call(kind, service.to_owned())
}

pub(super) fn allowed(service: &str, name: &str) -> Call {
    call(service, name, Decision::Allow)
}

pub(super) fn denied(service: &str, name: &str, error: &str) -> Call {
    call(service, name, Decision::Deny(errno(error)))
}

impl Call {
    /// Decided by the rule of this window, with this label.
    pub(super) fn by(mut self, index: usize, its_label: Option<&str>) -> Self {
        if let EventKind::Syscall { window, label, .. } = &mut self.0 {
            *window = Some(index);
            *label = its_label.map(str::to_owned);
        }
        self
    }

    pub(super) fn op(mut self, name: &str) -> Self {
        if let EventKind::Syscall { op, .. } = &mut self.0 {
            *op = Some(name.to_owned());
        }
        self
    }

    pub(super) fn on(mut self, file: &str) -> Self {
        if let EventKind::Syscall { path, .. } = &mut self.0 {
            *path = Some(file.to_owned());
        }
        self
    }

    /// After a rule had made it wait.
    pub(super) fn late(mut self, by: Duration) -> Self {
        if let EventKind::Syscall { latency, .. } = &mut self.0 {
            *latency = by;
        }
        self
    }

    /// A connect to an interface, by the rule of another service when `target` names one.
    pub(super) fn to(mut self, interface: &str, target: Option<&str>) -> Self {
        if let EventKind::Syscall { peer, peer_interface, rule_target, .. } = &mut self.0 {
            *peer = Some("127.0.0.1:6379".parse().unwrap());
            *peer_interface = Some(interface.to_owned());
            *rule_target = target.map(str::to_owned);
        }
        self
    }
}

impl TestReport {
    /// Adds a call with the next number.
    pub(super) fn with(mut self, call: Call) -> Self {
        self.log(call.0, call.1);
        self
    }

    /// Adds ordinary calls until the next one has this number.
    pub(super) fn until(mut self, seq: u64, service: &str, name: &str) -> Self {
        while (self.events.len() as u64) < seq - 1 {
            let Call(kind, service) = allowed(service, name);
            self.log(kind, service);
        }
        self
    }

    fn log(&mut self, kind: EventKind, service: String) {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Event { seq, time: seq * 1000, service, kind });
    }

    /// Adds a window that was on while `inside` happened.
    pub(super) fn window(
        mut self,
        service: &str,
        rules: Vec<RuleReport>,
        inside: impl FnOnce(Self) -> Self,
    ) -> Self {
        let keywords: Vec<_> = rules.iter().map(|it| it.rule.keyword.clone()).collect();
        self.windows.push(WindowReport { service: service.to_owned(), rules, imperative: false });
        let window = self.windows.len() - 1;
        let applied = EventKind::FaultApplied { window, keywords: keywords.clone() };
        self.log(applied, service.to_owned());
        self = inside(self);
        self.log(EventKind::FaultRemoved { window, keywords }, service.to_owned());
        self
    }

    pub(super) fn service(mut self, name: &str, faulted: u64, calls: &[(&str, u64)]) -> Self {
        self.services.push(ServiceReport {
            name: name.to_owned(),
            calls: calls.iter().map(|(name, count)| (syscall(name), *count)).collect(),
            faulted,
            output: Vec::new(),
        });
        self
    }
}

/// A rule that denies every match and had this many.
pub(super) fn deny(keyword: &str, error: &str, fired: u64) -> RuleReport {
    RuleReport {
        rule: FaultRule {
            keyword: keyword.to_owned(),
            is_op: false,
            syscalls: expand_keyword(keyword).unwrap_or_default(),
            path: None,
            action: FaultAction::Deny(errno(error)),
            options: RuleOptions::default(),
        },
        inbound: Vec::new(),
        counts: RuleCounts { matched: fired, fired, exempt: 0 },
    }
}

impl RuleReport {
    pub(super) fn label(mut self, label: &str) -> Self {
        self.rule.options.label = Some(label.to_owned());
        self
    }

    pub(super) fn probability(mut self, percent: &str) -> Self {
        self.rule.options.probability = percent.parse().unwrap();
        self
    }

    /// Does this instead.
    pub(super) fn does(mut self, action: FaultAction) -> Self {
        self.rule.action = action;
        self
    }

    /// Only on such files.
    pub(super) fn path(mut self, glob: &str) -> Self {
        self.rule.path = Some(glob.parse().unwrap());
        self
    }

    /// Only on connections to this service.
    pub(super) fn peer(mut self, service: &str) -> Self {
        self.rule.options.to = Some(service.to_owned());
        self
    }

    pub(super) fn counts(mut self, matched: u64, fired: u64, exempt: u64) -> Self {
        self.counts = RuleCounts { matched, fired, exempt };
        self
    }
}
