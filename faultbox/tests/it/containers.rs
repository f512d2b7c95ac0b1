//! Services in containers, and containers that run already (language.md 2.3). The images are those
//! of `cargo xtask images`.
//!
//! Natively there are no system-call faults in containers, and these tests see to everything else;
//! with `FAULTBOX_TEST_ENGINE=ebpf`, in a virtual machine with an engine inside, they see to the
//! faults.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    docker::{Foreign, Peer, assert_nothing_new, cgroups, docker, everything, has_images, succeed},
    litter,
    project::{
        Finished, Place, await_end, engine, finish, have_machine_alone, is_slow, not_tested, say,
        share_machine, wait_until,
    },
};

const API: &str = "company/api:latest";
const SEARCH: &str = "company/search:latest";
const REDIS: &str = "redis:7";
const POSTGRES: &str = "faultbox/postgres:15";
const STATIC: &str = "faultbox/static:qa";
const FORKING: &str = "faultbox/forking:qa";
const NONROOT: &str = "faultbox/nonroot:qa";

/// What inventory-svc answers when its fsync fails.
const NOT_SYNCED: &str = "ERR wal: fsync: Input/output error";

/// Whether the kernel breaks calls of containers here.
fn in_kernel() -> bool {
    let is_in = engine() == "ebpf";
    if !is_in {
        not_tested("faults in containers: only with FAULTBOX_TEST_ENGINE=ebpf");
    }
    is_in
}

/// Runs a spec, which has to end with this exit code, and fails if it leaves anything in Docker or
/// on the machine.
#[track_caller]
fn run(place: &Place, arguments: &[&str], code: i32) -> Finished {
    let _alone = have_machine_alone();
    let before = everything();
    let finished = finish(place.faultbox_test(arguments)).expect(code);
    litter::assert_none(place, Duration::from_secs(2));
    assert_nothing_new(&before);
    finished
}

/// The use case's services, without a fault.
const SHOP: &str = r#"
api = service("api", interface("public", "http", 8080), image = "company/api:latest",
    healthcheck = http("localhost:8080/health", timeout = "120s"))
redis = service("redis", interface("main", "redis", 6379), image = "redis:7",
    healthcheck = tcp("localhost:6379", timeout = "120s"))
search = service("search", interface("main", "http", 9200), image = "company/search:latest",
    healthcheck = http("localhost:9200/health", timeout = "120s"))

def test_shopping():
    assert_eq(api.post(path = "/cart/add", body = '{"sku": "MUG"}').data, {"items": 1})
    assert_eq(redis.get(key = "cart").data["value"], '[{"sku":"MUG","qty":1}]')
    checkout = api.post(path = "/checkout", body = "{}")
    assert_eq(checkout.status, 200)
    assert_eq(checkout.data["cart"], "redis", checkout.body)
    assert_eq(checkout.data["suggestions"]["articles"], ["MUG"], checkout.body)
    assert_eq(api.post(path = "/orders", body = '{"item": "MUG"}').status, 200)
"#;

#[test]
fn containers_of_a_run_find_each_other_by_name_and_are_gone_after_it() {
    if !has_images(&[API, SEARCH, REDIS]) {
        return;
    }
    let place = Place::new();
    let spec = place.spec("shop.star", SHOP);
    // Twice in one session: the second run's containers and network are others.
    let finished = run(&place, &["--debug", "--runs", "2", &spec], 0);
    finished.prints("2 passed, 0 failed");
    // What containers print is shown as what programs print is.
    finished.says("company-api listening on port 8080").says("Ready to accept connections");
}

#[test]
fn the_use_case_runs_as_it_was_written() {
    if !has_images(&[API, SEARCH, REDIS]) || !in_kernel() {
        return;
    }
    let finished = run(&Place::new(), &["--strict-faults", "specs/qa/checkout.star"], 0);
    finished.prints("3 passed, 0 failed");
    // It is the api whose connects fail or wait, and the rule says on whose account.
    for (test, action) in [
        ("test_checkout_when_redis_down", "deny(connection refused)"),
        ("test_search_timeout_doesnt_block_checkout", "delay(10s)"),
        ("test_full_disk_error_message", "deny(no space left on device)"),
    ] {
        let block = finished.block(test);
        let hit = block.iter().any(|line| line.contains("api") && line.contains(action));
        assert!(hit, "no {action} by api: {block:#?}");
    }
}

