//! Forwards lines to a peer over one connection that it keeps, as the connection pool of a real
//! client does.
//!
//! `PORT` (default 7001) is the port, `PEER_ADDR` the peer (`host:port`), `TIMEOUT_MS` (default
//! 1000) the time that a connect or an answer may take. Each line is the peer's, and so is the
//! answer; where there is none, the answer is `ERR` and why, the connection is given up, and the
//! next line is worth a new one. `DIALS` alone is for itself: how often it has connected.

use faultbox_specs::client::{Peer, Pooled};
use faultbox_specs::line_server::{self, Reply};
use faultbox_specs::{environment, startup};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

fn main() -> ExitCode {
    startup::run("pool-client", 7001, |listener| {
        let peer = Peer::new("peer", environment::text("PEER_ADDR", "localhost:5432"));
        let timeout = environment::text("TIMEOUT_MS", "1000").parse().unwrap_or(1000);
        let pooled = Mutex::new(Pooled::new(peer, Duration::from_millis(timeout)));
        line_server::serve(listener, move |line| {
            // A thread that panicked while it held the lock has left a connection or none.
            let mut pooled = pooled.lock().unwrap_or_else(PoisonError::into_inner);
            if line == b"DIALS" {
                return Reply::text(pooled.dials().to_string());
            }
            match pooled.ask(line) {
                Ok(answer) => Reply::Line(answer),
                Err(error) => Reply::text(format!("ERR {error}")),
            }
        })
    })
}
