//! Files that runs side by side have both written to: their results may depend on each other,
//! which the user should hear of.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{files::is_private, message::message};
use crate::{
    engine::Decision,
    trace::{Event, EventKind, now},
};

/// Calls that change a file or a directory. Not those that open one: they may only read.
const CHANGES: [&str; 13] = [
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "truncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "copy_file_range",
];
/// Where processes write to what is nobody else's, or no file at all.
const NO_FILES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// How many files are named.
const NAMED: usize = 3;
/// How many are remembered, of services that write to a new one each time.
const REMEMBERED: usize = 10_000;

/// What the runs of a session have written to.
#[derive(Debug)]
pub(crate) struct Writes {
    /// Whether runs go side by side.
    matters: bool,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// For each file, when the last run that wrote to it ended.
    ended: HashMap<String, u64>,
    named: Vec<String>,
}

impl Writes {
    /// Nothing so far; `matters` if runs go side by side.
    pub(crate) fn new(matters: bool) -> Self {
        Self { matters, written: Mutex::default() }
    }

    /// Takes what the services of a run did that began at `begin` and is over, and says what
    /// another, which was under way at the same time, has written to as well. With `has_files` the
    /// run had files of its own: see [`super::files`].
    pub(crate) fn add<'e>(
        &self,
        begin: u64,
        events: impl Iterator<Item = &'e Event>,
        has_files: bool,
    ) {
        if !self.matters {
            return;
        }
        let paths = events.filter_map(|event| changed(&event.kind)).filter(|path| {
            let path = Path::new(path);
            !(has_files && is_private(path)) && (is_private(path) || !is_no_file(path))
        });
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Written { ended, named } = &mut *written;
        if ended.len() >= REMEMBERED {
            // A run that goes on since before then may have one of these in common.
            ended.retain(|_, last| *last > begin);
        }
        let (time, mut room) = (now(), REMEMBERED.saturating_sub(ended.len()));
        for path in paths {
            match ended.get_mut(path) {
                // Of this run.
                Some(last) if *last == time => {}
                Some(last) => {
                    let overlaps = *last > begin;
                    *last = time;
                    if overlaps && named.len() < NAMED && !named.iter().any(|it| it == path) {
                        named.push(path.to_owned());
                        message(format_args!(
                            "warning: runs that go side by side write to the same file, {path}: \
                             their results may depend on each other (-j 1 runs one at a time)"
                        ));
                    }
                }
                None if room > 0 => {
                    room -= 1;
                    ended.insert(path.to_owned(), time);
                }
                None => {}
            }
        }
    }
}

fn is_no_file(path: &Path) -> bool {
    NO_FILES.iter().any(|it| path.starts_with(it))
}

/// The file that a call has changed.
fn changed(kind: &EventKind) -> Option<&str> {
    let EventKind::Syscall { syscall, decision, path: Some(path), .. } = kind else { return None };
    let runs = matches!(decision, Decision::Allow | Decision::Traced | Decision::Delay(_));
    (runs && CHANGES.contains(&syscall.name())).then_some(path.as_str())
}
