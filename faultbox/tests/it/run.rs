//! `faultbox run`: one program, what breaks in it, and how both end (language.md 2.8).

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    litter,
    project::{Finished, Place, await_end, engine, finish, root, share_machine},
};

/// The command `faultbox run --engine … …`.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let engine = engine();
    let mut all = vec!["run", "--engine", &engine];
    all.extend(arguments);
    place.faultbox(&all)
}

/// Runs it and checks that nothing is left.
fn run(place: &Place, arguments: &[&str]) -> Finished {
    let _shared = share_machine();
    let finished = finish(command(place, arguments));
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    litter::assert_none(place, Duration::from_secs(2));
    finished
}

/// Runs a shell script in which `$0` is a file of the place's own.
fn run_script(place: &Place, faults: &[&str], script: &str) -> Finished {
    let file = place.path.join("file");
    let mut arguments = faults.to_vec();
    arguments.extend(["--", "/bin/sh", "-c", script, file.to_str().unwrap()]);
    run(place, &arguments)
}

#[test]
fn the_exit_code_is_the_programs() {
    let place = Place::new();
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)] {
        let run = run_script(&place, &[], script).expect(code);
        assert_eq!(run.stdout, "");
        assert!(!run.stderr.contains("fault rule"), "{}", run.stderr);
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_127() {
    let place = Place::new();
    run(&place, &["no-such-program"]).expect(127).says("no-such-program: not found in PATH");
    run(&place, &["./no-such-program"]).expect(127).says("cannot execute ./no-such-program");
    run(&place, &["/etc/passwd"]).expect(127).says("cannot execute /etc/passwd");
    fs::write(place.path.join("bin"), "").unwrap();
    let mut command = command(&place, &["bin"]);
    command.current_dir(&place.path);
    let _shared = share_machine();
    finish(command).expect(127).says("did you mean ./bin?");
}

#[test]
fn a_denied_call_fails_and_is_logged_with_its_path() {
    let place = Place::new();
    let target = root().join("bin/target");
    let run = run(
        &place,
        &["--fault", "write=EIO:100%:/tmp/faultbox-target-test", target.to_str().unwrap()],
    )
    .expect(1);
    run.prints("target running as pid").prints("Input/output error");
    let line = run.stderr.lines().find(|it| it.contains("syscall intercepted")).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == 12 && time.as_bytes()[8] == b'.', "{line}");
    assert_eq!(
        rest,
        "INF [engine] syscall intercepted  name=write  decision=deny(input/output error)  \
         path=/tmp/faultbox-target-test"
    );
    run.says(
        "fault rule: write=deny(EIO) → filter:[write] path=/tmp/faultbox-target-test: matched 1, \
         fired 1\n",
    );
}

#[test]
fn without_faults_the_demo_target_works() {
    let target = root().join("bin/target");
    run(&Place::new(), &[target.to_str().unwrap()]).expect(0).prints("unlink /tmp/faultbox-target");
}

#[test]
fn triggers_choose_the_match() {
    let script = "for i in 1 2 3 4; do echo $i >> \"$0\" 2>/dev/null || echo failed $i; done";
    for (trigger, expected) in [
        ("", "failed 1\nfailed 2\nfailed 3\nfailed 4\n"),
        (":nth=2", "failed 2\n"),
        (":after=3", "failed 4\n"),
    ] {
        let place = Place::new();
        let fault = format!("write=ENOSPC:100%:{}/**{trigger}", place.path.display());
        let run = run_script(&place, &["--fault", &fault], script).expect(0);
        assert_eq!(run.stdout, expected, "{fault}");
        run.says(": matched 4, fired ");
    }
}

#[test]
fn the_form_with_colons_means_one_call_and_a_specs_form_its_family() {
    let place = Place::new();
    run(&place, &["--fault", "write=EIO:100%", "true"]).expect(0).says("filter:[write]: matched 0");
    run(&place, &["--fault", "write=deny(EIO)", "cat", "/dev/null"])
        .expect(0)
        .says("filter:[write,writev,pwrite64]: matched 0")
        .says("WARNING: this fault rule never fired: no call matched")
        .says("  hint: calls it made: ");
}

