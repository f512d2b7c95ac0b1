//! Breaking a container that others have started: all of its processes, those after a restart
//! included, and nobody else's.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{DENY, attach, attached, in_kernel};
use crate::project::{Place, await_end, not_tested, say, share_machine, wait_until};

/// What notes how writing goes: at the start, then in two processes again and again. It notes by
/// the existence of files, because a fault on write would hit any other way.
const SCRIPT: &str = "
    note() { if echo x 2>/dev/null >> /out/$1; then touch /out/$1-ok; else touch /out/$1-failed; fi; }
    note start
    (while :; do note child; sleep 0.1; done) &
    while :; do note main; sleep 0.1; done";

/// An image of busybox alone; removed at the end with its containers.
struct Image {
    place: Place,
    name: String,
}

impl Image {
    /// `None` where there is no Docker or no static busybox; it says so.
    fn new() -> Option<Self> {
        let mut version = Command::new("docker");
        version.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
        let has_docker = version.status().is_ok_and(|it| it.success());
        let busybox = fs::read("/bin/busybox");
        let (true, Ok(busybox)) = (has_docker, busybox) else {
            not_tested("attaching to containers: no Docker here, or no /bin/busybox");
            return None;
        };
        let place = Place::new();
        let name = place.path.file_name().unwrap().to_str().unwrap().to_owned();
        let image = Self { place, name };
        let mut import = Command::new("docker")
            .args(["import", "-", &image.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut archive = tar::Builder::new(import.stdin.take().unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(busybox.len() as u64);
        archive.append_data(&mut header, "bin/busybox", &busybox[..]).unwrap();
        for applet in ["sh", "sleep", "touch"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
        }
        drop(archive.into_inner().unwrap());
        assert!(import.wait().unwrap().success());
        Some(image)
    }

    /// A container that writes, and has written.
    fn start(&self, name: &str) -> Contained {
        let notes = self.place.path.join(name);
        fs::create_dir(&notes).unwrap();
        let volume = format!("{}:/out", notes.display());
        let name = format!("{}-{name}", self.name);
        let run =
            ["run", "-d", "--name", &name, "-v", &volume, &self.name, "/bin/sh", "-c", SCRIPT];
        docker(&run).expect("docker run");
        let container = Contained { name, notes };
        container.writes("ok");
        container
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.name]);
    }
}

/// A container of the test's own; removed at the end.
struct Contained {
    name: String,
    notes: PathBuf,
}

impl Contained {
    /// Waits until writes of both processes go this way, from now on.
    fn writes(&self, how: &str) {
        for process in ["main", "child"] {
            let note = self.notes.join(format!("{process}-{how}"));
            let _ = fs::remove_file(&note);
            assert!(wait_until(Duration::from_secs(60), || note.exists()), "no {process}-{how}");
        }
    }

    fn has_noted(&self, note: &str) -> bool {
        self.notes.join(note).exists()
    }

    fn forget(&self, note: &str) {
        let _ = fs::remove_file(self.notes.join(note));
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        docker(&["rm", "-fv", &self.name]);
    }
}

/// What Docker's own client prints; `None` if it fails.
fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    if !output.status.success() {
        say(&format!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

#[test]
fn all_of_a_container_is_broken_before_and_after_a_restart_and_its_twin_is_not() {
    if !in_kernel() {
        return;
    }
    let Some(image) = Image::new() else { return };
    let _shared = share_machine();
    let (victim, twin) = (image.start("victim"), image.start("twin"));
    let child = attached(&image.place, &["--container", &victim.name, "--fault", DENY]);
    victim.writes("failed");
    victim.forget("start-ok");
    docker(&["restart", "-t", "0", &victim.name]).expect("docker restart");
    victim.writes("failed");
    // The very first write was one of those that failed.
    assert!(victim.has_noted("start-failed"));
    assert!(!victim.has_noted("start-ok"));
    interrupt(&child);
    let run = await_end(child, Instant::now()).expect(130);
    run.prints("fault rule: write=deny(EIO)");
    victim.writes("ok");
    let format = "{{.State.Running}} {{.RestartCount}}";
    let running = |container: &Contained| docker(&["inspect", "-f", format, &container.name]);
    assert_eq!(running(&victim).as_deref(), Some("true 0"));
    assert_eq!(running(&twin).as_deref(), Some("true 0"));
    for note in ["start-failed", "main-failed", "child-failed"] {
        assert!(!twin.has_noted(note), "{note}");
    }
}

#[test]
fn a_container_that_is_stopped_is_waited_for_until_it_is_removed() {
    if !in_kernel() {
        return;
    }
    let Some(image) = Image::new() else { return };
    let shared = share_machine();
    let victim = image.start("victim");
    let child = attached(&image.place, &["--container", &victim.name, "--fault", DENY]);
    victim.writes("failed");
    docker(&["stop", "-t", "0", &victim.name]).expect("docker stop");
    std::thread::sleep(Duration::from_secs(3));
    victim.forget("start-ok");
    docker(&["start", &victim.name]).expect("docker start");
    victim.writes("failed");
    assert!(!victim.has_noted("start-ok"));
    drop(victim);
    await_end(child, Instant::now()).expect(0);
    drop(shared);
    let run =
        attach(&image.place, &["--container", &format!("{}-victm", image.name), "--fault", DENY]);
    run.expect(1).says("error: --container: Docker knows no container");
}

#[test]
fn a_kill_leaves_the_container_running_and_whole() {
    if !in_kernel() {
        return;
    }
    let Some(image) = Image::new() else { return };
    let _shared = share_machine();
    let victim = image.start("victim");
    let mut child = attached(&image.place, &["--container", &victim.name, "--fault", DENY]);
    victim.writes("failed");
    child.kill().unwrap();
    child.wait().unwrap();
    victim.writes("ok");
}
