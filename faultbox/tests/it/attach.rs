//! `faultbox attach`: breaking what runs already. Whatever needs programs in the kernel runs in
//! virtual machines, where `FAULTBOX_TEST_ENGINE=ebpf`.

mod containers;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    litter,
    project::{Finished, Place, await_end, engine, finish, not_tested, share_machine, wait_until},
};

const DENY: &str = "write=deny(EIO, label=\"broken\")";

/// The command `faultbox attach …`.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut all = vec!["attach"];
    all.extend(arguments);
    place.faultbox(&all)
}

fn attach(place: &Place, arguments: &[&str]) -> Finished {
    let _shared = share_machine();
    let finished = finish(command(place, arguments));
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    finished
}

/// Whether this run is one in which the kernel must serve faults.
fn in_kernel() -> bool {
    let is_in = engine() == "ebpf";
    if !is_in {
        not_tested("attaching: only with FAULTBOX_TEST_ENGINE=ebpf");
    }
    is_in
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let place = Place::new();
    for (arguments, expected) in [
        (&["--fault", DENY][..], "--pid <P>|--cgroup <PATH>|--container <NAME>"),
        (&["--pid", "1"], "--fault <KEYWORD=ACTION>"),
        (&["--pid", "1", "--cgroup", "/x", "--fault", DENY], "cannot be used with"),
        (&["--pid", "0", "--fault", DENY], "invalid value '0'"),
        (&["--pid", "1", "--for", "5", "--fault", DENY], "use e.g. 500ms or 30s"),
        (&["--cgroup", "/x", "--whole-cgroup", "--fault", DENY], "belongs to --pid"),
    ] {
        let run = attach(&place, arguments).expect(1);
        assert_eq!(run.stdout, "", "{arguments:?}");
        run.says("error: ").says(expected);
    }
}

#[test]
fn a_fault_that_cannot_be_understood_is_said_before_anything_else() {
    let place = Place::new();
    for (fault, expected) in [
        (
            "write=deny(EIOO)",
            "error: --fault: unknown errno \"EIOO\"; did you mean: EIO? (column 12)\n  \
             write=deny(EIOO)\n             ^\n",
        ),
        ("write=EIO:10%", "expected an action with parentheses, as in write=deny(EIO"),
        ("wirte=deny(EIO)", "unknown system call \"wirte\"; did you mean: write?"),
        ("write=deny(EIO, to=db)", "to= needs the services of a spec"),
    ] {
        attach(&place, &["--pid", "1", "--fault", fault]).expect(1).says(expected);
    }
}

#[test]
fn a_supervisor_cannot_attach() {
    attach(&Place::new(), &["--pid", "1", "--engine", "seccomp", "--fault", DENY]).expect(1).says(
        "error: --engine seccomp cannot attach: a seccomp filter cannot be put into a process",
    );
}

#[test]
fn a_kernel_that_refuses_programs_is_named_before_any_target_is_looked_at() {
    if engine() == "ebpf" {
        return not_tested("the refusal to attach: this run is for kernels that serve faults");
    }
    let place = Place::new();
    let doctor = finish(place.faultbox(&["doctor", "--format", "json"]));
    if doctor.stdout.contains("\"verdict\": \"in-kernel\"") {
        return not_tested("the refusal to attach: this kernel serves faults");
    }
    let reason = doctor.stdout.split("\"reason\": \"").nth(1).unwrap();
    let reason = reason.split('"').next().unwrap();
    for target in [["--pid", "4194304"], ["--cgroup", "/none"], ["--container", "none"]] {
        for engine in ["auto", "ebpf"] {
            let run = attach(&place, &[target[0], target[1], "--engine", engine, "--fault", DENY])
                .expect(1);
            assert_eq!(run.stdout, "");
            assert!(
                run.stderr.starts_with(
                    "error: this kernel cannot break calls of processes that run already"
                ),
                "{}",
                run.stderr
            );
            run.says(reason).says("faultbox run").says("CONFIG_FUNCTION_ERROR_INJECTION");
        }
    }
}

#[test]
fn a_target_that_is_not_there_is_an_error() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    attach(&place, &["--pid", "4194304", "--fault", DENY])
        .expect(1)
        .says("error: --pid: there is no process 4194304");
    attach(&place, &["--cgroup", "/tmp", "--fault", DENY])
        .expect(1)
        .says("error: --cgroup: /tmp is no directory of cgroup v2");
    attach(&place, &["--container", "a/b/c", "--fault", DENY])
        .expect(1)
        .says("error: --container: ");
}

/// A shell that writes to a file ten times a second and notes in another how that went.
struct Writer {
    child: Child,
    notes: PathBuf,
}

