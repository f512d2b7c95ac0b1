//! Results as one JSON document, for other programs (language.md 4.3).

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value, json};

use super::{
    FinishedRun, MatrixReport, Outcome, PartitionReport, RuleReport, ServiceReport, Style,
    TestReport, firing::never_fired, hints::hints, replay::replay_command,
};
use crate::{
    spec::{FaultAction, signal_name},
    trace::{Event, rfc3339},
};

/// Of the document's form.
const VERSION: u32 = 2;

/// The document, while tests are still being added.
#[derive(Debug, Default)]
pub struct Document {
    passed: usize,
    failed: usize,
    /// As text, which takes a tenth of the memory.
    tests: Vec<String>,
    matrices: Vec<Value>,
}

impl Document {
    /// Adds a run of a test.
    pub fn test(&mut self, run: &FinishedRun) {
        *if run.has_passed() { &mut self.passed } else { &mut self.failed } += 1;
        self.tests.extend(run.document.clone());
    }

    /// Adds a matrix, if any of its cells was run.
    pub fn matrix(&mut self, report: &MatrixReport) {
        self.matrices.extend(report.json());
    }

    /// Writes the whole document, with a line for each test.
    pub fn write(&self, out: &mut dyn Write, file: &str, duration: Duration) -> io::Result<()> {
        let mut head = json!({
            "version": VERSION,
            "star_file": file,
            "duration_ms": milliseconds(duration),
            "pass": self.passed,
            "fail": self.failed,
        });
        if let Some(first) = self.matrices.first() {
            head["matrix"] = first.clone();
            head["matrices"] = self.matrices.clone().into();
        }
        let head = serde_json::to_string_pretty(&head)?;
        let open = head.strip_suffix("\n}").unwrap_or_default();
        write!(out, "{open},\n  \"tests\": [")?;
        for (number, test) in self.tests.iter().enumerate() {
            write!(out, "{}\n    {test}", if number == 0 { "" } else { "," })?;
        }
        out.write_all(if self.tests.is_empty() { b"]\n}\n" } else { b"\n  ]\n}\n" })?;
        out.flush()
    }
}

/// Of an object: fields that may be missing are added only when they are there.
struct Object(Map<String, Value>);

impl Object {
    fn new(always: Value) -> Self {
        match always {
            Value::Object(map) => Self(map),
            _ => Self(Map::new()),
        }
    }

