//! `faultbox doctor`: a place for the lead's file.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArguments {}

pub(super) fn run(_: &DoctorArguments) -> ExitCode {
    eprintln!("error: doctor is not built into this copy");
    ExitCode::from(1)
}
