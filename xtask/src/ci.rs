//! `cargo xtask ci`: everything that has to pass before a change lands, in the order in which it fails fastest.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{bench, ebpf, project::Project, run, setup, test};

/// Runs all steps, whichever fail; ends with the time that each took and the line that sums the tests up.
pub(crate) fn run(project: &Project) -> ExitCode {
    let mut steps = Steps::default();
    let root = project.root();
    let cargo = |args: &[&str]| run::check(run::cargo().args(args).current_dir(root));

    steps.run("format", || cargo(&["fmt", "--all", "--check"]));
    steps.run("format of the eBPF programs", || {
        run::check(run::cargo().args(["fmt", "--check"]).current_dir(project.ebpf_crate()))
    });
    steps.run("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    steps.run("set-up", || setup::run(project, &setup::Args::default()));
    steps.run("eBPF object", || ebpf::run(project, &ebpf::Args { check: true }));
    let mut tally = None;
    steps.run("tests", || {
        tally = Some(test::all(project, &test::Args::default())?);
        Ok(())
    });
    steps.run("cost of a system call", || bench::check(project));

    let mut tally = tally.unwrap_or_default();
    tally.failed += steps.failed();
    steps.report();
    test::conclude(tally)
}

/// What ran so far: name, time, and whether it failed.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        eprintln!("== {name}");
        let started = Instant::now();
        let result = step();
        if let Err(error) = &result {
            eprintln!("error: {name}: {error:#}");
        }
        self.done.push((name, started.elapsed(), result.is_err()));
    }

    fn failed(&self) -> u64 {
        self.done.iter().filter(|(_, _, failed)| *failed).count() as u64
    }

    fn report(&self) {
        for (name, time, failed) in &self.done {
            let verdict = if *failed { "  FAILED" } else { "" };
            eprintln!("== {:>7.1} s  {name}{verdict}", time.as_secs_f64());
        }
    }
}
