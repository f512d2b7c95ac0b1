//! The survey as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Environment, Verdict};
use crate::engine::Survey;

/// Reasons are long and repeat: each is printed once, below the table.
#[derive(Default)]
struct Footnotes(Vec<String>);

impl Footnotes {
    fn mark(&mut self, reason: &str) -> String {
        let index = self.0.iter().position(|it| it == reason).unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("no ({})", index + 1)
    }
}

/// The findings for people.
pub(super) fn render(survey: &Survey, environment: &Environment, verdict: Verdict) -> String {
    let mut text = format!("faultbox {} on {}\n\n", env!("CARGO_PKG_VERSION"), environment.kernel);
    let mut notes = Footnotes::default();
    families(&mut text, survey, &mut notes);
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "{name:<20}{value}");
    };
    row("kernel types", &survey.types.as_ref().map_or_else(|it| no(it), |it| yes(it)));
    row(
        "raw tracepoints",
        &survey.tracepoints.as_ref().map_or_else(|it| no(it), |()| "yes".into()),
    );
    let cgroup = environment.cgroup.as_ref();
    row("cgroup v2", &cgroup.map_or_else(|it| no(it), |it| yes(&it.display().to_string())));
    row(
        "network namespaces",
        &environment.namespace.as_ref().map_or_else(|it| no(it), |()| "yes".into()),
    );
    row(
        "a run's own /tmp",
        &environment.files.as_ref().map_or_else(|it| no(it), |()| "yes".into()),
    );
    row("Docker", &environment.docker.as_ref().map_or_else(|it| no(it), |it| yes(it)));
    text.push_str("\ncapabilities\n");
    for capability in &environment.capabilities {
        let held = if capability.held { "held" } else { "missing" };
        let _ = writeln!(text, "  {:<16} {held:<8} {}", capability.name, capability.purpose);
    }
    match &environment.options {
        Ok(options) => {
            let _ = writeln!(text, "\nkernel options ({})", options.file.display());
            for (name, value) in &options.values {
                let _ = writeln!(text, "  {name:<40} {value}");
            }
        }
        Err(why) => {
            let _ = writeln!(text, "\nkernel options unknown: there is {why}");
        }
    }
    let _ = writeln!(text, "\n{}", verdict.text());
    text
}

fn yes(detail: &str) -> String {
    format!("yes, {detail}")
}

fn no(reason: &str) -> String {
    format!("no: {reason}")
}

fn families(text: &mut String, survey: &Survey, notes: &mut Footnotes) {
    let rungs = survey.families.first().map(|family| family.rungs.iter()).into_iter().flatten();
    let _ = write!(text, "{:<18}", "system calls");
    for (rung, _) in rungs {
        let _ = write!(text, "{:<32}", rung.name());
    }
    trim(text);
    for family in &survey.families {
        let _ = write!(text, "{:<18}", family.family);
        for (_, available) in &family.rungs {
            let cell = match available {
                Ok(()) => "yes".to_owned(),
                Err(reason) => notes.mark(reason),
            };
            let _ = write!(text, "{cell:<32}");
        }
        trim(text);
    }
    for (index, reason) in notes.0.iter().enumerate() {
        let _ = writeln!(text, "  ({}) {reason}", index + 1);
    }
    text.push('\n');
}

fn trim(line: &mut String) {
    line.truncate(line.trim_end_matches(' ').len());
    line.push('\n');
}

/// The findings for programs.
pub(super) fn json(survey: &Survey, environment: &Environment, verdict: Verdict) -> String {
    let families = survey.families.iter().map(|family| {
        let rungs = family.rungs.iter().map(|(rung, available)| {
            json!({ "rung": rung.name(), "available": available.is_ok(),
                    "reason": available.as_ref().err() })
        });
        json!({ "family": family.family, "rungs": rungs.collect::<Vec<Value>>() })
    });
    let capabilities = environment
        .capabilities
        .iter()
        .map(|it| json!({ "name": it.name, "held": it.held, "purpose": it.purpose }));
    let options = environment.options.as_ref().map(|options| {
        let values: serde_json::Map<String, Value> =
            options.values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({ "file": options.file, "values": values })
    });
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": environment.kernel,
        "families": families.collect::<Vec<Value>>(),
        "kernel_types": finding(&survey.types),
        "raw_tracepoints": finding(&survey.tracepoints),
        "cgroup_v2": finding(&environment.cgroup),
        "network_namespaces": finding(&environment.namespace),
        "private_files": finding(&environment.files),
        "docker": finding(&environment.docker),
        "capabilities": capabilities.collect::<Vec<Value>>(),
        "kernel_options": options.unwrap_or(Value::Null),
        "verdict": match verdict {
            Verdict::InKernel => "in-kernel",
            Verdict::SupervisorOnly => "supervisor-only",
            Verdict::Nothing => "nothing",
        },
    });
    format!("{document:#}\n")
}

fn finding<T: serde::Serialize>(finding: &Result<T, String>) -> Value {
    match finding {
        Ok(detail) => json!({ "available": true, "detail": detail }),
        Err(reason) => json!({ "available": false, "reason": reason }),
    }
}
