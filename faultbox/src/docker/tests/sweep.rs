//! What a sweep removes, and what it leaves alone.

use super::{Scene, cli};

#[test]
fn a_sweep_removes_all_of_its_session_and_nothing_of_others() {
    let Some(scene) = Scene::new("sweep") else { return };
    let Some(other) = Scene::new("sweep") else { return };
    let network = scene.network();
    for name in ["a", "b"] {
        scene.start(&scene.shell(name, &network, "sleep 60"));
    }
    // Never started, and ended already.
    scene.docker.create(&scene.shell("c", &network, "sleep 60")).unwrap();
    let ended = scene.start(&scene.shell("d", &network, "exit 1"));
    assert_eq!(scene.exit_code(&ended.id), 1);
    let mounts = "{{range .Mounts}}{{println .Name}}{{end}}";
    let containers = scene.listed(&["ps", "-aq"]);
    assert_eq!(containers.len(), 4);
    let volumes: Vec<_> = containers
        .iter()
        .flat_map(|id| cli(&["inspect", "-f", mounts, id]))
        .filter(|it| !it.is_empty())
        .collect();
    assert_eq!(volumes.len(), 4);

    // Sessions whose names begin alike, a container of another one in our network.
    let mut longer = other.shell("e", &network, "sleep 60");
    longer.session = format!("{}-and-more", scene.session);
    let longer = other.start(&longer);
    let elsewhere = other.start(&other.shell("f", &other.network(), "sleep 60"));

    scene.docker.sweep(&scene.session).unwrap();
    assert!(scene.listed(&["ps", "-aq"]).is_empty());
    assert!(scene.listed(&["network", "ls", "-q"]).is_empty());
    let left = cli(&["volume", "ls", "-q"]);
    assert!(volumes.iter().all(|it| !left.contains(it)), "{left:?}");
    let longer_runs = other.docker.inspect(&longer.id).unwrap().is_running;
    other.docker.remove(&longer.id).unwrap();
    assert!(longer_runs);
    assert!(other.docker.inspect(&elsewhere.id).unwrap().is_running);
    assert_eq!(other.listed(&["network", "ls", "-q"]).len(), 1);
    // Nothing is left to do.
    scene.docker.sweep(&scene.session).unwrap();
}
