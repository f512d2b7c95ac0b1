//! Without root: no network namespace, perhaps no cgroup, the supervisor only.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

use super::{
    litter,
    project::{Finished, Place, finish, have_machine_alone, not_tested},
};

const NOBODY: u32 = 65534;

/// Runs a spec as nobody; `None`, after saying so, where that cannot be tested.
fn as_nobody(place: &Place, spec: &str) -> Option<Finished> {
    if !nix::unistd::geteuid().is_root() {
        not_tested("running without privilege: these tests do not run as root");
        return None;
    }
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&place.path, all).unwrap();
    let mut command: Command = place.faultbox(&["test", "--engine", "seccomp", spec]);
    command.uid(NOBODY).gid(NOBODY);
    let run = finish(command);
    litter::assert_none(place, Duration::ZERO);
    Some(run)
}

/// A port that is free in the host's network just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spec(place: &Place, port: u16) -> String {
    let source = r#"
db = service("db", "/bin/sh", interface("main", "tcp", NUMBER), env = {"PORT": "NUMBER"},
    args = ["-c", "setsid sleep 1000 & exec {bin}/mock-db"], healthcheck = tcp("localhost:NUMBER"))
def test_ping():
    assert_eq(db.main.send(data = "PING"), "PONG")
"#;
    place.spec("spec.star", &source.replace("NUMBER", &port.to_string()))
}

#[test]
fn a_test_runs_in_the_hosts_network_and_says_so_once() {
    let place = Place::new();
    let port = free_port();
    let _alone = have_machine_alone();
    let spec = spec(&place, port);
    let Some(run) = as_nobody(&place, &spec) else {
        return;
    };
    let run = run.expect(0);
    run.prints("1 passed, 0 failed");
    assert_eq!(run.stderr.matches("note: services run in this machine's own network").count(), 1);
}

#[test]
fn a_port_that_somebody_has_is_refused_with_the_owner_where_it_can_be_known() {
    let place = Place::new();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let spec = spec(&place, port);
    let Some(run) = as_nobody(&place, &spec) else {
        return;
    };
    // The stranger is root's, so nobody may not look at its descriptors.
    run.expect(2).prints(&format!("  reason: port {port} already in use"));
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.accept().is_err(), "the test has talked to a stranger");
}

#[test]
fn a_partition_says_which_privilege_it_needs() {
    let place = Place::new();
    let ports = [free_port(), free_port()];
    let _alone = have_machine_alone();
    let source = r#"
db = service("db", "{bin}/mock-db", interface("main", "tcp", FIRST), env = {"PORT": "FIRST"})
api = service("api", "{bin}/mock-db", interface("main", "tcp", SECOND), env = {"PORT": "SECOND"})
def test_apart():
    partition(api, db, run = lambda: fail("was called"))
"#;
    let source = source.replace("FIRST", &ports[0].to_string());
    let spec = place.spec("spec.star", &source.replace("SECOND", &ports[1].to_string()));
    let Some(run) = as_nobody(&place, &spec) else {
        return;
    };
    run.expect(2).prints(
        "  reason: partition(): cutting traffic needs a network namespace for the run, which takes \
         root, or CAP_SYS_ADMIN and CAP_NET_ADMIN (",
    );
}
