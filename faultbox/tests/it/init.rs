//! `faultbox init` (language.md 2.8).

use std::fs;

use super::project::{Finished, Place, finish, root, share_machine};

/// Runs it in the place's directory.
fn faultbox(place: &Place, arguments: &[&str]) -> Finished {
    let _shared = share_machine();
    let mut command = place.faultbox(arguments);
    command.current_dir(&place.path);
    finish(command)
}

#[test]
fn a_first_spec_runs_as_it_is_over_http_and_tcp() {
    let place = Place::new();
    let bin = root().join("bin");
    for (arguments, program, file, test) in [
        (&["--protocol", "tcp", "--port", "5433"][..], "mock-db", "db.star", "test_ping"),
        (&[], "order-svc", "orders.star", "test_health_check"),
    ] {
        let program = bin.join(program);
        let mut all = vec!["init", program.to_str().unwrap(), "--output", file];
        all.extend(arguments);
        let run = faultbox(&place, &all).expect(0);
        assert_eq!(run.stdout, format!("wrote {file}\n"));
        let spec = place.path.join(file);
        let run = place.test(&[spec.to_str().unwrap()]).expect(0);
        run.prints(&format!("--- PASS: {test} (")).prints("\n1 passed, 0 failed\n");
    }
    // What is there is not written over.
    let before = fs::read_to_string(place.path.join("db.star")).unwrap();
    faultbox(&place, &["init", "bin/x", "--output", "db.star"])
        .expect(1)
        .says("db.star exists already");
    assert_eq!(fs::read_to_string(place.path.join("db.star")).unwrap(), before);
}

#[test]
fn the_commented_fault_test_loads_without_its_comment_signs() {
    let place = Place::new();
    for protocol in ["http", "tcp"] {
        let run = faultbox(&place, &["init", "bin/my-svc", "--protocol", protocol]).expect(0);
        assert!(run.stdout.starts_with("# Run all tests"), "{}", run.stdout);
        assert_eq!(run.stdout.matches("#   faultbox test faultbox.star").count(), 3);
        run.prints("my_svc = service(\"my-svc\", \"bin/my-svc\",\n");
        let (head, fault) = run.stdout.split_once("#\n").unwrap();
        let fault = fault.lines().map(|line| line.strip_prefix("# ").unwrap());
        let spec = format!("{head}\n{}\n", fault.collect::<Vec<_>>().join("\n"));
        fs::write(place.path.join("spec.star"), spec).unwrap();
        faultbox(&place, &["check", "spec.star"]).expect(0).prints("ok (1 service, 2 tests)");
    }
}

#[test]
fn mistakes_are_usage_errors() {
    let place = Place::new();
    for (arguments, text) in [
        (&["init"][..], "Usage: faultbox init"),
        (&["init", "x", "--port", "0"], "invalid value '0' for '--port"),
        (&["init", "x", "--protocol", "smtp"], "invalid value 'smtp'"),
        (&["init", "x", "--name", "a b"], "is no name for a service"),
        (&["init", "--from-compose"], "no compose file here"),
        (&["init", "--from-compose", "none.yml"], "cannot read none.yml"),
        (&["init", "--from-compose", "x.yml", "--name", "a"], "cannot be used with"),
    ] {
        faultbox(&place, arguments).expect(1).says(text);
    }
}

const COMPOSE: &str = r#"
x-common: &common
  restart: always
  environment: &env
    LOG_LEVEL: ${LOG_LEVEL:-info}
services:
  web.app:
    <<: *common
    build:
      context: ./web
    ports: ["8080:8080", "127.0.0.1:9000:9000/tcp"]
    environment:
      <<: *env
      DATABASE_URL: "postgres://app:${DB_PASSWORD}@db:5432/app"
      PRICE: "5$$"
    depends_on:
      db: {condition: service_healthy}
      http: {condition: service_started}
    env_file: .env
  worker:
    image: company/worker:latest
    command: sh -c "run 'all of it'"
    depends_on: [db]
  db:
    image: postgres:16
    environment: ["POSTGRES_PASSWORD=secret", "PGTZ"]
    volumes:
      - ./init.sql:/docker-entrypoint-initdb.d/init.sql:ro
      - data:/var/lib/postgresql/data
  http:
    image: registry:5000/valkey/valkey:8
    ports:
      - target: 6379
        published: 6380
volumes:
  data:
"#;

