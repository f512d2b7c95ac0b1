//! Running the binary in the project's root.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// No run of any test takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Held for reading by every run, and for writing by tests that measure or count something that
/// belongs to the whole machine.
static MACHINE: RwLock<()> = RwLock::new(());

/// Shares the machine with other tests.
pub(crate) fn share_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Has the machine alone, as far as these tests go.
pub(crate) fn have_machine_alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The project's root, which has `bin/` and `specs/`.
pub(crate) fn root() -> PathBuf {
    match env::var_os("FAULTBOX_TEST_ROOT") {
        Some(root) => root.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned(),
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    env::var_os("FAULTBOX_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_faultbox")), PathBuf::from)
}

/// What `--engine` is given.
pub(crate) fn engine() -> String {
    env::var("FAULTBOX_TEST_ENGINE").unwrap_or_else(|_| "auto".to_owned())
}

/// Whether this run asks for in-kernel programs on the kernel of ours that has a hook for most
/// calls and none for the fsync family: Debian's 6.12.
pub(crate) fn fsync_is_refused() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    engine() == "ebpf" && release.starts_with("6.12.")
}

/// Says that something could not be tested here, and why.
pub(crate) fn not_tested(why: &str) {
    say(&format!("NOT TESTED: {why}"));
}

/// Says something although the test passes: the harness keeps back what macros print, not what is
/// written.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether time measured here means nothing.
pub(crate) fn is_slow() -> bool {
    env::var_os("FAULTBOX_TEST_SLOW").is_some_and(|it| !it.is_empty())
}

/// A directory of one test's own, which is also the `TMPDIR` of the runs it starts. Its path is
/// in the environment of everything that descends from them.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("fb-it-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// Writes a spec, in which `{bin}` stands for the directory of the demo services.
    pub(crate) fn spec(&self, name: &str, source: &str) -> String {
        let path = self.path.join(name);
        let bin = root().join("bin");
        fs::write(&path, source.replace("{bin}", bin.to_str().unwrap())).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command `faultbox …`, in the project's root.
    pub(crate) fn faultbox(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(root())
            .env("TMPDIR", &self.path)
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own, as a shell would give it, to which Ctrl-C can be sent.
        command.process_group(0);
        command
    }

    /// The command `faultbox test --engine … …`.
    pub(crate) fn faultbox_test(&self, arguments: &[&str]) -> Command {
        let engine = engine();
        let mut all = vec!["test", "--engine", &engine];
        all.extend(arguments);
        self.faultbox(&all)
    }

    /// Runs `faultbox test …` and checks that it leaves nothing behind.
    pub(crate) fn test(&self, arguments: &[&str]) -> Finished {
        let _shared = share_machine();
        let finished = finish(self.faultbox_test(arguments));
        assert!(!finished.stderr.contains("panicked"), "{finished:?}");
        super::litter::assert_none(self, Duration::from_secs(2));
        finished
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a run has printed and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// 128 + the signal if one ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Finished {
    /// Fails with everything that was printed unless the exit code is this.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails with everything that was printed unless standard output has this text.
    #[track_caller]
    pub(crate) fn prints(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "no {text:?} in\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Likewise for standard error.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}\n{}", self.stderr, self.stdout);
        self
    }

    /// The lines of a test's block, the header first.
    #[track_caller]
    pub(crate) fn block(&self, test: &str) -> Vec<&str> {
        let is_header = |line: &&str| line.contains(&format!(": {test} ("));
        let mut lines = self.stdout.lines().skip_while(|line| !is_header(line));
        let header =
            lines.next().unwrap_or_else(|| panic!("no block of {test} in\n{}", self.stdout));
        [header].into_iter().chain(lines.take_while(|line| line.starts_with("  "))).collect()
    }
}

/// Runs `faultbox test` on a spec of this text.
pub(crate) fn run_text(spec: &str, flags: &[&str]) -> Finished {
    let place = Place::new();
    let spec = place.spec("spec.star", spec);
    let arguments: Vec<&str> = [spec.as_str()].into_iter().chain(flags.iter().copied()).collect();
    place.test(&arguments)
}

/// Starts a command and waits for its end.
pub(crate) fn finish(mut command: Command) -> Finished {
    let begin = Instant::now();
    await_end(command.spawn().unwrap(), begin)
}

/// Waits for the end of a run that was started at `begin`.
pub(crate) fn await_end(mut child: Child, begin: Instant) -> Finished {
    use std::os::unix::process::ExitStatusExt;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(child.stdout.take().map(|it| Box::new(it) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|it| Box::new(it) as Box<dyn Read + Send>));
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => {
                let _ = child.kill();
                panic!("still running after {PATIENCE:?}: {}", stderr.join().unwrap());
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let elapsed = begin.elapsed();
    Finished {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
        elapsed,
    }
}

/// Waits until a condition holds, at most this long.
pub(crate) fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
