//! What a container says.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
};

use nix::{fcntl::OFlag, unistd::pipe2};

use super::{Scene, soon};

fn follow(scene: &Scene, id: &str) -> File {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    scene.docker.follow(id, writer).unwrap();
    File::from(reader)
}

fn all(mut reader: File) -> Vec<u8> {
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    said
}

#[test]
fn everything_comes_from_the_beginning_to_the_end_as_it_was_said() {
    let Some(scene) = Scene::new("logs") else { return };
    let network = scene.network();
    // More than a pipe holds, bytes that are no text, and no end of line at the end.
    let script = "echo first; echo second >&2; yes 0123456789 | head -n 20000; \
                  printf '\\001\\377\\000end'; exit 3";
    let id = scene.docker.create(&scene.shell("a", &network, script)).unwrap();
    let live = follow(&scene, &id);
    scene.docker.start(&id).unwrap();
    let live = all(live);
    assert_eq!(scene.exit_code(&id), 3);
    // Even what was said long before.
    let later = all(follow(&scene, &id));
    let raw = &b"\x01\xff\0end"[..];
    for (said, ends) in [(live, [raw, raw]), (later, [raw, "\x01\u{fffd}\0end".as_bytes()])] {
        let mut lines: Vec<_> = said.split(|it| *it == b'\n').collect();
        assert!(ends.contains(&lines.pop().unwrap()), "{:?}", said.last_chunk::<20>());
        // The two streams are two, and which comes first is not known.
        lines.sort_unstable();
        assert_eq!(lines.len(), 20_002);
        assert_eq!(lines[20_000..], [&b"first"[..], b"second"]);
        assert!(lines[..20_000].iter().all(|it| *it == b"0123456789"));
    }
}

#[test]
fn a_line_comes_while_the_container_runs_and_a_reader_may_leave() {
    let Some(scene) = Scene::new("follow") else { return };
    let network = scene.network();
    let script = "echo ready; while :; do echo more; sleep 0.05; done";
    let started = scene.start(&scene.shell("a", &network, script));
    let created = scene.docker.create(&scene.shell("b", &network, script)).unwrap();
    let readers = [follow(&scene, &started.id), follow(&scene, &created)];
    scene.docker.start(&created).unwrap();
    let mut readers = readers.map(|it| BufReader::new(it).lines());
    for lines in &mut readers {
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
    }
    assert!(scene.docker.background() > 0);
    drop(readers);
    assert!(soon(|| (scene.docker.background() == 0).then_some(())).is_some());
    for id in [started.id, created] {
        assert!(scene.docker.inspect(&id).unwrap().is_running);
    }
}

#[test]
fn what_was_said_at_the_very_end_comes_though_the_container_is_removed_at_once() {
    let Some(scene) = Scene::new("ends") else { return };
    let network = scene.network();
    for round in 0..10 {
        let script = "echo once; kill -9 $$";
        let id = scene.docker.create(&scene.shell("a", &network, script)).unwrap();
        let reader = follow(&scene, &id);
        scene.docker.start(&id).unwrap();
        assert_eq!(all(reader), b"once\n", "round {round}");
        let (_, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        scene.docker.remove(&id).unwrap();
        assert!(scene.docker.follow(&id, writer).unwrap_err().is_missing());
    }
    // One that runs: it ends with what was said.
    let id = scene.docker.create(&scene.shell("b", &network, "echo once; sleep 60")).unwrap();
    let reader = follow(&scene, &id);
    scene.docker.start(&id).unwrap();
    let mut lines = BufReader::new(reader);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "once\n");
    scene.docker.remove(&id).unwrap();
    line.clear();
    lines.read_to_string(&mut line).unwrap();
    assert_eq!(line, "");
}
