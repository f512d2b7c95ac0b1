//! How many runs go side by side, which depends on what they share.

use std::{num::NonZero, path::Path, thread};

use super::{
    files::is_private,
    message::message,
    possibilities::{try_files, try_namespace},
    suite::{Order, Suite},
    supply::Files,
};
use crate::spec::Service;

/// What runs share and how many go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Whether each has files of its own.
    pub(super) files: Files,
    /// How many go side by side, at most.
    pub(super) jobs: usize,
}

impl Sharing {
    /// Of all runs of a session, `total` in number if that is known.
    pub(super) fn of(order: &Order, suites: &[Suite], total: Option<usize>) -> Self {
        let by_container = suites.iter().find_map(|it| it.shares_files.clone());
        let wants_shared = order.shared_tmp.then(|| "--shared-tmp".to_owned());
        let why_shared = wants_shared.or(by_container);
        let files = if why_shared.is_some() { Files::Shared } else { Files::Private };
        if total.is_some_and(|it| it <= 1) || order.jobs == Some(1) {
            return Self { files, jobs: 1 };
        }
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let wanted = order.jobs.unwrap_or_else(processors);
        let one = |why: &str, is_said: bool, remedy: &str| {
            if is_said && wanted > 1 && !order.quiet {
                message(format_args!("note: runs one at a time, not {wanted}: {why}{remedy}"));
            }
            Self { files, jobs: 1 }
        };
        let alone = suites.iter().find_map(|it| it.alone.clone());
        let in_one_network = || {
            let why = try_namespace().err()?;
            Some(format!("services run in this machine's own network ({why})"))
        };
        if let Some(why) = alone.or_else(in_one_network) {
            return one(&why, order.jobs.is_some(), "");
        }
        if order.jobs.is_some() {
            // Who names a number knows best what the services write.
            return Self { files, jobs: wanted };
        }
        match why_shared {
            Some(why) => {
                let why = format!("they share this machine's /tmp ({why})");
                one(&why, true, "; -j N for services that write to no file in common")
            }
            // The first run says why.
            None if try_files().is_err() => Self { files, jobs: 1 },
            None => Self { files, jobs: wanted },
        }
    }
}

/// Why runs that have this service cannot go side by side.
pub(super) fn alone(service: &Service) -> Option<String> {
    let Service { name, source, container, .. } = service;
    let why = if source.is_foreign() {
        "there is only one of that container"
    } else if container.reuse {
        "reuse=True keeps one for all tests"
    } else if !container.ports.is_empty() {
        "ports= takes ports of this machine"
    } else {
        return None;
    };
    Some(format!("service {name:?}: {why}"))
}

/// Why no service of the spec may have other files than the container that this service is.
pub(super) fn shares_files(service: &Service) -> Option<String> {
    let mut volumes = service.container.volumes.iter().map(|it| &it.host);
    let is_shared = |it: &&std::path::PathBuf| is_private(&absolute(it));
    let volume = volumes.find(is_shared)?;
    Some(format!("service {:?} mounts {}", service.name, volume.display()))
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
