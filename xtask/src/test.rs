//! `cargo xtask test`: every test there is, natively and on the three kernels in virtual machines.
//!
//! Natively the integration tests use the seccomp rung, which needs nothing of the kernel; in the guests the very same
//! binary uses the in-kernel rungs. One boot per kernel. The last line adds everything up.

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    artifacts::{self, Artifact, Kind},
    build,
    durations::Durations,
    images,
    project::Project,
    run, servers, setup,
    tally::Tally,
    vm::{Cgroups, Docker, GUEST_FAILED, Guest, Kernel, Outcome, TESTED},
};

/// Tells the integration tests which engine to ask for.
const ENGINE: &str = "FAULTBOX_TEST_ENGINE";
/// Software emulation is slow, and three guests have to fit into the suite's 20 minutes.
const GUEST_TIMEOUT: Duration = Duration::from_secs(1500);
/// How many of a guest's slowest tests are named.
const SLOWEST: usize = 12;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Not in virtual machines.
    #[arg(long, conflicts_with = "vm_only")]
    native_only: bool,
    /// Only in virtual machines.
    #[arg(long)]
    vm_only: bool,
    /// Only in the virtual machine of this kernel: 6.1, 6.12 or 7.2.
    #[arg(long, value_name = "KERNEL", conflicts_with = "native_only")]
    kernel: Option<Kernel>,
    /// Also the tests that take long, and a build of kernel 6.1 where it is missing.
    #[arg(long)]
    long: bool,
}

/// Runs the tests; the exit code is 0 only if all passed. The last line is there whatever happens.
pub(crate) fn run(project: &Project, args: &Args) -> ExitCode {
    let tally = all(project, args).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Tally { failed: 1, ..Tally::default() }
    });
    conclude(tally)
}

/// Prints the line that sums everything up.
pub(crate) fn conclude(tally: Tally) -> ExitCode {
    run::print_line(&tally.to_string());
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sets up, builds, and runs the tests that `args` selects.
pub(crate) fn all(project: &Project, args: &Args) -> Result<Tally> {
    if !args.native_only {
        setup::vm()?;
    }
    setup::servers()?;
    build::programs(project, false)?;
    let built = artifacts::build(
        run::cargo().args(["test", "--workspace", "--no-run"]).current_dir(project.root()),
    )?;
    let mut tally = Tally::default();
    // Without an engine here the tests of containers say that they cannot run.
    let images = images::make(project, &[]);
    if let Err(error) = &images {
        eprintln!("skipped: containers: {error:#}");
        tally.skipped += 1;
    }
    if !args.vm_only && args.kernel.is_none() {
        tally.add(natively(project, args)?);
    }
    if !args.native_only {
        let wanted = |kernel: &Kernel| args.kernel.as_ref().is_none_or(|only| only == kernel);
        for kernel in TESTED.into_iter().filter(wanted) {
            tally.add(in_guest(project, args, &built, kernel, Part::Kernel)?);
        }
        // An engine runs in guests of that kernel only.
        let kernel = Kernel::ErrorInjection;
        if images.is_ok() && wanted(&kernel) {
            tally.add(in_guest(project, args, &built, kernel, Part::Containers)?);
        }
    }
    Ok(tally)
}

fn natively(project: &Project, args: &Args) -> Result<Tally> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut command = run::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(&args.filter)
        .current_dir(project.root());
    if args.long {
        command.args(["--", "--include-ignored"]);
    }
    let ok = run::stream(command.env(ENGINE, "seccomp"), |line| tally.line(line))?;
    if !ok && tally.failed == 0 {
        eprintln!("error: `{}` failed, and no test says why", run::display(&command));
        tally.failed = 1;
    }
    report("natively", tally, started);
    Ok(tally)
}

/// What is tested in a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The in-kernel rungs, with all that is built upon them.
    Kernel,
    /// Containers, with an engine in the guest.
    Containers,
}

