//! `cargo xtask demo`: the tutorial's specs on real processes, with the output that a user would see.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    project::Project,
    run, setup,
    vm::{Cgroups, Guest, Kernel, Outcome},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Not in a virtual machine.
    #[arg(long)]
    native_only: bool,
}

/// One command line of the demo.
struct Scene {
    spec: &'static str,
    flags: &'static [&'static str],
    /// The exit code that `faultbox test` must have.
    code: i32,
    shows: &'static str,
}

const SCENES: [Scene; 14] = [
    Scene { spec: "first-test.star", flags: &[], code: 0, shows: "one service, four tests" },
    Scene {
        spec: "fault-test.star",
        flags: &[],
        code: 0,
        shows: "two services; the database's system calls fail",
    },
    Scene { spec: "disk-full.star", flags: &[], code: 0, shows: "a log that cannot be written" },
    Scene { spec: "ops.star", flags: &[], code: 0, shows: "one name for several system calls" },
    Scene {
        spec: "slow.star",
        flags: &[],
        code: 0,
        shows: "calls that wait first, and what waits for them",
    },
    Scene {
        spec: "wal.star",
        flags: &[],
        code: 0,
        shows: "one file fails, and a path that misses is shown the right one",
    },
    Scene {
        spec: "aim.star",
        flags: &[],
        code: 0,
        shows: "the n-th call, the first few, or the connections to one service",
    },
    Scene {
        spec: "effects.star",
        flags: &[],
        code: 0,
        shows: "a disk that lies, a connection that ends, a process that dies",
    },
    Scene {
        spec: "three-faults.star",
        flags: &[],
        code: 0,
        shows: "one request; the database gone, full, and slow",
    },
    Scene {
        spec: "chance.star",
        flags: &["--runs", "10"],
        code: 2,
        shows: "a fault by chance, with the seed that shows it again",
    },
    Scene {
        spec: "never-fired.star",
        flags: &[],
        code: 0,
        shows: "a fault that hit nothing is said to have proved nothing",
    },
    Scene {
        spec: "keywords.star",
        flags: &[],
        code: 0,
        shows: "families of system calls, and single ones",
    },
    Scene { spec: "cycle.star", flags: &[], code: 1, shows: "a spec that cannot be loaded" },
    Scene {
        spec: "healthcheck-timeout.star",
        flags: &[],
        code: 2,
        shows: "a service that never gets ready: ten seconds",
    },
];

/// Sets up, builds, and shows every scene; fails if an exit code is not the expected one.
pub(crate) fn run(project: &Project, args: &Args) -> Result<ExitCode> {
    let started = Instant::now();
    build::programs(project, false)?;
    let mut wrong = Vec::new();
    for scene in &SCENES {
        run::print_line(&format!("\n# {} (expected exit code: {})", scene.shows, scene.code));
        run::print_line(&format!("$ {}", scene.command_line()));
        let status = Command::new("bin/faultbox")
            .arg("test")
            .arg(scene.path())
            .args(scene.flags)
            .current_dir(project.root())
            // cargo sets it for xtask, and a loader that searches there makes dozens of calls.
            .env_remove("LD_LIBRARY_PATH")
            .status()
            .context("cannot start bin/faultbox")?;
        if status.code() != Some(scene.code) {
            run::print_line(&format!("! {status} instead of exit code {}", scene.code));
            wrong.push(scene.spec.to_owned());
        }
    }
    let mut shown = SCENES.len();
    if !args.native_only && in_guest(project, &mut wrong)? {
        shown += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    if wrong.is_empty() {
        run::print_line(&format!(
            "\ndemo: {shown} of {shown} commands ended as expected, in {seconds:.0} s"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let right = shown - wrong.len();
    run::print_line(&format!(
        "\ndemo: {right} of {shown} commands ended as expected; not: {}",
        wrong.join(", ")
    ));
    Ok(ExitCode::FAILURE)
}

impl Scene {
    fn path(&self) -> String {
        format!("specs/tutorial/{}", self.spec)
    }

    fn command_line(&self) -> String {
        let words = ["bin/faultbox".to_owned(), "test".to_owned(), self.path()];
        words
            .into_iter()
            .chain(self.flags.iter().map(|flag| (*flag).to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The same faults decided in the kernel. Returns whether it could be shown: without QEMU or a kernel it is left out,
/// and the reason said.
fn in_guest(project: &Project, wrong: &mut Vec<String>) -> Result<bool> {
    let kernel = Kernel::ErrorInjection;
    if let Err(error) = setup::vm().and_then(|()| kernel.image(project)) {
        eprintln!("demo: not shown in a virtual machine: {error:#}");
        return Ok(false);
    }
    let line = "bin/faultbox test specs/tutorial/fault-test.star --engine ebpf";
    run::print_line(
        "\n# the same faults, decided inside the kernel of a virtual machine (expected exit code: 0)",
    );
    run::print_line(&format!("$ cargo xtask vm --kernel {kernel} -- {line}"));
    let guest = Guest {
        kernel,
        memory: "3G".to_owned(),
        timeout: Duration::from_secs(240),
        icount: false,
        extra: Vec::new(),
        cgroups: Cgroups::default(),
        docker: None,
    };
    match guest.run(project, line, |_| ())? {
        Outcome::Exited(0) => {}
        Outcome::Exited(status) => {
            run::print_line(&format!("! exit code {status} instead of 0"));
            wrong.push("fault-test.star in the virtual machine".to_owned());
        }
        Outcome::Died(why) => {
            run::print_line(&format!("! {why}"));
            wrong.push("fault-test.star in the virtual machine".to_owned());
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_tutorial_spec_is_shown_and_every_scene_exists() {
        let folder = Project::locate().unwrap().root().join("specs/tutorial");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| Path::new(name).extension().is_some_and(|e| e == "star"))
            .collect();
        let mut scenes: Vec<_> = SCENES.iter().map(|scene| scene.spec.to_owned()).collect();
        files.sort();
        scenes.sort();
        assert_eq!(scenes, files);
    }
}
