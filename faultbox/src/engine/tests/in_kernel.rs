//! Rungs 1 and 2, on kernels that have them.

use std::{
    collections::HashSet,
    ffi::CString,
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    sync::Arc,
};

use super::{
    super::{
        Action, Choice, Decision, Driver, Engine, Errno, Object, Options, Rule, RuleId, Rung, Site,
        Syscall, Target, TraceLevel, expand_keyword,
    },
    Kept, in_kernel, shared_engine,
    subject::{TestCgroup, inside, result},
};

fn target(engine: &Engine, cgroup: &Path) -> (Target, Arc<Kept>) {
    let kept = Kept::new();
    let driver = Driver::default();
    (engine.target("subject", Some(cgroup), driver, kept.clone()).unwrap(), kept)
}

fn deny(target: &Target, keyword: &str, errno: &str) -> Rule {
    Rule::new(
        RuleId(7),
        Site::of(target.id()),
        expand_keyword(keyword).unwrap(),
        Action::Deny(Errno::from_name(errno).unwrap()),
    )
}

fn path(name: &str) -> CString {
    CString::new(format!("/tmp/faultbox-engine-{}-{name}", std::process::id())).unwrap()
}

/// Writes one byte to a new file, then to descriptor 1 turned into a socket pair, and so on.
fn write_file(name: &CString) -> i64 {
    // SAFETY: plain calls on our own buffers.
    unsafe {
        let fd = libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600);
        if fd < 0 {
            return result(fd.into());
        }
        let written = result(libc::write(fd, c"x".as_ptr().cast(), 1) as i64);
        libc::close(fd);
        written
    }
}

#[test]
fn a_write_fails_inside_the_target_and_nowhere_else() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let (ours, other) = (TestCgroup::new("ours"), TestCgroup::new("other"));
    let nested = ours.child("nested");
    let (target, kept) = target(&engine, ours.path());
    let file = path("write");
    let write = |cgroup: &TestCgroup| inside(cgroup.path(), |out| out[0] = write_file(&file))[0];

    assert_eq!(write(&ours), 1);
    let injection = engine.inject(&[deny(&target, "write", "EIO")]).unwrap();
    assert_eq!(write(&ours), -i64::from(libc::EIO));
    assert_eq!(write(&nested), -i64::from(libc::EIO), "descendant cgroups belong to the target");
    assert_eq!(write(&other), 1);
    assert_eq!(write_file(&file), 1, "the engine's own process is nobody's target");
    let counts = injection.lift();
    assert_eq!((counts[0].1.matched, counts[0].1.fired), (2, 2));
    assert_eq!(write(&ours), 1);
    assert_eq!(write(&nested), 1);

    engine.drain();
    let write = Syscall::from_name("write").unwrap();
    let denied: Vec<_> = kept
        .records()
        .into_iter()
        .filter(|record| matches!(record.decision, Decision::Deny(_)))
        .collect();
    assert_eq!(denied.len(), 2);
    for record in denied {
        assert_eq!((record.syscall, record.rule, record.size), (write, Some(RuleId(7)), 1));
        assert_eq!(record.object, Object::File(file.to_str().unwrap().into()));
    }
    let calls = target.calls();
    let writes = calls.iter().find(|(syscall, _)| *syscall == write).unwrap().1;
    assert!(writes >= 5, "{writes} writes were counted");
    std::fs::remove_file(file.to_str().unwrap()).unwrap();
}

#[test]
fn a_denied_open_creates_nothing() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let cgroup = TestCgroup::new("open");
    let (target, _kept) = target(&engine, cgroup.path());
    let (new, old) = (path("open-new"), path("open-old"));
    std::fs::write(old.to_str().unwrap(), "kept").unwrap();
    let _injection = engine.inject(&[deny(&target, "openat", "ENOSPC")]).unwrap();
    let results = inside(cgroup.path(), |out| {
        for (i, (name, flags)) in [
            (&new, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY),
            (&old, libc::O_TRUNC | libc::O_WRONLY),
            (&old, libc::O_RDONLY),
        ]
        .into_iter()
        .enumerate()
        {
            // SAFETY: a path of ours.
            out[i] =
                result(unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), flags, 0o600) }.into());
        }
        // A copy on the stack: a constant that was never read may not be in memory yet.
        let status = *b"/proc/self/status\0";
        // SAFETY: as above; a system path, which a rule without a path spares.
        out[3] = result(unsafe { libc::open(status.as_ptr().cast(), libc::O_RDONLY) }.into());
    });
    let enospc = -i64::from(libc::ENOSPC);
    assert_eq!(results[..3], [enospc; 3]);
    assert!(results[3] >= 0);
    assert!(!Path::new(new.to_str().unwrap()).exists());
    assert_eq!(std::fs::read_to_string(old.to_str().unwrap()).unwrap(), "kept");
    std::fs::remove_file(old.to_str().unwrap()).unwrap();
}

