//! `faultbox doctor`: what this machine can do, and why.

mod environment;
mod table;

use std::{io::Write as _, process::ExitCode};

use clap::{Args, ValueEnum};
use environment::Environment;

use crate::engine::{Rung, Survey, survey};

/// The flags of `faultbox doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Whether, and how, `faultbox test` can do its job here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Faults are decided in the kernel.
    InKernel,
    /// Only the supervisor can stand in.
    SupervisorOnly,
    /// Nothing can break a call.
    Nothing,
}

impl Verdict {
    fn of(survey: &Survey, environment: &Environment) -> Self {
        let serves = |wanted: fn(Rung) -> bool| {
            let write = survey.families.iter().find(|family| family.family == "write");
            write.is_some_and(|family| {
                family.rungs.iter().any(|(rung, available)| wanted(*rung) && available.is_ok())
            })
        };
        if environment.cgroup.is_ok() && serves(|rung| rung != Rung::Supervisor) {
            Self::InKernel
        } else if serves(|rung| rung == Rung::Supervisor) {
            Self::SupervisorOnly
        } else {
            Self::Nothing
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::InKernel => "faultbox test works here, with faults decided in the kernel",
            Self::SupervisorOnly => {
                "faultbox test works here, for services that it starts, through the seccomp \
                 supervisor only"
            }
            Self::Nothing => "faultbox test cannot break anything here",
        }
    }
}

/// Runs the command: exit code 0 if the main job can run here, else 1.
pub(super) fn run(arguments: &DoctorArguments) -> ExitCode {
    let (survey, environment) = (survey(), Environment::find());
    let verdict = Verdict::of(&survey, &environment);
    let text = match arguments.format {
        Format::Table => table::render(&survey, &environment, verdict),
        Format::Json => table::json(&survey, &environment, verdict),
    };
    // A reader that has gone away wants no more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(verdict == Verdict::Nothing))
}
