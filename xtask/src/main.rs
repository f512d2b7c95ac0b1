//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! Each command is one file; `cargo xtask help` lists them. The binary is kept small because a fresh machine builds it
//! before anything else.

mod artifacts;
mod bench;
mod build;
mod ci;
mod closure;
mod demo;
mod durations;
mod ebpf;
mod elf;
#[cfg(test)]
mod folder;
mod images;
mod project;
mod run;
mod servers;
mod setup;
mod tally;
mod test;
mod tree;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what the other commands need and this machine lacks.
    Setup(setup::Args),
    /// Compiles the eBPF programs into faultbox-ebpf/faultbox.bpf.o.
    Ebpf(ebpf::Args),
    /// Builds the binaries into bin/ and bin/linux/.
    Build(build::Args),
    /// Makes the container images of specs/qa, without any registry.
    Images(images::Args),
    /// Runs a shell command as root in a virtual machine.
    Vm(vm::Args),
    /// Runs every test there is, natively and in the virtual machines.
    Test(test::Args),
    /// Measures what faultbox costs.
    Bench(bench::Args),
    /// Shows the tutorial's specs on real processes.
    Demo(demo::Args),
    /// Everything that has to pass before a change lands.
    Ci,
}

fn main() -> ExitCode {
    if let Some(code) = ebpf::wrapper::requested() {
        return code;
    }
    let cli = Cli::parse();
    let done = Project::locate().and_then(|project| match cli.command {
        Command::Setup(args) => setup::run(&project, &args).map(|()| ExitCode::SUCCESS),
        Command::Ebpf(args) => ebpf::run(&project, &args).map(|()| ExitCode::SUCCESS),
        Command::Build(args) => build::run(&project, &args).map(|()| ExitCode::SUCCESS),
        Command::Images(args) => images::run(&project, &args).map(|()| ExitCode::SUCCESS),
        Command::Vm(args) => vm::run(&project, &args),
        Command::Test(args) => Ok(test::run(&project, &args)),
        Command::Bench(args) => bench::run(&project, &args),
        Command::Demo(args) => demo::run(&project, &args),
        Command::Ci => Ok(ci::run(&project)),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
