//! The cgroup whose processes are hit. A target of the engine is a cgroup, so a process that has
//! none for itself is moved into a new one for the time being.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    docker::{self, Docker, DockerError, Restarts},
    runner::{cgroup, message},
};

/// How often is looked for processes that were being forked during the look before.
const ROUNDS: usize = 50;
/// What a cgroup that a process was moved into is called, before the id and the start time of the
/// faultbox that made it.
const PREFIX: &str = "faultbox-attach-";

/// Where the processes to hit are. Dropping it moves those that were moved back.
#[derive(Debug)]
pub(super) struct Place {
    cgroup: PathBuf,
    what: String,
    moved: Option<Moved>,
    container: Option<Contained>,
}

/// A container whose cgroup it is.
#[derive(Debug)]
struct Contained {
    docker: Docker,
    id: String,
    /// The inode number of the cgroup when it was found.
    cgroup: u64,
}

/// A cgroup made for the occasion.
#[derive(Debug)]
struct Moved {
    cgroup: PathBuf,
    /// Where processes started meanwhile belong.
    home: PathBuf,
    /// Where those that were moved came from.
    origins: Vec<(u32, PathBuf)>,
}

impl Place {
    /// Its directory.
    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        format!("{}, {}", self.what, self.cgroup.display())
    }

    /// A process and its descendants, or all of its cgroup.
    pub(super) fn of_process(pid: u32, whole: bool) -> Result<Self, String> {
        if pid == std::process::id() {
            return Err(format!("--pid: {pid} is faultbox itself"));
        }
        let mut home = cgroup_of(pid).map_err(|why| format!("--pid: {why}"))?;
        if let Some(parent) = left_behind(&home, pid)? {
            home = parent;
        }
        let family = descendants(pid);
        let others: Vec<u32> =
            members(&home).into_iter().filter(|it| !family.contains(it)).collect();
        let what = format!("process {pid}");
        if others.is_empty() {
            return Ok(Self { cgroup: home, what, moved: None, container: None });
        }
        if whole {
            return Self::checked(home, format!("process {pid} and all of its cgroup"));
        }
        let moved = Moved::new(pid, &home).map_err(|why| {
            format!(
                "process {pid} shares its cgroup {} with {}, and could not be moved into one of \
                 its own: {why}; to break them all use --whole-cgroup",
                home.display(),
                names(&others)
            )
        })?;
        Ok(Self { cgroup: moved.cgroup.clone(), what, moved: Some(moved), container: None })
    }

    /// A cgroup as it is.
    pub(super) fn of_cgroup(path: &Path) -> Result<Self, String> {
        if !cgroup::is_cgroup(path) {
            return Err(format!(
                "--cgroup: {} is no directory of cgroup v2; one is named behind 0:: in \
                 /proc/PID/cgroup, relative to where cgroup2 is mounted",
                path.display()
            ));
        }
        if members(path).is_empty() {
            return Err(format!("--cgroup: no process is in {}", path.display()));
        }
        Self::checked(path.to_owned(), "a cgroup".to_owned())
    }

    /// The cgroup of a container that runs, by what people call it.
    pub(super) fn of_container(name: &str) -> Result<Self, String> {
        let said = |error: DockerError| format!("--container: {error}");
        let docker = Docker::connect()
            .map_err(|error| format!("{}; --pid and --cgroup need no Docker", said(error)))?;
        let found = docker.find(name).map_err(said)?;
        let pid = found.pid;
        let path = docker::of_container(&found.id, pid).map_err(|error| {
            format!("{}; --pid {pid} moves its processes into one", said(error))
        })?;
        let directory = fs::metadata(&path)
            .map_err(|error| format!("--container: {}: {error}", path.display()))?;
        let mut place = Self::checked(path, format!("container {}", found.name))?;
        place.container = Some(Contained { docker, id: found.id, cgroup: directory.ino() });
        Ok(place)
    }

    /// Calls this whenever a container has been restarted, with its new cgroup, until what is
    /// returned is dropped; that is nothing for anything else.
    pub(super) fn on_restart(
        &self,
        restarted: impl Fn(&Path) + Send + 'static,
    ) -> Result<Option<Restarts>, String> {
        let watch = |it: &Contained| Restarts::watch(&self.cgroup, it.cgroup, restarted);
        let watched = self.container.as_ref().map(watch).transpose();
        watched.map_err(|error| format!("--container: {error}"))
    }

    /// Whether there may be processes again when there are none: in a container that has not been
    /// removed.
    pub(super) fn may_start_again(&self) -> bool {
        self.container.as_ref().is_some_and(|it| {
            // If Docker itself is away, it may come again as well.
            !it.docker.inspect(&it.id).is_err_and(|error| error.is_missing())
        })
    }

    /// A cgroup that is taken whole must not have faultbox in it.
    fn checked(cgroup: PathBuf, what: String) -> Result<Self, String> {
        if members(&cgroup).contains(&std::process::id()) {
            return Err(format!(
                "faultbox itself runs in the cgroup {} and would break its own calls; start it \
                 from another one",
                cgroup.display()
            ));
        }
        Ok(Self { cgroup, what, moved: None, container: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(moved) = &self.moved
            && let Err(error) = moved.undo()
        {
            message(format_args!(
                "warning: cannot move everything back from {}: {error}",
                moved.cgroup.display()
            ));
        }
    }
}

impl Moved {
    /// Makes a cgroup below `home` and moves a process with its descendants there.
    fn new(pid: u32, home: &Path) -> Result<Self, String> {
        let controllers = fs::read_to_string(home.join("cgroup.subtree_control"));
        // Only the root may hand out controllers and have processes as well; with none handed
        // out, a leaf changes nothing for what is in it.
        let own_start = start_time(std::process::id()).unwrap_or_default();
        let cgroup = home.join(format!("{PREFIX}{}-{own_start}", std::process::id()));
        fs::create_dir(&cgroup).map_err(|error| format!("cannot create a cgroup: {error}"))?;
        let mut moved = Self { cgroup, home: home.to_owned(), origins: Vec::new() };
        let result = moved.take(pid).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EOPNOTSUPP) => format!(
                "the kernel does not let processes be in a cgroup below it, which hands out \
                 controllers ({})",
                controllers.unwrap_or_default().trim()
            ),
            _ => format!("cannot move it: {error}"),
        });
        if let Err(why) = result {
            // What was moved goes back; what cannot is no worse off than before.
            let _ = moved.undo();
            return Err(why);
        }
        Ok(moved)
    }

    /// Moves the process and its descendants, those that are being forked included.
    fn take(&mut self, pid: u32) -> io::Result<()> {
        for _ in 0..ROUNDS {
            let inside = direct_members(&self.cgroup);
            let outside: Vec<u32> =
                descendants(pid).into_iter().filter(|it| !inside.contains(it)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for one in outside {
                let Ok(origin) = cgroup_of(one) else { continue };
                if origin == self.cgroup {
                    continue;
                }
                match join(&self.cgroup, one) {
                    Ok(()) => self.origins.push((one, origin)),
                    // Ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) && one != pid => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(io::Error::other("it forks faster than its descendants can be moved"))
    }

    /// Moves everything back and removes the cgroup.
    fn undo(&self) -> io::Result<()> {
        let origin = |pid| {
            let known = self.origins.iter().find(|(it, _)| *it == pid);
            known.map_or(&*self.home, |(_, origin)| origin)
        };
        empty(&self.cgroup, origin)?;
        fs::remove_dir(&self.cgroup)
    }
}

/// Moves every process out of a cgroup, each to where `origin` says.
fn empty<'p>(cgroup: &Path, origin: impl Fn(u32) -> &'p Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..ROUNDS {
        let left = direct_members(cgroup);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            match join(origin(pid), pid) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => last = Err(error),
                _ => {}
            }
        }
    }
    last
}

