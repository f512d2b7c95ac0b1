//! Real processes, started, failed to start, and left behind by nobody.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::id,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{fcntl::OFlag, unistd::pipe2};

use super::*;
use role::{Role, in_role, program};

pub(in crate::engine) mod role;

/// Roles of these tests.
pub(in crate::engine) const ROLES: &[(&str, Role)] = &[
    ("stay", |_| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }),
    ("exit", |arguments| arguments[0].parse().unwrap()),
    ("leak", |_| spawn_many_and_compare()),
    ("orphan", |arguments| leave_an_orphan(&arguments[0])),
    ("report", |_| report_surroundings()),
];

const LONG: Duration = Duration::from_secs(20);

/// A folder that goes away with the value.
pub(in crate::engine) struct Folder(pub(in crate::engine) PathBuf);

impl Folder {
    pub(in crate::engine) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("faultbox-engine-{}-{number}", id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(in crate::engine) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn script(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(launch: &Launch) -> Exit {
    start(launch, None, None).unwrap().wait(LONG).expect("it ends")
}

#[test]
fn an_exit_is_told_as_often_as_asked() {
    let mut process = start(&in_role("exit", &["7"]), None, None).unwrap();
    assert_eq!(process.wait(LONG), Some(Exit::Code(7)));
    assert_eq!(process.wait(Duration::ZERO), Some(Exit::Code(7)));
    process.signal(libc::SIGKILL);
}

#[test]
fn a_signal_ends_a_process_and_is_told() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGRTMIN() + 3] {
        let mut process = start(&in_role("stay", &[]), None, None).unwrap();
        assert_eq!(process.wait(Duration::from_millis(20)), None);
        process.signal(signal);
        assert_eq!(process.wait(LONG), Some(Exit::Signal(signal)));
    }
}

#[test]
fn every_method_makes_the_same_process() {
    for methods in [METHODS, &[Method::Clone], &[Method::Fork]] {
        let mut process = start_by(methods, &in_role("exit", &["3"]), None, None).unwrap();
        assert_eq!(process.wait(LONG), Some(Exit::Code(3)), "{methods:?}");
        let error = start_by(methods, &program("/no/such", &[]), None, None).unwrap_err();
        assert_eq!(error.0, "cannot execute /no/such: No such file or directory");
    }
}

#[test]
fn a_process_is_born_in_its_cgroup() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let Some(root) = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some("cgroup2")).then(|| words.next().unwrap_or_default().to_owned())
    }) else {
        eprintln!("skipped: no cgroup v2 is mounted");
        return;
    };
    let cgroup = Path::new(&root).join(format!("faultbox-launch-{}", id()));
    if let Err(error) = fs::create_dir(&cgroup) {
        eprintln!("skipped: cannot make {}: {error}", cgroup.display());
        return;
    }
    let directory = File::open(&cgroup).unwrap();
    for method in METHODS {
        let launch = in_role("stay", &[]);
        let mut process = start_by(&[*method], &launch, Some(directory.as_fd()), None).unwrap();
        let found = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        process.signal(libc::SIGKILL);
        process.wait(LONG);
        assert_eq!(found.trim(), process.pid().to_string(), "{method:?}");
    }
    fs::remove_dir(&cgroup).unwrap();

    // Its folder is gone, but we still hold it.
    let error = start(&in_role("exit", &["0"]), Some(directory.as_fd()), None).unwrap_err();
    assert!(error.0.contains("joining its cgroup: "), "{error}");
}

