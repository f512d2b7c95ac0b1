//! Noticing that a container has been started again, in time.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, SystemTime},
};

use super::{Scene, cli, not_tested};
use crate::{
    docker::{self, Restarts},
    runner::cgroup,
};

/// How long a notice may take before it is held to be missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A notice: when, the inode number there was, and the names of the processes that were in it.
type Notice = (SystemTime, u64, Vec<String>);

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn watch(path: &Path, known: u64) -> (Restarts, Receiver<Notice>) {
    let (sender, notices) = mpsc::channel();
    let restarts = Restarts::watch(path, known, move |path| {
        let now = SystemTime::now();
        let inode = fs::metadata(path).map_or(0, |it| it.ino());
        let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let _ = sender.send((now, inode, processes.lines().map(name).collect()));
    });
    (restarts.unwrap(), notices)
}

#[test]
fn a_restart_is_noticed_before_the_container_runs_its_first_instruction() {
    const TIMES: usize = 10;
    let Some(scene) = Scene::new("restart") else { return };
    let network = scene.network();
    let place = std::env::temp_dir().join(&scene.session);
    fs::create_dir(&place).unwrap();
    // The first that the shell does.
    let mut new = scene.shell("a", &network, ": > /here/first; exec sleep 60");
    new.volumes = vec![(place.to_str().unwrap().to_owned(), "/here".to_owned())];
    let container = scene.start(&new);
    let first = place.join("first");
    let Ok(path) = docker::of_container(&container.id, container.pid) else {
        let _ = fs::remove_dir_all(&place);
        let _: Option<()> = not_tested("no cgroup v2 for containers");
        return;
    };
    // Or it would be taken for that of the next start.
    super::soon(|| fs::metadata(&first).ok()).unwrap();
    let (restarts, notices) = watch(&path, inode(&path));
    let mut known = inode(&path);
    let mut margins = Vec::new();
    for _ in 0..TIMES {
        let _ = fs::remove_file(&first);
        cli(&["restart", "-t", "0", &container.id]);
        let (when, found, names) = notices.recv_timeout(PATIENCE).expect("no notice");
        assert_ne!(found, known);
        known = found;
        assert_eq!(inode(&path), known);
        // What creates the container may be in it already, but nothing of the image's.
        assert!(names.iter().all(|it| !it.contains("sh") && !it.contains("sleep")), "{names:?}");
        let ran = super::soon(|| fs::metadata(&first).ok()?.modified().ok()).unwrap();
        // The time of a file is that of the last tick: at most 10 ms early, never late.
        margins.push(ran.duration_since(when).unwrap_or_default());
    }
    drop(restarts);
    let _ = fs::remove_dir_all(&place);
    margins.sort_unstable();
    println!("from the notice to the first instruction: {margins:?}");
    assert!(!margins[0].is_zero(), "{margins:?}");
    assert_eq!(notices.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

/// A cgroup of the test's own; removed at the end.
struct Own(PathBuf);

impl Own {
    fn new(name: &str) -> Option<Self> {
        let path = cgroup::own()?.join(format!("fb-unit-{name}-{}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => not_tested(&error.to_string()),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for directory in cgroup::tree(&self.0) {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[test]
fn a_cgroup_is_followed_though_those_above_it_vanish_and_come_again() {
    let Some(own) = Own::new("vanish") else { return };
    let (slice, scope) = (own.0.join("a.slice"), own.0.join("a.slice/b.slice/c.scope"));
    fs::create_dir_all(&scope).unwrap();
    let before = inode(&scope);
    let (restarts, notices) = watch(&scope, before);
    let expect = || notices.recv_timeout(PATIENCE).expect("no notice").1;
    let quiet = || notices.recv_timeout(Duration::from_millis(200)).unwrap_err();
    assert_eq!(quiet(), RecvTimeoutError::Timeout);
    for round in 0..3 {
        for directory in cgroup::tree(&slice) {
            fs::remove_dir(directory).unwrap();
        }
        // Some at once, some so that it is seen gone, some with others of the name before.
        match round {
            0 => fs::create_dir_all(&scope).unwrap(),
            1 => {
                assert_eq!(quiet(), RecvTimeoutError::Timeout);
                fs::create_dir(&slice).unwrap();
                fs::create_dir(scope.parent().unwrap()).unwrap();
                assert_eq!(quiet(), RecvTimeoutError::Timeout);
                fs::create_dir(&scope).unwrap();
            }
            _ => {
                fs::create_dir_all(own.0.join("c.scope")).unwrap();
                fs::create_dir_all(slice.join("c.scope")).unwrap();
                assert_eq!(quiet(), RecvTimeoutError::Timeout);
                fs::create_dir_all(&scope).unwrap();
            }
        }
        assert_eq!(expect(), inode(&scope), "round {round}");
    }
    // Others beside it are nothing to it.
    fs::create_dir(scope.with_file_name("d.scope")).unwrap();
    assert_eq!(quiet(), RecvTimeoutError::Timeout);
    drop(restarts);
}

#[test]
fn what_changed_before_the_watch_is_noticed_at_once() {
    let Some(own) = Own::new("earlier") else { return };
    let (restarts, notices) = watch(&own.0, 1);
    assert_eq!(notices.recv_timeout(PATIENCE).expect("no notice").1, inode(&own.0));
    drop(restarts);
    // Even one that is not there yet.
    let later = own.0.join("later");
    let (_restarts, notices) = watch(&later, 0);
    fs::create_dir(&later).unwrap();
    assert_eq!(notices.recv_timeout(PATIENCE).expect("no notice").1, inode(&later));
}