#[test]
fn the_spec_of_a_compose_file_runs() {
    if !has_images(&[REDIS, SEARCH]) {
        return;
    }
    let place = Place::new();
    let compose = "
services:
  web:
    image: company/search:latest
    environment: {CACHE: redis:6379}
    ports: ['9200:9200']
    depends_on: [redis]
  redis:
    image: redis:7
    expose: [6379]
";
    fs::write(place.path.join("docker-compose.yml"), compose).unwrap();
    let mut init = place.faultbox(&["init", "--from-compose", "--output", "app.star"]);
    init.current_dir(&place.path);
    finish(init).expect(0).prints("wrote app.star");
    let spec = place.path.join("app.star");
    run(&place, &[spec.to_str().unwrap()], 0).prints("1 passed, 0 failed");
}

#[test]
fn an_image_is_built_from_its_directory_and_not_kept() {
    if !has_images(&[REDIS]) {
        return;
    }
    let place = Place::new();
    let context = place.path.join("cache");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM redis:7\nCOPY motto /motto\n").unwrap();
    fs::write(context.join("motto"), "as it is").unwrap();
    let spec = place.spec(
        "build.star",
        r#"
cache = service("cache", interface("main", "redis", 6379), build = "./cache",
    healthcheck = ready(timeout = "120s"))

def test_it_is_there():
    assert_eq(cache.set(key = "a", value = "1").data["value"], "OK")
    assert_eq(cache.get(key = "a").data["value"], "1")
"#,
    );
    run(&place, &[&spec], 0).prints("1 passed, 0 failed");
    fs::write(context.join("Dockerfile"), "FROM redis:7\nCOPY none /none\n").unwrap();
    let failed = run(&place, &[&spec], 2);
    assert!(
        failed.stdout.contains("none"),
        "the engine's own reason is missing: {}",
        failed.stdout
    );
}

#[test]
fn ctrl_c_ends_a_build_and_leaves_nothing_of_it() {
    if !has_images(&[REDIS]) {
        return;
    }
    let place = Place::new();
    fs::write(place.path.join("Dockerfile"), "FROM redis:7\nRUN sleep 60\n").unwrap();
    let spec = place.spec(
        "build.star",
        r#"
cache = service("cache", interface("main", "redis", 6379), build = ".")

def test_it_is_there():
    pass
"#,
    );
    let _alone = have_machine_alone();
    let before = everything();
    let mut child = place.faultbox_test(&[&spec]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("RUN sleep 60")), "no build has begun");
    thread::spawn(move || lines.for_each(drop));
    let begin = Instant::now();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let run = await_end(child, begin).expect(130);
    run.prints("0 passed, 0 failed, 1 not run (interrupted)");
    assert!(is_slow() || run.elapsed < Duration::from_secs(10), "{:?}", run.elapsed);
    litter::assert_none(&place, Duration::from_secs(2));
    assert_nothing_new(&before);
}

/// A service that is kept, and says by its data which hook was called when.
const KEPT: &str = r#"
def fill():
    assert_eq(cache.get(key = "seeded").data["value"], None, "seed is called once")
    cache.set(key = "seeded", value = "yes")
    cache.set(key = "item", value = "new")

def clean():
    assert_eq(cache.get(key = "seeded").data["value"], "yes", "the data is kept")
    cache.set(key = "item", value = "clean")

cache = service("cache", interface("main", "redis", 6379), image = "redis:7",
    healthcheck = ready(timeout = "120s"), reuse = True, seed = fill, reset = clean)

def test_1_finds_what_was_seeded():
    assert_eq(cache.get(key = "item").data["value"], "new")
    cache.set(key = "item", value = "dirty")

def test_2_finds_it_reset():
    assert_eq(cache.get(key = "item").data["value"], "clean")
    cache.set(key = "item", value = "dirty")

def test_3_finds_it_reset_again():
    assert_eq(cache.get(key = "item").data["value"], "clean")
"#;

#[test]
fn a_service_that_is_kept_is_seeded_once_and_reset_before_each_later_test() {
    if !has_images(&[REDIS]) {
        return;
    }
    let place = Place::new();
    let spec = place.spec("kept.star", KEPT);
    let finished = run(&place, &[&spec], 0);
    finished.prints("3 passed, 0 failed");
    let begins = finished.stderr.matches("starting session").count();
    assert_eq!(begins, 3, "the one container is used by every test: {}", finished.stderr);

    // Without reset=, seed= is called each time; without reuse=, the service is new each time.
    let fails = KEPT.replace(
        "assert_eq(cache.get(key = \"seeded\").data[\"value\"], None, ",
        "assert_true(False, ",
    );
    let failed = run(&place, &[&place.spec("fails.star", &fails)], 2);
    assert!(failed.stdout.contains("seed of service \"cache\": "), "{}", failed.stdout);
}

