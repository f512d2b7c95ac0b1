//! What faultbox costs a system call. `cargo xtask bench syscall` runs this in a virtual machine whose clock counts
//! instructions, and makes a table of it; started by hand it measures nanoseconds:
//!
//! ```sh
//! cargo run --example bench_syscall            # all cases that this kernel allows
//! cargo run --example bench_syscall -- switch  # only how long it takes to switch a fault on and off
//! ```
//!
//! Each case is a process of its own that makes one call over and over: see `measure.rs`. Results are lines of JSON on
//! standard output, as `report.rs` has them.

mod cases;
mod cgroup;
mod floor;
mod measure;
mod report;
mod setting;
mod subject;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: bench_syscall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => cases::run(),
        ["switch"] => cases::switch(),
        ["measure", ref rest @ ..] => measure::run(rest),
        _ => bail!("usage: bench_syscall [switch]"),
    }
}
