//! Gives a command-line client a port: each line that arrives is one run of the client.
//!
//! `line-gateway psql --quiet`, started with `PORT` (default 7000), runs `psql --quiet` for every
//! line and gives it that line to read. The answer is `OK` and what the client printed, or `ERR`
//! and what it complained about, with line breaks as ` | `. Specs speak to databases through it,
//! because their steps know only lines and HTTP.

use faultbox_specs::line_server::{self, Reply};
use faultbox_specs::{output, startup};
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Output, Stdio};

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(program) = words.next() else {
        output::complain("line-gateway: usage: line-gateway COMMAND [ARGUMENT]...");
        return ExitCode::FAILURE;
    };
    let arguments: Vec<_> = words.collect();
    startup::run("line-gateway", 7000, |listener| {
        line_server::serve(listener, move |line| run(&program, &arguments, line))
    })
}

/// Runs the client, gives it the line to read, and waits for its end.
fn run(program: &OsString, arguments: &[OsString], line: &[u8]) -> Reply {
    match converse(program, arguments, line) {
        Err(error) => Reply::text(format!("ERR cannot run {}: {error}", program.display())),
        Ok(client) if client.status.success() => Reply::Line(one_line("OK", &client.stdout)),
        Ok(client) if client.stderr.is_empty() && client.stdout.is_empty() => {
            Reply::text(format!("ERR {}", client.status))
        }
        // Not every client complains on stderr.
        Ok(client) => Reply::Line(one_line("ERR", &[client.stderr, client.stdout].concat())),
    }
}

fn converse(program: &OsString, arguments: &[OsString], line: &[u8]) -> io::Result<Output> {
    let mut client = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = client.stdin.take() {
        // A client that has no server to speak to may be gone before it reads; it says why.
        let _ = stdin.write_all(&[line, b"\n"].concat());
    }
    client.wait_with_output()
}

/// The verdict, then the lines of the text that are not empty.
fn one_line(verdict: &str, text: &[u8]) -> Vec<u8> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let text = lines.join(&b" | "[..]);
    [verdict.as_bytes(), &text]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(&b' ')
}
