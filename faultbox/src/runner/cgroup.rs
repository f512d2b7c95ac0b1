//! Control groups, version 2: what a service and all its descendants are contained in, found by
//! and killed with (`Documentation/admin-guide/cgroup-v2.rst` of the kernel).

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};

/// The cgroup directory that this process is in; `None` without version 2, mounted alone or
/// beside version 1.
pub(crate) fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = locate(&mounts, &membership)?;
    is_cgroup(&path).then_some(path)
}

/// Finds the directory from `/proc/self/mountinfo` and `/proc/self/cgroup` (`cgroups(7)`).
pub(crate) fn locate(mounts: &str, membership: &str) -> Option<PathBuf> {
    let member = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /mount/point rw,noatime shared:1 - type source options
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // In a mount of a part of the tree, only what is below that part can be reached.
        let below = Path::new(member).strip_prefix(unescape(root)).ok()?;
        Some(Path::new(&unescape(point)).join(below))
    })
}

/// Undoes the octal escapes of mountinfo, such as `\040` for a space.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|it| u8::from_str_radix(it, 8).ok());
        if let Some(code) = code {
            text.push(code as char);
            rest = &rest[at + 4..];
        } else {
            text.push('\\');
            rest = &rest[at + 1..];
        }
    }
    text.push_str(rest);
    text
}

/// Whether the directory is really one of a cgroup file system of version 2.
pub(crate) fn is_cgroup(path: &Path) -> bool {
    statfs(path).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Sends SIGKILL to every process below this cgroup.
pub(crate) fn kill_all(root: &Path) {
    // One write kills all, those being forked just now included (Linux 5.14).
    if fs::write(root.join("cgroup.kill"), "1").is_err() {
        for directory in tree(root) {
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse().ok()) {
                // 0 is how a process outside our PID namespace is shown; it would mean ourselves.
                if pid > 0 {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }
}

/// Kills whatever is left in a cgroup and removes it with all its descendants. A cgroup that does
/// not exist is no error; one that is still populated at the deadline is.
pub(crate) fn remove(root: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match remove_directories(root) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                if Instant::now() >= deadline {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        kill_all(root);
        wait_until_empty(root, deadline.min(Instant::now() + Duration::from_millis(100)));
    }
}

fn remove_directories(root: &Path) -> io::Result<()> {
    for directory in tree(root) {
        match fs::remove_dir(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The cgroup and its descendants, deepest first.
pub(crate) fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let below: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next += 1;
    }
    found.reverse();
    found
}

/// Waits until no process is below this cgroup, at most until the deadline.
///
/// `cgroup.events` raises `POLLPRI` whenever its content changes, so this sleeps until the last
/// process is gone.
pub(crate) fn wait_until_empty(root: &Path, deadline: Instant) {
    let Ok(mut events) = File::open(root.join("cgroup.events")) else {
        return;
    };
    loop {
        let mut text = String::new();
        if events.rewind().and_then(|()| events.read_to_string(&mut text)).is_err()
            || text.lines().any(|line| line == "populated 0")
        {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        // An error here is a signal; the deadline above ends the loop whatever happens.
        let _ = poll(&mut descriptors, timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_every_way_to_mount_it() {
        let pure = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:7 - cgroup2 cgroup2 rw";
        let part = "50 1 0:22 /docker/abc /sys/fs/cg\\040roup rw - cgroup2 cgroup rw";
        for (mounts, membership, expected) in [
            (pure, "0::/user.slice/a.scope\n", Some("/sys/fs/cgroup/user.slice/a.scope")),
            (hybrid, "1:cpu:/x\n0::/\n", Some("/sys/fs/cgroup/unified/")),
            (part, "0::/docker/abc/sub\n", Some("/sys/fs/cg roup/sub")),
            (part, "0::/elsewhere\n", None),
            (pure, "1:cpu:/x\n", None),
            ("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "0::/\n", None),
        ] {
            assert_eq!(locate(mounts, membership), expected.map(PathBuf::from), "{membership}");
        }
    }

    #[test]
    fn an_ordinary_directory_is_no_cgroup() {
        assert!(!is_cgroup(Path::new("/tmp")));
        assert!(!is_cgroup(Path::new("/no/such/directory")));
    }

    #[test]
    fn removing_a_cgroup_kills_what_lives_below_it() {
        let Some(own) = own() else { panic!("this test needs cgroup v2 mounted") };
        let root = own.join(format!("faultbox-unit-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir_all(root.join("run/service")) {
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: {} is not writable: {error}",
                own.display()
            );
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(root.join("run/service/cgroup.procs"), child.id().to_string()).unwrap();
        remove(&root, Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(!root.exists());
        assert!(!child.wait().unwrap().success());
        remove(&root, Instant::now()).unwrap();
    }
}
