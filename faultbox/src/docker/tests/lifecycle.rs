//! From creation to removal.

use std::{
    fs,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::eventfd::EventFd,
};

use super::{Scene, cli, soon};
use crate::docker::{self, ignores};

#[test]
fn a_container_is_what_was_asked_for_and_otherwise_what_its_image_says() {
    let Some(scene) = Scene::new("life") else { return };
    let network = scene.network();
    let docker = &scene.docker;
    let new = docker::NewContainer {
        env: vec![("BOTH".to_owned(), "own=1".to_owned()), ("OWN".to_owned(), String::new())],
        ports: vec![(80, 0)],
        aliases: vec!["a".to_owned()],
        ..scene.shell("a", &network, "trap 'exit 7' TERM; touch /tmp-is-set; sleep 60 & wait")
    };
    let id = docker.create(&new).unwrap();
    assert_eq!(id.len(), 64);
    let created = docker.inspect(&id).unwrap();
    assert!(!created.is_running);
    assert_eq!((created.pid, docker.exit_code(&id).unwrap()), (0, None));
    let container = docker.start(&id).unwrap();
    assert_eq!((&*container.id, &*container.name), (&*id, &*new.name));
    assert!(container.is_running);
    // Podman adds the registry.
    assert!(container.image.ends_with(&scene.image), "{}", container.image);
    for (name, value) in [("FROM", "image"), ("BOTH", "own=1"), ("OWN", "")] {
        let found: Vec<_> = container.env.iter().filter(|(it, _)| it == name).collect();
        assert_eq!(found, [&(name.to_owned(), value.to_owned())]);
    }
    assert_eq!(container.stop_signal, libc::SIGTERM);
    assert!(!container.shares_host_network);
    let [attachment] = &container.networks[..] else { panic!("{:?}", container.networks) };
    assert_eq!((&attachment.network, &attachment.name), (&network.id, &network.name));
    assert_eq!(attachment.addresses.len(), 1);
    // Old engines choose one port for IPv4 and another for IPv6.
    assert!(!container.ports.is_empty());
    assert!(container.ports.iter().all(|(port, host)| (*port, *host > 0) == (80, true)));
    assert_eq!(docker.exit_code(&id).unwrap(), None);

    // The first process of a namespace, which the kernel protects from what it does not handle.
    assert!(ignores(container.pid, libc::SIGUSR1));
    assert!(soon(|| (!ignores(container.pid, libc::SIGTERM)).then_some(())).is_some());
    docker.signal(&id, libc::SIGUSR1).unwrap();
    assert_eq!(docker.exit_code(&id).unwrap(), None);
    docker.signal(&id, libc::SIGTERM).unwrap();
    assert_eq!(scene.exit_code(&id), 7);
    // It has ended: nobody is there to get it, and that is fine.
    docker.signal(&id, libc::SIGTERM).unwrap();
    docker.remove(&id).unwrap();
    docker.remove(&id).unwrap();
    docker.signal(&id, libc::SIGTERM).unwrap();
    assert!(docker.inspect(&id).unwrap_err().is_missing());
}

#[test]
fn a_container_that_cannot_be_started_says_why() {
    let Some(scene) = Scene::new("fails") else { return };
    let network = scene.network();
    let mut new = scene.shell("a", &network, "");
    new.args = Some(vec!["/no/such".to_owned()]);
    let id = scene.docker.create(&new).unwrap();
    let error = scene.docker.start(&id).unwrap_err().to_string();
    assert!(error.starts_with("Docker cannot start container "), "{error}");
    assert!(error.contains("/no/such"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let error = scene.docker.create(&new).unwrap_err().to_string();
    assert!(error.contains("is already in use"), "{error}");
    new.image = "fb-unit-no-such-image".to_owned();
    new.name.push('b');
    let error = scene.docker.create(&new).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("no such image"), "{error}");
}

#[test]
fn directories_are_mounted_and_names_given() {
    let Some(scene) = Scene::new("volumes") else { return };
    let network = scene.network();
    let place = std::env::temp_dir().join(&scene.session);
    fs::create_dir(&place).unwrap();
    fs::write(place.join("in"), "from outside").unwrap();
    let path = place.to_str().unwrap();
    let mut new = scene.shell(
        "a",
        &network,
        "cat /here/in > /there/out && cat /etc/hosts >> /there/out && ! touch /here/x",
    );
    new.volumes =
        vec![(path.to_owned(), "/here:ro".to_owned()), (path.to_owned(), "/there".to_owned())];
    new.hosts = vec![("elsewhere".to_owned(), "192.0.2.7".parse().unwrap())];
    let container = scene.start(&new);
    let code = scene.exit_code(&container.id);
    let out = fs::read_to_string(place.join("out"));
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(code, 0);
    let out = out.unwrap();
    assert!(out.starts_with("from outside"), "{out}");
    assert!(out.contains("192.0.2.7\telsewhere"), "{out}");
}

#[test]
fn the_anonymous_volume_goes_with_its_container_and_a_named_one_stays() {
    let Some(scene) = Scene::new("anonymous") else { return };
    let network = scene.network();
    let mut new = scene.shell("a", &network, "sleep 60");
    new.volumes = vec![(scene.session.clone(), "/named".to_owned())];
    let container = scene.start(&new);
    let volumes = || -> Vec<String> {
        let format = "{{range .Mounts}}{{println .Name}}{{end}}";
        cli(&["inspect", "-f", format, &container.id])
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect()
    };
    let mounted = volumes();
    assert_eq!(mounted.len(), 2, "{mounted:?}");
    scene.docker.remove(&container.id).unwrap();
    let left = cli(&["volume", "ls", "-q"]);
    cli(&["volume", "rm", &scene.session]);
    assert!(left.contains(&scene.session), "{left:?}");
    let anonymous = mounted.iter().find(|it| **it != scene.session).unwrap();
    assert!(!left.contains(anonymous), "{left:?}");
}

#[test]
fn every_thread_can_ask_those_in_other_network_namespaces_included() {
    let Some(scene) = Scene::new("threads") else { return };
    let network = scene.network();
    let ids: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let (scene, network) = (&scene, &network);
                scope.spawn(move || {
                    // Needs root, as Docker's socket does.
                    unshare(CloneFlags::CLONE_NEWNET).unwrap();
                    scene.start(&scene.shell(name, network, "sleep 60")).id
                })
            })
            .into_iter()
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(scene.listed(&["ps", "-q"]).len(), ids.len());
}

