//! `cargo xtask bench`: what faultbox costs, in figures that are exact enough to be compared with committed ones.
//!
//! `syscall` counts the guest instructions that each case adds to a system call: the virtual machine has one processor
//! whose clock counts instructions (QEMU's `-icount shift=0,sleep=off`), so a nanosecond in it is an instruction, and
//! figures repeat whatever else the host does. The measuring is done by `faultbox/examples/bench_syscall`.
//!
//! `runs` measures time, and compares it with a bare loop's in the same minutes: see [`runs`].

mod figures;
mod limits;
mod runs;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::figures::Figures;
use crate::{
    artifacts,
    project::Project,
    run, setup,
    vm::{Cgroups, Guest, Kernel, Outcome},
};

/// The program that measures.
const PROGRAM: &str = "bench_syscall";
/// The guest needs a minute on a free processor.
const GUEST_TIMEOUT: Duration = Duration::from_secs(900);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Guest instructions added to write(2), case by case, on kernel 6.1.
    Syscall(Syscall),
    /// Milliseconds per run, beside the bare start and stop of the services; natively and on kernel 6.1.
    Runs(runs::Runs),
}

#[derive(clap::Args, Default)]
struct Syscall {
    /// Fail when a figure has grown by more than 10 % since it was committed.
    #[arg(long, conflicts_with = "bless")]
    check: bool,
    /// Make these the committed figures: xtask/bench/syscall.json, and the table in SPECIFICATION.md.
    #[arg(long)]
    bless: bool,
}

/// Measures, prints the table, and compares or commits the figures if asked.
pub(crate) fn run(project: &Project, args: &Args) -> Result<ExitCode> {
    let args = match &args.what {
        What::Syscall(args) => args,
        What::Runs(args) => return runs::run(project, args),
    };
    let figures = measure(project)?;
    if args.bless {
        bless(project, &figures)?;
    }
    if args.check {
        compare(project, &figures)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask bench syscall --check`, for CI.
pub(crate) fn check(project: &Project) -> Result<()> {
    compare(project, &measure(project)?)
}

/// Runs all cases, prints the table and keeps the figures in target/bench.
fn measure(project: &Project) -> Result<Figures> {
    setup::vm()?;
    setup::strace()?;
    let built = artifacts::build(
        run::cargo()
            .args(["build", "-p", "faultbox", "--example", PROGRAM])
            .current_dir(project.root()),
    )?;
    let program = &built
        .iter()
        .find(|artifact| artifact.name == PROGRAM)
        .context("cargo has not built the measuring program")?
        .executable;
    let mut figures = Figures::new(run::output(Command::new("date").args(["-u", "+%F"]))?.trim());
    in_guest(project, program, &mut figures)?;
    natively(program, &mut figures);
    run::print(table::text(&figures).as_bytes());
    let kept = results(project);
    write(&kept, &figures.to_json()?)?;
    eprintln!("bench: the figures are in {}", kept.display());
    Ok(figures)
}

fn in_guest(project: &Project, program: &Path, figures: &mut Figures) -> Result<()> {
    let guest = Guest {
        kernel: Kernel::ErrorInjection,
        memory: "3G".to_owned(),
        timeout: GUEST_TIMEOUT,
        icount: true,
        extra: Vec::new(),
        cgroups: Cgroups::default(),
        docker: None,
    };
    let mut damaged = None;
    let ended = guest.run(project, &run::quote(&program.to_string_lossy()), |line| {
        if let Err(error) = figures.line(line) {
            damaged = Some(error);
        }
    })?;
    match ended {
        Outcome::Exited(0) => {}
        Outcome::Exited(status) => bail!("the measuring program failed in the guest ({status})"),
        Outcome::Died(why) => bail!(why),
    }
    damaged.map_or(Ok(()), Err)
}

/// Switching a fault on and off, in this machine's own time. Never compared: that time depends on what else runs here.
fn natively(program: &Path, figures: &mut Figures) {
    let measured = run::output(Command::new(program).arg("switch"))
        .and_then(|lines| lines.lines().try_for_each(|line| figures.native_line(line)));
    if let Err(error) = measured {
        figures.skip_native(&format!("{error:#}"));
    }
}

fn bless(project: &Project, figures: &Figures) -> Result<()> {
    for why in figures.not_measured() {
        eprintln!("bench: committed without a figure: {why}");
    }
    write(&committed(project), &figures.to_json()?)?;
    let specification = project.root().join("SPECIFICATION.md");
    let text = fs::read_to_string(&specification)
        .with_context(|| format!("cannot read {}", specification.display()))?;
    let text = table::replace(&text, &table::markdown(figures))
        .with_context(|| specification.display().to_string())?;
    write(&specification, &text)?;
    eprintln!("bench: rewrote {} and the table in SPECIFICATION.md", committed(project).display());
    Ok(())
}

fn compare(project: &Project, figures: &Figures) -> Result<()> {
    let path = committed(project);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let before =
        Figures::from_json(&text).with_context(|| format!("cannot read {}", path.display()))?;
    if before.kernel() != figures.kernel() {
        eprintln!(
            "bench: the committed figures are of another kernel: {}, not {}",
            before.kernel(),
            figures.kernel()
        );
    }
    let worse = figures.worse_than(&before);
    ensure!(
        worse.is_empty(),
        "worse than on {} (if that is meant: `cargo xtask bench syscall --bless`):\n  {}",
        before.date(),
        worse.join("\n  ")
    );
    eprintln!("bench: no figure has grown since {}", before.date());
    Ok(())
}

fn committed(project: &Project) -> PathBuf {
    project.root().join("xtask/bench/syscall.json")
}

fn results(project: &Project) -> PathBuf {
    project.target().join("bench/syscall.json")
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
