//! `cargo xtask bench runs`: what a run costs beside starting and stopping the services that it tests.
//!
//! The yardstick is a loop that starts the tutorial's two services, waits until each accepts connections, sends both
//! SIGTERM and waits for their ends, with nothing around it. Everything is measured in one go, one after the other, so
//! that ratios mean something on a machine whose speed changes from hour to hour.

use std::{
    fmt::Write as _,
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    artifacts,
    project::Project,
    run, setup,
    vm::{Cgroups, Guest, Kernel, Outcome},
};

/// One fault in front of a test of two services.
const SPEC: &str = "specs/tutorial/chance.star";
/// One test of one service.
const TRIVIAL: &str = "specs/tutorial/first-test.star";
/// The guest is many times slower.
const RUNS_IN_GUEST: usize = 100;
const GUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a service may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Runs {
    /// How many runs a night has.
    #[arg(long = "runs", value_name = "N", default_value_t = 1000, value_parser = at_least_two)]
    count: usize,
    /// Measure with this binary, here, and in no virtual machine; as the guest does.
    #[arg(long, value_name = "FAULTBOX")]
    here: Option<std::path::PathBuf>,
    /// What --engine of faultbox test is given.
    #[arg(long, default_value = "auto")]
    engine: String,
}

/// Something measured: what, in milliseconds per run, and beside which yardstick.
struct Row {
    title: String,
    per_run: f64,
    yardstick: Option<f64>,
}