#[test]
fn what_a_supervisor_cannot_do_for_containers_is_said_before_the_first_test() {
    if !has_images(&[API, SEARCH, REDIS]) {
        return;
    }
    if engine() == "ebpf" {
        not_tested("the limits of a supervisor: this run has the kernel's");
        return;
    }
    let finished = run(&Place::new(), &["specs/qa/checkout.star"], 2);
    let (before, _) = finished.stderr.split_once("running test").expect("a test has run");
    for text in ["api, redis, search", "CONFIG_FUNCTION_ERROR_INJECTION", "faultbox doctor"] {
        assert!(before.contains(text), "no {text:?} in {before}");
    }
    // A fault that cannot be is a failure, never a pass.
    finished.prints("0 passed, 3 failed");
}

/// What is in the fault's way, by image: the service answers at 5432 with an error of its fsync.
const IMAGES: &str = r#"
one = service("one", interface("stock", "tcp", 5432), image = "{image}",
    healthcheck = tcp("localhost:5432", timeout = "120s"))

def test_stock():
    def reserve():
        return one.send(data = "RESERVE widget 1")
    if {faults}:
        assert_eq(fault(one, fsync = deny("EIO"), run = reserve), "ERR wal: fsync: Input/output error")
    assert_eq(reserve(), "OK 99")
"#;

/// A spec about one image, with the fault where the kernel has it.
fn about(place: &Place, image: &str) -> String {
    let faults = if engine() == "ebpf" { "True" } else { "False" };
    // Not named like what faultbox would leave.
    let name = format!("image-{}.star", image.replace(['/', ':'], "-").replace("faultbox", "own"));
    place.spec(&name, &IMAGES.replace("{image}", image).replace("{faults}", faults))
}

#[test]
fn images_are_started_as_they_are() {
    let images = [STATIC, FORKING, NONROOT];
    if !has_images(&images) {
        return;
    }
    let place = Place::new();
    // From nothing; a shell with children; a user of its own.
    let specs: Vec<_> = images.iter().map(|image| about(&place, image)).collect();
    let template = "{{.Id}} {{json .Config}}";
    let inspect = || docker(&[&["image", "inspect", "--format", template], &images[..]].concat());
    let before = inspect();
    let arguments: Vec<_> = specs.iter().map(String::as_str).collect();
    run(&place, &arguments, 0).prints("3 passed, 0 failed");
    assert_eq!(inspect(), before);
}

/// A container that runs already, and a second one of the same image, which nothing may happen to.
const EXISTING: &str = r#"
box = service("box", interface("stock", "tcp", 5432), interface("gate", "tcp", 7000),
    container = "{box}")
canary = service("canary", interface("stock", "tcp", 5432), interface("gate", "tcp", 7000),
    container = "{canary}")

def test_all_processes():
    def broken():
        # A process that was there before the fault, and one that comes after it.
        assert_eq(box.stock.send(data = "RESERVE widget 1"), "ERR wal: fsync: Input/output error")
        answer = box.gate.send(data = "sync /data/inventory.wal && echo fine")
        assert_true("Input/output error" in answer, answer)
        assert_eq(canary.gate.send(data = "sync /data && echo fine"), "OK fine")
        assert_eq(canary.stock.send(data = "RESERVE widget 1"), "OK 99")
    fault(box, fsync = deny("EIO"), run = broken)
    assert_eq(box.stock.send(data = "RESERVE widget 1"), "OK 99")
    assert_eq(box.gate.send(data = "sync /data && echo fine"), "OK fine")
"#;

/// Asks a container for an fsync without pause until told to stop; returns how often. It is none
/// of a spec's.
fn chirp(gate: Peer, stop: &AtomicBool) -> u64 {
    let rounds = AtomicU64::new(0);
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(gate.ask("sync /data && echo fine"), "OK fine");
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
    rounds.into_inner()
}

