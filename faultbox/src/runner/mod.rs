//! Turns a spec and the flags into runs, and executes each in a sandbox of its own: services
//! start in the order of their dependencies, the test function is called, everything is torn
//! down. What survives a `kill -9` of all this is removed by the janitor, or by the next start.

mod addresses;
pub(crate) mod cgroup;
pub(crate) mod chance;
mod container;
mod containers;
mod descriptors;
mod direction;
mod environment;
mod faults;
mod files;
mod gaps;
mod interrupt;
mod janitor;
mod journal;
mod listening;
mod loading;
pub(crate) mod mark;
mod message;
mod netns;
mod output;
mod partitions;
mod plan;
mod pool;
mod port;
mod possibilities;
mod progress;
mod quiet;
mod results;
mod running_test;
mod sandbox;
mod schedule;
mod service;
mod session;
mod sharing;
mod shutdown;
mod startup;
mod step_text;
mod suite;
mod supply;
mod tasks;
mod test_run;
mod uplink;
mod writes;

use std::io::Write;

pub(crate) use direction::dials;
pub(crate) use janitor::Janitor;
pub(crate) use loading::load;
pub(crate) use message::message;
#[cfg(test)]
pub(crate) use netns::enter as enter_network;
pub(crate) use plan::Selection;
pub(crate) use possibilities::{sandbox_cgroup, try_files, try_namespace};
pub(crate) use session::{Session, SessionPaths};
pub(crate) use suite::{Ending, JournalOrder, Order};

/// Does what `faultbox test` was asked to do, from nothing to nothing: whatever it creates on
/// this machine is gone when it returns, and soon after the process is killed. Must be called
/// while the process has one thread only.
pub(crate) fn run(order: &Order, out: impl Write) -> Ending {
    let prepared = session::SessionPaths::choose().and_then(|paths| {
        // Dropped in the opposite order: the janitor must outlive the session.
        let janitor = janitor::Janitor::start(&paths)?;
        interrupt::install()?;
        Ok((janitor, session::Session::open(paths)?))
    });
    match prepared {
        Ok((janitor, session)) => {
            let ending = suite::run(order, &session, out);
            drop(session);
            drop(janitor);
            ending
        }
        Err(error) => {
            message(format_args!("error: cannot prepare a session: {error}"));
            Ending::Broken
        }
    }
}

/// A service for tests that start nothing.
#[cfg(test)]
fn declared(name: &str, interfaces: &[(&str, u16)]) -> crate::spec::Service {
    use crate::spec::{Interface, Location, Protocol, Service, Source};
    let interfaces = interfaces.iter().map(|(name, port)| Interface {
        name: (*name).to_owned(),
        protocol: Protocol::Tcp,
        port: *port,
    });
    Service {
        name: name.to_owned(),
        source: Source::Binary("bin/none".to_owned()),
        interfaces: interfaces.collect(),
        args: Vec::new(),
        env: Vec::new(),
        depends_on: Vec::new(),
        container: crate::spec::ContainerOptions::default(),
        has_seed: false,
        has_reset: false,
        healthcheck: None,
        ops: Vec::new(),
        location: Location { file: "a.star".to_owned(), line: 1, column: 1 },
    }
}
