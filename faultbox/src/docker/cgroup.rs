//! The cgroup that a container is contained in, whatever drew it up: version 2 alone or beside
//! version 1, Docker's driver `cgroupfs` or `systemd`, Docker, podman, containerd or CRI-O.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::DockerError;
use crate::runner::cgroup;

/// What may stand before a container's id in the name of its cgroup.
const BEFORE: [&str; 6] = ["", "docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-"];
/// How much of a container's id is shown.
const SHOWN: usize = 12;

/// The cgroup v2 directory, as it is mounted here, of a whole container: of its main process `pid`,
/// or, where the container has cgroups inside its own, of the outermost of these.
pub(crate) fn of_container(id: &str, pid: u32) -> Result<PathBuf, DockerError> {
    let refuse = |why: String| DockerError::NoCgroup { id: id.chars().take(SHOWN).collect(), why };
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|_| refuse(format!("its main process {pid} has ended")))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = locate(&mounts, &membership, id).map_err(refuse)?;
    if cgroup::is_cgroup(&path) {
        Ok(path)
    } else {
        Err(refuse(format!("{} is not there any more", path.display())))
    }
}

/// Finds it from `/proc/self/mountinfo` and the `/proc/PID/cgroup` of its main process
/// (`cgroups(7)`). An error says why there is none, and what to do.
fn locate(mounts: &str, membership: &str, id: &str) -> Result<PathBuf, String> {
    let Some(member) = membership.lines().find_map(|it| it.strip_prefix("0::")) else {
        return Err("this machine has only version 1; boot it with \
                    systemd.unified_cgroup_hierarchy=1"
            .to_owned());
    };
    let Some(whole) = outermost(member, id) else {
        return Err(format!(
            "its processes are in {member} like those of others, because Docker puts containers \
             into cgroups of version 1 only here; boot with systemd.unified_cgroup_hierarchy=1, \
             or, where version 2 is mounted beside version 1, use runc 1.1 or newer, and start \
             the container anew"
        ));
    };
    cgroup::locate(mounts, &format!("0::{whole}")).ok_or_else(|| {
        format!(
            "its cgroup is {whole}, which no mount of cgroup2 shows here; run faultbox in the \
             machine's own cgroup and mount namespaces"
        )
    })
}

/// The path up to the first component that is the container's.
fn outermost<'m>(member: &'m str, id: &str) -> Option<&'m str> {
    let mut end = 0;
    for component in member.split('/') {
        end += component.len();
        if is_of(component, id) {
            return Some(&member[..end]);
        }
        // The slash behind it.
        end += 1;
    }
    None
}

/// Whether a cgroup has the name of this container's.
fn is_of(component: &str, id: &str) -> bool {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    !id.is_empty() && BEFORE.iter().any(|it| name.strip_prefix(it) == Some(id))
}

/// The number that no other cgroup has, not even one of the same name later.
pub(super) fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|it| it.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2dd1e5a1a5c8f1e0b7a9d3c6b2f4e8d0a1b2c3d4e5f60718293a4b5c6d7e8f";
    const PURE: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw shared:7 - cgroup2 cgroup2 rw";

    fn found(mounts: &str, membership: &str) -> Result<String, String> {
        let membership = membership.replace("ID", ID);
        let path = locate(mounts, &membership, ID)?;
        Ok(path.to_str().unwrap().replace(ID, "ID"))
    }

    #[test]
    fn the_whole_container_is_found_in_every_layout() {
        for (mounts, membership, expected) in [
            // Docker, cgroupfs: version 2 alone, and beside version 1.
            (PURE, "0::/docker/ID\n", "/sys/fs/cgroup/docker/ID"),
            (HYBRID, "1:cpu:/docker/ID\n0::/docker/ID\n", "/sys/fs/cgroup/unified/docker/ID"),
            // With a parent of its own.
            (PURE, "0::/my/parent/ID\n", "/sys/fs/cgroup/my/parent/ID"),
            // Docker, systemd.
            (
                PURE,
                "0::/system.slice/docker-ID.scope\n",
                "/sys/fs/cgroup/system.slice/docker-ID.scope",
            ),
            (
                HYBRID,
                "1:name=systemd:/system.slice/docker-ID.scope\n0::/system.slice/docker-ID.scope\n",
                "/sys/fs/cgroup/unified/system.slice/docker-ID.scope",
            ),
            // A container that has cgroups of its own, systemd inside, Docker inside.
            (
                PURE,
                "0::/system.slice/docker-ID.scope/init.scope\n",
                "/sys/fs/cgroup/system.slice/docker-ID.scope",
            ),
            (PURE, "0::/docker/ID/docker/other/x\n", "/sys/fs/cgroup/docker/ID"),
            // podman, systemd and cgroupfs.
            (
                PURE,
                "0::/machine.slice/libpod-ID.scope/container\n",
                "/sys/fs/cgroup/machine.slice/libpod-ID.scope",
            ),
            (PURE, "0::/libpod_parent/libpod-ID\n", "/sys/fs/cgroup/libpod_parent/libpod-ID"),
            // Kubernetes.
            (
                PURE,
                "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope\n",
                "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
            ),
            // Seen from within a cgroup namespace, with its mount.
            (
                "25 1 0:22 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                "0::/../../docker/ID\n",
                "/sys/fs/cgroup/docker/ID",
            ),
        ] {
            assert_eq!(found(mounts, membership).as_deref(), Ok(expected), "{membership}");
        }
    }

    #[test]
    fn a_cgroup_with_others_in_it_is_refused_with_the_way_out() {
        for membership in [
            "1:cpu:/docker/ID\n0::/\n",
            "0::/system.slice/docker.service\n",
            // What watches podman's container.
            "0::/machine.slice/libpod-conmon-ID.scope\n",
            // Another one, of which this is the beginning.
            "0::/docker/ID0\n",
        ] {
            let error = found(HYBRID, membership).unwrap_err();
            assert!(error.contains("like those of others"), "{error}");
            assert!(error.contains("systemd.unified_cgroup_hierarchy=1"), "{error}");
        }
        let error = found(HYBRID, "1:cpu:/docker/ID\n").unwrap_err();
        assert!(error.contains("only version 1"), "{error}");
        let part = "25 1 0:22 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let error = found(part, "0::/docker/ID\n").unwrap_err();
        assert!(error.contains("no mount of cgroup2 shows"), "{error}");
        assert!(locate(PURE, "0::/docker/\n", "").is_err());
    }

    #[test]
    fn a_process_that_has_ended_is_said_to_have() {
        // No process has this id.
        let error = of_container(ID, 4_194_305).unwrap_err().to_string();
        assert!(error.contains("container 4f2dd1e5a1a5 "), "{error}");
        assert!(error.contains("has ended"), "{error}");
    }
}