    fn add(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A run, in one line.
pub(super) fn test_text(report: &TestReport, with_events: bool) -> String {
    test(report, with_events).to_string()
}

fn test(report: &TestReport, with_events: bool) -> Value {
    let faults = report
        .windows
        .iter()
        .flat_map(|window| window.rules.iter().map(|rule| fault(&window.service, rule)));
    let summary = report.services.iter().map(|it| (it.name.clone(), summary(it)));
    let mut object = Object::new(json!({
        "name": report.name,
        "file": report.file,
        "seed": report.seed,
        "duration_ms": milliseconds(report.duration),
        "faults": faults.collect::<Vec<_>>(),
        "partitions": report.partitions.iter().map(partition).collect::<Vec<_>>(),
        "syscall_summary": summary.collect::<Map<_, _>>(),
        "diagnostics": diagnostics(report),
    }));
    let events = || report.events.iter().map(|it| event(it, report.epoch)).collect::<Vec<_>>();
    object.add("events", with_events.then(events));
    object.add("return_value", report.returned.clone());
    if let Outcome::Failed { reason, location, kind } = &report.outcome {
        object.add("result", Some("fail"));
        object.add("reason", Some(reason.as_str()));
        object.add("failure_type", Some(kind.name()));
        object.add("replay_command", Some(replay_command(report)));
        let at = location.as_ref();
        object.add(
            "location",
            at.map(|it| json!({"file": it.file, "line": it.line, "column": it.column})),
        );
    } else {
        object.add("result", Some("pass"));
    }
    object.0.into()
}

fn fault(service: &str, report: &RuleReport) -> Value {
    let RuleReport { rule, counts, .. } = report;
    let options = &rule.options;
    let mut object = Object::new(json!({
        "service": service,
        "syscall": rule.keyword,
        "action": rule.action.name(),
        "hits": counts.fired,
        "matched": counts.matched,
        "exempt": counts.exempt,
        "filter": rule.syscalls.iter().map(|it| it.name()).collect::<Vec<_>>(),
    }));
    match rule.action {
        FaultAction::Deny(errno) => object.add("errno", Some(errno.to_string())),
        FaultAction::Delay(time) => object.add("delay_ms", Some(milliseconds(time))),
        FaultAction::Return(value) => object.add("value", Some(value)),
        FaultAction::Crash(signal) => {
            object.add("signal", Some(signal_name(signal).to_string()));
        }
        FaultAction::Allow | FaultAction::Trace => {}
    }
    object.add("label", options.label.clone());
    object.add("op", rule.is_op.then(|| rule.keyword.clone()));
    object.add("path", rule.path.as_ref().map(|it| it.as_str().to_owned()));
    object.add("inbound", (!report.inbound.is_empty()).then(|| report.inbound.clone()));
    object.add("to", options.to.clone());
    let probability = &options.probability;
    object.add("probability", (!probability.is_certain()).then(|| probability.to_string()));
    object.add("nth", options.nth.map(std::num::NonZero::get));
    object.add("after", (options.after > 0).then_some(options.after));
    object.add("max_hits", options.max_hits.map(std::num::NonZero::get));
    object.0.into()
}

fn partition(report: &PartitionReport) -> Value {
    json!({
        "a": report.a,
        "b": report.b,
        "mode": report.mode.name(),
        "direction": report.direction.name(),
        "hits": report.counts.hits(),
    })
}

fn summary(report: &ServiceReport) -> Value {
    let calls = report.calls.iter().map(|(call, count)| (call.name().to_owned(), (*count).into()));
    json!({
        "total": report.calls.iter().map(|(_, count)| count).sum::<u64>(),
        "faulted": report.faulted,
        "breakdown": calls.collect::<Map<_, _>>(),
    })
}

/// What is no failure and has to be said all the same.
fn diagnostics(report: &TestReport) -> Vec<Value> {
    let mut all = Vec::new();
    if never_fired(report) {
        all.push(json!({
            "level": "warning",
            "code": "FAULT_NOT_FIRED",
            "message": "fault rules were installed but no injections fired",
            "suggestion": hints(report, Style::default()).join("; "),
        }));
    }
    if report.dropped > 0 {
        all.push(json!({
            "level": "warning",
            "code": "TRACE_DROPPED",
            "message": format!("{} trace records dropped (counters are exact)", report.dropped),
        }));
    }
    all.extend(report.warnings.iter().map(|text| {
        let is_code = |it: &str| it.chars().all(|it| it.is_ascii_uppercase() || it == '_');
        match text.split_once(": ") {
            Some((code, message)) if is_code(code) => {
                json!({"level": "warning", "code": code, "message": message})
            }
            _ => json!({"level": "warning", "code": "NOTE", "message": text}),
        }
    }));
    all
}

fn event(event: &Event, (calendar, clock): (SystemTime, u64)) -> Value {
    let later = Duration::from_nanos(event.time.saturating_sub(clock));
    let fields = event.fields().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
    json!({
        "seq": event.seq,
        "timestamp": rfc3339(calendar + later),
        "type": event.type_name(),
        "event_type": event.event_type(),
        "partition_key": event.service,
        "service": event.service,
        "fields": fields.collect::<Map<String, Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Keep,
            sample::{allowed, deny, failed, passed},
        },
        *,
    };

    fn document(reports: &[TestReport]) -> Value {
        let mut document = Document::default();
        let keep = Keep { document: true, ..Keep::default() };
        for run in reports.iter().filter_map(|it| FinishedRun::of(it, keep)) {
            document.test(&run);
        }
        let mut text = Vec::new();
        document.write(&mut text, "a.star", Duration::from_millis(1500)).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn runs_are_counted_by_their_result() {
        let interrupted = TestReport { outcome: Outcome::Interrupted, ..passed("test_c") };
        let all = document(&[passed("test_a"), failed("test_b", "assert_eq: 1 != 2"), interrupted]);
        assert_eq!((&all["version"], &all["star_file"]), (&json!(2), &json!("a.star")));
        assert_eq!((&all["pass"], &all["fail"]), (&json!(1), &json!(1)));
        assert_eq!(all["duration_ms"], 1500);
        assert_eq!(all["tests"].as_array().unwrap().len(), 2);
        assert_eq!(all.get("matrix"), None);
        let (first, second) = (&all["tests"][0], &all["tests"][1]);
        assert_eq!((&first["name"], &first["result"]), (&json!("test_a"), &json!("pass")));
        assert_eq!((first.get("reason"), first.get("replay_command")), (None, None));
        assert_eq!(second["reason"], "assert_eq: 1 != 2");
        assert_eq!(second["failure_type"], "assertion");
        assert_eq!(second["replay_command"], "faultbox test fault-test.star --test b --seed 0");
        assert_eq!(
            second["location"],
            json!({"file": "fault-test.star", "line": 121, "column": 5})
        );
    }

    #[test]
    fn rules_have_their_counts_and_only_the_options_that_were_given() {
        let report = passed("test_a").window("db", vec![deny("write", "EIO", 3)], |it| it);
        let all = document(&[report]);
        let fault = &all["tests"][0]["faults"][0];
        assert_eq!((&fault["service"], &fault["syscall"]), (&json!("db"), &json!("write")));
        assert_eq!((&fault["action"], &fault["errno"]), (&json!("deny"), &json!("EIO")));
        assert_eq!(fault["hits"], 3);
        assert_eq!(fault["filter"][0], "write");
        for absent in ["label", "path", "nth", "probability", "delay_ms", "op"] {
            assert_eq!(fault.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn what_hit_nothing_is_a_diagnostic() {
        let idle = passed("test_a").window("db", vec![deny("write", "EIO", 0)], |it| it);
        let report = TestReport {
            dropped: 7,
            warnings: vec![
                "SERVICE_CRASHED: service \"db\" ended".to_owned(),
                "careful".to_owned(),
            ],
            ..idle
        };
        let all = document(&[report]);
        let codes: Vec<_> = all["tests"][0]["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["code"].as_str().unwrap(), it["message"].as_str().unwrap()))
            .collect();
        assert_eq!(
            codes,
            [
                ("FAULT_NOT_FIRED", "fault rules were installed but no injections fired"),
                ("TRACE_DROPPED", "7 trace records dropped (counters are exact)"),
                ("SERVICE_CRASHED", "service \"db\" ended"),
                ("NOTE", "careful"),
            ]
        );
    }

    #[test]
    fn events_are_named_and_timed() {
        let report = passed("test_a")
            .window("db", vec![deny("read", "EIO", 1)], |it| it.with(allowed("db", "write")));
        let all = document(&[report]);
        let events = all["tests"][0]["events"].as_array().unwrap();
        let written = events.iter().find(|it| it["event_type"] == "syscall.write").unwrap();
        assert_eq!((&written["type"], &written["service"]), (&json!("syscall"), &json!("db")));
        assert_eq!(written["fields"]["decision"], "allow");
        assert!(written["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
