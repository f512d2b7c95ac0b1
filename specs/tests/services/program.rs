//! Starting a program on a free port, and speaking to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No answer in these tests takes longer, the slowest being a five-second timeout.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The path of a program of this crate.
pub(crate) fn path_of(name: &str) -> &'static str {
    match name {
        "company-api" => env!("CARGO_BIN_EXE_company-api"),
        "company-search" => env!("CARGO_BIN_EXE_company-search"),
        "flood" => env!("CARGO_BIN_EXE_flood"),
        "pool-client" => env!("CARGO_BIN_EXE_pool-client"),
        "line-gateway" => env!("CARGO_BIN_EXE_line-gateway"),
        "inventory-svc" => env!("CARGO_BIN_EXE_inventory-svc"),
        "mock-api" => env!("CARGO_BIN_EXE_mock-api"),
        "mock-db" => env!("CARGO_BIN_EXE_mock-db"),
        "order-svc" => env!("CARGO_BIN_EXE_order-svc"),
        "target" => env!("CARGO_BIN_EXE_target"),
        other => panic!("no program called {other}"),
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
    listener.unwrap().local_addr().unwrap().port()
}

/// A running service; dropping it kills it.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Program {
    /// Starts `name` on a free port and waits for the line that says it listens.
    pub(crate) fn start(name: &str, env: &[(&str, &str)]) -> Self {
        Self::launch(Command::new(path_of(name)).envs(env.iter().copied()), name)
    }

    /// Starts `command`, which ends up running `name`. Another test may take the port between
    /// the moment it was found free and the moment it is bound, so that a few are tried.
    pub(crate) fn launch(command: &mut Command, name: &str) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let mut child = command
                .env("PORT", port.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            if line == format!("{name} listening on port {port}\n") {
                child.stdout = Some(stdout.into_inner());
                return Self { child, port };
            }
            assert_eq!(line, "", "the first line on stdout");
            child.wait().unwrap();
        }
        panic!("{name} found no port");
    }

    /// `localhost:PORT`, as a consumer would be told.
    pub(crate) fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(crate) fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Everything that comes back for `bytes` on a new connection whose sending half is closed.
    pub(crate) fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.dial();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// The answer to one line on a new connection.
    pub(crate) fn ask(&self, line: &str) -> String {
        let answer = self.send(format!("{line}\n").as_bytes());
        let answer = answer.strip_suffix('\n').expect("a complete line");
        answer.to_owned()
    }

    /// Status and body of the answer to one request.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let answer = self.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").expect("a complete head");
        let mut words = head.split(' ');
        assert_eq!(words.next(), Some("HTTP/1.1"));
        (words.next().unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
