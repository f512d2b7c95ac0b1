//! `faultbox check`.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use clap::Args;

use crate::runner::{self, Ending};

use super::generate::LOAD_TIMEOUT;

/// The arguments of `faultbox check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Specs to load
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs the command; returns the exit code: 2 if a file cannot be loaded.
pub(super) fn run(arguments: &CheckArguments) -> u8 {
    let mut ending = Ending::Passed;
    for path in &arguments.files {
        let counts = runner::load(path, LOAD_TIMEOUT, |_, loaded| {
            let declared = loaded.declarations();
            (declared.services.len(), declared.tests.len())
        });
        match counts {
            Ok((file, (services, tests))) => {
                let (services, tests) = (counted(services, "service"), counted(tests, "test"));
                let line = format!("{}: ok ({services}, {tests})\n", file.path());
                // Whoever closed the output wants the exit code alone.
                let _ = stdout().write_all(line.as_bytes());
            }
            Err(error) => {
                ending = Ending::Failed;
                runner::message(format_args!("error: {error}"));
            }
        }
    }
    ending.code()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
