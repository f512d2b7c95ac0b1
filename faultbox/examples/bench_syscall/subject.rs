//! Starting a measured process in its place, and reading what it found.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use faultbox::engine::{Exit, Launch, Target};

use crate::{
    measure::{Plan, Round, Rounds},
    report::median,
};

/// No case takes that long, but one whose process hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a process runs.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Outside any target.
    Outside,
    /// In a target.
    In(&'a Target),
    /// Outside any target, below strace with these options.
    Strace(&'a [&'a str]),
}

/// Medians of one case, in nanoseconds for each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) own: f64,
    pub(crate) elapsed: f64,
    pub(crate) spread: f64,
}

/// Files of this run in memory, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("faultbox-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Runs one case to its end.
    pub(crate) fn measure(&self, place: Place<'_>, plan: &Plan) -> Result<Measured> {
        let results = self.0.join("results");
        File::create(&results)?.set_len(size_of::<Rounds>() as u64)?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let arguments = plan.arguments(&results);
        match place {
            Place::Outside => wait(Command::new(&program).args(&arguments))?,
            Place::Strace(options) => {
                wait(Command::new("strace").args(options).arg(&program).args(&arguments))?;
            }
            Place::In(target) => inside(target, program, &arguments)?,
        }
        let rounds = read(&results)?;
        let rounds = &rounds[..plan.rounds];
        ensure!(
            rounds.iter().all(|round| round.wrong == 0),
            "some calls did not return {}",
            plan.expected
        );
        let each = |pick: fn(&Round) -> u64| -> Vec<f64> {
            rounds.iter().map(|round| pick(round) as f64 / f64::from(plan.calls)).collect()
        };
        let (own, elapsed) = (each(|round| round.own), each(|round| round.elapsed));
        let (least, most) = own
            .iter()
            .fold((f64::MAX, 0_f64), |(least, most), value| (least.min(*value), most.max(*value)));
        let typical = median(&own);
        Ok(Measured { own: typical, elapsed: median(&elapsed), spread: (most - least) / typical })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // In memory, and named after this process: nobody minds if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "the measured process failed ({status})");
    Ok(())
}

fn inside(target: &Target, program: PathBuf, arguments: &[String]) -> Result<()> {
    let own = CString::new(program.as_os_str().as_encoded_bytes())?;
    let rest = arguments.iter().map(|argument| CString::new(argument.as_str()));
    let arguments = std::iter::once(Ok(own)).chain(rest).collect::<Result<_, _>>()?;
    let null = OwnedFd::from(File::options().write(true).open("/dev/null")?);
    let errors = io::stderr().as_fd().try_clone_to_owned()?;
    let output = Some((null, errors));
    let launch = Launch { program, arguments, environment: Vec::new(), mounts: None, output };
    let mut process = target.spawn(&launch)?;
    match process.wait(PATIENCE) {
        Some(Exit::Code(0)) => Ok(()),
        Some(exit) => bail!("the measured process failed ({exit:?})"),
        None => bail!("the measured process did not end within {} s", PATIENCE.as_secs()),
    }
}

fn read(results: &Path) -> Result<Rounds> {
    let mut bytes = Vec::new();
    File::open(results)?.read_to_end(&mut bytes)?;
    let mut rounds = Rounds::default();
    let words = bytes.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_ne_bytes(bytes)
    });
    for (round, words) in rounds.iter_mut().zip(words.collect::<Vec<_>>().chunks_exact(3)) {
        *round = Round { elapsed: words[0], own: words[1], wrong: words[2] };
    }
    Ok(rounds)
}
