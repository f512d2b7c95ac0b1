//! The shape of the services as a tracer sees it. A fault on `write` must meet one call per
//! reply, and on sockets it must meet `write` rather than `send`.

use crate::inventory_svc::Log;
use crate::program::{PATIENCE, Program, path_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A service under strace.
struct Traced {
    program: Program,
    trace: PathBuf,
}

impl Traced {
    /// `None`, with a word to the reader, on a machine without strace or without ptrace.
    fn start(name: &str, env: &[(&str, &str)]) -> Option<Self> {
        let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
        if !works.is_ok_and(|status| status.success()) {
            eprintln!("not checked: strace cannot trace here");
            return None;
        }
        // Tests run side by side and start the same programs, so the thread tells them apart.
        let test = thread::current().id();
        let file = format!("faultbox-{name}-{}-{test:?}.strace", std::process::id());
        let trace = std::env::temp_dir().join(file);
        let mut command = Command::new("strace");
        // With -D the service is our child and strace a process aside, so killing the child
        // ends both.
        command
            .args(["-D", "-f", "-q", "-o"])
            .arg(&trace)
            .arg(path_of(name))
            .envs(env.iter().copied());
        let program = Program::launch(&mut command, name);
        Some(Self { program, trace })
    }

    /// Stops the service; the calls to any of `names`, in order, without the pid before them.
    fn calls(self, names: &[&str]) -> Vec<String> {
        drop(self.program);
        let text = whole_trace(&self.trace);
        fs::remove_file(&self.trace).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(_pid, call)| call.trim_start())
            .filter(|call| names.iter().any(|name| call.starts_with(&format!("{name}("))))
            .map(str::to_owned)
            .collect()
    }
}

/// The trace, once strace has noted the end of the service.
fn whole_trace(path: &Path) -> String {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap();
        if text.contains("+++ killed by SIGKILL +++") {
            return text;
        }
        assert!(start.elapsed() < PATIENCE, "strace did not finish: {text}");
        thread::sleep(Duration::from_millis(5));
    }
}

const SENDING: [&str; 6] = ["write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile"];

#[test]
fn a_line_is_answered_with_one_write() {
    let Some(db) = Traced::start("mock-db", &[]) else {
        return;
    };
    assert_eq!(db.program.send(b"PING\nSET k v\nGET k\nGET x\n"), "PONG\nOK\nv\nNOT_FOUND\n");
    let calls = db.calls(&SENDING);
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert!(calls[0].contains(r#"write(1, "mock-db listening on"#), "{calls:#?}");
    for (call, text) in calls[1..].iter().zip(["PONG", "OK", "v", "NOT_FOUND"]) {
        assert!(call.contains(&format!(r#", "{text}\n", "#)), "{call}");
    }
}

#[test]
fn a_request_is_one_connect_one_write_to_the_database_and_one_write_back() {
    let db = Program::start("mock-db", &[]);
    let Some(api) = Traced::start("mock-api", &[("DB_ADDR", &db.address())]) else {
        return;
    };
    assert_eq!(api.program.http("POST", "/data/k", "v").0, 200);
    let calls = api.calls(&[&SENDING[..], &["connect"]].concat());
    assert_eq!(calls.len(), 4, "{calls:#?}");
    assert!(calls[1].starts_with("connect("), "{calls:#?}");
    assert!(calls[2].contains(r#""SET k v\n""#), "{calls:#?}");
    assert!(calls[3].contains(r#""HTTP/1.1 200 OK\r\n"#), "{calls:#?}");
}

#[test]
fn a_reservation_is_open_write_fsync_close_and_then_the_answer() {
    let log = Log::new("traced");
    let env = [("WAL_PATH", log.0.to_str().unwrap())];
    let Some(inventory) = Traced::start("inventory-svc", &env) else {
        return;
    };
    assert_eq!(inventory.program.ask("RESERVE widget 3"), "OK 97");
    let calls = inventory.calls(&["openat", "write", "fsync", "close"]);
    let start = calls.iter().position(|call| call.contains("O_APPEND")).unwrap();
    let calls = &calls[start..start + 5];
    assert!(calls[0].contains("O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0644"), "{calls:#?}");
    assert!(calls[1].contains(r#""RESERVE widget 3\n", 17) = 17"#), "{calls:#?}");
    assert!(calls[2].starts_with("fsync("), "{calls:#?}");
    assert!(calls[3].starts_with("close("), "{calls:#?}");
    assert!(calls[4].contains(r#""OK 97\n""#), "{calls:#?}");
}

#[test]
fn no_file_is_opened_once_the_service_listens() {
    let Some(db) = Traced::start("mock-db", &[]) else {
        return;
    };
    assert_eq!(db.program.ask("PING"), "PONG");
    let calls = db.calls(&["open", "openat", "listen"]);
    let last = calls.last().map_or("", String::as_str);
    assert!(last.starts_with("listen("), "{calls:#?}");
}
