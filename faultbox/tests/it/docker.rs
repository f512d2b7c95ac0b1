//! Containers that tests start themselves, as a user would: with Docker's own client.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::project::{not_tested, wait_until};

/// How long a container of ours may take to answer, where everything is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether there is an engine with all of these images; if not, says so.
///
/// Where tests are told that there must be one (`FAULTBOX_TEST_DOCKER=1`) it is a failure.
pub(crate) fn has_images(images: &[&str]) -> bool {
    let mut command = Command::new("docker");
    command.args(["image", "inspect", "--format", "{{.Id}}"]).args(images);
    let why = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("cannot start docker: {error}"),
    };
    assert!(env::var_os("FAULTBOX_TEST_DOCKER").is_none(), "no images {images:?}: {why}");
    not_tested(&format!("containers: `cargo xtask images` makes what is missing: {why}"));
    false
}

/// Runs `docker …`, which has to succeed; what it prints, trimmed.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments))
}

/// Runs a command, which has to succeed; what it prints, trimmed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

/// A container that is none of faultbox's; dropping it removes it with its volumes.
pub(crate) struct Foreign {
    pub(crate) name: String,
}

impl Foreign {
    /// `docker run --detach --name NAME OPTION… IMAGE`, with a name that nobody else has.
    #[track_caller]
    pub(crate) fn run(image: &str, options: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let container = Self { name: format!("{OURS}{}-{number}", std::process::id()) };
        let mut arguments = vec!["run", "--detach", "--name", &container.name];
        arguments.extend(options);
        arguments.push(image);
        docker(&arguments);
        container
    }

    /// A field, by the template that Docker's client takes.
    #[track_caller]
    pub(crate) fn inspect(&self, template: &str) -> String {
        docker(&["inspect", "--format", template, &self.name])
    }

    /// Its address, as this machine reaches it.
    #[track_caller]
    pub(crate) fn address(&self) -> IpAddr {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.inspect(template).parse().unwrap()
    }

    /// Waits until it accepts connections at the port; where.
    #[track_caller]
    pub(crate) fn listens(&self, port: u16) -> Peer {
        let peer = Peer(SocketAddr::new(self.address(), port));
        let answers = wait_until(PATIENCE, || TcpStream::connect(peer.0).is_ok());
        assert!(answers, "{} does not listen: {}", self.name, docker(&["logs", &self.name]));
        peer
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A test that has removed it itself has nothing left to remove.
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.name]).output();
    }
}

/// Somebody who answers a line with a line.
#[derive(Clone, Copy)]
pub(crate) struct Peer(SocketAddr);

impl Peer {
    /// The answer to one line on a new connection; `None` if there is none.
    pub(crate) fn try_ask(self, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.0, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        answer.strip_suffix('\n').map(str::to_owned)
    }

    /// The answer to one line on a new connection.
    #[track_caller]
    pub(crate) fn ask(self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|| panic!("no answer to {line} from {}", self.0))
    }
}

/// The start of the name of every container and network that a test makes itself.
pub(crate) const OURS: &str = "fb-it-";

/// Containers, networks and volumes that the engine has, but for what tests start themselves:
/// others of these may be running.
pub(crate) fn everything() -> BTreeSet<String> {
    let lists: [&[&str]; 3] = [
        &["ps", "--all", "--format", "container {{.Names}}"],
        &["network", "ls", "--format", "network {{.Name}}"],
        &["volume", "ls", "--format", "volume {{.Name}}"],
    ];
    let lines =
        lists.iter().flat_map(|list| docker(list).lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| !line.contains(OURS)).collect()
}

/// Fails unless all that is there now was there before; others may have removed something.
#[track_caller]
pub(crate) fn assert_nothing_new(before: &BTreeSet<String>) {
    let new = || everything().difference(before).cloned().collect::<Vec<_>>();
    assert!(wait_until(PATIENCE, || new().is_empty()), "left in Docker: {:?}", new());
}

/// The cgroups that are there now at or below one whose name has this text.
pub(crate) fn cgroups(text: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let output = Command::new("find")
        .args(points.filter_map(|line| line.split(' ').nth(4)))
        .args(["-type", "d", "-path", &format!("*{text}*")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
