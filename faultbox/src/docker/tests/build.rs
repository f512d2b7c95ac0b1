//! Images that are built on the spot.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Scene, cli};

/// A directory to build, removed at the end, and the image with it.
struct Directory {
    path: PathBuf,
    tag: String,
}

impl Directory {
    fn new(scene: &Scene, dockerfile: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-build", scene.session));
        fs::create_dir(&path).unwrap();
        let text = dockerfile.replace("BASE", &scene.image);
        fs::write(path.join("Dockerfile"), text).unwrap();
        Self { path, tag: format!("{}-built:1", scene.session) }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        cli(&["rmi", "-f", &self.tag]);
    }
}

#[test]
fn what_the_ignore_file_names_is_not_sent_and_the_rest_arrives_as_it_is() {
    let Some(scene) = Scene::new("build") else { return };
    let directory = Directory::new(&scene, "FROM BASE\nSTOPSIGNAL SIGQUIT\nCOPY . /here\n");
    let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(120));
    directory.write(".dockerignore", "# not these\n**/*.log\nsecret\n!secret/shown\nDockerfile\n");
    for path in ["a.log", "x/b.log", "secret/hidden", "secret/shown", "x/run.sh", &long] {
        directory.write(path, path);
    }
    // More than one piece.
    directory.write("large", &"0123456789".repeat(100_000));
    symlink("../nowhere", directory.path.join("x/link")).unwrap();
    let said = RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    scene.docker.build(&directory.path, &directory.tag, &say).unwrap();
    let last = said.borrow().last().cloned().unwrap_or_default().to_lowercase();
    let step = format!("building {}: step 3/3", directory.tag);
    assert!(last.starts_with(&step) && last.ends_with(": copy . /here"), "{said:?}");

    let id =
        cli(&["create", "--label", &format!("faultbox.session={}", scene.session), &directory.tag]);
    assert_eq!(scene.docker.inspect(&id[0]).unwrap().stop_signal, libc::SIGQUIT);
    let copy = directory.path.with_extension("copy");
    cli(&["cp", &format!("{}:/here", id[0]), copy.to_str().unwrap()]);
    let is_there = |path: &str| copy.join(path).symlink_metadata().is_ok();
    let found: Vec<_> = ["a.log", "x/b.log", "secret/hidden", "Dockerfile"]
        .into_iter()
        .filter(|it| is_there(it))
        .collect();
    let large = fs::metadata(copy.join("large")).map(|it| it.len()).ok();
    let link = fs::read_link(copy.join("x/link")).ok();
    let kept = ["secret/shown", "x/run.sh", &long].map(|it| fs::read_to_string(copy.join(it)).ok());
    let _ = fs::remove_dir_all(&copy);
    assert_eq!(found, [""; 0]);
    assert_eq!(large, Some(1_000_000));
    assert_eq!(link.as_deref(), Some(Path::new("../nowhere")));
    assert_eq!(kept.map(Option::unwrap), ["secret/shown", "x/run.sh", &long]);

    // Again, from the cache: the same image.
    let id = || cli(&["image", "inspect", "-f", "{{.Id}}", &directory.tag]);
    let first = id();
    scene.docker.build(&directory.path, &directory.tag, &|_| {}).unwrap();
    assert_eq!(id(), first);
    directory.write("x/run.sh", "changed");
    scene.docker.build(&directory.path, &directory.tag, &|_| {}).unwrap();
    assert_ne!(id(), first);
    cli(&["rmi", "-f", &first[0]]);
}

#[test]
fn a_build_that_fails_says_what_it_said_last() {
    let Some(scene) = Scene::new("broken") else { return };
    let error = |dockerfile: &str| {
        let directory = Directory::new(&scene, dockerfile);
        scene.docker.build(&directory.path, &directory.tag, &|_| {}).unwrap_err().to_string()
    };
    let text = error("FROM BASE\nRUN echo one; echo out of cheese >&2; exit 9\n");
    assert!(text.contains(" failed: "), "{text}");
    assert!(text.contains("returned a non-zero code: 9") || text.contains("status 9"), "{text}");
    assert!(text.to_lowercase().contains("\n    step 2/2"), "{text}");
    assert!(text.contains("out of cheese"), "{text}");
    let text = error("FROM BASE\nNONSENSE\n");
    assert!(text.contains("NONSENSE"), "{text}");
    // What needs another builder (podman's can do it) comes with the way out.
    let directory = Directory::new(&scene, "FROM BASE\nRUN --mount=type=cache,target=/x true\n");
    if let Err(error) = scene.docker.build(&directory.path, &directory.tag, &|_| {}) {
        assert!(error.to_string().contains("and use image="), "{error}");
    }
    // Nothing of a failed build stays.
    let left = cli(&["ps", "-aq", "--filter", &format!("ancestor={}", scene.image)]);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_built_is_said_before_docker_is_asked() {
    let Some(scene) = Scene::new("nothing") else { return };
    let error = |path: &Path| {
        scene.docker.build(path, "fb-unit-nothing:1", &|_| {}).unwrap_err().to_string()
    };
    let text = error(Path::new("/no/such"));
    assert_eq!(text, "cannot build /no/such: there is no such directory");
    let directory = Directory::new(&scene, "");
    directory.write(".dockerignore", "[]");
    assert!(error(&directory.path).contains("\"[]\" in .dockerignore is no pattern"));
    fs::remove_file(directory.path.join("Dockerfile")).unwrap();
    assert!(error(&directory.path).ends_with("there is no Dockerfile in it"));
}
