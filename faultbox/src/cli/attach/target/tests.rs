use std::process::{Child, Command, Stdio};

use super::*;

/// A cgroup with a shell that has two children, and with a stranger; removed at the end.
struct Scene {
    home: PathBuf,
    shell: Child,
    stranger: Child,
}

impl Scene {
    /// `None` where no cgroup can be made.
    fn new(name: &str) -> Option<Self> {
        let own = cgroup::own()?;
        let home = own.join(format!("fb-unit-{name}-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&home) {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "NOT TESTED: moving: {error}");
            return None;
        }
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stranger = Command::new("sleep").arg("60").spawn().unwrap();
        // Behind the line both children exist.
        io::Read::read(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        for pid in descendants(shell.id()).into_iter().chain([stranger.id()]) {
            join(&home, pid).unwrap();
        }
        Some(Self { home, shell, stranger })
    }

    fn family(&self) -> Vec<u32> {
        let mut family = descendants(self.shell.id());
        family.sort_unstable();
        family
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = cgroup::remove(
            &self.home,
            std::time::Instant::now() + std::time::Duration::from_secs(5),
        );
        let _ = (self.shell.wait(), self.stranger.wait());
    }
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

#[test]
fn a_process_among_others_is_moved_with_its_descendants_and_back() {
    let Some(scene) = Scene::new("move") else { return };
    let family = scene.family();
    assert_eq!(family.len(), 3);
    let place = Place::of_process(scene.shell.id(), false).unwrap();
    assert_ne!(place.cgroup(), scene.home);
    assert_eq!(sorted(direct_members(place.cgroup())), family);
    assert_eq!(direct_members(&scene.home), [scene.stranger.id()]);
    // Whoever asks second is told of the first.
    let error = Place::of_process(scene.shell.id(), false).unwrap_err();
    assert!(error.contains("is attached to process"), "{error}");
    let made = place.cgroup().to_owned();
    drop(place);
    assert!(!made.exists());
    assert_eq!(direct_members(&scene.home).len(), 4);
}

#[test]
fn a_process_alone_with_its_descendants_stays_where_it_is() {
    let Some(mut scene) = Scene::new("alone") else { return };
    scene.stranger.kill().unwrap();
    scene.stranger.wait().unwrap();
    let place = Place::of_process(scene.shell.id(), false).unwrap();
    assert_eq!(place.cgroup(), scene.home);
    drop(place);
    assert_eq!(direct_members(&scene.home).len(), 3);
}

#[test]
fn all_of_a_cgroup_is_taken_when_asked_for() {
    let Some(scene) = Scene::new("whole") else { return };
    let place = Place::of_process(scene.shell.id(), true).unwrap();
    assert_eq!(place.cgroup(), scene.home);
    assert_eq!(Place::of_cgroup(&scene.home).unwrap().cgroup(), scene.home);
}

#[test]
fn what_a_killed_faultbox_has_left_is_put_in_order() {
    let Some(scene) = Scene::new("left") else { return };
    // No process has this id and this start time.
    let left = scene.home.join(format!("{PREFIX}4194304-0"));
    fs::create_dir(&left).unwrap();
    for pid in scene.family() {
        join(&left, pid).unwrap();
    }
    let place = Place::of_process(scene.shell.id(), false).unwrap();
    assert!(!left.exists());
    drop(place);
    assert_eq!(direct_members(&scene.home).len(), 4);
}

#[test]
fn what_cannot_be_a_target_is_refused() {
    let error = |place: Result<Place, String>| place.unwrap_err();
    assert!(error(Place::of_process(4_194_304, false)).contains("there is no process 4194304"));
    assert!(error(Place::of_process(std::process::id(), false)).contains("faultbox itself"));
    assert!(error(Place::of_cgroup(Path::new("/tmp"))).contains("no directory of cgroup v2"));
    let Some(own) = cgroup::own() else { return };
    assert!(error(Place::of_cgroup(&own)).contains("faultbox itself runs in the cgroup"));
    let empty = own.join(format!("fb-unit-empty-{}", std::process::id()));
    if fs::create_dir(&empty).is_ok() {
        let text = error(Place::of_cgroup(&empty));
        fs::remove_dir(&empty).unwrap();
        assert!(text.contains("no process is in"), "{text}");
    }
}
