//! Raw tracepoints, which work on every kernel.

use std::io;

use super::{
    super::{Choice, Decision, Driver, Engine, Object, Options, Syscall, TraceLevel},
    Kept,
    subject::{TestCgroup, inside, result},
};

#[test]
fn calls_of_a_target_are_counted_exactly_and_recorded_with_their_paths() {
    let options = Options { choice: Choice::Auto, trace: TraceLevel::All, ..Options::default() };
    let engine = Engine::start(&options).unwrap();
    let cgroup = TestCgroup::new("observed");
    let kept = Kept::new();
    let target =
        engine.target("subject", Some(cgroup.path()), Driver::default(), kept.clone()).unwrap();
    let results = inside(cgroup.path(), |out| {
        // SAFETY: plain calls on our own buffers.
        unsafe {
            for _ in 0..1000 {
                libc::syscall(libc::SYS_getppid);
            }
            out[0] = result(libc::open(c"/etc/hosts".as_ptr(), libc::O_RDONLY).into());
            let mut byte = 0u8;
            out[1] = result(libc::read(out[0] as i32, (&raw mut byte).cast(), 1) as i64);
        }
    });
    assert!(results[0] >= 0 && results[1] == 1, "{}", io::Error::last_os_error());
    engine.drain();
    let getppid = Syscall::from_name("getppid").unwrap();
    let counted = target.calls().into_iter().find(|(syscall, _)| *syscall == getppid).unwrap().1;
    assert_eq!(counted, 1000);
    let read = Syscall::from_name("read").unwrap();
    let records = kept.records();
    let read = records.iter().find(|record| record.syscall == read).unwrap();
    assert_eq!(read.object, Object::File("/etc/hosts".into()));
    assert_eq!((read.decision, read.size), (Decision::AllowSystemPath, 1));
    assert_eq!(engine.dropped(), 0);
}
