//! Attaching to every thread of a cgroup.

use std::{collections::BTreeMap, fs, io, path::Path};

use nix::errno::Errno;

use super::{error::Refusal, ptrace, status::Status};

/// The threads that are traced, by id, and the process of each where it is known.
#[derive(Default)]
pub(super) struct Tracees {
    threads: BTreeMap<u32, Option<u32>>,
}

/// What became of an attempt to attach.
enum Attempt {
    Seized,
    /// It is traced by us already, or there is nothing to trace.
    Nothing,
    Refused(Refusal),
}

impl Tracees {
    /// Notes a thread that is traced from its birth on.
    pub(super) fn add(&mut self, tid: u32) {
        self.threads.entry(tid).or_default();
    }

    pub(super) fn remove(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }

    pub(super) fn contains(&self, tid: u32) -> bool {
        self.threads.contains_key(&tid)
    }

    /// The process of a tracee.
    pub(super) fn process(&mut self, tid: u32) -> Option<u32> {
        let process = self.threads.get_mut(&tid)?;
        if process.is_none() {
            *process = Status::of(tid).map(|status| status.process);
        }
        *process
    }

    /// Attaches to every thread of the cgroup and its descendants. Threads that are born from
    /// now on are traced from birth, if their parents are; so a pass over the cgroup that finds
    /// nothing new has missed nobody. Returns the number of threads that were not traced before.
    pub(super) fn seize_cgroup(
        &mut self,
        cgroup: &Path,
        refusals: &mut Vec<Refusal>,
    ) -> io::Result<u32> {
        let mut seized = 0;
        loop {
            let mut processes = Vec::new();
            list(cgroup, &mut processes)?;
            let found: u32 =
                processes.into_iter().map(|pid| self.seize_process(pid, refusals)).sum();
            if found == 0 {
                return Ok(seized);
            }
            seized += found;
        }
    }

    /// One pass over a process's threads. Returns the number of those that were not traced before.
    pub(super) fn seize_process(&mut self, pid: u32, refusals: &mut Vec<Refusal>) -> u32 {
        if pid == std::process::id() || refusals.iter().any(|it| it.pid == pid) {
            return 0;
        }
        // It may have ended.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
        let tids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        let mut seized = 0;
        for tid in tids {
            if self.contains(tid) {
                continue;
            }
            match attach(pid, tid) {
                Attempt::Seized => {
                    self.threads.insert(tid, Some(pid));
                    seized += 1;
                }
                Attempt::Nothing => {}
                Attempt::Refused(refusal) => {
                    refusals.push(refusal);
                    break;
                }
            }
        }
        seized
    }
}

fn attach(pid: u32, tid: u32) -> Attempt {
    // Twice, because the tracer that was in the way may be gone when we ask who it is.
    for _ in 0..2 {
        match ptrace::seize(tid) {
            Ok(()) => return Attempt::Seized,
            Err(Errno::EPERM) => {}
            // ESRCH: it has ended. Nothing else is possible.
            Err(_) => return Attempt::Nothing,
        }
        let Some(status) = Status::of(tid) else { return Attempt::Nothing };
        if status.is_beyond_tracing() || status.tracer == std::process::id() {
            return Attempt::Nothing;
        }
        if status.tracer != 0 {
            // Of a tracer outside our view there is but the number.
            let name = Status::of(status.tracer).map(|tracer| tracer.name).unwrap_or_default();
            let tracer = Some((status.tracer, name));
            return Attempt::Refused(Refusal { pid, comm: status.name, tracer });
        }
    }
    let comm = Status::of(pid).map(|status| status.name).unwrap_or_default();
    Attempt::Refused(Refusal { pid, comm, tracer: None })
}

/// The processes of a cgroup and its descendants. Descendants come and go.
fn list(cgroup: &Path, processes: &mut Vec<u32>) -> io::Result<()> {
    // Not supported in a threaded cgroup, whose processes' list is its root's. A thread leads to
    // its process as well.
    let ids = fs::read_to_string(cgroup.join("cgroup.procs")).or_else(|error| {
        if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(error);
        }
        fs::read_to_string(cgroup.join("cgroup.threads"))
    })?;
    // 0 is a process outside our pid namespace.
    processes.extend(ids.lines().filter_map(|id| id.parse::<u32>().ok()).filter(|id| *id != 0));
    for entry in fs::read_dir(cgroup)? {
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // ENOENT, ENODEV: it has been removed.
            let _ = list(&entry.path(), processes);
        }
    }
    Ok(())
}