/// Runs the spec about a container that is called so, with a container beside it that no spec
/// knows.
#[track_caller]
fn break_existing(container: &str, image_of_canaries: &str) {
    let place = Place::new();
    let canaries = [0, 1].map(|_| Foreign::run(image_of_canaries, &[]));
    let unknown = canaries[1].listens(7000);
    canaries[0].listens(7000);
    let text = EXISTING.replace("{box}", container).replace("{canary}", &canaries[0].name);
    let spec = place.spec("existing.star", &text);
    let stop = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let chirps = scope.spawn(|| chirp(unknown, &stop));
        let finished = run(&place, &["--strict-faults", &spec], 0);
        stop.store(true, Ordering::Relaxed);
        finished.prints("1 passed, 0 failed").prints("deny(input/output error)");
        chirps.join().unwrap()
    });
    assert!(rounds > 5, "only {rounds} rounds");
}

#[test]
fn a_container_of_docker_run_is_broken_with_all_its_processes_and_no_other_is() {
    if !has_images(&[FORKING]) || !in_kernel() {
        return;
    }
    let container = Foreign::run(FORKING, &[]);
    container.listens(5432);
    let template = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}";
    let before = container.inspect(template);
    break_existing(&container.name, FORKING);
    assert_eq!(container.inspect(template), before, "it was stopped or started");
}

/// A Compose project, removed with the value.
struct Project<'p> {
    place: &'p Place,
    name: String,
}

impl<'p> Project<'p> {
    fn up(place: &'p Place, services: &str) -> Self {
        let project = Self { place, name: format!("fbit{}", std::process::id()) };
        std::fs::write(place.path.join("docker-compose.yml"), services).unwrap();
        succeed(project.command().args(["up", "--detach"]));
        project
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(["--project-name", &self.name]).current_dir(&self.place.path);
        command
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let _ = self.command().args(["down", "--volumes", "--timeout", "1"]).output();
    }
}

#[test]
fn a_container_of_compose_is_found_by_project_and_service() {
    if !has_images(&[FORKING]) || !in_kernel() {
        return;
    }
    let place = Place::new();
    let services = format!("version: '3'\nservices:\n  stock:\n    image: {FORKING}\n");
    let project = Project::up(&place, &services);
    break_existing(&format!("{}/stock", project.name), FORKING);
}

/// A container that restarts while it is under a fault. Who restarts it is told by a file in it,
/// and tells by a file in the canary.
const RESTARTED: &str = r#"
box = service("box", interface("stock", "tcp", 5432), interface("gate", "tcp", 7000),
    container = "{box}")
canary = service("canary", interface("gate", "tcp", 7000), container = "{canary}")

def test_restart():
    assert_eq(box.stock.send(data = "RESERVE widget 1"), "OK 99")
    def broken():
        assert_eq(box.stock.send(data = "RESERVE widget 1"), "ERR wal: fsync: Input/output error")
        box.gate.send(data = "touch /data/restart-me")
        for _ in range(3000):
            if canary.gate.send(data = "ls /data") == "OK restarted":
                break
            sleep("100ms")
        assert_eq(box.stock.send(data = "CHECK widget"), "100", "it has restarted")
        assert_eq(box.stock.send(data = "RESERVE widget 1"), "ERR wal: fsync: Input/output error")
        answer = box.gate.send(data = "sync /data && echo fine")
        assert_true("Input/output error" in answer, answer)
        assert_eq(canary.gate.send(data = "sync /data && echo fine"), "OK fine")
    fault(box, fsync = deny("EIO"), run = broken)
    assert_eq(box.stock.send(data = "RESERVE widget 1"), "OK 99")
"#;

/// How long `docker stop` takes.
fn stop_time(container: &Foreign) -> Duration {
    let begin = Instant::now();
    docker(&["stop", &container.name]);
    begin.elapsed()
}

#[test]
fn a_container_that_restarts_under_a_fault_stays_under_it_and_stops_as_fast() {
    if !has_images(&[FORKING]) || !in_kernel() {
        return;
    }
    let place = Place::new();
    let container = Foreign::run(FORKING, &[]);
    let canary = Foreign::run(FORKING, &[]);
    let (gate, canary_gate) = (container.listens(7000), canary.listens(7000));
    container.listens(5432);
    let without = stop_time(&container);
    docker(&["start", &container.name]);
    container.listens(5432);
    let text = RESTARTED.replace("{box}", &container.name).replace("{canary}", &canary.name);
    let spec = place.spec("restart.star", &text);
    let with = thread::scope(|scope| {
        let restart = scope.spawn(|| {
            let wants = || gate.try_ask("ls /data").is_some_and(|it| it.contains("restart-me"));
            assert!(wait_until(Duration::from_secs(300), wants), "the fault was never on");
            let with = stop_time(&container);
            docker(&["start", &container.name]);
            container.listens(5432);
            container.listens(7000);
            canary_gate.ask("touch /data/restarted");
            with
        });
        let _shared = share_machine();
        let finished = finish(place.faultbox_test(&[&spec])).expect(0);
        litter::assert_none(&place, Duration::from_secs(2));
        finished.prints("1 passed, 0 failed");
        restart.join().unwrap()
    });
    say(&format!("docker stop: {without:?}, under a fault: {with:?}"));
    // Ten seconds is what Docker waits before it kills. Where time means little, a stop that
    // waits for something it would not wait for without us still shows.
    assert!(with < without * 2 + Duration::from_secs(2), "{without:?}, under a fault: {with:?}");
}

