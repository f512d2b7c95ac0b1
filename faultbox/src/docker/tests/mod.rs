//! The face against a real Docker Engine, with an image of nothing but busybox made on the spot.

mod build;
mod find;
mod lifecycle;
mod logs;
mod network;
mod restarts;
mod sweep;

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Container, Docker, Network, NewContainer};

/// A static busybox, as Debian's package busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";
/// What of it the image has.
const APPLETS: [&str; 10] =
    ["sh", "sleep", "cat", "wget", "httpd", "nslookup", "id", "touch", "head", "yes"];

/// A session with an image of its own. All that has its label is removed at the end, however the
/// test ends, by Docker's own client.
struct Scene {
    docker: Docker,
    session: String,
    image: String,
}

impl Scene {
    /// `None` where there is no Docker or no busybox; it says so.
    fn new(name: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let docker = match Docker::connect() {
            Ok(docker) => docker,
            Err(error) => return not_tested(&error.to_string()),
        };
        let session = format!("fb-unit-{name}-{}-{number}", std::process::id());
        let scene = Self { docker, image: format!("{session}:1"), session };
        let Ok(busybox) = fs::read(BUSYBOX) else {
            return not_tested("/bin/busybox is not there");
        };
        let mut import = Command::new("docker")
            .args(["import", "-c", "ENV FROM=image", "-c", "ENV BOTH=image"])
            .args(["-c", "CMD [\"/bin/sleep\", \"60\"]", "-c", "VOLUME /data", "-", &scene.image])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut archive = tar::Builder::new(import.stdin.take().unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(busybox.len() as u64);
        archive.append_data(&mut header, "bin/busybox", &busybox[..]).unwrap();
        for applet in APPLETS {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
        }
        drop(archive.into_inner().unwrap());
        assert!(import.wait().unwrap().success());
        Some(scene)
    }

    fn network(&self) -> Network {
        self.docker.create_network(&self.session, &self.session).unwrap()
    }

    /// A container of this session that runs a shell script.
    fn shell(&self, name: &str, network: &Network, script: &str) -> NewContainer {
        NewContainer {
            name: format!("{}-{name}", self.session),
            image: self.image.clone(),
            session: self.session.clone(),
            args: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
            network: network.id.clone(),
            ..NewContainer::default()
        }
    }

    fn start(&self, new: &NewContainer) -> Container {
        let id = self.docker.create(new).unwrap();
        self.docker.start(&id).unwrap()
    }

    /// Waits until a container has ended.
    fn exit_code(&self, id: &str) -> i64 {
        soon(|| self.docker.exit_code(id).unwrap()).expect("it does not end")
    }

    /// What is there of this session, by Docker's own client.
    fn listed(&self, what: &[&str]) -> Vec<String> {
        cli(&[what, &["--filter", &format!("label=faultbox.session={}", self.session)]].concat())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..]),
            (&["network", "ls", "-q"], &["network", "rm"]),
        ] {
            for id in self.listed(list) {
                cli(&[remove, &[&*id]].concat());
            }
        }
        cli(&["rmi", "-f", &self.image]);
    }
}

/// The lines that Docker's own client prints.
fn cli(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn not_tested<T>(why: &str) -> Option<T> {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: containers: {why}");
    None
}

/// What there is within ten seconds.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match look() {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}