/// Measures natively and in the virtual machine, and prints both tables.
pub(crate) fn run(project: &Project, args: &Runs) -> Result<ExitCode> {
    if let Some(binary) = &args.here {
        let rows = measure(project.root(), binary, args)?;
        run::print(table(&rows).as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    setup::vm()?;
    let built = artifacts::build(
        run::cargo().args(["build", "--release", "-p", "faultbox"]).current_dir(project.root()),
    )?;
    let binary =
        built.iter().find(|it| it.name == "faultbox" && it.kind == artifacts::Kind::Binary);
    let binary = &binary.context("cargo has built no faultbox")?.executable;
    crate::build::programs(project, false)?;
    println!("natively, release build, {} runs a night:", args.count);
    let rows = measure(project.root(), binary, args)?;
    run::print(table(&rows).as_bytes());
    println!("\nin the virtual machine, kernel 6.1, --engine ebpf, {RUNS_IN_GUEST} runs a night:");
    in_guest(project, binary)?;
    Ok(ExitCode::SUCCESS)
}

fn in_guest(project: &Project, binary: &Path) -> Result<()> {
    let guest = Guest {
        kernel: Kernel::ErrorInjection,
        memory: "3G".to_owned(),
        timeout: GUEST_TIMEOUT,
        icount: false,
        extra: Vec::new(),
        cgroups: Cgroups::default(),
        docker: None,
    };
    let own = std::env::current_exe().context("cannot find xtask itself")?;
    let quoted = |path: &Path| run::quote(&path.to_string_lossy());
    let command = format!(
        "cd {} && {} bench runs --runs {RUNS_IN_GUEST} --engine ebpf --here {}",
        quoted(project.root()),
        quoted(&own),
        quoted(binary)
    );
    match guest.run(project, &command, |_| ())? {
        Outcome::Exited(0) => Ok(()),
        Outcome::Exited(status) => bail!("measuring failed in the guest ({status})"),
        Outcome::Died(why) => bail!(why),
    }
}

fn measure(root: &Path, binary: &Path, args: &Runs) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut bare = [0.0; 2];
    for (jobs, bare) in (1..).zip(&mut bare) {
        *bare = bare_loop(root, args.count, jobs)?;
        let title = format!("start and stop of the two services by a bare loop, {jobs} at a time");
        rows.push(Row { title, per_run: *bare, yardstick: None });
    }
    let test = |spec: &str, flags: &[&str]| {
        let mut command = Command::new(binary);
        command.args(["test", "--quiet", "--engine", &args.engine, spec]).args(flags);
        command.current_dir(root);
        command
    };
    let once = median((0..20).map(|_| {
        let output = test(SPEC, &["--timings"]).stderr(Stdio::inherit()).output()?;
        one_run(&String::from_utf8_lossy(&output.stdout)).context("no timings were printed")
    }))?;
    let title = "one run, from nothing to nothing, median of 20".to_owned();
    rows.push(Row { title, per_run: once, yardstick: Some(bare[0]) });
    let trivial = median((0..20).map(|_| {
        let begin = Instant::now();
        let mut command = test(TRIVIAL, &["--test", "ping"]);
        let status = command.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{TRIVIAL} failed ({status})");
        Ok(milliseconds(begin.elapsed()))
    }))?;
    let title = "faultbox test of one trivial test, start to exit, median of 20".to_owned();
    rows.push(Row { title, per_run: trivial, yardstick: None });
    for (jobs, bare) in (1..).zip(bare) {
        let (runs, jobs) = (args.count.to_string(), jobs.to_string());
        let begin = Instant::now();
        let mut command = test(SPEC, &["--runs", &runs, "-j", &jobs]);
        let status = command.stdout(Stdio::null()).status()?;
        // Half of them fail, as they should.
        ensure!(status.code() == Some(2), "{SPEC} ended with {status}");
        let elapsed = begin.elapsed();
        let title = format!("{runs} runs with -j {jobs}: {:.1} s", elapsed.as_secs_f64());
        let per_run = milliseconds(elapsed) / args.count as f64;
        rows.push(Row { title, per_run, yardstick: Some(bare) });
    }
    Ok(rows)
}

/// The line of `--timings` for all steps: `  all          11.01 …`.
fn one_run(output: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("  all "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn median(values: impl Iterator<Item = Result<f64>>) -> Result<f64> {
    let mut values = values.collect::<Result<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds per run of the loop, `jobs` of them at a time.
fn bare_loop(root: &Path, runs: usize, jobs: usize) -> Result<f64> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|worker| {
                scope.spawn(move || {
                    let ports = [5432, 8080].map(|port| port + worker as u16);
                    (0..runs / jobs).try_for_each(|_| start_and_stop(root, ports))
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("the loop panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(milliseconds(begin.elapsed()) / (runs / jobs * jobs) as f64)
}

fn start_and_stop(root: &Path, [db_port, api_port]: [u16; 2]) -> Result<()> {
    let start = |program: &str, port: u16, db: &str| {
        let mut command = Command::new(root.join("bin").join(program));
        command.env_clear().env("PORT", port.to_string()).env("DB_ADDR", db);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        await_port(port)?;
        // Or it was somebody else who answered.
        ensure!(child.try_wait()?.is_none(), "{program} cannot listen on port {port}");
        anyhow::Ok(child)
    };
    let mut db = start("mock-db", db_port, "")?;
    let mut api = start("mock-api", api_port, &format!("localhost:{db_port}"))?;
    for child in [&mut api, &mut db] {
        stop(child)?;
    }
    for child in [&mut api, &mut db] {
        child.wait()?;
    }
    Ok(())
}

fn await_port(port: u16) -> Result<()> {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begin.elapsed() < PATIENCE, "nothing listens on port {port}");
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn stop(child: &Child) -> Result<()> {
    // SAFETY: no pointers. The child has not been waited for, so that the id is its own.
    let result = unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    ensure!(result == 0, "kill: {}", std::io::Error::last_os_error());
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut text = "| what | ms per run | × the bare loop |\n|---|---:|---:|\n".to_owned();
    for Row { title, per_run, yardstick } in rows {
        let ratio = yardstick.map_or_else(String::new, |it| format!("{:.2}", per_run / it));
        let _ = writeln!(text, "| {title} | {per_run:.2} | {ratio} |");
    }
    text
}

fn at_least_two(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|it| *it >= 2).ok_or_else(|| "a number from 2 on".to_owned())
}
