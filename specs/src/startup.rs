//! From `main` to a listening socket, the same for every service.

use crate::listener::Listener;
use crate::{environment, output, signals};
use std::process::ExitCode;

/// Listens on `PORT` (or `default_port`), says so on stdout and runs `serve`, which never ends.
/// If the port cannot be had, says that on stderr and returns the exit code 1.
///
/// The line on stdout comes after the socket listens, so a reader of the line can dial.
pub fn run(name: &str, default_port: u16, serve: impl FnOnce(Listener)) -> ExitCode {
    signals::end_on_sigterm();
    match listen(default_port) {
        Ok((listener, port)) => {
            output::say(&format!("{name} listening on port {port}"));
            serve(listener);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            output::complain(&format!("{name}: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn listen(default_port: u16) -> Result<(Listener, u16), String> {
    let port = environment::port(default_port)?;
    match Listener::on_port(port) {
        Ok(listener) => Ok((listener, port)),
        Err(error) => Err(format!("listen on port {port}: {error}")),
    }
}