#[test]
fn file_ops_break_files_and_nothing_else() {
    let place = Place::new();
    let glob = format!("{}/**", place.path.display());
    let write = format!("write=EIO:100%:{glob}");
    run_script(&place, &["--fs-fault", &write], "echo x > \"$0\" || echo failed")
        .expect(0)
        .prints("failed\n")
        .says("decision=deny(input/output error)");
    let open = format!("open=ENOENT:100%:{glob}");
    let run = run_script(&place, &["--fs-fault", &open], "cat \"$0\"").expect(1);
    run.says("No such file or directory").says("decision=deny(no such file or directory)");
    let delete = format!("delete=EACCES:100%:{glob}");
    run_script(&place, &["--fs-fault", &delete], "echo x > \"$0\"; rm -f \"$0\"; ls \"$0\"")
        .prints("/file\n")
        .says("Permission denied");
    let mkdir = format!("mkdir=ENOSPC:100%:{glob}");
    run_script(&place, &["--fs-fault", &mkdir], "mkdir \"$0.d\"")
        .expect(1)
        .says("No space left on device");
}

#[test]
fn a_seed_decides_what_chance_decides() {
    let place = Place::new();
    let fault = format!("write=deny(EIO, probability=50%, path=\"{}/**\")", place.path.display());
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i >> \"$0\" 2>/dev/null || \
                  echo failed $i; done";
    let of = |seed: &str| {
        run_script(&place, &["--fault", &fault, "--seed", seed], script).expect(0).stdout
    };
    let first = of("1");
    assert_eq!(of("1"), first);
    assert!((2..6).any(|seed| of(&seed.to_string()) != first));
    assert!(!first.is_empty() && first.lines().count() < 12, "{first}");
}

#[test]
fn a_delay_holds_the_call_and_lets_it_happen() {
    let place = Place::new();
    let fault = format!("write=delay:300ms:100%:{}/**", place.path.display());
    let run = run_script(&place, &["--fault", &fault], "echo x > \"$0\"; cat \"$0\"").expect(0);
    assert_eq!(run.stdout, "x\n");
    run.says("name=write  decision=delay(300ms)");
    assert!(run.elapsed >= Duration::from_millis(300), "{:?}", run.elapsed);
}

#[test]
fn returns_skips_the_call_and_crash_ends_the_program() {
    let place = Place::new();
    let fault = format!("unlinkat=returns(0, path={}/**)", place.path.display());
    let script = "echo x > \"$0\"; rm \"$0\" && cat \"$0\"";
    let run = run_script(&place, &["--fault", &fault], script);
    let refused = ["or --engine seccomp", "use --engine seccomp"];
    if refused.iter().any(|text| run.stderr.contains(text)) {
        // Neither rung 2 nor rung 1 without kprobes can make a call report zero.
        run.expect(1);
    } else {
        run.expect(0).prints("x\n");
    }
    let fault = format!("write=crash(SIGSEGV, path={}/**)", place.path.display());
    run_script(&place, &["--fault", &fault], "echo x > \"$0\"").expect(139);
    assert_eq!(fs::read_to_string(place.path.join("file")).unwrap(), "");
}