#[test]
fn a_container_with_a_read_only_root_is_broken_as_it_is() {
    if !has_images(&[STATIC]) || !in_kernel() {
        return;
    }
    let place = Place::new();
    let container =
        Foreign::run(STATIC, &["--read-only", "--tmpfs", "/data:uid=1234", "--user", "1234"]);
    let peer = container.listens(5432);
    let text = IMAGES
        .replace("image = \"{image}\"", "container = \"{image}\"")
        .replace("{image}", &container.name)
        .replace("{faults}", "True");
    let spec = place.spec("read-only.star", &text);
    run(&place, &["--strict-faults", &spec], 0).prints("1 passed, 0 failed");
    assert_eq!(peer.ask("RESERVE widget 1"), "OK 98", "it has lived through it");
}

/// A fault that is on until the runner ends, on a container of ours and on one that is not.
const KILLED: &str = r#"
own = service("own", interface("stock", "tcp", 5432), image = "faultbox/static:qa",
    healthcheck = tcp("localhost:5432", timeout = "120s"))
box = service("box", interface("gate", "tcp", 7000), container = "{box}")

def test_long():
    def scenario():
        box.gate.send(data = "touch /data/kill-now")
        sleep("100s")
    if {faults}:
        fault(box, fsync = deny("EIO"), run = scenario)
    else:
        scenario()
"#;

#[test]
fn a_runner_that_is_killed_leaves_the_foreign_container_alone_and_nothing_of_its_own() {
    if !has_images(&[STATIC, FORKING]) {
        return;
    }
    let place = Place::new();
    let container = Foreign::run(FORKING, &[]);
    let gate = container.listens(7000);
    let template = "{{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}";
    let before = (container.inspect(template), everything());
    let groups = cgroups("faultbox");
    let faults = if engine() == "ebpf" { "True" } else { "False" };
    let text = KILLED.replace("{box}", &container.name).replace("{faults}", faults);
    let spec = place.spec("killed.star", &text);
    let _alone = have_machine_alone();
    let begin = Instant::now();
    let mut child = place.faultbox_test(&[&spec]).spawn().unwrap();
    let is_on = || gate.try_ask("ls /data").is_some_and(|it| it.contains("kill-now"));
    let was_on = wait_until(Duration::from_secs(300), is_on);
    if was_on && engine() == "ebpf" {
        let answer = gate.ask("sync /data/kill-now");
        assert!(answer.contains("Input/output error"), "the fault is not on: {answer}");
    }
    child.kill().unwrap();
    let killed = await_end(child, begin);
    assert!(was_on, "the test never began: {killed:?}");
    let heals = || gate.ask("sync /data && echo fine") == "OK fine";
    assert!(wait_until(Duration::from_secs(2), heals), "{}", gate.ask("sync /data"));
    assert_eq!(container.inspect(template), before.0);
    // Whatever was left to do, the next start does.
    let next = place.spec("next.star", &about_text(STATIC));
    finish(place.faultbox_test(&[&next])).expect(0);
    litter::assert_none(&place, Duration::from_secs(2));
    assert_nothing_new(&before.1);
    assert_eq!(container.inspect(template), before.0);
    assert_eq!(gate.ask("sync /data && echo fine"), "OK fine");
    let left: Vec<_> = cgroups("faultbox").into_iter().filter(|it| !groups.contains(it)).collect();
    assert!(left.is_empty(), "cgroups left: {left:?}");
}

/// A spec about an image without any fault.
fn about_text(image: &str) -> String {
    IMAGES.replace("{image}", image).replace("{faults}", "False")
}

