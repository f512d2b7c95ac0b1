//! Running containers by what people call them.

use std::{fs, process::Command};

use super::{Scene, cli, not_tested};

#[test]
fn a_container_is_found_by_name_and_by_id_while_it_runs() {
    let Some(scene) = Scene::new("find") else { return };
    let network = scene.network();
    let new = scene.shell("db", &network, "sleep 60");
    let id = scene.docker.create(&new).unwrap();
    let text = |name: &str| scene.docker.find(name).unwrap_err().to_string();
    let error = text(&new.name);
    let expected = format!("container {:?} is not running (it is created)", new.name);
    assert!(error.contains(&expected), "{error}");
    assert!(error.contains(&format!("docker start {}", new.name)), "{error}");
    let container = scene.docker.start(&id).unwrap();
    for name in [&*new.name, &*id, &id[..12]] {
        assert_eq!(scene.docker.find(name).unwrap(), container, "{name}");
    }
    let misspelt = new.name.replace("find", "fnid");
    let error = text(&misspelt);
    let expected = format!("knows no container {misspelt:?}; did you mean: {}?", new.name);
    assert!(error.contains(&expected), "{error}");
    for name in ["", "a/b/c", "a?b", "../x", "a b", "/a", "a/", ".."] {
        assert!(text(name).contains("is no name of a container"), "{name}: {}", text(name));
    }
}

/// A Compose project, taken down at the end.
struct Project {
    name: String,
    file: String,
}

impl Project {
    fn compose(&self, arguments: &[&str]) -> bool {
        let output = Command::new("docker-compose")
            .args(["-p", &self.name, "-f", &self.file])
            .args(arguments)
            .output();
        output.is_ok_and(|it| it.status.success())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "-v", "--timeout", "0", "--remove-orphans"]);
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn a_service_of_compose_is_found_by_project_and_service() {
    let Some(scene) = Scene::new("compose") else { return };
    if !Command::new("docker-compose").arg("version").output().is_ok_and(|it| it.status.success()) {
        let _: Option<()> = not_tested("no docker-compose here");
        return;
    }
    let file = std::env::temp_dir().join(format!("{}.yml", scene.session));
    let image = &scene.image;
    let text = format!(
        "version: '2.4'\nservices:\n  my-db: {{image: '{image}'}}\n  web: {{image: '{image}'}}\n  \
         idle: {{image: '{image}', command: ['/bin/sh', '-c', 'exit 0']}}\n"
    );
    fs::write(&file, text).unwrap();
    let project = Project { name: scene.session.clone(), file: file.to_str().unwrap().to_owned() };
    assert!(project.compose(&["up", "-d", "--scale", "web=2"]), "docker-compose up");

    let name = |service: &str| format!("{}/{service}", project.name);
    let text = |name: &str| scene.docker.find(name).unwrap_err().to_string();
    // A one-off beside the service is not the service.
    let labels = ["oneoff=True", &format!("project={}", project.name), "service=my-db"]
        .map(|it| format!("com.docker.compose.{it}"));
    let [one_off, of_project, of_service] = &labels;
    let own = format!("faultbox.session={}", scene.session);
    cli(&["run", "-d", "-l", one_off, "-l", of_project, "-l", of_service, "-l", &own, image]);
    assert_eq!(scene.listed(&["ps", "-q"]).len(), 1);
    let container = scene.docker.find(&name("my-db")).unwrap();
    let label = "{{index .Config.Labels \"com.docker.compose.service\"}}";
    assert_eq!(cli(&["inspect", "-f", label, &container.id]), ["my-db"]);
    assert!(container.name.ends_with("_1"), "{}", container.name);
    let error = text(&name("web"));
    assert!(error.contains("runs more than once"), "{error}");
    assert!(error.contains("web_1") && error.contains("web_2"), "{error}");
    let error = text(&name("my-bd"));
    assert!(error.contains(&format!("did you mean: {}?", name("my-db"))), "{error}");
    let error =
        super::soon(|| Some(text(&name("idle"))).filter(|it| it.contains("exited"))).unwrap();
    assert!(error.contains("start idle"), "{error}");
}