#[test]
fn the_program_has_our_standard_streams_directory_and_environment() {
    let place = Place::new();
    let script = "cat; pwd; echo \"$A/$TMPDIR\"; echo err >&2";
    let mut command = command(&place, &["--env", "A=b=c", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped());
    let _shared = share_machine();
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from us\n").unwrap();
    let run = await_end(child, Instant::now()).expect(0);
    let expected = format!(
        "from us\n{}\nb=c/{}\n",
        root().canonicalize().unwrap().display(),
        place.path.display()
    );
    assert_eq!(run.stdout, expected);
    run.says("err\n");
}

#[test]
fn debug_prints_calls_that_no_rule_hit() {
    let place = Place::new();
    let run = run_script(&place, &["--debug"], "echo x > \"$0\"").expect(0);
    let file = place.path.join("file");
    run.says(&format!("name=write  decision=allow  path={}", file.display()));
    let quiet = run_script(&place, &[], "echo x > \"$0\"").expect(0);
    assert!(!quiet.stderr.contains("intercepted"), "{}", quiet.stderr);
}

#[test]
fn wrong_specs_are_errors_that_name_the_option_and_the_place() {
    let place = Place::new();
    for (arguments, expected) in [
        (
            &["--fault", "write=EIOO:10%"][..],
            "error: --fault: unknown errno \"EIOO\"; did you mean: EIO? (column 7)\n  \
             write=EIOO:10%\n        ^\n",
        ),
        (&["--fault", "wirte=EIO:10%"], "unknown system call \"wirte\"; did you mean: write?"),
        (&["--fault", "write=EIO"], "a probability is required, as in EIO:100%"),
        (&["--fault", "write=deny(EIO, nht=1)"], "unknown argument \"nht\"; did you mean: nth?"),
        (&["--fs-fault", "chmod=EIO:1%"], "error: --fs-fault: unknown op \"chmod\"; there are"),
        (&["--fs-fault", "write=EIO:1%"], "say which files, as in write=EIO:10%:/data/**"),
        (&["--fault", "close=EIO:100%"], "close cannot be faulted"),
        (&["--env", "A"], "error: --env: expected NAME=VALUE, got A"),
    ] {
        let mut all = arguments.to_vec();
        all.extend(["--", "echo", "never"]);
        let run = run(&place, &all).expect(1);
        assert_eq!(run.stdout, "", "{arguments:?}");
        run.says(expected);
    }
    run(&place, &[]).expect(1).says("Usage: faultbox run");
}

/// Starts a script and waits until it has said `ready`.
fn until_ready(command: &mut Command) -> Child {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|it| it == "ready")), "it never began");
    // What else it prints is of no interest, but a full pipe must not stop it.
    thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn ctrl_c_reaches_the_program_which_decides_how_it_ends() {
    let place = Place::new();
    let _shared = share_machine();
    for (script, code) in [
        ("trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done", 7),
        ("echo ready; while :; do sleep 0.05; done", 130),
    ] {
        let child = until_ready(&mut command(&place, &["--", "/bin/sh", "-c", script]));
        // A terminal sends it to the whole group.
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        await_end(child, Instant::now()).expect(code);
        litter::assert_none(&place, Duration::from_secs(2));
    }
}

#[test]
fn sigterm_is_passed_on_to_the_program() {
    let place = Place::new();
    let _shared = share_machine();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let child = until_ready(&mut command(&place, &["--", "/bin/sh", "-c", script]));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    await_end(child, Instant::now()).expect(9);
}

#[test]
fn a_kill_of_faultbox_takes_the_program_and_its_daemons_with_it() {
    let place = Place::new();
    let _shared = share_machine();
    let script = "setsid sleep 1000 & sleep 1000 & echo ready; wait";
    let mut child = until_ready(&mut command(&place, &["--", "/bin/sh", "-c", script]));
    assert!(litter::processes(&place).len() >= 4, "{:?}", litter::processes(&place));
    child.kill().unwrap();
    child.wait().unwrap();
    litter::assert_none(&place, Duration::from_secs(5));
}

#[test]
fn what_the_program_leaves_running_ends_with_it() {
    let place = Place::new();
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo done";
    run_script(&place, &[], script).expect(0).prints("done\n");
}

#[test]
fn a_reader_of_standard_error_that_stops_holds_nobody_up() {
    let place = Place::new();
    let _shared = share_machine();
    // More lines than a pipe takes.
    let script = "i=0; while [ $i -lt 2000 ]; do echo x > /dev/full; i=$((i+1)); done 2>/dev/null; \
                  echo over";
    let fault = format!("write=EIO:100%:{}/**", place.path.display());
    let mut command =
        command(&place, &["--debug", "--fault", &fault, "--", "/bin/sh", "-c", script]);
    let mut child = command.spawn().unwrap();
    // Not to the end, which comes only when faultbox has ended, too.
    let mut bytes = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"over\n");
    await_end(child, Instant::now()).expect(0);
}