#[test]
fn runtime_descriptors_are_never_hit() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let cgroup = TestCgroup::new("runtime");
    let (target, _kept) = target(&engine, cgroup.path());
    let rules = [deny(&target, "write", "EIO"), deny(&target, "read", "EIO")];
    let _injection = engine.inject(&rules).unwrap();
    let results = inside(cgroup.path(), |out| {
        // SAFETY: plain calls on our own buffers.
        unsafe {
            let event = libc::eventfd(0, 0);
            out[0] = result(libc::write(event, (&raw const ONE).cast(), 8) as i64);
            let mut word = 0u64;
            out[1] = result(libc::read(event, (&raw mut word).cast(), 8) as i64);
            let mut pipe = [0; 2];
            libc::pipe(pipe.as_mut_ptr());
            out[2] = result(libc::write(pipe[1], c"x".as_ptr().cast(), 1) as i64);
            let mut pair = [0; 2];
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
            out[3] = result(libc::write(pair[1], c"x".as_ptr().cast(), 1) as i64);
            // Descriptor 1 is the program's output, whatever it is.
            libc::dup2(pipe[1], 1);
            out[4] = result(libc::write(1, c"x".as_ptr().cast(), 1) as i64);
        }
    });
    assert_eq!(results[..5], [8, 8, 1, 1, -i64::from(libc::EIO)]);
}

static ONE: u64 = 1;

#[test]
fn the_rung_is_the_one_this_kernel_offers() {
    if !in_kernel() {
        return;
    }
    let engine = shared_engine();
    let rung = |name| engine.coverage().rung(Syscall::from_name(name).unwrap());
    match rung("write").unwrap() {
        Rung::SyscallFunction => assert_eq!(rung("fsync"), Ok(Rung::SyscallFunction)),
        Rung::SecurityFunction => {
            let why = rung("fsync").unwrap_err();
            assert!(why.contains("--engine auto"), "{why}");
        }
        rung @ (Rung::Kprobe | Rung::Supervisor) => {
            panic!("--engine ebpf must not choose {rung:?} on these kernels")
        }
    }
}

#[test]
fn every_program_loads_where_its_rung_says_so() {
    let mut programs = HashSet::new();
    // The verifier's work on a program is the same for every function that it is put on.
    let served = load(|syscall| programs.insert(syscall.operand().0 as u32));
    assert!(served.is_none_or(|served| served >= 5), "only {served:?} programs are of use");
}

#[test]
#[ignore = "has the verifier check every program for every call: cargo xtask test --long"]
fn every_call_in_the_table_loads_where_its_rung_says_so() {
    let served = load(|_| true);
    assert!(served.is_none_or(|served| served > 60), "only {served:?} calls are served");
}

/// Loads what those calls need that a rung serves; returns how many there were, or `None` where
/// there are no in-kernel programs.
fn load(mut is_wanted: impl FnMut(Syscall) -> bool) -> Option<u32> {
    if !in_kernel() {
        return None;
    }
    let engine = shared_engine();
    let mut state = engine.inner.lock();
    let kernel = state.kernel.as_mut().unwrap();
    let mut served = 0;
    for syscall in Syscall::all() {
        if let Ok(rung) = kernel.rung(syscall)
            && is_wanted(syscall)
        {
            kernel.try_rung(syscall, rung).unwrap_or_else(|why| panic!("{syscall}: {why}"));
            served += 1;
        }
    }
    Some(served)
}

#[test]
fn a_denial_that_its_call_never_came_to_does_not_wait_for_the_next_one() {
    if !in_kernel() {
        return;
    }
    let options = Options { choice: Choice::Ebpf, trace: TraceLevel::Off, ..Options::default() };
    let engine = Engine::start(&options).unwrap();
    let cgroup = TestCgroup::new("stale");
    let (target, _kept) = target(&engine, cgroup.path());
    let missing = path("missing/file");
    let present = path("present");
    std::fs::write(present.to_str().unwrap(), "").unwrap();
    let (mut asked, ask) = std::io::pipe().unwrap();
    let (wait, mut go) = std::io::pipe().unwrap();
    let injection = engine.inject(&[deny(&target, "openat", "EIO")]).unwrap();
    let lifter = std::thread::spawn(move || {
        asked.read_exact(&mut [0]).unwrap();
        injection.lift();
        go.write_all(b"x").unwrap();
    });
    let (ask_fd, wait_fd) = (ask.as_raw_fd(), wait.as_raw_fd());
    let results = inside(cgroup.path(), |out| {
        // SAFETY: plain calls on our own buffers and descriptors.
        unsafe {
            out[0] = result(libc::open(missing.as_ptr(), libc::O_RDONLY).into());
            // Unnamed pipes are nobody's to break.
            libc::write(ask_fd, c"x".as_ptr().cast(), 1);
            let mut byte = 0u8;
            libc::read(wait_fd, (&raw mut byte).cast(), 1);
            out[1] = result(libc::open(present.as_ptr(), libc::O_RDONLY).into());
        }
    });
    lifter.join().unwrap();
    // Rung 2 finds the denial only on the way, which this call does not get to.
    assert!([-i64::from(libc::EIO), -i64::from(libc::ENOENT)].contains(&results[0]));
    assert!(results[1] >= 0, "the fault was lifted, and yet: {}", results[1]);
    std::fs::remove_file(present.to_str().unwrap()).unwrap();
}
