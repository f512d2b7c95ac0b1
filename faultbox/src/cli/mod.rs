//! The command line: one file per command.

mod attach;
mod check;
mod doctor;
mod fault_option;
mod generate;
mod init;
mod interception;
mod live_counts;
mod run;
mod signals;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

/// Breaks system calls of real processes from inside the kernel, and tests what they do then.
#[derive(Debug, Parser)]
#[command(name = "faultbox", version, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the tests of specs
    Test(test::TestArguments),
    /// Load specs and say what is wrong with them
    Check(check::CheckArguments),
    /// Write specs that break each dependency under each scenario
    Generate(generate::GenerateArguments),
    /// Write a first spec for a program or a compose file
    Init(init::InitArguments),
    /// Run one program and break its system calls
    Run(run::RunArguments),
    /// Break system calls of processes that run already
    Attach(attach::AttachArguments),
    /// Show what this kernel can do, and why
    Doctor(doctor::DoctorArguments),
}

/// Does what the command line says. Must be called while the process has one thread only.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match arguments.command {
        Some(Command::Test(arguments)) => ExitCode::from(test::run(&arguments)),
        Some(Command::Check(arguments)) => ExitCode::from(check::run(&arguments)),
        Some(Command::Generate(arguments)) => ExitCode::from(generate::run(&arguments)),
        Some(Command::Init(arguments)) => ExitCode::from(init::run(&arguments)),
        Some(Command::Run(arguments)) => ExitCode::from(run::run(&arguments)),
        Some(Command::Attach(arguments)) => ExitCode::from(attach::run(&arguments)),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
        None => {
            // Nobody is left to tell when even this cannot be printed.
            let _ = Arguments::command().print_help();
            ExitCode::SUCCESS
        }
    }
}

/// Prints help and version on standard output with exit code 0, and mistakes on standard error
/// with 1: clap's own 2 means here that a test failed.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