#[test]
fn all_processes_of_a_container_are_in_its_cgroup_and_no_others() {
    let Some(scene) = Scene::new("cgroup") else { return };
    let network = scene.network();
    let container = scene.start(&scene.shell("a", &network, "sleep 60 & sleep 60 & wait"));
    let path = match docker::of_container(&container.id, container.pid) {
        Ok(path) => path,
        Err(error) => {
            let _: Option<()> = super::not_tested(&error.to_string());
            return;
        }
    };
    assert!(path.to_str().unwrap().contains(&container.id), "{path:?}");
    let members = soon(|| {
        let text = fs::read_to_string(path.join("cgroup.procs")).unwrap();
        let members: Vec<u32> = text.lines().map(|it| it.parse().unwrap()).collect();
        (members.len() == 3).then_some(members)
    });
    assert!(members.expect("not three processes").contains(&container.pid));
}

#[test]
fn an_image_that_is_here_is_not_pulled_and_one_that_is_nowhere_is_named() {
    let Some(scene) = Scene::new("image") else { return };
    let said = std::cell::RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    scene.docker.ensure_image(&scene.image, &say).unwrap();
    assert!(said.borrow().is_empty(), "{said:?}");
    // A registry that refuses connections.
    let image = "localhost:9/fb-unit/none:1";
    let error = scene.docker.ensure_image(image, &say).unwrap_err().to_string();
    let expected = format!("image {image} not found locally and pull failed: ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(error.contains("connect"), "{error}");
    assert_eq!(*said.borrow(), [format!("image {image} not found locally, pulling it")]);
    let error = scene.docker.ensure_image("../etc", &say).unwrap_err().to_string();
    assert_eq!(error, "\"../etc\" is no name of an image");
}

#[test]
fn pulling_and_building_end_when_they_are_interrupted() {
    let Some(scene) = Scene::new("interrupt") else { return };
    let place = std::env::temp_dir().join(&scene.session);
    fs::create_dir(&place).unwrap();
    let dockerfile = format!("FROM {}\nRUN sleep 60\n", scene.image);
    fs::write(place.join("Dockerfile"), dockerfile).unwrap();
    // Never closed: it has to live as long as the process.
    let event: &'static EventFd = Box::leak(Box::new(EventFd::new().unwrap()));
    let docker = scene.docker.clone().interrupted_by(event.as_fd());
    let tag = format!("{}-built:1", scene.session);
    let started = Instant::now();
    let error = thread::scope(|scope| {
        let build = scope.spawn(|| docker.build(&place, &tag, &|_| {}).unwrap_err().to_string());
        thread::sleep(Duration::from_millis(500));
        assert!(!build.is_finished());
        event.write(1).unwrap();
        build.join().unwrap()
    });
    fs::remove_dir_all(&place).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(error.contains("failed: it was interrupted"), "{error}");
    // Docker gives it up as well.
    let filter = format!("ancestor={}", scene.image);
    let is_gone = || cli(&["ps", "-aq", "--filter", &filter]).is_empty().then_some(());
    assert!(soon(is_gone).is_some());
}