fn in_guest(
    project: &Project,
    args: &Args,
    built: &[Artifact],
    kernel: Kernel,
    part: Part,
) -> Result<Tally> {
    let started = Instant::now();
    if kernel.present(project).is_none() && kernel == Kernel::ErrorInjection {
        if !args.long {
            eprintln!(
                "skipped: no image of kernel {kernel}; `cargo xtask vm kernel` builds it, and so does --long"
            );
            return Ok(Tally { skipped: 1, ..Tally::default() });
        }
        run::check(Command::new(std::env::current_exe()?).args(["vm", "kernel"]))
            .context("cannot build kernel 6.1")?;
    }
    let mut runs = runs(project, built, &kernel);
    let mut docker = None;
    if part == Part::Containers {
        runs.retain(|run| run.binary.kind == Kind::Test);
        for run in &mut runs {
            run.filters = CONTAINER_TESTS.to_vec();
        }
        docker = Some(Docker { images: images::saved(project, &[])? });
    }
    ensure!(!runs.is_empty(), "there are no test binaries of the faultbox crate");
    let guest = Guest {
        kernel,
        memory: "3G".to_owned(),
        timeout: GUEST_TIMEOUT,
        icount: false,
        extra: needed(built).into_iter().chain(servers::files()?).collect(),
        cgroups: Cgroups::default(),
        docker,
    };
    eprintln!("+ virtual machine, kernel {}", guest.kernel);
    let mut tally = Tally::default();
    let mut durations = Durations::new();
    let script = script(&runs, args);
    let mut attempt = || {
        guest.run(project, &script, |line| {
            tally.line(line);
            durations.line(line);
        })
    };
    let mut outcome = attempt()?;
    if guest.docker.is_some() && matches!(outcome, Outcome::Exited(GUEST_FAILED)) {
        // Seen once in some twenty starts. It has said why above.
        eprintln!("+ once more: the command was not begun");
        outcome = attempt()?;
    }
    durations.slowest(SLOWEST).iter().for_each(|line| eprintln!("{line}"));
    let missing = (runs.len() as u64).saturating_sub(tally.binaries);
    match outcome {
        Outcome::Died(why) => {
            eprintln!("error: {why}");
            tally.failed += missing.max(1);
        }
        Outcome::Exited(status) if missing > 0 => {
            eprintln!(
                "error: {missing} of {} test runs gave no result (exit status {status})",
                runs.len()
            );
            tally.failed += missing;
        }
        Outcome::Exited(status) if status != 0 && tally.failed == 0 => {
            eprintln!("error: a test run failed with status {status}, and no test says why");
            tally.failed += 1;
        }
        Outcome::Exited(_) => {}
    }
    report(&format!("on kernel {}", guest.kernel), tally, started);
    Ok(tally)
}

/// One start of a test binary in a guest.
struct Run<'a> {
    binary: &'a Artifact,
    engine: &'static str,
    /// The tests that have to do with the kernel; the others are no different in a guest, only slower.
    filters: Vec<&'static str>,
}

/// Of the unit tests: those of the in-kernel rungs.
const ENGINE_TESTS: &[&str] = &["engine::tests::", "engine::kernel::"];
/// Of the integration tests: the tutorial under faults, real servers, who else is hit, what a kill leaves, the two
/// commands that need no spec, what cuts traffic, and the rows of the language that are built upon faults and events.
/// All that is the same whichever rung breaks the calls, and so it is run on one kernel; and what no rung has to do
/// with only where it is quick.
const KERNEL_TESTS: &[&str] = &[
    "tutorial::",
    "servers::",
    "neighbours::",
    "kill::",
    "run::a_",
    "run::file_ops",
    "run::returns",
    "run::triggers",
    "run::what_the_program",
    "attach::",
    "--skip",
    "attach::containers::",
    "partition::",
    "domain::a2",
    "events::a",
    "generate::a25",
    "side_by_side::a_seed",
    "files::",
    "nightly::a_night_that_was_killed",
    "nightly::failures_are",
    "nightly::many_failures",
];
/// Of these: a user's way through, on the other kernels.
const TUTORIAL: &[&str] = &["tutorial::", "files::what"];
/// Where two rungs share the calls: also servers that use all of them.
const MIXED_TESTS: &[&str] = &["tutorial::", "servers::", "files::what"];
/// Services in containers, and containers that others have started.
const CONTAINER_TESTS: &[&str] = &["containers::"];
/// Kills of the runner in a guest; natively there are 50.
const GUEST_KILLS: u32 = 10;

