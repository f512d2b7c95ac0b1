//! Servers that others have written, where they are installed.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown, geteuid},
};

/// Where the package postgresql-15 lies.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// The superuser's password in [`postgres`].
pub(super) const PASSWORD: &str = "geh eim";

/// A running server with a folder of its own; both are gone when it is dropped.
pub(super) struct Installed {
    pub(super) port: u16,
    child: Child,
    folder: PathBuf,
}

impl Drop for Installed {
    fn drop(&mut self) {
        // Both servers end at once, and PostgreSQL removes its shared memory, which SIGKILL would
        // leave behind. Whatever goes wrong, the folder is removed.
        let pid = Pid::from_raw(self.child.id() as i32);
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Redis with these settings; `None` and a line that says so where there is none.
pub(super) fn redis(settings: &[&str]) -> Option<Installed> {
    let program = Path::new("/usr/bin/redis-server");
    let (folder, port) = place("Redis", program)?;
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(settings);
    Some(start(command, folder, port))
}

/// A database server that asks everybody for a password.
pub(super) fn postgres() -> Option<Installed> {
    let (folder, port) = place("PostgreSQL", &Path::new(POSTGRES).join("postgres"))?;
    fs::write(folder.join("password"), PASSWORD).unwrap();
    let data = folder.join("data");
    let as_postgres = |program: &str| {
        let mut command = Command::new(Path::new(POSTGRES).join(program));
        // It refuses to be root.
        if geteuid().is_root() {
            let user = User::from_name("postgres").unwrap().unwrap();
            chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir(&folder).arg("-D").arg(&data);
        command
    };
    let mut initdb = as_postgres("initdb");
    initdb.args(["--username=postgres", "--auth=scram-sha-256", "--pwfile=password"]);
    initdb.args(["--locale=C", "--encoding=UTF8", "--wal-segsize=1", "--no-sync"]);
    let done = initdb.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut command = as_postgres("postgres");
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "timezone=UTC"]);
    Some(start(command, folder, port))
}

/// A folder and a port for a server, if its program is there.
fn place(name: &str, program: &Path) -> Option<(PathBuf, u16)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !program.exists() {
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: {name}: no {}; cargo xtask setup --servers installs it",
            program.display()
        );
        return None;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = format!("faultbox-installed-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    fs::create_dir(&folder).unwrap();
    // Free a moment ago; whoever takes it in between fails the test, and is unlikely.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Some((folder, port))
}

/// Starts a server and waits until it listens.
fn start(mut command: Command, folder: PathBuf, port: u16) -> Installed {
    let log = fs::File::create(folder.join("log")).unwrap();
    command.current_dir(&folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().unwrap();
    let mut server = Installed { port, child, folder };
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || fs::read_to_string(server.folder.join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "does not listen: {}", log());
        let ended = server.child.try_wait().unwrap();
        assert!(ended.is_none(), "has ended: {ended:?} {}", log());
        thread::sleep(Duration::from_millis(10));
    }
    server
}