impl Writer {
    fn start(place: &Place, name: &str) -> Self {
        let file = place.path.join(name);
        let notes = place.path.join(format!("{name}.notes"));
        // The notes are taken by another process, which a fault on write would hit as well: by
        // the existence of files, therefore.
        let script = "mkdir \"$1\"; while :; do \
                      if echo x >> \"$0\"; then touch \"$1/ok\"; else touch \"$1/failed\"; fi; \
                      sleep 0.1; done 2>/dev/null";
        let child = Command::new("/bin/sh")
            .args(["-c", script, file.to_str().unwrap(), notes.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let writer = Self { child, notes };
        assert!(writer.soon("ok"), "it never wrote");
        writer
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn cgroup(&self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.child.id())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
    }

    /// Whether a write soon goes this way, from now on.
    fn soon(&self, how: &str) -> bool {
        let note = self.notes.join(how);
        let _ = fs::remove_file(&note);
        wait_until(Duration::from_secs(60), || note.exists())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts attaching and returns when it has.
fn attached(place: &Place, arguments: &[&str]) -> Child {
    let mut child = command(place, arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let is_there = lines.by_ref().any(|line| {
        said.extend(line.ok());
        said.last().is_some_and(|it| it.contains("attached to"))
    });
    assert!(is_there, "{said:?}");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn a_running_process_is_broken_and_its_neighbour_is_not_until_ctrl_c() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    let _shared = share_machine();
    let (writer, neighbour) = (Writer::start(&place, "a"), Writer::start(&place, "b"));
    let before = writer.cgroup();
    let fault = format!("write=deny(EIO, path={}/a)", place.path.display());
    let child = attached(&place, &["--pid", &writer.pid(), "--fault", &fault]);
    assert!(writer.soon("failed"), "no write failed");
    assert_ne!(writer.cgroup(), before);
    assert_eq!(neighbour.cgroup(), before);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let run = await_end(child, Instant::now()).expect(130);
    run.prints("fault rule: write=deny(EIO) → filter:[write,writev,pwrite64] path=");
    assert!(!run.stdout.contains("never fired"), "{}", run.stdout);
    assert!(writer.soon("ok"), "it did not recover");
    assert_eq!(writer.cgroup(), before);
    assert!(!neighbour.notes.join("failed").exists());
    // Of faultbox itself; the writers are the test's own.
    assert!(litter::sessions(&place).is_empty());
}

#[test]
fn after_the_time_asked_for_everything_is_as_before() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    let writer = Writer::start(&place, "a");
    let run = attach(
        &place,
        &["--pid", &writer.pid(), "--fault", DENY, "--fault", "fchdir=deny(EIO)", "--for", "3s"],
    )
    .expect(0);
    run.says("detached: the time is over");
    run.prints("WARNING: this fault rule never fired: no call matched");
    assert!(run.elapsed >= Duration::from_secs(3), "{:?}", run.elapsed);
    // Counts were shown while they changed.
    assert!(run.stdout.matches("fault rule: write=deny(EIO)").count() > 1, "{}", run.stdout);
    assert!(writer.soon("ok"));
}

#[test]
fn it_ends_when_the_last_process_has() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    let _shared = share_machine();
    let writer = Writer::start(&place, "a");
    let child = attached(&place, &["--pid", &writer.pid(), "--fault", DENY]);
    drop(writer);
    await_end(child, Instant::now()).expect(0);
}

#[test]
fn a_kill_lifts_the_faults_and_leaves_the_process_running() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    let _shared = share_machine();
    let writer = Writer::start(&place, "a");
    let before = writer.cgroup();
    let mut child = attached(&place, &["--pid", &writer.pid(), "--fault", DENY]);
    assert!(writer.soon("failed"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(writer.soon("ok"), "still broken");
    // It stays where it was put; the next one to attach sets that right.
    assert_ne!(writer.cgroup(), before);
    let arguments = ["--pid", &writer.pid(), "--fault", DENY, "--for", "1s"];
    finish(command(&place, &arguments)).expect(0);
    assert_eq!(writer.cgroup(), before);
}

#[test]
fn a_cgroup_is_broken_as_a_whole_with_what_joins_it_later() {
    if !in_kernel() {
        return;
    }
    let place = Place::new();
    let _shared = share_machine();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    let cgroup = Path::new(mount.split(' ').nth(4).unwrap())
        .join(format!("fb-it-attach-{}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    let join = |writer: &Writer| fs::write(cgroup.join("cgroup.procs"), writer.pid()).unwrap();
    let first = Writer::start(&place, "a");
    join(&first);
    let path = cgroup.to_str().unwrap();
    let child =
        attached(&place, &["--cgroup", path, "--fault", "write=delay(1ms)", "--fault", DENY]);
    assert!(first.soon("failed"));
    let second = Writer::start(&place, "b");
    join(&second);
    assert!(second.soon("failed"));
    drop((first, second));
    await_end(child, Instant::now()).expect(0);
    assert!(wait_until(Duration::from_secs(10), || fs::remove_dir(&cgroup).is_ok()));
}
