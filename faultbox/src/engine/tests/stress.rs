//! Faults at full speed, and death: a program writes and connects in four threads while faults on
//! both go on and off, the tracer is killed, and so is the runner. Nothing may be lost, doubled or
//! left hanging, and the kernel may not complain.

pub(in crate::engine) mod roles;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    super::launch::tests::role::ROLE,
    agreement::{Random, seed},
    in_kernel,
    subject::TestCgroup,
};
use roles::THREADS;

/// How long a thread may be stopped when all faults are lifted.
const STOPPED: Duration = Duration::from_secs(1);
/// How long the program may take to come to its end, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a runner may take to have its first faults on: a busy host's emulated verifier looks at
/// each of its programs first.
const START: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(20);

fn duration() -> Duration {
    let text = std::env::var("FAULTBOX_TEST_STRESS_SECONDS").unwrap_or_else(|_| "300".to_owned());
    Duration::from_secs(text.parse().expect("FAULTBOX_TEST_STRESS_SECONDS is a number"))
}

/// This binary in a role, with its output in a file.
fn play(role: &str, arguments: &[&str], output: &Path) -> Child {
    let output = File::options().create(true).append(true).open(output).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .env("FAULTBOX_TEST_ARGUMENTS", arguments.join(" "))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}

/// What `/proc` says of each thread: state and tracer.
fn threads(pid: u32) -> Vec<(u32, char, u32)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let tid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        let line = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        Some((tid, line("State:")?.chars().next()?, line("TracerPid:")?.parse().ok()?))
    };
    entries.filter_map(of).collect()
}

/// Fails if a thread stays stopped for longer than it may.
fn assert_nobody_is_stuck(pid: u32) {
    let stopped = || -> BTreeSet<u32> {
        let is_stopped = |(_, state, _): &(u32, char, u32)| matches!(state, 'T' | 't');
        threads(pid).iter().filter(|it| is_stopped(it)).map(|it| it.0).collect()
    };
    let (mut always, start) = (stopped(), Instant::now());
    while !always.is_empty() {
        assert!(
            start.elapsed() < STOPPED,
            "threads {always:?} are stopped for {STOPPED:?} after all faults are lifted: {:?}",
            threads(pid)
        );
        thread::sleep(TICK);
        let now = stopped();
        always.retain(|tid| now.contains(tid));
    }
}

/// The kernel's log from here on.
struct KernelLog(File);

impl KernelLog {
    fn new() -> Self {
        let mut options = File::options();
        let mut log = options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("the kernel's log can be read");
        log.seek(SeekFrom::End(0)).unwrap();
        Self(log)
    }

    /// Lines that no kernel writes when all is well.
    fn complaints(&mut self) -> Vec<String> {
        const WORDS: &[&str] = &[
            "WARNING",
            "BUG",
            "Oops",
            "blocked for more",
            "stall",
            "general protection",
            "Call Trace",
        ];
        let mut found = Vec::new();
        let mut record = [0; 8192];
        // A record at a time; EPIPE: some were overwritten.
        loop {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(len) => {
                    let line = String::from_utf8_lossy(&record[..len]);
                    if WORDS.iter().any(|word| line.contains(word)) {
                        found.push(line.into_owned());
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        found
    }
}

/// Takes connections, and says so to each.
fn serve(listener: TcpListener) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            // One that has gone is counted by the other side as well.
            let _ = stream.and_then(|mut stream| stream.write_all(b"x"));
        }
    });
    taken
}

struct Stress {
    directory: PathBuf,
    cgroup: TestCgroup,
    subject: Child,
    owner: Option<Child>,
    owners: u64,
    tracers: u64,
    random: Random,
}

impl Stress {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts a runner, and waits until its first faults are on.
    fn start_owner(&mut self) {
        let log = self.file("owner");
        let before = lines(&log);
        let seed = (self.random.below(1 << 30)).to_string();
        let cgroup = self.cgroup.path().to_str().unwrap().to_owned();
        self.owner = Some(play("stress-owner", &[&cgroup, &seed], &log));
        self.owners += 1;
        let start = Instant::now();
        while lines(&log) == before {
            let text = || fs::read_to_string(&log).unwrap();
            assert!(start.elapsed() < START, "no faults: {}", text());
            let owner = self.owner.as_mut().unwrap();
            assert!(owner.try_wait().unwrap().is_none(), "no runner: {}", text());
            thread::sleep(TICK);
        }
    }

    fn kill_owner(&mut self) {
        let mut owner = self.owner.take().unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert_nobody_is_stuck(self.subject.id());
    }

