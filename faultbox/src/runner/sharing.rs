//! How many runs go side by side, which depends on what they share.

use std::{
    env, fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use faultbox_common::MAX_TARGETS;

use super::{
    files::{has_private, is_shared_memory},
    message::message,
    possibilities::{try_files, try_namespace},
    sandbox::GoesBeside,
    suite::{Order, Suite},
    supply::Files,
};
use crate::spec::{Service, Source};

/// What runs share and how many go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Whether each has files of its own.
    pub(super) files: Files,
    /// How many go side by side, at most.
    pub(super) jobs: usize,
    /// What they may not fall back on.
    pub(super) goes_beside: GoesBeside,
}

impl Sharing {
    /// Of all runs of a session, `total` in number if that is known.
    pub(super) fn of(order: &Order, suites: &[Suite], total: Option<usize>) -> Self {
        let by_container = suites.iter().find_map(|it| it.shares_files.clone());
        let wants_shared = order.shared_tmp.then(|| "--shared-tmp".to_owned());
        let why_shared = wants_shared.or(by_container);
        let shared_memory = !suites.iter().any(|it| it.uses_shared_memory)
            && !env::current_dir().is_ok_and(|it| is_shared_memory(&it));
        let files = match why_shared {
            Some(_) => Files::Shared,
            None => Files::Private { shared_memory },
        };
        let nothing = GoesBeside { network: false, files: false };
        let alone = Self { files, jobs: 1, goes_beside: nothing };
        if total.is_some_and(|it| it <= 1) || order.jobs == Some(1) {
            return alone;
        }
        let processors = || {
            let most = suites.iter().map(|it| it.services).max().unwrap_or_default().max(1);
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            processors.min(MAX_TARGETS as usize / most)
        };
        let wanted = order.jobs.unwrap_or_else(processors).min(total.unwrap_or(usize::MAX));
        let one = |why: &str, is_said: bool, remedy: &str| {
            if is_said && wanted > 1 && !order.quiet {
                message(format_args!("note: runs one at a time, not {wanted}: {why}{remedy}"));
            }
            alone
        };
        let only_one = suites.iter().find_map(|it| it.alone.clone());
        let in_one_network = || {
            let why = try_namespace().err()?;
            Some(format!("services run in this machine's own network ({why})"))
        };
        if let Some(why) = only_one.or_else(in_one_network) {
            return one(&why, order.jobs.is_some(), "");
        }
        if order.jobs.is_some() {
            // Who names a number knows best what the services write.
            let goes_beside = GoesBeside { network: true, files: false };
            return Self { files, jobs: wanted, goes_beside };
        }
        match why_shared {
            Some(why) => {
                let why = format!("they share this machine's /tmp ({why})");
                one(&why, true, "; -j N for services that write to no file in common")
            }
            // The first run says why.
            None if try_files().is_err() => alone,
            None => {
                let goes_beside = GoesBeside { network: true, files: true };
                Self { files, jobs: wanted, goes_beside }
            }
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
    let volume = volumes.find(|it| has_private(&real(it)))?;
    Some(format!("service {:?} mounts {}", service.name, volume.display()))
}

/// Whether it is a program that would not be there any more if `/dev/shm` were empty.
pub(super) fn uses_shared_memory(service: &Service) -> bool {
    matches!(&service.source, Source::Binary(program) if is_shared_memory(&real(Path::new(program))))
}

/// The path itself where it leads nowhere.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}
