//! `kill -9` of the runner at random instants: nothing may be left.

use std::{
    env, fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    litter,
    project::{
        Place, await_end, finish, have_machine_alone, is_slow, not_tested, root, say,
        share_machine, wait_until,
    },
};

/// A fault under which two services talk without end, one of which has descendants: a child, and
/// a daemon in a session of its own.
const SPEC: &str = r#"
db = service("db", "/bin/sh", interface("main", "tcp", 5432),
    args = ["-c", "sleep 1000 & setsid sleep 1001 & exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5432"))
api = service("api", "{bin}/mock-api", interface("public", "http", 8080),
    env = {"DB_ADDR": db.main.addr}, depends_on = [db], healthcheck = http("localhost:8080/health"))

def test_fault():
    def scenario():
        for _ in range(100000):
            api.post(path = "/data/key", body = "value")
    fault(db, write = deny("EIO"), run = scenario)
"#;

/// How long after the kill something may be left.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup around a run. It can be removed only when nothing lives in or below it.
struct Enclosure(PathBuf);

impl Enclosure {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let point = mount.split(' ').nth(4)?;
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = Path::new(point).join(own).join(format!("fb-it-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    /// Makes the command start in this cgroup.
    fn enclose(&self, command: &mut Command) {
        let procs = self.0.join("cgroup.procs");
        // SAFETY: opens, writes and closes a file between fork and exec; the closure allocates
        // nothing that another thread could hold a lock of, as the path exists already.
        unsafe {
            command.pre_exec(move || fs::File::options().write(true).open(&procs)?.write_all(b"0"));
        }
    }

    fn below(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let groups = entries.filter(|it| it.path().is_dir()).map(|it| it.path());
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap();
        groups
            .map(|it| it.display().to_string())
            .chain(processes.lines().map(str::to_owned))
            .collect()
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        wait_until(PATIENCE, || fs::remove_dir(&self.0).is_ok());
    }
}

/// xorshift64*: instants need not be good randomness, only different each time and printed.
struct Instants(u64);

impl Instants {
    fn next_below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let fraction =
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64;
        limit.mul_f64(fraction)
    }
}

/// Where nsfs files are mounted: a network namespace that outlives its processes.
fn pinned_namespaces() -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(" - nsfs ")).count()
}

/// Whether there is nothing now that was not there before; what is gone since does not matter,
/// because the kernel frees what the last test left in its own time.
fn is_subset<T: PartialEq>(now: Option<&[T]>, before: Option<&[T]>) -> bool {
    let before = before.unwrap_or_default();
    now.unwrap_or_default().iter().all(|it| before.contains(it))
}

#[test]
fn killing_the_runner_at_any_instant_leaves_nothing() {
    let kills: u32 = env::var("FAULTBOX_TEST_KILLS").map_or(50, |it| it.parse().unwrap());
    let place = Place::new();
    let spec = place.spec("kill.star", SPEC);
    let _alone = have_machine_alone();
    let enclosure = Enclosure::new();
    if enclosure.is_none() {
        not_tested("left-over cgroups: no writable cgroup v2 here");
    }
    let objects = litter::kernel_objects();
    if objects.is_none() {
        not_tested("left-over eBPF objects: no right to list them");
    }
    let namespaces = pinned_namespaces();
    // From the start to some time into the fault.
    let range = Duration::from_millis(if is_slow() { 4000 } else { 400 });
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    say(&format!("instants of seed {seed} up to {range:?}"));
    let mut instants = Instants(seed);
    let mut slowest = Duration::ZERO;
    for number in 0..kills {
        let mut command = place.faultbox_test(&["--quiet", &spec]);
        if let Some(enclosure) = &enclosure {
            enclosure.enclose(&mut command);
        }
        let begin = Instant::now();
        let mut child = command.spawn().unwrap();
        let instant = instants.next_below(range);
        thread::sleep(instant);
        child.kill().unwrap();
        let killed = Instant::now();
        let run = await_end(child, begin);
        assert_eq!(run.code, 128 + 9, "kill {number} after {instant:?}: {run:?}");
        let is_clean = || {
            litter::processes(&place).is_empty()
                && litter::sessions(&place).is_empty()
                && enclosure.as_ref().is_none_or(|it| it.below().is_empty())
                && is_subset(litter::kernel_objects().as_deref(), objects.as_deref())
                && pinned_namespaces() == namespaces
        };
        assert!(
            wait_until(PATIENCE, is_clean),
            "kill {number} after {instant:?} left {:?} {:?} {:?} {:?}, before {objects:?}",
            litter::processes(&place),
            litter::sessions(&place),
            enclosure.as_ref().map(Enclosure::below),
            litter::kernel_objects(),
        );
        slowest = slowest.max(killed.elapsed());
        if let Some(enclosure) = &enclosure {
            // Nobody breaks the calls of whoever comes after.
            let mut command = Command::new("/bin/sh");
            let file = place.path.join("after");
            command.args(["-c", "echo ok > \"$0\" && cat \"$0\"", file.to_str().unwrap()]);
            command.stdout(std::process::Stdio::piped());
            enclosure.enclose(&mut command);
            assert_eq!(finish(command).expect(0).stdout, "ok\n");
        }
    }
    say(&format!("{kills} kills, all clean after at most {slowest:?}"));
}

#[test]
fn what_the_janitor_did_not_clean_the_next_start_does() {
    let place = Place::new();
    let spec = place.spec("kill.star", SPEC);
    let _shared = share_machine();
    let mut child = place.faultbox_test(&["--quiet", &spec]).spawn().unwrap();
    let has_services = || litter::processes(&place).iter().any(|it| it.contains("mock-api"));
    assert!(wait_until(Duration::from_secs(60), has_services));
    // Its name is that of the runner; it has no threads and is the runner's first child.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(children).unwrap();
    let janitor = children.split_ascii_whitespace().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "faultbox-sweep"
    });
    let janitor: i32 = janitor.expect("no janitor").parse().unwrap();
    let sigkill = nix::sys::signal::Signal::SIGKILL;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(janitor), sigkill).unwrap();
    child.kill().unwrap();
    await_end(child, Instant::now());
    // The session and the directory that holds it.
    assert_eq!(litter::sessions(&place).len(), 2);
    let example = root().join("specs/tutorial/first-test.star");
    let next = place.faultbox_test(&["--quiet", "--test", "ping", example.to_str().unwrap()]);
    finish(next).expect(0);
    litter::assert_none(&place, Duration::ZERO);
}

#[test]
fn an_orderly_runner_survives_the_loss_of_its_janitor() {
    let place = Place::new();
    let _shared = share_machine();
    let child = place.faultbox_test(&["specs/tutorial/fault-test.star"]).spawn().unwrap();
    let task = format!("/proc/{0}/task/{0}/children", child.id());
    let mut killed = false;
    wait_until(Duration::from_secs(5), || {
        for pid in fs::read_to_string(&task).unwrap_or_default().split_ascii_whitespace() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end() == "faultbox-sweep" {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                killed = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok();
            }
        }
        killed
    });
    assert!(killed, "no janitor seen");
    await_end(child, Instant::now()).expect(0);
    litter::assert_none(&place, Duration::ZERO);
}