    fn kill_tracer(&mut self) {
        let tracer = threads(self.subject.id()).into_iter().find(|it| it.2 != 0);
        if let Some((_, _, tracer)) = tracer {
            // SAFETY: no pointers. The tracer lives as long as its runner does, and that is not
            // killed at the same time.
            unsafe { libc::kill(tracer as i32, libc::SIGKILL) };
            self.tracers += 1;
        }
    }

    fn sizes(&self) -> Vec<u64> {
        let size = |i| fs::metadata(self.file(&format!("data{i}"))).map_or(0, |it| it.len());
        (0..THREADS).map(size).collect()
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        for child in self.owner.iter_mut().chain([&mut self.subject]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn lines(path: &Path) -> usize {
    File::open(path).map_or(0, |file| BufReader::new(file).lines().count())
}

#[test]
#[ignore = "takes five minutes, or FAULTBOX_TEST_STRESS_SECONDS: cargo xtask test --long"]
fn nothing_is_lost_doubled_or_stuck_under_faults_that_come_and_go_and_runners_that_die() {
    if !in_kernel() {
        return;
    }
    let (seed, duration) = (seed(), duration());
    println!("FAULTBOX_TEST_SEED={seed}, for {duration:?}");
    let mut log = KernelLog::new();
    let directory = std::env::temp_dir().join(format!("faultbox-stress-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let taken = serve(listener);
    let cgroup = TestCgroup::new("stress");
    let arguments = [directory.to_str().unwrap(), &port];
    let subject = play("stress-subject", &arguments, &directory.join("subject"));
    fs::write(cgroup.path().join("cgroup.procs"), subject.id().to_string()).unwrap();
    fs::write(directory.join("go"), "").unwrap();
    let random = Random::new(seed);
    let mut stress =
        Stress { directory, cgroup, subject, owner: None, owners: 0, tracers: 0, random };

    let start = Instant::now();
    stress.start_owner();
    while start.elapsed() < duration {
        for _ in 0..stress.random.below(12) {
            thread::sleep(Duration::from_millis(stress.random.below(600) as u64));
            if !stress.random.one_in(4) {
                stress.kill_tracer();
            }
        }
        // A tracer that has just been killed has its runner free those it held.
        thread::sleep(Duration::from_millis(500 + stress.random.below(300) as u64));
        stress.kill_owner();
        stress.start_owner();
    }
    stress.kill_owner();

    let before = stress.sizes();
    thread::sleep(Duration::from_secs(2));
    let after = stress.sizes();
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(before < after, "thread {i} does not go on: {:?}", threads(stress.subject.id()));
    }
    fs::write(stress.file("stop"), "").unwrap();
    let end = Instant::now();
    let status = loop {
        if let Some(status) = stress.subject.try_wait().unwrap() {
            break status;
        }
        let pid = stress.subject.id();
        assert!(end.elapsed() < PATIENCE, "the program does not end: {:?}", threads(pid));
        thread::sleep(TICK);
    };
    let report = fs::read_to_string(stress.file("subject")).unwrap();
    assert!(status.success(), "{status}: {report}");
    let owner = fs::read_to_string(stress.file("owner")).unwrap();
    let sum = |word: &str| -> u64 {
        owner.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok()).sum()
    };
    let number = |word: &str| -> u64 {
        report.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok()).sum()
    };
    let connected = number("connected");
    println!(
        "{} runners and {} tracers killed; {} writes, {connected} connections; {} calls delayed, {} denied; \
         {} writes and {} connects failed; last undelayed {}",
        stress.owners,
        stress.tracers,
        number("written"),
        sum("delayed"),
        sum("denied"),
        number("refused-writes"),
        number("refused-connects"),
        owner.lines().filter_map(|it| it.strip_prefix("undelayed ")).next_back().unwrap_or("-"),
    );
    for i in 0..THREADS {
        let data = fs::read(stress.file(&format!("data{i}"))).unwrap();
        let wrong = (0u64..).zip(data.chunks(8)).find(|(n, it)| n.to_le_bytes() != **it);
        assert_eq!(wrong, None, "thread {i} lost or doubled what it wrote");
    }
    assert_eq!(taken.load(Ordering::SeqCst), connected, "connections made twice or never");
    // A killed runner no longer says what its faults did; the program does.
    let refused = number("refused-writes").min(number("refused-connects"));
    assert!(sum("delayed") > 0 && refused > 100, "nothing happened: {owner}");
    assert!(stress.owners < 3 || stress.tracers > 0);
    assert_eq!(log.complaints(), [""; 0]);
}