/// The unit tests of the engine, and integration tests.
fn runs<'a>(project: &Project, built: &'a [Artifact], kernel: &Kernel) -> Vec<Run<'a>> {
    let (engine, integration) = match kernel {
        Kernel::ErrorInjection => ("ebpf", KERNEL_TESTS),
        // Debian's 6.12 serves most calls in the kernel and the fsync family not: only there does `auto` mix two rungs.
        Kernel::Stock6_12 => ("auto", MIXED_TESTS),
        _ => ("ebpf", TUTORIAL),
    };
    let package = project.root().join("faultbox");
    let tests = built.iter().filter(|artifact| artifact.test && artifact.package == package);
    tests
        .filter_map(|binary| {
            let (engine, filters) = match binary.kind {
                Kind::Library => ("ebpf", ENGINE_TESTS),
                Kind::Test if binary.name == "it" => (engine, integration),
                _ => return None,
            };
            Some(Run { binary, engine, filters: filters.to_vec() })
        })
        .collect()
}

/// What the test binaries start: everything that cargo has built for them.
fn needed(built: &[Artifact]) -> Vec<PathBuf> {
    let wanted = |artifact: &&Artifact| {
        !artifact.package.ends_with("xtask")
            && (!artifact.test || artifact.package.ends_with("faultbox"))
    };
    built.iter().filter(wanted).map(|artifact| artifact.executable.clone()).collect()
}

/// The shell script that runs them one after the other, as cargo would: in the package's folder.
fn script(runs: &[Run], args: &Args) -> String {
    let mut text = String::from("failed=0\n");
    for run in runs {
        let (package, binary) =
            (run.binary.package.to_string_lossy(), run.binary.executable.to_string_lossy());
        let quoted = run::quote(&package);
        let _ = writeln!(
            text,
            "echo {}",
            run::quote(&format!("--- {} ({ENGINE}={})", run.binary.name, run.engine))
        );
        let _ = write!(
            text,
            "(mkdir -p {quoted} && cd {quoted} && CARGO_MANIFEST_DIR={quoted} FAULTBOX_TEST_SLOW=1 FAULTBOX_TEST_KILLS={GUEST_KILLS} {ENGINE}={} exec {} --test-threads=1",
            run.engine,
            run::quote(&binary),
        );
        if args.long {
            text.push_str(" --include-ignored");
        }
        match &args.filter {
            Some(filter) => {
                let _ = write!(text, " {}", run::quote(filter));
            }
            None => {
                let _ = write!(text, " {}", run.filters.join(" "));
            }
        }
        text.push_str(") || failed=1\n");
    }
    text.push_str("exit $failed\n");
    text
}

fn report(place: &str, tally: Tally, started: Instant) {
    eprintln!("= {place}: {tally} in {:.0} s", started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(package: &str, name: &str, kind: Kind, test: bool) -> Artifact {
        let package = Project::locate().unwrap().root().join(package);
        Artifact { executable: package.join(name), package, name: name.to_owned(), kind, test }
    }

    fn built() -> Vec<Artifact> {
        vec![
            artifact("faultbox", "faultbox", Kind::Library, true),
            artifact("faultbox", "it", Kind::Test, true),
            artifact("faultbox", "faultbox", Kind::Binary, false),
            artifact("specs", "services", Kind::Test, true),
            artifact("specs", "mock-db", Kind::Binary, false),
        ]
    }

    #[test]
    fn rungs_are_mixed_only_where_the_kernel_has_two() {
        let (project, built) = (Project::locate().unwrap(), built());
        let names = |kernel| -> Vec<_> {
            runs(&project, &built, &kernel)
                .iter()
                .map(|run| (run.binary.name.clone(), run.engine))
                .collect()
        };
        let with = |engine| [("faultbox".to_owned(), "ebpf"), ("it".to_owned(), engine)];
        assert_eq!(names(Kernel::ErrorInjection), with("ebpf"));
        assert_eq!(names(Kernel::Stock7), with("ebpf"));
        assert_eq!(names(Kernel::Stock6_12), with("auto"));
    }

    #[test]
    fn a_guest_gets_programs_and_its_own_tests() {
        let names: Vec<_> =
            needed(&built()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["faultbox", "it", "faultbox", "mock-db"]);
    }

    #[test]
    fn the_script_fails_if_any_run_fails() {
        let binary = Artifact {
            executable: "/bin/false".into(),
            package: "/".into(),
            ..artifact("x", "no", Kind::Test, true)
        };
        let good = Artifact { executable: "/bin/true".into(), ..binary.clone() };
        let script = script(
            &[
                Run { binary: &binary, engine: "ebpf", filters: KERNEL_TESTS.to_vec() },
                Run { binary: &good, engine: "ebpf", filters: KERNEL_TESTS.to_vec() },
            ],
            &Args::default(),
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
    }
}
