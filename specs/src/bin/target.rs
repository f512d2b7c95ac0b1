//! A process to break by hand: some file work, one HTTP request, and how long each took.
//!
//! `HTTP_ADDR` (default localhost:8080) is asked for `GET /health`. Exit code 1 if the file work
//! fails; the request may fail without consequence.

use faultbox_specs::dial::dial;
use faultbox_specs::{environment, file, output, signals};
use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

const PATH: &CStr = c"/tmp/faultbox-target-test";
const TEXT: &[u8] = b"hello from target\n";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A piece of work that is timed.
type Step = fn() -> io::Result<()>;

fn main() -> ExitCode {
    signals::end_on_sigterm();
    output::say(&format!("target running as pid {}", process::id()));
    let steps: [(&str, Step); 3] =
        [("write", write_file), ("read", read_file), ("unlink", unlink_file)];
    let mut files_work = true;
    for (name, step) in steps {
        files_work &= timed(&format!("{name} {}", PATH.to_string_lossy()), step);
    }
    let address = environment::text("HTTP_ADDR", "localhost:8080");
    timed(&format!("GET http://{address}/health"), || get(&address));
    if files_work { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs `step`, prints how it went and how long it took; whether it went well.
fn timed(name: &str, step: impl FnOnce() -> io::Result<()>) -> bool {
    let start = Instant::now();
    let outcome = step();
    let took = start.elapsed();
    match &outcome {
        Ok(()) => output::say(&format!("{name}: ok ({took:.1?})")),
        Err(error) => output::say(&format!("{name}: {error} ({took:.1?})")),
    }
    outcome.is_ok()
}

fn write_file() -> io::Result<()> {
    let taken = file::open(PATH, libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY)?.write(TEXT)?;
    if taken == TEXT.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn read_file() -> io::Result<()> {
    let mut buffer = [0; 64];
    let count = file::open(PATH, libc::O_RDONLY)?.read(&mut buffer)?;
    if &buffer[..count] == TEXT {
        Ok(())
    } else {
        Err(io::Error::other("the file does not hold what was written"))
    }
}

fn unlink_file() -> io::Result<()> {
    // SAFETY: the path ends with NUL and lives for ever.
    match unsafe { libc::unlink(PATH.as_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// One request; any answer at all counts as success.
fn get(address: &str) -> io::Result<()> {
    let connection = dial(address, CONNECT_TIMEOUT)?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_once(request.as_bytes())?;
    connection.wait_readable(Instant::now() + ANSWER_TIMEOUT)?;
    match connection.read(&mut [0; 4096])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