#[test]
fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
    let folder = Folder::new();
    let mut foreign = fs::read("/bin/true").unwrap();
    foreign.truncate(4096);
    let other = if cfg!(target_arch = "x86_64") { (183u16, "aarch64") } else { (62, "x86_64") };
    foreign[18..20].copy_from_slice(&other.0.to_le_bytes());
    let wrong =
        format!("exec format error (binary is {}, host is {})", other.1, std::env::consts::ARCH);
    let cases = [
        (folder.0.join("absent"), "No such file or directory"),
        (folder.0.clone(), "Permission denied"),
        (folder.script("unmarked", b"#!/bin/sh\n", 0o644), "Permission denied"),
        (folder.script("bare", b"echo hello\n", 0o755), "exec format error"),
        (folder.script("empty", b"", 0o755), "exec format error"),
        (folder.script("cut", b"\x7fELF", 0o755), "exec format error"),
        (folder.script("foreign", &foreign, 0o755), &*wrong),
        (
            folder.script("lost", b"#! /no/such/shell -e\n", 0o755),
            "its interpreter /no/such/shell does not exist",
        ),
    ];
    for (path, reason) in cases {
        let path = path.to_str().unwrap();
        let error = start(&program(path, &[]), None, None).unwrap_err();
        assert_eq!(error.0, format!("cannot execute {path}: {reason}"));
    }
    let error = start(&program("x", &[]), None, None).unwrap_err();
    assert_eq!(error.0, "cannot execute x: No such file or directory", "PATH is not searched");
}

#[test]
fn a_path_that_is_no_c_string_is_an_error() {
    let mut launch = program("/bin/true", &[]);
    launch.program = "/bin/tr\0ue".into();
    assert!(start(&launch, None, None).unwrap_err().0.contains("zero byte"));
}

#[test]
fn a_process_starts_with_clean_surroundings() {
    // Rust ignores SIGPIPE, and this descriptor is inheritable.
    let open = File::open("/dev/null").unwrap();
    fcntl(&open, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut launch = in_role("report", &[]);
    launch.output = Some((write.try_clone().unwrap(), write));
    let mut process = start(&launch, None, None).unwrap();
    drop(launch);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(process.wait(LONG), Some(Exit::Code(0)), "{text}");
    assert_eq!(text, "stdin null, descriptors 0 1 2 3, session own, ignored 0, blocked 0\n");
}

/// What a new process finds. Descriptor 3 is the folder's that is being listed.
fn report_surroundings() -> i32 {
    let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    descriptors.sort();
    let input = fs::read_link("/proc/self/fd/0").unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let session = nix::unistd::getsid(None).unwrap() == nix::unistd::getpid();
    println!(
        "stdin {}, descriptors {}, session {}, ignored {:x}, blocked {:x}",
        input.file_name().unwrap().display(),
        descriptors.join(" "),
        if session { "own" } else { "inherited" },
        mask("SigIgn:"),
        mask("SigBlk:"),
    );
    0
}

#[test]
fn the_end_of_the_starter_ends_the_process() {
    let folder = Folder::new();
    let file = folder.file("pid");
    assert_eq!(run(&in_role("orphan", &[&file])), Exit::Code(0));
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let deadline = std::time::Instant::now() + LONG;
    // Not our child, so its end can only be looked for: gone, or a zombie that nobody reaps.
    let running = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    };
    while running() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!running());
}

/// Starts a process and ends without waiting for it.
fn leave_an_orphan(file: &str) -> i32 {
    let process = start(&in_role("stay", &[]), None, None).unwrap();
    fs::write(file, process.pid().to_string()).unwrap();
    std::mem::forget(process);
    0
}

#[test]
fn a_thousand_starts_leave_nothing_behind() {
    assert_eq!(run(&in_role("leak", &[])), Exit::Code(0));
}

/// In a process of its own, as other tests open and close descriptors, too.
fn spawn_many_and_compare() -> i32 {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let rounds = |count| {
        for i in 0..count {
            match i % 3 {
                0 => drop(start(&in_role("stay", &[]), None, None).unwrap()),
                1 => drop(start(&program("/no/such", &[]), None, None).unwrap_err()),
                _ => {
                    let mut process = start(&program("/bin/true", &[]), None, None).unwrap();
                    assert_eq!(process.wait(LONG), Some(Exit::Code(0)));
                }
            }
        }
    };
    rounds(10);
    let before = (open(), mappings());
    rounds(1000);
    let after = (open(), mappings());
    // A heap may grow by a mapping or two, a thousand pages would be seen.
    assert!(before.0 == after.0 && after.1 < before.1 + 10, "{before:?} became {after:?}");
    // SAFETY: no pointers are passed.
    let left = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!((left, nix::errno::Errno::last()), (-1, nix::errno::Errno::ECHILD));
    0
}
