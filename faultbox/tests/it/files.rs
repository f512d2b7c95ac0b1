//! What runs have to themselves in the file system.

use std::{fs, path::Path};

use super::project::{Finished, Place, finish, not_tested, root, run_text};

/// A service that counts in a file how often it was started.
const COUNTER: &str = r#"
counter = service("counter", "/bin/sh", interface("main", "tcp", 5432),
    args = ["-c", "echo x >> FILE; [ $(wc -l < FILE) = 1 ] || echo seen; exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5432"))

def test_first():
    assert_eq(counter.main.send(data = "PING"), "PONG")

def test_second():
    assert_eq(counter.main.send(data = "PING"), "PONG")
"#;

fn counter(file: &Path) -> String {
    COUNTER.replace("FILE", file.to_str().unwrap())
}

/// Whether the kernel cannot give runs files of their own, which it has said.
fn shares_all(run: &Finished) -> bool {
    let shares = run.stderr.contains("this kernel has no overlayfs");
    if shares {
        not_tested("this kernel has no overlayfs");
        run.says("note: services use this machine's own /tmp, ");
    }
    shares
}

#[test]
fn what_services_write_below_tmp_is_gone_with_the_run() {
    for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
        let file = Path::new(directory).join(format!("fb-it-own-{}", std::process::id()));
        for jobs in ["1", "2"] {
            let run = run_text(&counter(&file), &["--runs", "3", "--debug", "-j", jobs]).expect(0);
            if shares_all(&run) {
                return fs::remove_file(&file).unwrap();
            }
            assert!(!run.stderr.contains("seen"), "{directory}: {}", run.stderr);
            assert!(!file.exists(), "{} was written to this machine's", file.display());
        }
    }
}

#[test]
fn with_shared_tmp_it_stays() {
    let file = std::env::temp_dir().join(format!("fb-it-shared-{}", std::process::id()));
    let run = run_text(&counter(&file), &["--shared-tmp", "--debug"]).expect(0);
    // Two tests, one after the other.
    run.says("note: runs one at a time, not ").says(" share this machine's /tmp (--shared-tmp)");
    run.says("seen");
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\nx\n");
    fs::remove_file(&file).unwrap();
}

#[test]
fn services_see_what_the_machine_has_there_and_a_fault_names_files_as_they_see_them() {
    let place = Place::new();
    let file = place.path.join("stock.wal");
    fs::write(&file, "here before\n").unwrap();
    let spec = r#"
inventory = service("inventory", "{bin}/inventory-svc", interface("main", "tcp", 5432),
    env = {"WAL_PATH": "FILE"}, healthcheck = tcp("localhost:5432"),
    ops = {"log": op(syscalls = ["write"], path = "FOLDER/*.wal")})
probe = service("probe", "/bin/sh", interface("main", "tcp", 5433),
    args = ["-c", "read line < FILE; echo \"found: $line\"; PORT=5433 exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5433"))

def test_reserve():
    def scenario():
        assert_eq(inventory.main.send(data = "RESERVE widget 1"), "ERR wal: write: No space left on device")
    fault(inventory, log = deny("ENOSPC"), run = scenario)
    assert_eq(inventory.main.send(data = "RESERVE widget 1"), "OK 99")
"#;
    let spec = spec.replace("FILE", file.to_str().unwrap());
    let spec = place.spec("stock.star", &spec.replace("FOLDER", place.path.to_str().unwrap()));
    let run = place.test(&[&spec, "--debug"]).expect(0);
    if shares_all(&run) {
        return;
    }
    run.says("found: here before");
    run.prints(&format!("log(write) deny(no space left on device)  {}", file.display()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "here before\n");
}

#[test]
fn a_program_below_dev_shm_and_a_working_directory_that_is_gone_are_no_hindrance() {
    let place = Place::new();
    let folder = Path::new("/dev/shm").join(format!("fb-it-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let program = folder.join("mock-db");
    fs::copy(root().join("bin/mock-db"), &program).unwrap();
    let spec = COUNTER.replace("FILE", "/dev/shm/count").replace("{bin}", folder.to_str().unwrap());
    let spec = place.spec("shm.star", &spec.replace("/bin/sh", program.to_str().unwrap()));
    let gone = place.path.join("gone");
    fs::create_dir(&gone).unwrap();
    for directory in [&folder, &gone] {
        let mut command = place.faultbox_test(&[&spec]);
        if *directory == gone {
            // A shell that stands in a directory while it is removed.
            let script = format!("cd {0} && rmdir {0} && exec \"$@\"", gone.display());
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let shell = ["-c", &script, "sh"];
            let mut within = std::process::Command::new("/bin/sh");
            within.args(shell).arg(command.get_program()).args(arguments);
            within.env("TMPDIR", &place.path);
            within.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command = within;
        } else {
            command.current_dir(directory);
        }
        finish(command).expect(0).prints("2 passed, 0 failed");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_was_removed_has_the_path_that_it_had() {
    let place = Place::new();
    let file = place.path.join("victim");
    fs::write(&file, "still here\n").unwrap();
    let spec = r#"
reader = service("reader", "/bin/sh", interface("main", "tcp", 5432),
    args = ["-c", "exec 9< FILE; rm FILE; read line <&9; echo \"got $line\"; exec {bin}/mock-db"],
    healthcheck = tcp("localhost:5432"))

def test_read():
    assert_eq(reader.main.send(data = "PING"), "PONG")
    assert_eq(len(events(service = "reader", syscall = "read", path = "FILE")) > 0, True)
    assert_eq(len(events(service = "reader", path = "*(deleted)")), 0)
"#;
    let spec = place.spec("victim.star", &spec.replace("FILE", file.to_str().unwrap()));
    let run = place.test(&[&spec, "--debug"]).expect(0);
    run.says("got still here");
}

#[test]
fn files_that_runs_have_in_common_are_named() {
    // Not below one of the directories that each run has of its own.
    let folder = Path::new("/var/lib").join(format!("fb-it-common-{}", std::process::id()));
    if fs::create_dir(&folder).is_err() {
        return not_tested("/var/lib is not writable");
    }
    let spec = counter(&folder.join("count")).replace("exec {bin}", "sleep 0.2; exec {bin}");
    let run = run_text(&spec, &["-j", "2"]).expect(0);
    let warning = format!("write to the same file, {}/count: ", folder.display());
    run.says("warning: runs that go side by side ").says(&warning);
    let run = run_text(&spec, &["-j", "1"]).expect(0);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    // Also where runs could have files of their own, and do not.
    let file = std::env::temp_dir().join(format!("fb-it-both-{}", std::process::id()));
    let spec = counter(&file).replace("exec {bin}", "sleep 0.2; exec {bin}");
    let run = run_text(&spec, &["-j", "2", "--shared-tmp"]).expect(0);
    run.says(&format!("write to the same file, {}: ", file.display()));
    fs::remove_file(&file).unwrap();
    fs::remove_dir_all(&folder).unwrap();
}
