//! Rung 3, and actions that take the body's place, on whatever rung carries them out.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    super::{
        Action, Choice, Driver, Engine, Errno, Injection, Rule, RuleId, Rung, Site, Syscall,
        Target, expand_keyword, launch::tests::Folder,
    },
    Kept, in_kernel, own_engine,
    subject::{TestCgroup, inside, result},
};

struct Stage {
    target: Target,
    cgroup: TestCgroup,
    engine: Engine,
    folder: Folder,
}

impl Stage {
    /// `None`: not to be had here; says so.
    fn new(name: &str, choice: Choice) -> Option<Self> {
        if !in_kernel() {
            return None;
        }
        let engine = match own_engine(choice) {
            Ok(engine) => engine,
            Err(error) => {
                assert_eq!(choice, Choice::Kprobe, "{error}");
                assert!(error.0.contains("--engine kprobe cannot be served"), "{error}");
                eprintln!("not run here: {error}");
                return None;
            }
        };
        let cgroup = TestCgroup::new(&format!("kprobe-{name}"));
        let target =
            engine.target("subject", Some(cgroup.path()), Driver::default(), Kept::new()).unwrap();
        Some(Self { target, cgroup, engine, folder: Folder::new() })
    }

    fn rung(&self, name: &str) -> Result<Rung, String> {
        self.engine.coverage().rung(Syscall::from_name(name).unwrap())
    }

    fn inject(&self, keyword: &str, action: Action) -> Result<Injection, String> {
        let site = Site::of(self.target.id());
        let rule = Rule::new(RuleId(7), site, expand_keyword(keyword).unwrap(), action);
        self.engine.inject(&[rule]).map_err(|error| error.to_string())
    }

    /// Writes three bytes to a new file and syncs it; both results, and the content.
    fn write_and_sync(&self) -> ([i64; 2], String) {
        use std::os::fd::AsRawFd as _;
        let path = self.folder.file("file");
        let file = std::fs::File::create(&path).unwrap();
        let results = inside(self.cgroup.path(), |out| {
            // SAFETY: plain calls on our own buffers.
            unsafe {
                out[0] = result(libc::write(file.as_raw_fd(), c"abc".as_ptr().cast(), 3) as i64);
                out[1] = result(libc::fsync(file.as_raw_fd()).into());
            }
        });
        ([results[0], results[1]], std::fs::read_to_string(path).unwrap())
    }

    /// The signal that a process dies by that writes.
    fn death_by_write(&self, signal: Signal) -> (i32, String) {
        use std::os::fd::AsRawFd as _;
        let path = self.folder.file("file");
        let file = std::fs::File::create(&path).unwrap();
        let procs = self.cgroup.path().join("cgroup.procs");
        let procs = std::fs::File::options().write(true).open(procs).unwrap();
        // SAFETY: the child makes plain system calls and exits.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    libc::prctl(libc::PR_SET_DUMPABLE, 0);
                    // The standard library handles SIGSEGV, and returns from it.
                    libc::signal(signal as i32, libc::SIG_DFL);
                    libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1);
                    libc::write(file.as_raw_fd(), c"abc".as_ptr().cast(), 3);
                    libc::_exit(0)
                }
                child => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    status
                }
            }
        };
        let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
        (signal, std::fs::read_to_string(path).unwrap())
    }
}

fn eio() -> Action {
    Action::Deny(Errno::from_name("EIO").unwrap())
}

#[test]
fn a_kprobe_fails_calls_of_the_target() {
    let Some(stage) = Stage::new("deny", Choice::Kprobe) else { return };
    assert_eq!(stage.rung("write"), Ok(Rung::Kprobe));
    assert_eq!(stage.write_and_sync(), ([3, 0], "abc".to_owned()));
    let write = stage.inject("write", eio()).unwrap();
    let fsync = stage.inject("fsync", eio()).unwrap();
    let failed = -i64::from(libc::EIO);
    assert_eq!(stage.write_and_sync(), ([failed, failed], String::new()));
    assert_eq!([write.lift()[0].1.fired, fsync.lift()[0].1.fired], [1, 1]);
    assert_eq!(stage.write_and_sync(), ([3, 0], "abc".to_owned()));
}

#[test]
fn a_kprobe_delays_nothing_and_says_so() {
    let Some(stage) = Stage::new("delay", Choice::Kprobe) else { return };
    let delay = Action::Delay(Duration::from_millis(100));
    let error = stage.inject("write", delay).unwrap_err();
    assert!(error.contains("write: ") && error.contains("--engine seccomp"), "{error}");
    assert_eq!(stage.write_and_sync(), ([3, 0], "abc".to_owned()));
    assert_eq!(stage.engine.undelayed(), 0);
}

#[test]
fn a_result_takes_the_bodys_place_where_the_rung_can() {
    for choice in [Choice::Ebpf, Choice::Kprobe] {
        let Some(stage) = Stage::new("returns", choice) else { continue };
        let rung = stage.rung("write").unwrap();
        for value in [0, 5] {
            let injection = match stage.inject("write", Action::Return(value)) {
                Ok(injection) => injection,
                Err(error) => {
                    // Of the two, rung 1 can do all but zero; rung 2 neither.
                    assert!(
                        rung == Rung::SecurityFunction
                            || rung == Rung::SyscallFunction && value == 0,
                        "{rung:?}: {error}"
                    );
                    assert!(error.contains("--engine seccomp"), "{error}");
                    eprintln!("{rung:?} cannot return {value}: {error}");
                    continue;
                }
            };
            assert_eq!(stage.write_and_sync(), ([value, 0], String::new()), "{rung:?}");
            // A denial of the same call afterwards: the hook may be of another kind now.
            let deny = stage.inject("write", eio()).unwrap();
            assert_eq!(injection.lift()[0].1.fired, 1);
            let failed = -i64::from(libc::EIO);
            assert_eq!(stage.write_and_sync(), ([failed, 0], String::new()), "{rung:?}");
            assert_eq!(deny.lift()[0].1.fired, 1);
            assert_eq!(stage.write_and_sync(), ([3, 0], "abc".to_owned()));
        }
    }
}

#[test]
fn a_crash_is_at_exactly_this_call() {
    for choice in [Choice::Ebpf, Choice::Kprobe] {
        let Some(stage) = Stage::new("crash", choice) else { continue };
        for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGABRT] {
            let injection = stage.inject("write", Action::Crash(signal)).unwrap();
            assert_eq!(
                stage.death_by_write(signal),
                (signal as i32, String::new()),
                "{choice:?}, {signal}"
            );
            assert_eq!(injection.lift()[0].1.fired, 1, "{choice:?}, {signal}");
        }
        assert_eq!(stage.death_by_write(Signal::SIGABRT), (0, "abc".to_owned()));
    }
}