/// If a cgroup was made by a faultbox that was killed: moves its processes to where it is, removes
/// it, and returns that. An error if that faultbox is alive.
fn left_behind(cgroup: &Path, pid: u32) -> Result<Option<PathBuf>, String> {
    let name = cgroup.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let maker = name.strip_prefix(PREFIX).and_then(|it| it.split_once('-'));
    let (Some((maker, start)), Some(parent)) = (maker, cgroup.parent()) else {
        return Ok(None);
    };
    let alive = maker.parse().ok().and_then(start_time);
    if alive.is_some_and(|it| it == start) {
        return Err(format!(
            "--pid: faultbox (pid {maker}) is attached to process {pid} already; give it all \
             --fault options at once"
        ));
    }
    let undone = empty(cgroup, |_| parent).and_then(|()| fs::remove_dir(cgroup));
    undone.map_err(|error| {
        format!("--pid: cannot clear {}, left by a killed faultbox: {error}", cgroup.display())
    })?;
    Ok(Some(parent.to_owned()))
}

/// Moves a process.
fn join(cgroup: &Path, pid: u32) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())
}

/// The cgroup v2 that a process is in.
fn cgroup_of(pid: u32) -> Result<PathBuf, String> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|_| format!("there is no process {pid}"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    cgroup::locate(&mounts, &membership)
        .filter(|path| cgroup::is_cgroup(path))
        .ok_or_else(|| format!("process {pid} is in no cgroup of version 2 that is mounted here"))
}

/// Processes in a cgroup itself.
fn direct_members(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    // 0 is one that this PID namespace does not show.
    text.lines().filter_map(|it| it.parse().ok()).filter(|it| *it > 0).collect()
}

/// Processes in a cgroup and below it.
fn members(cgroup: &Path) -> Vec<u32> {
    cgroup::tree(cgroup).iter().flat_map(|it| direct_members(it)).collect()
}

/// A process and all that descend from it.
fn descendants(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|child| Some((child, status_field(child, 1)?.parse().ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, it)| *it == parent).map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// When a process started, in ticks since boot: with its id, what no other process has.
fn start_time(pid: u32) -> Option<String> {
    status_field(pid, 19)
}

/// A field of `/proc/PID/stat`, counted from the state behind the name, which is field 0
/// (`proc_pid_stat(5)`).
fn status_field(pid: u32, index: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, parentheses included.
    let (_, behind) = text.rsplit_once(") ")?;
    behind.split_ascii_whitespace().nth(index).map(str::to_owned)
}

/// The first of some processes, and how many there are.
fn names(pids: &[u32]) -> String {
    const SHOWN: usize = 5;
    let one = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The name is its process's own choice.
        let name: String = name.trim_end().chars().filter(|it| !it.is_control()).collect();
        format!("{pid} ({name})")
    };
    let shown: Vec<_> = pids.iter().take(SHOWN).map(one).collect();
    let more = pids.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests;