#[test]
fn attach_breaks_a_container_by_its_name_for_as_long_as_it_is_told() {
    if !has_images(&[FORKING]) || !in_kernel() {
        return;
    }
    let place = Place::new();
    let (container, canary) = (Foreign::run(FORKING, &[]), Foreign::run(FORKING, &[]));
    let (stock, gate) = (container.listens(5432), container.listens(7000));
    let canary = canary.listens(7000);
    let arguments =
        ["attach", "--container", &container.name, "--fault", "fsync=deny(EIO)", "--for", "20s"];
    let _shared = share_machine();
    let begin = Instant::now();
    let child = place.faultbox(&arguments).spawn().unwrap();
    // Its log is there from then on; the stock would not last for many more.
    assert_eq!(stock.ask("RESERVE gizmo 1"), "OK 24");
    let broken = "Input/output error";
    let is_broken = || gate.ask("sync /data/inventory.wal").contains(broken);
    let was_broken = wait_until(Duration::from_secs(19), is_broken);
    if was_broken {
        assert_eq!(stock.ask("RESERVE gizmo 1"), NOT_SYNCED);
        assert_eq!(canary.ask("sync /data && echo fine"), "OK fine");
    }
    let finished = await_end(child, begin).expect(0);
    assert!(was_broken, "{finished:?}");
    assert!(stock.ask("RESERVE gizmo 1").starts_with("OK "));
    assert_eq!(gate.ask("sync /data && echo fine"), "OK fine");
}

#[test]
fn postgres_on_a_full_disk_fails_the_transaction_and_keeps_what_was_committed() {
    if !has_images(&[POSTGRES]) || !in_kernel() {
        return;
    }
    let finished = run(&Place::new(), &["--strict-faults", "specs/qa/postgres.star"], 0);
    finished.prints("1 passed, 0 failed").prints("deny(no space left on device)");
}

#[test]
fn postgres_is_ready_when_it_answers_with_the_credentials_of_its_environment() {
    if !has_images(&[POSTGRES]) {
        return;
    }
    if engine() == "ebpf" {
        not_tested("PostgreSQL without faults: specs/qa/postgres.star has it here");
        return;
    }
    let place = Place::new();
    let spec = place.spec(
        "postgres.star",
        r#"
pg = service("pg", interface("main", "postgres", 5432), image = "faultbox/postgres:15",
    env = {"POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "shop", "POSTGRES_DB": "orders",
           "POSTGRES_INITDB_ARGS": "--no-sync"},
    healthcheck = ready(timeout = "120s"))

def test_whoami():
    answer = pg.query(sql = "SELECT current_user AS me, current_database() AS here")
    assert_eq(answer.data, [{"me": "shop", "here": "orders"}], answer.error)
"#,
    );
    run(&place, &[&spec], 0).prints("1 passed, 0 failed");
}

/// What of a test with a container is our own work, at most.
const OVERHEAD: Duration = Duration::from_millis(300);
/// How many of each are measured.
const ROUNDS: usize = 10;

#[test]
fn a_test_with_a_container_costs_little_more_than_the_container() {
    if !has_images(&[STATIC]) {
        return;
    }
    if is_slow() {
        not_tested("overhead: FAULTBOX_TEST_SLOW is set");
        return;
    }
    let place = Place::new();
    let spec = place.spec("overhead.star", &about_text(STATIC));
    let _alone = have_machine_alone();
    // On a machine with other work a single series says little.
    let mut series = Vec::new();
    for _ in 0..3 {
        let mut bare: Vec<_> = (0..ROUNDS).map(|_| bare_container()).collect();
        bare.sort_unstable();
        let bare = bare[ROUNDS / 2];
        // The first makes ready what the others share.
        let whole = tests(&place, &spec, ROUNDS + 2).saturating_sub(tests(&place, &spec, 2));
        let whole = whole / ROUNDS as u32;
        say(&format!("docker run and docker rm: {bare:?}; a test: {whole:?}"));
        series.push(whole.saturating_sub(bare));
        if series.last().is_some_and(|it| *it <= OVERHEAD) {
            return;
        }
    }
    panic!("overhead of a test: {series:?}");
}

/// What Docker's client takes for as much.
fn bare_container() -> Duration {
    let begin = Instant::now();
    drop(Foreign::run(STATIC, &[]));
    begin.elapsed()
}

/// A session with so many runs of one test, to its end.
fn tests(place: &Place, spec: &str, runs: usize) -> Duration {
    let runs = runs.to_string();
    finish(place.faultbox_test(&["--quiet", spec, "--runs", &runs])).expect(0).elapsed
}