#[test]
fn a_compose_file_becomes_services_in_the_order_of_their_dependencies() {
    let place = Place::new();
    fs::write(place.path.join("docker-compose.yml"), COMPOSE).unwrap();
    let run = faultbox(&place, &["init", "--from-compose", "--output", "app.star"]).expect(0);
    assert_eq!(run.stdout, "wrote app.star\n");
    let spec = fs::read_to_string(place.path.join("app.star")).unwrap();
    assert_eq!(
        spec,
        r#"# From docker-compose.yml; to be kept beside it, because paths are relative to this file.
#   faultbox test app.star
#   faultbox test app.star --test happy_path
#   faultbox test app.star --debug

# put in the values of PGTZ, which the compose file leaves open
db = service("db",
    interface("main", "postgres", 5432),
    image = "postgres:16",
    env = {
        "POSTGRES_PASSWORD": "secret",
        "PGTZ": "${PGTZ}",
    },
    volumes = {
        "./init.sql": "/docker-entrypoint-initdb.d/init.sql",
    },
    healthcheck = ready(timeout = "60s"),
)

worker = service("worker",
    interface("main", "http", 8080),  # a guess: the compose file has no port
    image = "company/worker:latest",
    args = ["sh", "-c", "run 'all of it'"],
    depends_on = [db],
)

svc_http = service("http",
    interface("main", "redis", 6379),
    image = "registry:5000/valkey/valkey:8",
    healthcheck = ready(timeout = "60s"),
)

# put in the values of DB_PASSWORD, which the compose file leaves open
# not taken over: env_file
# called "web.app" in the compose file
web_app = service("web_app",
    interface("main", "http", 8080),
    interface("port_9000", "http", 9000),
    build = "./web",
    env = {
        "DATABASE_URL": "postgres://app:${DB_PASSWORD}@db:5432/app",
        "PRICE": "5$",
        "LOG_LEVEL": "info",
    },
    depends_on = [db, svc_http],
    healthcheck = tcp("localhost:8080", timeout = "60s"),
)

def test_happy_path():
    """Every service starts, and those with HTTP answer."""
    assert_true(web_app.main.get(path = "/").ok, "web_app answers")

# What is left without db? Say what you expect, and remove the comment signs.
#
# def test_db_down():
#     fault(worker, connect = deny("ECONNREFUSED", to = db), run = test_happy_path)
"#
    );
}

/// `a.b` and `a_b` are two services of compose, and one name here.
#[test]
fn services_whose_names_become_the_same_are_told_apart() {
    let place = Place::new();
    let source = "services:\n  a.b: {image: x, ports: [80]}\n  a_b: {image: y, ports: [81]}\n";
    fs::write(place.path.join("compose.yml"), source).unwrap();
    let run = faultbox(&place, &["init", "--from-compose"]).expect(0);
    run.prints("a_b = service(\"a_b\",\n").prints("a_b_2 = service(\"a_b_2\",\n");
}

/// That it runs as well is a test of containers.
#[test]
fn the_spec_of_a_compose_file_loads() {
    let place = Place::new();
    fs::write(place.path.join("compose.yaml"), COMPOSE).unwrap();
    let spec = faultbox(&place, &["init", "--from-compose"]).expect(0).stdout;
    fs::write(place.path.join("spec.star"), &spec).unwrap();
    faultbox(&place, &["check", "spec.star"]).expect(0).prints("ok (4 services, 1 test)");
}

#[test]
fn compose_files_that_mean_nothing_are_refused_at_their_place() {
    let place = Place::new();
    for (source, text) in [
        ("services:\n\t- x\n", "c.yml:2:"),
        ("version: '3'\n", "c.yml:1:1: no services: in it; is it a compose file?"),
        ("services: {}\n", "services: is empty"),
        (
            "services:\n  a: {ports: [80]}\n",
            "c.yml:2:6: service \"a\" has neither image: nor build:",
        ),
        ("services:\n  a: {image: x, ports: [b]}\n", "service \"a\": \"b\" in ports: is no port"),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n",
            "service \"a\" depends on \"b\", which is not",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: y, depends_on: [c]}\n  \
             c: {image: y, depends_on: [b]}\n",
            "circular depends_on: b -> c -> b",
        ),
    ] {
        fs::write(place.path.join("c.yml"), source).unwrap();
        let run = faultbox(&place, &["init", "--from-compose", "c.yml"]).expect(1);
        run.says(text);
        assert_eq!(run.stdout, "");
    }
}
